"""The clock of the tests."""

from __future__ import annotations

import pytest

from triggers_core.testing import VirtualClock


def test_a_clock_only_goes_forward() -> None:
    clock = VirtualClock(100)
    clock.advance(0.5)
    with pytest.raises(ValueError, match="only goes forward"):
        clock.advance(-1)
    assert clock() == 100.5
