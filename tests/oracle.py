"""Recorded event logs, what an independent oracle says of them, and what a store says.

The oracle wrote down every instance of every session: its status, the event of the log that made
it run or abandon (`at_event`), which event gave it each trigger's kwargs (`kwargs_from`), and which
of its `unless` triggers it had seen. `instances_of` reads the same from a store.
"""

from __future__ import annotations

import gzip
import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from triggers_core.backtest import BacktestResult
from triggers_core.engine.records import Event, Instance, Source
from triggers_core.storages.base import Store

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
LOGS = ("receipt_sample", "receipt")

Described = dict[tuple[str, str], dict[str, Any]]
"""(session, instance) → what became of it."""


class Log:
    """A recorded log, its configuration and the oracle's answers."""

    def __init__(self, name: str) -> None:
        """Skips the test that asks for it when the logs are not there."""
        self.name, self.folder = name, DATA / name
        if not self.folder.is_dir():
            pytest.skip(f"the recorded log {name} is not beside the repository (../shared/data)")
        self.config: dict[str, Any] = json.loads((self.folder / "config.json").read_text("utf-8"))

    def events(self) -> list[dict[str, Any]]:
        return list(self._lines("events.jsonl"))

    def totals(self) -> dict[str, Any]:
        expected: dict[str, Any] = json.loads((self.folder / "expected.json").read_text("utf-8"))
        return expected

    def instances(self) -> Described:
        return {
            (line.pop("session"), line.pop("instance")): line
            for line in self._lines("expected_instances.jsonl")
        }

    def _lines(self, name: str) -> Iterator[dict[str, Any]]:
        packed = self.folder / f"{name}.gz"
        data = gzip.decompress(packed.read_bytes()) if packed.exists() else None
        text = (self.folder / name).read_bytes() if data is None else data
        return map(json.loads, text.splitlines())


def oracle(config: dict[str, Any], triggers: list[str], session: str) -> Described:
    """What the oracle itself says of one session whose log holds just these triggers."""
    if not (DATA / "reference.py").exists():
        pytest.skip("the oracle is not beside the repository (../shared/data/reference.py)")
    reference = runpy.run_path(str(DATA / "reference.py"))
    return {
        (session, instance.name): {
            "status": instance.status,
            "at_event": instance.at,
            "kwargs_from": instance.kw,
            "unless_seen": sorted(instance.ab),
        }
        for instance in reference["replay"](config, list(enumerate(triggers)))
    }


def instances_of(store: Store) -> Described:
    """Every instance of a store, in the oracle's terms.

    An event of the log is known by its position in it, which the replay made its id; a cascade is
    known by the instance that fired it.
    """
    found: Described = {}
    for summary in store.sessions():
        events, instances = store.events(summary.uid), store.instances(summary.uid)
        by_name = {instance.name: instance for instance in instances}
        for instance in instances:
            found[summary.uid, instance.name] = {
                "status": instance.status.value,
                "at_event": root_of(instance, events, by_name),
                "kwargs_from": {
                    trigger: origin_of(events[first])
                    for trigger, (first,) in instance.taken.items()
                },
                "unless_seen": sorted(instance.noted),
            }
    return found


def origin_of(event: Event) -> int | str:
    """The event's place in the log, or ``task:`` and the instance whose cascade it is."""
    return f"task:{event.cause}" if event.source is Source.INSTANCE else int(event.id)


def root_of(
    instance: Instance, events: list[Event], by_name: dict[str, Instance]
) -> int | str | None:
    """The event of the log at the root of the chain of cascades that ended in this instance."""
    if instance.scheduled_by < 0:
        return None
    event = events[instance.scheduled_by]
    if event.source is Source.INSTANCE:
        return root_of(by_name[event.cause], events, by_name)
    return origin_of(event)


def check_totals(result: BacktestResult, log: Log) -> None:
    """The replay's totals, and those of each session, are the oracle's."""
    expected = log.totals()
    assert result.sessions == expected["sessions"]
    assert result.events == expected["events_fired"]
    assert {
        name: {"run": task.run, "abandoned": task.abandoned, "unstarted": task.unstarted}
        for name, task in result.tasks.items()
    } == expected["tasks"]
    assert all(task.failed == 0 for task in result.tasks.values())
    cascades = sum(summary.events for summary in result.store.sessions()) - result.events
    assert cascades == expected["cascades_fired"]
    assert sessions_of(result.store) == expected["per_session"]


def sessions_of(store: Store) -> dict[str, dict[str, list[int]]]:
    """Session → task → how many of its instances ran, were abandoned, are unstarted."""
    found: dict[str, dict[str, list[int]]] = {}
    for (session, name), instance in instances_of(store).items():
        counts = found.setdefault(session, {}).setdefault(name.rpartition("#")[0], [0, 0, 0])
        counts[("finished", "abandoned", "unstarted").index(instance["status"])] += 1
    return found
