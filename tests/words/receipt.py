"""A log of real events with a configuration of every word, and what the oracle says of it."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from words.scenarios import FAILED, SKIPPED

from triggers_core import Application, TaskContext, TriggerTask, payloads
from triggers_core.engine.records import Event, Source, Status
from triggers_core.runners import ManualRunner
from triggers_core.settings import Settings
from triggers_core.storages.base import Store
from triggers_core.tasks import registry
from triggers_core.testing.clock import VirtualClock

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
FOLDER = DATA / "receipt_words"
MISSING = "the log is not beside the repository (../shared/data/receipt_words)"

Told = dict[str, Any]
"""Session → what is told of it."""


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    return map(json.loads, gzip.decompress(path.read_bytes()).splitlines())


EVERY = slice(None)
FEW = slice(50)
QUARTERS = [slice(first, None, 4) for first in range(4)]
"""All of them, in parts that take a minute or two on a slow disk."""


class ReceiptWords:
    """The log and its results.

    :param sessions: which of its sessions, in the order of their first events.
    """

    def __init__(self, sessions: slice = EVERY) -> None:
        self.config: dict[str, Any] = json.loads((FOLDER / "config.json").read_text("utf-8"))
        self.rules: dict[str, Any] = json.loads((FOLDER / "bodies.json").read_text("utf-8"))
        self.expected: dict[str, Any] = json.loads((FOLDER / "expected.json").read_text("utf-8"))
        lines = list(_lines(DATA / "receipt" / "events.jsonl.gz"))
        self.uids = set(list(dict.fromkeys(each["session"] for each in lines))[sessions])
        self.lines = [each for each in lines if each["session"] in self.uids]
        self.whole = sessions == EVERY

    @cached_property
    def instances(self) -> Told:
        """Session and instance → what became of it."""
        return {
            (each.pop("session"), each.pop("instance")): each
            for each in _lines(FOLDER / "expected_instances.jsonl.gz")
            if each["session"] in self.uids
        }

    @cached_property
    def events(self) -> Told:
        """Session → `[trigger, time, cause]` of each event."""
        return {
            each["session"]: each["events"]
            for each in _lines(FOLDER / "expected_events.jsonl.gz")
            if each["session"] in self.uids
        }

    def body(self, task: str, kwargs: Mapping[str, Any]) -> Any:
        """What a body returns: the first of its rules that fits."""
        for rule in self.rules.get(task, ()):
            if all(_fits(kwargs, path, value) for path, value in rule.get("if", {}).items()):
                return rule["result"]
        return {}

    def declare_bodies(self) -> None:
        """Bind the configuration's tasks to these bodies."""
        for name, task in self.config.items():
            self._declare(name, task["run"])

    def _declare(self, task: str, run: str) -> None:
        log = self

        class Body(TriggerTask):
            name = run

            def _run(self, context: TaskContext) -> Any:
                result = log.body(task, context.trigger_kwargs)
                if result == FAILED:
                    raise RuntimeError(f"{task} fails, as bodies.json has it")
                if result == SKIPPED:
                    raise self.skip({"reason": "bodies.json"})
                return result

    def check(self, store: Store) -> None:
        """The sessions of a store are the oracle's, to the last instance and event."""
        found_instances: Told = {}
        found_events: Told = {}
        for summary in store.sessions(limit=10_000):
            events = store.events(summary.uid)
            found_events[summary.uid] = [_event(each) for each in events]
            for record in store.instances(summary.uid):
                found_instances[summary.uid, record.name] = _instance(
                    store, summary.uid, record, events
                )
        assert found_events.keys() == self.events.keys()
        for uid, told in self.events.items():
            assert found_events[uid] == told, uid
        for key, described in self.instances.items():
            assert found_instances.get(key) == described, key
        assert found_instances.keys() == self.instances.keys()
        if self.whole:
            assert _totals(found_instances) == self.expected["tasks"]
            assert len(found_instances) == self.expected["instances"]
            assert sum(map(len, found_events.values())) == self.expected["events"]


