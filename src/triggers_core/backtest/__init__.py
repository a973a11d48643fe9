"""Replays a recorded log of events through a configuration, to see what would have run.

Dry by default: bodies are not executed. Each instance that becomes ready finishes with ``{}`` and
cascades, first in, first out, before the next event of its session.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from triggers_core import payloads
from triggers_core.application import Application, default_application
from triggers_core.backtest.log import LoggedEvent, logged_event, read_time, recorded_events
from triggers_core.engine.attempts import Claim, Claimed, Finish
from triggers_core.engine.backtest_step import TOKEN, Step, Unusual
from triggers_core.engine.commands import Fire, FireOutcome
from triggers_core.engine.configuration import Configuration
from triggers_core.engine.names import check_event_id, check_name
from triggers_core.engine.protocol import Command, Plan, Query, Rules
from triggers_core.engine.records import STATUSES, Status
from triggers_core.engine.recovery import Recover
from triggers_core.exceptions import BodyInterrupted, InvalidEvent, InvalidInput, StaleMessage
from triggers_core.manager import TriggerManager
from triggers_core.runners.manual import ManualRunner
from triggers_core.running.worker import run_claimed
from triggers_core.storages.base import Store, all_sessions
from triggers_core.storages.packed import PackedStore
from triggers_core.storages.session import SessionStorage
from triggers_core.storages.summaries import SessionSummary

T = TypeVar("T")

_TOGETHER = 1_000  # events in one transaction, of the storages that have such
_TOGETHER_FOR = 1.0  # seconds


class TaskTotals(msgspec.Struct, kw_only=True):
    """What became of one task's instances, over all sessions."""

    run: int = 0
    abandoned: int = 0
    late: int = 0
    """Those of the abandoned whose deadline had passed."""
    unstarted: int = 0
    failed: int = 0
    """Instances whose body failed; always 0 in a dry replay."""


class BacktestResult(msgspec.Struct, kw_only=True):
    """What a replay led to. Totals are read from the storage: they hold after a restart, too."""

    sessions: int
    events: int
    """Events of the log."""
    duplicates: int
    """Those that had been recorded before: by an earlier, interrupted replay or under their id."""
    tasks: dict[str, TaskTotals]
    stuck: list[SessionSummary]
    """The sessions that wait for events, longest first; at most `stuck_at_most` of them."""
    store: Store


def backtest(
    config: Mapping[str, Any] | Configuration,
    events: Iterable[Mapping[str, Any] | LoggedEvent],
    storage: Store | SessionStorage | None = None,
    *,
    run: bool = False,
    app: Application | None = None,
    progress: Callable[[int], None] | None = None,
    stuck_at_most: int = 100,
    until: float | str | datetime | None = None,
) -> BacktestResult:
    """Replay a log of events through a configuration.

    If the configuration tells time, that passes between the events by their `ts`: what falls due
    does so at its moment, as with a sweep that is never late. Bodies take no time.

    :param config: the task configuration; every session of the log gets it.
    :param events: mappings with `session`, `trigger` and optionally `kwargs` and `id`, in the order
        in which they happened; read once, one at a time.
    :param storage: where the sessions go; a new one in memory when not given. Give it a place of
        its own: totals count every session in it. A replay that was interrupted is completed by
        the same call on the same storage.
    :param run: execute the bodies, in this thread, instead of finishing each instance with ``{}``.
    :param app: whose limits and plugins apply; the default application when not given.
    :param progress: called with the number of events done, after each.
    :param until: up to when time passes after the last event (as `ts`, or an aware datetime); not
        beyond it when not given. Without meaning unless the configuration tells time.
    :raises InvalidConfiguration: names the place.
    :raises InvalidEvent: names the event's position in the log and what is wrong with it.

    Example::

        result = backtest(config, map(json.loads, open("events.jsonl")))
        result.tasks["t_ship"].run
    """
    app = app or default_application
    store = storage.store if isinstance(storage, SessionStorage) else storage or PackedStore()
    parsed = app.parse(config)
    end = None if until is None else read_time(until, "until")
    replay = _Run(app, store, parsed) if run else _Dry(app, store, parsed)
    log = _Log(replay, events, progress)
    if run:  # what a body does, and how long it takes, is nobody's to put into a transaction
        while log.one():
            pass
    else:
        while store.together(log.some):
            pass
    if replay.clock is not None:
        replay.pass_time(end)
    sessions, totals = _totals(store, parsed)
    return BacktestResult(
        sessions=sessions,
        events=log.count,
        duplicates=log.duplicates,
        tasks=totals,
        stuck=store.sessions(waiting=True, limit=stuck_at_most),
        store=store,
    )


