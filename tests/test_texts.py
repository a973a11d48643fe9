"""Durations as people write them, for command lines and directives alike."""

from __future__ import annotations

import pytest

from triggers_core.exceptions import InvalidArgument
from triggers_core.texts import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("15m", 900),
        ("36h", 129_600),
        ("30d", 2_592_000),
        ("2w", 1_209_600),
        ("1d12h", 129_600),
        (" 1D 12 H ", 129_600),
        ("0s", 0),
        ("1.5 hours", 5_400),
        ("1 hour and 30 minutes", 5_400),
        ("1 day, 1 hr, and 1 sec", 90_001),
        ("30 mins 1 week", 606_600),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "10", "d", "soon", "ten days", "1:30", "1 month", "1 fortnight", "-1d", "+1d"),
        *(
            "1e3 s",
            "1.2.3s",
            ".5s",
            "and 1d",
            ", 1d",
            "1d and",
            "1d,",
            "1d ago",
            "1dand2h",
            "1d;2h",
        ),
    ],
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(InvalidArgument, match="is no duration: write numbers with units"):
        parse_duration(text)
