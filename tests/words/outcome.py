"""What came of a scenario, in a form in which two of them can be compared and shown."""

from __future__ import annotations

import difflib
import pprint
from dataclasses import dataclass
from typing import Any


@dataclass
class Outcome:
    """What became of every instance and event.

    :param instances: name → status, why, created, taken, moment, by, gets: plain values; numbers
        of events count from 1, moments are microseconds since 1970.
    :param events: trigger, at, source, kwargs of each event, in order of recording.
    """

    instances: dict[str, dict[str, Any]]
    events: list[dict[str, Any]]

    def lines(self) -> list[str]:
        events = [f"event {n}: {_line(each)}" for n, each in enumerate(self.events, 1)]
        return events + [f"{name}: {_line(each)}" for name, each in self.instances.items()]


def _line(described: dict[str, Any]) -> str:
    return ", ".join(f"{word} {value}" for word, value in described.items())


def plain(value: Any) -> str:
    """A value as text that tells 1, 1.0, True and Decimal(1) apart; keys sorted."""
    return pprint.pformat(value, width=100_000, sort_dicts=True)


def difference(expected: Outcome, got: Outcome) -> str:
    """A unified diff, empty if both are the same."""
    return "\n".join(
        difflib.unified_diff(
            expected.lines(), got.lines(), "the oracle", "the engine", lineterm="", n=2
        )
    )
