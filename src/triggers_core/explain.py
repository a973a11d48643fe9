"""What a task has, what it waits for, and why it did not run: in words, and as data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from triggers_core.configuration import Task, did_you_mean
from triggers_core.exceptions import SessionNotFound, TaskNotFound
from triggers_core.failures import read_metadata
from triggers_core.protocol import Need
from triggers_core.records import Event, Header, Instance, SessionState, Status
from triggers_core.storages.session import SessionStorage

_SHOWN = 5  # instances described one by one; the rest is counted


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A trigger that an instance has, and since when (seconds since 1970)."""

    trigger: str
    event: int
    at: float


class InstanceExplained(msgspec.Struct, frozen=True, kw_only=True):
    """One instance: where it stands and why."""

    name: str
    status: Status
    has: list[Seen]
    waits_for: list[str]
    unless: list[Seen]
    """The triggers of `unless` that it has noted."""
    why: str
    """A sentence."""


class TaskExplained(msgspec.Struct, frozen=True, kw_only=True):
    """One task: its rule, its instances and a summary."""

    name: str
    rule: str
    why: str
    waits_for: list[str]
    instances: list[InstanceExplained]
    left_out: int
    """Instances that are not described one by one."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Reads as text (`str`); holds the same as data."""

    uid: str
    state: str
    tasks: list[TaskExplained]

    @property
    def data(self) -> dict[str, Any]:
        """The explanation as plain dicts and lists, for JSON."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    def __str__(self) -> str:
        lines = [f"Session {self.uid}: {self.state}"]
        for task in self.tasks:
            lines += ["", f"{task.name}: {task.rule}", f"  {task.why}"]
            lines += [f"  - {each.name}: {each.why}" for each in task.instances]
            if task.left_out:
                lines.append(f"  - and {task.left_out:,} more that have ended")
        return "\n".join(lines)


def explain(storage: SessionStorage, task_name: str | None = None) -> Explanation:
    """Explain one task of a session, or all of them.

    :raises SessionNotFound: nothing has been stored under the uid.
    :raises TaskNotFound: the session has no such task.
    """
    slice = storage.store.load(storage.uid, Need())
    header, tasks = slice.header, slice.configuration.tasks
    if header is None:
        raise SessionNotFound(f"there is no session {storage.uid!r}: nothing has been fired yet")
    if task_name is not None and task_name not in tasks:
        raise TaskNotFound(
            f"{storage.uid}: the session has no task {task_name!r}{did_you_mean(task_name, tasks)}"
        )
    chosen = list(tasks.values()) if task_name is None else [tasks[task_name]]
    events = {}
    numbers = set(header.latest.values())
    found = {task.name: storage.store.instances(storage.uid, task=task.name) for task in chosen}
    for instances in found.values():
        for instance in instances:
            for seen in (instance.taken, instance.noted):
                numbers.update(number for each in seen.values() for number in each)
            numbers.update({instance.scheduled_by, instance.result} - {-1})
    if numbers:
        events = {event.number: event for event in storage.store.events(storage.uid)}
    words = _Words(header, slice.now, events)
    return Explanation(
        uid=storage.uid,
        state=words.session(tasks),
        tasks=[words.task(task, found[task.name]) for task in chosen],
    )


def rule_of(task: Task) -> str:
    """A task's configuration as a sentence."""
    parts = []
    if task.after:
        parts.append(f"after {_list(task.after)}")
    if task.and_every:
        parts.append(f"and every {task.and_every}" if parts else f"every {task.and_every}")
    if task.unless:
        parts.append(f"unless {_list(task.unless)}")
    return f"{', '.join(parts)}, run {task.run}"


