"""Durations as people write them: ``10 seconds``, ``2 hours``, ``1h30m``."""

from __future__ import annotations

import re
from typing import Final

from pytimeparse.timeparse import timeparse

LONGEST: Final = 366 * 86_400.0
"""Seconds that a wait may take at most, a year: more than that is a mistake in writing."""

_EXAMPLES: Final = "'10 seconds', '2 hours' or '1h30m'"
_AND: Final = re.compile(r"\s+and\s+", re.IGNORECASE)


def parse_duration(value: str | float) -> float:
    """Return a duration in seconds.

    :param value: a text with units, from weeks to seconds, or a number of seconds.
    :raises ValueError: it is no duration, not above 0, or longer than `LONGEST`.

    Example::

        parse_duration("1 hour and 30 minutes")  # 5400.0
    """
    seconds = _seconds(value) if isinstance(value, str) else value
    if seconds is None:
        raise ValueError(f"expected a time such as {_EXAMPLES}, got {value!r}")
    if not 0 < seconds <= LONGEST:
        raise ValueError(f"expected a time above 0 and up to 366 days, got {value!r}")
    return float(seconds)


def _seconds(text: str) -> float | None:
    # Clock times are refused: readers differ on whether 1:30 is a minute or an hour and a half.
    return None if ":" in text else timeparse(_AND.sub(", ", text))
