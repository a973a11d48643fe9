"""What the tests that simulate sessions on a server share."""

from __future__ import annotations

import random

import pytest

from triggers_core.testing.simulation import Simulator


def assert_lawful(
    simulator: Simulator, seeds: int, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No law is broken on so many fresh seeds, of which the first and the last are printed."""
    first = random.SystemRandom().randrange(1, 1 << 40)
    outcomes = [simulator.run(seed) for seed in range(first, first + seeds)]
    with capsys.disabled():
        sessions = sum(each.sessions for each in outcomes)
        print(
            f"\nsimulation on {server}: seeds {first} to {first + seeds - 1}, {sessions} sessions"
        )
    assert [f"seed {each.seed}: {what}" for each in outcomes for what in each.problems] == []