class _Log:
    """The events of a log, one at a time, and how many there have been."""

    def __init__(
        self,
        replay: _Dry,
        events: Iterable[Mapping[str, Any] | LoggedEvent],
        progress: Callable[[int], None] | None,
    ) -> None:
        self.count = self.duplicates = 0
        self._replay, self._progress = replay, progress
        self._events = enumerate(events)

    def some(self) -> bool:
        """Replay some events, for not much longer than a second; whether there may be more."""
        until = time.monotonic() + _TOGETHER_FOR
        for _ in range(_TOGETHER):
            if not self.one():
                return False
            if time.monotonic() > until:
                break
        return True

    def one(self) -> bool:
        """Replay the next event; False when there is none."""
        line = next(self._events, None)
        if line is None:
            return False
        position, event = line
        try:
            logged = logged_event(event)
            event_id = str(position) if logged.id is None else logged.id
            status = self._replay.event(logged, event_id)
        except InvalidInput as error:
            raise InvalidEvent(f"event {position} of the log: {error}") from error
        self.count += 1
        self.duplicates += status == "duplicate"
        if self._progress is not None:
            self._progress(self.count)
        return True


class _Clock:
    """The time of the log."""

    def __init__(self) -> None:
        self.at = self.latest = 0.0

    def __call__(self) -> float:
        return self.at


def what_tells_time(configuration: Configuration) -> str:
    """The first directive of a configuration that tells time; empty when there is none."""
    for task in configuration.tasks.values():
        if task.rule.within is not None:
            return f"{task.name}.within"
        if task.rule.waiting is not None or task.rule.until is not None:
            return f"{task.name}.waiting"
    return ""


class _Dry:
    """Replays events without running bodies, hooks that observe or runners."""

    def __init__(self, app: Application, store: Store, configuration: Configuration) -> None:
        self.store = store
        self.configuration = configuration
        self.limits = app.rules.limits
        self.timed_by = what_tells_time(configuration)
        self.clock: _Clock | None = _Clock() if self.timed_by else None
        self.rules: Rules = msgspec.structs.replace(
            app.rules,
            default_configuration=configuration,
            default_requires=app.plugins.requires_for(configuration),
            clock=self.clock,
        )

    def event(self, event: LoggedEvent, event_id: str) -> str:
        """Record one event and bring everything that it makes ready to its end."""
        at = None
        if self.clock is not None:
            if event.ts is None:
                raise InvalidEvent(
                    f"it has no `ts`, and {self.timed_by} tells time: give each event the time at"
                    " which it happened, as seconds since 1970 or ISO 8601 text"
                )
            at = read_time(event.ts)
        fire = Fire(
            trigger=check_name(event.trigger, "trigger"),
            payload=payloads.encode(event.kwargs, self.limits),
            event_id=check_event_id(event_id),
            given_id=True,
        )
        uid = check_name(event.session, "session")
        if self.clock is not None and at is not None:
            self._work_off(uid, at)
            self.clock.at = at
            self.clock.latest = max(self.clock.latest, at)
        plan = self._record(uid, fire)
        recorded = plan.outcome
        if recorded.status == "duplicate":
            # Recorded by an earlier replay, which may have died before everything was finished.
            self._drain(uid, self._left_behind(uid))
        else:
            self._drain(uid, [each.name for each in plan.scheduled])
        return recorded.status

    def commit(self, uid: str, command: Command[T]) -> Plan[T]:
        return self.store.commit(uid, command, self.rules)

    def pass_time(self, until: float | None) -> None:
        """Let time pass in every session, up to a moment or to the last event of the log."""
        assert self.clock is not None
        end = self.clock.latest if until is None else max(until, self.clock.latest)
        for summary in all_sessions(self.store):
            self._work_off(summary.uid, end)

    def _work_off(self, uid: str, until: float) -> None:
        """Work off what falls due in a session, moment by moment, and what that makes ready."""
        assert self.clock is not None
        while True:
            header = self.store.load(uid, Query()).header
            if header is None or header.next_moment is None or header.next_moment > until:
                return
            self.clock.at = header.next_moment
            plan = self.commit(uid, Recover())
            self._drain(uid, [each.name for each in plan.scheduled])

    def _record(self, uid: str, fire: Fire) -> Plan[FireOutcome]:
        """Record an event, and end what it makes ready; the plan's `scheduled` is what is left."""
        try:
            return self.commit(uid, Step(fire))
        except Unusual:
            return self.commit(uid, fire)

    def _drain(self, uid: str, ready: Iterable[str]) -> None:
        waiting = deque(ready)
        if not waiting:
            return
        header = self.store.load(uid, Query()).header
        assert header is not None
        while waiting:
            name = waiting.popleft()
            waiting.extend(self._finish(uid, name, header.generation))

    def _finish(self, uid: str, name: str, generation: str) -> Iterable[str]:
        claimed = self._claim(uid, name, generation)
        if claimed is None:
            return ()
        plan = self.commit(uid, Finish(instance=name, token=TOKEN))
        return [each.name for each in plan.scheduled]

    def _claim(self, uid: str, name: str, generation: str) -> Claimed | None:
        attempt = self.store.load(uid, Query(instances=(name,))).instances[name].attempt
        claim = Claim(instance=name, attempt=attempt, generation=generation, token=TOKEN)
        try:
            return self.commit(uid, claim).outcome
        except StaleMessage:
            return None

    def _left_behind(self, uid: str) -> list[str]:
        """The instances that are not through, in the order in which they became ready."""
        header = self.store.load(uid, Query()).header
        under_way = (Status.SCHEDULED, Status.RUNNING)
        if header is None or not header.total(*under_way):
            return []
        position = {name: index for index, name in enumerate(self.configuration.tasks)}
        left = self.store.instances(uid, statuses=under_way)
        left.sort(key=lambda each: (each.scheduled_by, position.get(each.task, 0), each.number))
        return [instance.name for instance in left]


