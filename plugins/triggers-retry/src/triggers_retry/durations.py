"""Durations in the directive: a text such as ``10 seconds``, or a number of seconds."""

from __future__ import annotations

from typing import Final

from triggers_core import texts

LONGEST: Final = 366 * 86_400.0
"""Seconds that a wait may take at most, a year: more than that is a mistake in writing."""

_EXAMPLES: Final = "'10 seconds', '2 hours' or '1h30m'"


def parse_duration(value: str | float) -> float:
    """Return a duration in seconds.

    :param value: a text as for `triggers_core.texts.parse_duration`, or a number of seconds.
    :raises ValueError: it is no duration, not above 0, or longer than `LONGEST`.

    Example::

        parse_duration("1 hour and 30 minutes")  # 5400.0
    """
    try:
        seconds = texts.parse_duration(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError(f"expected a time such as {_EXAMPLES}, got {value!r}") from None
    if not 0 < seconds <= LONGEST:
        raise ValueError(f"expected a time above 0 and up to 366 days, got {value!r}")
    return float(seconds)
