"""Durations of configurations: ``"30 seconds"``, a number of seconds or a timedelta."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from math import isfinite
from typing import Any, Final

from triggers_core.engine.refusals import refusal
from triggers_core.exceptions import InvalidArgument
from triggers_core.texts import parse_duration, short_repr

_UNITS: Final = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800}
_TEXT: Final = re.compile(r"([0-9]{1,40}(?:\.[0-9]{1,40})?) (second|minute|hour|day|week)s?")
_MICRO: Final = 1_000_000
_MOST_DAYS: Final = 3_653
_MOST: Final = _MOST_DAYS * 86_400 * _MICRO
_FORMS: Final = "'30 seconds', '5 minutes', '2 hours', '14 days', '2 weeks' or a number of seconds"


def read_duration(place: str, value: object) -> tuple[int, Any]:
    """A duration.

    :param value: a text such as ``"14 days"``, a number of seconds, or a timedelta.
    :return: whole microseconds, and its plain form: what was written, of other types seconds.
    :raises InvalidConfiguration: it is none, not positive, or longer than 3,653 days.

    Example::

        read_duration("t_x.within", "2 hours")  # (7_200_000_000, "2 hours")
    """
    seconds = _seconds(place, value)
    micro = -1 if seconds is None else round(seconds * _MICRO)
    if not 0 < micro <= _MOST:
        raise refusal(
            place,
            "expected a duration of a microsecond at least and 3,653 days (ten years) at most, got"
            f" {short_repr(value)}",
        )
    if isinstance(value, str):
        return micro, str.__str__(value)
    if type(value) is int or type(value) is float:
        return micro, value
    return micro, micro // _MICRO if micro % _MICRO == 0 else micro / _MICRO


def _seconds(place: str, value: object) -> Fraction | None:
    """Exactly; None for numbers that are far out of range, which take long to write out."""
    if isinstance(value, str):
        found = _TEXT.fullmatch(value)
        if found is None:
            raise refusal(place, f"{short_repr(value)} is no duration: write {_suggestion(value)}")
        return Fraction(found[1]) * _UNITS[found[2]]
    if isinstance(value, timedelta):
        return Fraction(value // timedelta(microseconds=1), _MICRO)
    if isinstance(value, int) and not isinstance(value, bool):
        return Fraction(value)
    if isinstance(value, float):
        return Fraction(value) if isfinite(value) else None
    if isinstance(value, Decimal):
        return Fraction(value) if value.is_finite() and abs(value.adjusted()) < 20 else None
    raise refusal(place, f"expected a duration, got {short_repr(value)}: write {_FORMS}")


def _suggestion(text: str) -> str:
    """What was probably meant, in words of the grammar."""
    try:
        seconds = Fraction(parse_duration(text)).limit_denominator(_MICRO)
    except (InvalidArgument, OverflowError):  # the latter for infinity
        return _FORMS
    if not 0 < seconds * _MICRO <= _MOST:
        return _FORMS
    for unit, length in reversed(_UNITS.items()):
        if seconds % length == 0:
            amount = seconds // length
            return f"'{amount} {unit}{'s' if amount != 1 else ''}'"
    return f"'{float(seconds):.6f} seconds'"