class _Run(_Dry):
    """Replays events and executes the bodies, one after the other, in this thread."""

    def __init__(self, app: Application, store: Store, configuration: Configuration) -> None:
        super().__init__(app, store, configuration)
        own = app.replace(store=store, rules=self.rules, runner=ManualRunner)
        runner = own.runner()
        assert isinstance(runner, ManualRunner)
        self._runner = runner
        self._manager = TriggerManager(SessionStorage.on(store, "backtest"), own)

    def commit(self, uid: str, command: Command[T]) -> Plan[T]:
        return self._manager.sibling(uid).commit(command)

    def _record(self, uid: str, fire: Fire) -> Plan[FireOutcome]:
        return self.commit(uid, fire)  # a body has to see what is stored

    def _finish(self, uid: str, name: str, generation: str) -> Iterable[str]:
        claimed = self._claim(uid, name, generation)
        if claimed is None:
            return ()
        self._runner.clear()
        manager = self._manager.sibling(uid)
        try:
            run_claimed(manager, claimed, self._runner.heartbeats, _interruptible, passes_on=False)
        except _Interrupted:
            raise KeyboardInterrupt from None
        return tuple(message.instance for message in self._runner.clear())


class _Interrupted(BodyInterrupted):
    """Somebody wants the replay to end."""


@contextmanager
def _interruptible() -> Iterator[None]:
    """A Ctrl-C is no outcome of the body: when the replay is completed, the body runs again."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise _Interrupted from error


def _totals(store: Store, configuration: Configuration) -> tuple[int, dict[str, TaskTotals]]:
    totals = {name: TaskTotals() for name in configuration.tasks}
    sessions = 0
    deadlines = any(task.rule.within is not None for task in configuration.tasks.values())
    for summary in all_sessions(store):
        sessions += 1
        for name, counts in summary.counts.items():
            by_status = dict(zip(STATUSES, counts, strict=True))
            task = totals.setdefault(name, TaskTotals())
            task.run += by_status[Status.FINISHED] + by_status[Status.SKIPPED]
            task.abandoned += by_status[Status.ABANDONED]
            task.unstarted += by_status[Status.UNSTARTED]
            task.failed += by_status[Status.FAILED]
        if deadlines:
            for instance in store.instances(summary.uid, statuses={Status.ABANDONED}):
                totals[instance.task].late += instance.late
    return sessions, totals


__all__ = [
    "BacktestResult",
    "LoggedEvent",
    "TaskTotals",
    "backtest",
    "logged_event",
    "read_time",
    "recorded_events",
    "what_tells_time",
]