def log_of(sessions: slice, monkeypatch: pytest.MonkeyPatch) -> ReceiptWords:
    """The log, its bodies bound for as long as the test runs."""
    monkeypatch.setattr(registry, "declared", {})
    log = ReceiptWords(sessions)
    log.declare_bodies()
    return log


def _fits(kwargs: Mapping[str, Any], path: str, value: Any) -> bool:
    key, name = path.rsplit(".", 1)
    return key in kwargs and kwargs[key].get(name) == value


def _event(event: Event) -> list[Any]:
    cause = None
    if event.source is Source.INSTANCE:
        task = event.cause.rpartition("#")[0]
        why = payloads.decode(bytes(event.payload)).get("why")
        cause = f"{event.cause} {'cascade' if event.trigger == task else why}"
    return [event.trigger, _text(event.at), cause]


def _instance(store: Store, uid: str, record: Any, events: list[Event]) -> dict[str, Any]:
    from triggers_core.storages.session import TaskInstance

    instance = TaskInstance(store, uid, record)
    moment = record.moment
    if moment is None and record.status is not Status.UNSTARTED:
        moment = events[record.scheduled_by].at
    return {
        "status": record.status.value,
        "why": record.why,
        "moment": None if moment is None else _text(moment),
        "events": {
            key: [n + 1 for n in numbers] for key, numbers in instance.taken.items() if numbers
        },
    }


def _text(at: float) -> str:
    return datetime.fromtimestamp(round(at * 1_000_000) / 1_000_000, UTC).isoformat(
        timespec="microseconds"
    )


def _totals(instances: Told) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = {}
    for (_, name), each in instances.items():
        counts = found.setdefault(name.rpartition("#")[0], Counter())
        status = each["status"]
        counts[status if status in ("abandoned", "unstarted") else "run"] += 1
        counts[each["why"]] += 1
    words = ("run", "abandoned", "late", "calledOff", "unstarted", "failed", "skipped")
    return {task: {word: counts[word] for word in words} for task, counts in found.items()}


def _time(ts: float | str) -> float:
    if not isinstance(ts, str):
        return ts
    moment = datetime.fromisoformat(ts)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def play(log: ReceiptWords, open_store: Callable[[VirtualClock], Store]) -> None:
    """Play the log as production does: managers fire, a sweep looks whenever something is due."""
    clock = VirtualClock(0.0)
    with open_store(clock) as store:
        settings = Settings.isolated(TRIGGER_STORAGE_TYPE=store.key, TRIGGER_PLUGINS=[])
        app = Application("test", settings, store=store, runner=ManualRunner)
        _Production(app, clock, log).play()
        log.check(store)


class _Production:
    def __init__(self, app: Application, clock: VirtualClock, log: ReceiptWords) -> None:
        self.app, self.clock, self.log = app, clock, log
        runner = app.runner()
        assert isinstance(runner, ManualRunner)
        self.runner = runner

    def play(self) -> None:
        managers: dict[str, Any] = {}
        for line in self.log.lines:
            uid, at = line["session"], _time(line["ts"])
            self.pass_time(at)
            if uid not in managers:
                managers[uid] = self.app.manager(uid)
                managers[uid].update_configuration(self.log.config)
            managers[uid].fire(line["trigger"], line.get("kwargs") or {})
            self.runner.work()
        self.pass_time(_time(self.log.expected["until"]))

    def pass_time(self, until: float) -> None:
        """Sweep at every moment at which something falls due."""
        while (wait := self.app.store.next_due()) is not None:
            moment = round(self.clock.now + wait, 6)
            if moment > until:
                break
            assert moment > self.clock.now, f"{self.app.store.due()} stay due after a sweep"
            self.clock.now = moment
            self.app.recover()
            self.runner.work()
        self.clock.now = until
