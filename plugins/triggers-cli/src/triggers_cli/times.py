"""Durations as people write and read them, and moments."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
"""Unit → seconds."""

_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")


def parse_duration(text: str) -> float:
    """A duration in seconds.

    :param text: numbers with units: ``90s``, ``15m``, ``36h``, ``30d``, ``2w``, ``1d12h``.
    :raises ValueError: it is anything else.

    Example::

        parse_duration("1d12h")  # 129600.0
    """
    given = text.strip().lower()
    parts = _PART.findall(given)
    if not parts or _PART.sub("", given).strip():
        raise ValueError(
            f"{text!r} is no duration: write a number and a unit (s, m, h, d, w), such as 30d"
        )
    return sum(float(number) * UNITS[unit] for number, unit in parts)


def moment(at: float) -> str:
    """A moment for people.

    :param at: seconds since 1970.
    """
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso(at: float | None) -> str | None:
    """A moment for programs: RFC 3339, in UTC."""
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()
