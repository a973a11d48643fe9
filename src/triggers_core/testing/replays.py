"""Logs, what an oracle says of their instances, and the same as a store tells it.

`SampleLog` is of our own making and everywhere; its answers are `triggers_core.testing.oracle`'s.
A `RecordedLog` is a folder with a log of real events and the answers that another oracle gave.
`instances_of` reads from a store what either of them describes.

Example::

    log = SampleLog("orders")
    result = backtest(log.config, log.events(), store)
    check_totals(result, log)
    assert instances_of(store) == log.instances()
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from triggers_core.backtest import BacktestResult
from triggers_core.engine.records import Event, Instance, Source
from triggers_core.storages.base import Store
from triggers_core.testing import oracle, sample_log
from triggers_core.testing.oracle import Described, Origin


class Log(Protocol):
    """Events, a configuration, and what becomes of every instance."""

    config: dict[str, Any]

    def events(self) -> list[dict[str, Any]]:
        """In the order in which they are fired."""

    def totals(self) -> dict[str, Any]:
        """As `triggers_core.testing.oracle.totals` gives them."""

    def instances(self) -> Described:
        """Every instance of every session."""


class SampleLog:
    """The log of `triggers_core.testing.sample_log`.

    :param configuration: one of `sample_log.CONFIGURATIONS`.
    :param sessions: how many of its sessions; fewer are the first ones.
    """

    def __init__(self, configuration: str = "orders", sessions: int = sample_log.SESSIONS) -> None:
        self.config: dict[str, Any] = sample_log.CONFIGURATIONS[configuration]
        self._events = sample_log.events(sessions)

    def events(self) -> list[dict[str, Any]]:
        return list(self._events)

    def totals(self) -> dict[str, Any]:
        return oracle.totals(self.config, self._events)

    def instances(self) -> Described:
        return oracle.instances(self.config, self._events)


class RecordedLog:
    """A folder: ``config.json``, ``events.jsonl``, ``expected.json``, ``expected_instances.jsonl``.

    Files with ``.gz`` at the end are unpacked. Skips the test that asks for it when the folder is
    not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not folder.is_dir():
            pytest.skip(f"the recorded log {folder.name} is not there ({folder.parent})")
        self.config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))

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


def origin_of(event: Event) -> Origin:
    """The event's place in the log, or ``task:`` and the instance whose cascade it is."""
    return f"task:{event.cause}" if event.source is Source.INSTANCE else int(event.id)


def root_of(instance: Instance, events: list[Event], by_name: dict[str, Instance]) -> Origin | None:
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