class _Words:
    def __init__(self, header: Header, now: float, events: dict[int, Event]) -> None:
        self.header, self.now, self.events = header, now, events

    def session(self, tasks: Iterable[str]) -> str:
        header = self.header
        facts = [f"{_count(header.events, 'event')} recorded"]
        if not header.config:
            facts.append("no configuration yet: events are kept and applied by the first one")
        for status, word in (
            (Status.FAILED, "failed"),
            (Status.RUNNING, "running"),
            (Status.SCHEDULED, "scheduled"),
            (Status.UNSTARTED, "waiting"),
        ):
            if amount := header.total(status):
                facts.append(f"{_count(amount, 'instance')} {word}")
        if header.waiting_since is not None:
            facts.append(f"waiting for events since {self._since(header.waiting_since)}")
        if header.state is SessionState.CLOSED:
            facts.append("closed: it accepts no more events")
        return "; ".join(facts) + "."

    def task(self, task: Task, instances: Sequence[Instance]) -> TaskExplained:
        open_first = sorted(instances, key=lambda each: (each.resolved, each.number))
        shown = [
            each
            for index, each in enumerate(open_first)
            if index < _SHOWN or (not each.resolved and index < 4 * _SHOWN)
        ]
        missing = sorted(task.required.wants(instances[-1].taken)) if instances else []
        if not instances:
            missing = sorted(task.required.triggers - self.header.latest.keys())
        return TaskExplained(
            name=task.name,
            rule=rule_of(task),
            why=self._summary(task, instances, missing),
            waits_for=missing,
            instances=[self.instance(task, each) for each in sorted(shown, key=_number)],
            left_out=len(instances) - len(shown),
        )

    def _summary(self, task: Task, instances: Sequence[Instance], missing: list[str]) -> str:
        if not instances:
            waits = [
                f"{trigger}, which {'fired before this task was configured' if fired else 'has not fired yet'}"
                for trigger in sorted(task.required.triggers)
                for fired in [trigger in self.header.latest]
            ]
            return f"It has not started. It waits for {_list(waits)}."
        counts = [
            f"{amount:,} {status.value}"
            for status in Status
            if (amount := self.header.count(task.name, status))
        ]
        text = f"{_count(len(instances), 'instance')}: {', '.join(counts)}."
        if not task.and_every and len(instances) == 1:
            text += " It runs once: it names no andEvery."
        return text

    def instance(self, task: Task, instance: Instance) -> InstanceExplained:
        waits = sorted(task.required.wants(instance.taken))
        return InstanceExplained(
            name=instance.name,
            status=instance.status,
            has=self._seen(instance.taken),
            waits_for=waits if instance.status is Status.UNSTARTED else [],
            unless=self._seen(instance.noted),
            why=self._why(task, instance, waits),
        )

    def _why(self, task: Task, instance: Instance, waits: list[str]) -> str:
        status = instance.status
        has = _list(
            [
                f"{seen.trigger} (since {self._since(seen.at)})"
                for seen in self._seen(instance.taken)
            ]
        )
        if status is Status.UNSTARTED and instance.not_before is not None:
            return (
                f"held back for a retry until {_clock(instance.not_before)}"
                f" ({_duration(instance.not_before - self.now)} from now);"
                f" retry {instance.retries} of {instance.parent}."
            )
        if status is Status.UNSTARTED:
            text = f"waits for {_list(waits)}."
            return f"has {has}; {text}" if has else text
        if status is Status.ABANDONED:
            noted = _list(
                [f"{seen.trigger} ({self._since(seen.at)})" for seen in self._seen(instance.noted)]
            )
            return f"abandoned, because {noted} fired before it could run."
        if status is Status.SCHEDULED:
            text = f"scheduled for attempt {instance.attempt}; no worker has claimed it yet"
            if instance.redispatches:
                times = _count(instance.redispatches, "time")
                text += f", though it was dispatched again {times}: is a worker running?"
            return text.rstrip(".?") + ("?" if text.endswith("?") else ".")
        if status is Status.RUNNING:
            started = self._since(instance.started_at or self.now)
            lease = instance.lease_until or self.now
            held = (
                f"its lease ends in {_duration(lease - self.now)}"
                if lease > self.now
                else f"its lease ran out {_duration(self.now - lease)} ago, so its worker may be gone"
            )
            return f"running since {started}, attempt {instance.attempt}; {held}."
        if status is Status.FINISHED:
            return f"finished {self._since(instance.ended_at or self.now)}."
        error = read_metadata(instance).get("error")
        reason = ""
        if isinstance(error, dict):
            reason = f": {error.get('type', 'error')}: {error.get('message', '')}"
        if status is Status.FAILED:
            tries = ""
            if instance.retries:
                tries = f" after {_count(instance.retries, 'retry', 'retries')}"
            return (
                f"failed {self._since(instance.ended_at or self.now)}{tries}{reason}."
                " Replay it, or skip it."
            )
        if status is Status.REPLAYED:
            return f"failed{reason}, and was replayed as {instance.replayed_as}."
        return f"skipped {self._since(instance.ended_at or self.now)}{reason}."

    def _seen(self, seen: dict[str, list[int]]) -> list[Seen]:
        return [
            Seen(trigger=trigger, event=number, at=self.events[number].at)
            for trigger, (number, *_) in seen.items()
            if number in self.events
        ]

    def _since(self, at: float) -> str:
        return f"{_clock(at)}, {_duration(self.now - at)} ago"


def _number(instance: Instance) -> int:
    return instance.number


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _duration(seconds: float) -> str:
    seconds = max(0.0, seconds)
    for unit, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= unit:
            return _count(int(seconds // unit), name)
    return _count(int(seconds), "second")


def _count(amount: int, word: str, plural: str = "") -> str:
    return f"{amount:,} {word if amount == 1 else plural or word + 's'}"


def _list(items: Sequence[str]) -> str:
    *most, last = items or [""]
    return f"{', '.join(most)} and {last}" if most else last
