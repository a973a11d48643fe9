"""Texts for messages: the name that was meant, shortened values, what does not fit, moments.

And the one text that is read here: durations as people write them.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, Final

import msgspec

from triggers_core.exceptions import InvalidArgument, from_outside

MASK: Final = "***"
"""What stands for a secret."""

MAX_TEXT: Final = 262_144
"""Characters of one text that are kept when it is masked, half of them from each end: some
hundredths of a second."""

_REPR = reprlib.Repr()
_REPR.maxlevel = 3
_REPR.maxother = 200


def short_repr(value: object, width: int = 60) -> str:
    """Return `repr(value)` for a message: at most `width` characters, valid UTF-8, never raising.

    Nested collections are abridged before they are rendered, so that huge or circular ones
    cost little.

    Example::

        short_repr("a" * 1000, 10)  # "'aaa…aaaa'"
    """
    try:
        # Only both ends are shown: `repr` of the whole of a long text would be wasted.
        if isinstance(value, (str, bytes, bytearray)) and len(value) > 2 * width:
            text = f"{value[:width]!r}{value[-width:]!r}"
        elif type(value) is str:
            text = repr(value)
        elif isinstance(value, int) and value.bit_length() > 2_000:
            # Python may refuse to write it: `sys.set_int_max_str_digits` goes down to 640.
            text = f"<int of {value.bit_length():,} bits>"
        else:
            text = _REPR.repr(value)
        text = str.encode(text, "utf-8", "backslashreplace").decode()
    except BaseException as error:  # a broken __repr__, __len__, __class__…: its type must do
        if from_outside(error):
            raise
        text = object.__repr__(value)
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[head + 1 - width :]}"


def did_you_mean(wrong: object, known: Iterable[str]) -> str:
    """A hint for an error message: the nearest known names, or all of them when none is near."""
    names = sorted(known)
    near = nearest(wrong, names)
    if near is not None:
        return f": did you mean {near!r}?"
    return f": known are {', '.join(names)}" if names else ""


def nearest(wrong: object, known: Iterable[str]) -> str | None:
    """The known name that was most likely meant; None when none is near."""
    names = sorted(known)
    near = get_close_matches(str(wrong), names, n=5, cutoff=0.6)
    # Vowels are what people mistake: "payed" is "paid" rather than "packed".
    near.sort(key=lambda name: _consonants(name) != _consonants(str(wrong)))
    if not near:
        near = [name for name in names if name.lower() == str(wrong).lower().replace("_", "")]
    return near[0] if near else None


def convert(value: object, kind: Any, place: str = "") -> Any:
    """`msgspec.convert`, with an error that names the place as its author wrote it.

    :param place: what holds the value, such as ``t_x.retry``.
    :raises ValueError: the value does not fit.

    Example::

        convert({"times": 0}, Options, "retry")  # Expected `int` >= 1, at `retry.times`
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        message = str(error).replace(" - at `$", f", at `{place}")
        raise ValueError(message if place else message.replace(", at `.", ", at `")) from None


def _consonants(name: str) -> str:
    return "".join(each for each in name.lower() if each not in "aeiouy")


_DAY = 86_400  # seconds

_UNITS: Final = {
    unit: seconds
    for seconds, units in (
        (1, "s sec secs second seconds"),
        (60, "m min mins minute minutes"),
        (3_600, "h hr hrs hour hours"),
        (_DAY, "d day days"),
        (7 * _DAY, "w wk wks week weeks"),
    )
    for unit in units.split()
}
_PART: Final = re.compile(r"(\s*,?\s*(?:and\s+)?)(\d+(?:\.\d+)?)\s*([a-z]+)")


def parse_duration(text: str) -> float:
    """Return a duration in seconds.

    :param text: numbers with units from weeks to seconds, short or in full: ``90s``, ``1d12h``,
        ``2 weeks``. No months, whose length differs, and no ``1:30``, which some read as a minute
        and others as an hour and a half.
    :raises InvalidArgument: it is anything else (it is a ValueError, too).

    Example::

        parse_duration("1 hour and 30 minutes")  # 5400.0
    """
    left, seconds, at = text.strip().lower(), 0.0, 0
    while True:
        part = _PART.match(left, at)
        if part is None or part[3] not in _UNITS or (part[1] and not at):
            raise InvalidArgument(
                f"{short_repr(text)} is no duration: write numbers with units (s, m, h, d, w), such"
                " as 30d or 1h30m"
            )
        seconds += float(part[2]) * _UNITS[part[3]]
        at = part.end()
        if at == len(left):
            return seconds


def iso(at: float | None) -> str | None:
    """A moment for programs: RFC 3339, in UTC.

    :param at: seconds since 1970; None stays None.
    """
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()


def moment(at: float) -> str:
    """A moment for people, to the second: ``2026-01-02 09:05:00 UTC``.

    :param at: seconds since 1970.
    """
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def clock(at: float, now: float) -> str:
    """A moment in UTC: the time of day within a day, else the date.

    :param at: seconds since 1970, as `now`.
    """
    form = "%H:%M:%S UTC" if abs(now - at) < _DAY else "%Y-%m-%d"
    return datetime.fromtimestamp(at, UTC).strftime(form)


def duration(seconds: float) -> str:
    """A duration in its largest unit, such as ``3 hours``; negative ones count as none."""
    seconds = max(0.0, seconds)
    for unit, name in ((_DAY, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= unit:
            return count(int(seconds // unit), name)
    return count(int(seconds), "second")


def count(amount: int, word: str, plural: str = "") -> str:
    """A number with its noun, such as ``1,234 events``."""
    return f"{amount:,} {word if amount == 1 else plural or word + 's'}"


def names(items: Iterable[str]) -> str:
    """Names as a list in a sentence; those with blanks in quotes, to be seen as one."""
    return listed([f"'{each}'" if " " in each else each for each in items])


def listed(items: Sequence[str]) -> str:
    """Items as a list in a sentence: ``a, b and c``."""
    *most, last = items or [""]
    return f"{', '.join(most)} and {last}" if most else last
