"""What a task has, what it waits for, and why it did not run: in words, and as data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from triggers_core.engine.additions import CommitSession
from triggers_core.engine.attempts import PASSED_ON
from triggers_core.engine.configuration import FEATURE, FEATURES, Configuration, Task
from triggers_core.engine.machine import Draft
from triggers_core.engine.metadata import read_metadata
from triggers_core.engine.protocol import Query, Rules, Snapshot
from triggers_core.engine.records import Event, Header, Instance, SessionState, Source, Status
from triggers_core.exceptions import PluginMissing, SessionNotFound, TaskNotFound, UnknownSchema
from triggers_core.storages.session import SessionStorage
from triggers_core.texts import clock, count, did_you_mean, duration, listed, names, nearest

Ask = Callable[[CommitSession, str], str | None]
"""Asks plugins what a trigger that they fire waits for."""

_MAX_READS = 5  # reads of a session that changes meanwhile
_MAX_SHOWN = 5  # instances described one by one; the rest is counted


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
    holder: str = ""
    """Who runs it, as far as its worker said: ``host:pid``. Empty unless it is running."""


class TaskExplained(msgspec.Struct, frozen=True, kw_only=True):
    """One task: its rule, its instances and a summary."""

    name: str
    rule: str
    why: str
    waits_for: list[str]
    instances: list[InstanceExplained]
    left_out: int
    """Instances that are not described one by one."""


class Unheard(msgspec.Struct, frozen=True, kw_only=True):
    """A trigger that has fired, though no task waits for it."""

    trigger: str
    event: int
    at: float
    did_you_mean: str | None
    """A trigger that a task waits for, and that looks like it."""
    looks_alike: bool
    """Whether the two can hardly be told apart on a screen."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Reads as text (`str`); holds the same as data."""

    uid: str
    state: str
    tasks: list[TaskExplained]
    unheard: list[Unheard] = []
    """Fired triggers that no task waits for. Those of plugins and tasks do not count; for one task,
    only those that look like one of its own."""
    notes: list[str] = []
    """What else stands under the session: sentences, of `unheard` too."""

    @property
    def data(self) -> dict[str, Any]:
        """The explanation as plain dicts and lists, for JSON."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    def __str__(self) -> str:
        lines = [f"Session {self.uid}: {self.state}", *(f"  {note}" for note in self.notes)]
        for task in self.tasks:
            lines += ["", f"{task.name}: {task.rule}", f"  {task.why}"]
            lines += [f"  - {each.name}: {each.why}" for each in task.instances]
            if task.left_out:
                lines.append(f"  - and {task.left_out:,} more")
        return "\n".join(lines)


def explain(
    storage: SessionStorage,
    task_name: str | None = None,
    rules: Rules | None = None,
    ask: Ask | None = None,
) -> Explanation:
    """Explain one task of a session, or all of them.

    :param rules: of the application, for `ask`.
    :param ask: answers what a trigger that a plugin fires waits for; see `explain_trigger`.
    :raises SessionNotFound: nothing has been stored under the uid.
    :raises TaskNotFound: the session has no such task.
    """
    store, uid = storage.store, storage.uid
    for _ in range(_MAX_READS):  # the parts have to be of one moment
        snapshot = store.load(uid, Query())
        found = _by_task(store.instances(uid))
        events = store.events_by_number(uid, _shown_events(snapshot, found, task_name))
        after = store.load(uid, Query())
        same = after.header == snapshot.header or (
            after.header is not None
            and snapshot.header is not None
            and after.header.generation == snapshot.header.generation
            and after.header.version == snapshot.header.version
        )
        snapshot = after
        if same:
            break
    header, tasks = snapshot.header, snapshot.configuration.tasks
    if header is None:
        raise SessionNotFound(f"there is no session {storage.uid!r}: nothing has been fired yet")
    if task_name is not None and task_name not in tasks:
        raise TaskNotFound(
            f"{storage.uid}: the session has no task {task_name!r}{did_you_mean(task_name, tasks)}"
        )
    chosen = list(tasks.values()) if task_name is None else [tasks[task_name]]
    asked: Callable[[str], str | None] | None = None
    if ask is not None:
        try:
            session = CommitSession(Draft(snapshot, rules or Rules()), uid)
            asked = partial(ask, session)
        except (PluginMissing, UnknownSchema):
            pass  # whoever could answer is not here
    words = _Words(header, snapshot.now, events, tasks, asked)
    explained = [words.task(task, found.get(task.name, [])) for task in chosen]
    unheard = words.unheard(snapshot.configuration)
    if task_name is not None:
        own = tasks[task_name].listens_to
        unheard = [each for each in unheard if each.did_you_mean in own]
    return Explanation(
        uid=uid,
        state=words.session(),
        tasks=explained,
        unheard=unheard,
        notes=[*words.notes(), *words.about_unheard(unheard)],
    )


def _by_task(instances: Iterable[Instance]) -> dict[str, list[Instance]]:
    found: dict[str, list[Instance]] = {}
    for instance in instances:
        found.setdefault(instance.task, []).append(instance)
    return found


def _shown(instances: Iterable[Instance]) -> list[Instance]:
    """The instances of a task that are described one by one: open ones first."""
    open_first = sorted(instances, key=lambda each: (each.resolved, each.number))
    shown = [
        each
        for index, each in enumerate(open_first)
        if index < _MAX_SHOWN or (not each.resolved and index < 4 * _MAX_SHOWN)
    ]
    return sorted(shown, key=_number)


def _shown_events(
    snapshot: Snapshot, found: Mapping[str, list[Instance]], task_name: str | None
) -> set[int]:
    """The numbers of the events that an explanation tells of."""
    configuration = snapshot.configuration
    latest = {} if snapshot.header is None else snapshot.header.latest
    numbers = {
        number
        for trigger, number in latest.items()
        if trigger not in configuration.listeners and trigger not in configuration.tasks
    }
    for task in configuration.tasks if task_name is None else (task_name,):
        for instance in _shown(found.get(task, ())):
            numbers.add(instance.scheduled_by)
            numbers.update(seen[0] for seen in instance.taken.values())
            numbers.update(seen[0] for seen in instance.noted.values())
    return numbers


def rule_of(task: Task) -> str:
    """A task's configuration as a sentence."""
    parts = []
    if task.after:
        parts.append(f"after {names(task.after)}")
    if task.and_every:
        parts.append(f"{'and ' if parts else ''}every {names([task.and_every])}")
    if task.unless:
        parts.append(f"unless {names(task.unless)}")
    return f"{', '.join(parts)}, run {task.run}"


class _Words:
    def __init__(
        self,
        header: Header,
        now: float,
        events: Mapping[int, Event],
        tasks: Mapping[str, Task],
        ask: Callable[[str], str | None] | None,
    ) -> None:
        self.header, self.now, self.events, self.tasks = header, now, events, tasks
        self.ask = ask

    def session(self) -> str:
        header = self.header
        facts = [count(header.events, "event")]
        if header.state is SessionState.CLOSED:
            facts.insert(0, "closed to further events")
        if not header.config:
            facts.append("no configuration yet (the first one applies what is recorded)")
        for status, word in (
            (Status.FAILED, "failed"),
            (Status.RUNNING, "running"),
            (Status.SCHEDULED, "scheduled"),
            (Status.UNSTARTED, "waiting"),
        ):
            if amount := header.total(status):
                facts.append(f"{count(amount, 'instance')} {word}")
        if header.waiting_since is not None:
            facts.append(f"nothing under way {self._since(header.waiting_since)}")
        return f"{', '.join(facts)}."

    def notes(self) -> list[str]:
        """What a reader must know before anything else."""
        unknown = [
            each.removeprefix(FEATURE)
            for each in self.header.requires
            if each.startswith(FEATURE) and each.removeprefix(FEATURE) not in FEATURES
        ]
        if not unknown:
            return []
        return [
            f"Its configuration needs a newer triggers-core, which knows {listed(unknown)}: what"
            " follows may leave something out."
        ]

    def unheard(self, configuration: Configuration) -> list[Unheard]:
        """Triggers of the application that no task of the session names."""
        if not self.tasks:
            return []
        found = []
        for trigger, number in self.header.latest.items():
            event = self.events.get(number)
            if trigger in configuration.listeners or trigger in self.tasks or event is None:
                continue
            if event.source is Source.PLUGIN:
                continue
            alike = _alike(trigger, configuration.listeners)
            meant = alike or nearest(trigger, configuration.listeners)
            found.append(
                Unheard(
                    trigger=trigger,
                    event=number,
                    at=event.at,
                    did_you_mean=meant,
                    looks_alike=alike is not None,
                )
            )
        return sorted(found, key=lambda each: (each.did_you_mean is None, each.event))

    def about_unheard(self, unheard: Sequence[Unheard]) -> list[str]:
        """A sentence each, for the first of them."""
        said = []
        for each in unheard[:_MAX_SHOWN]:
            text = f"{names([each.trigger])} fired {self._at(each.at)}, and no task waits for it"
            if each.looks_alike:
                text += (
                    f": it looks like {names([each.did_you_mean or ''])}, and is another name"
                    f" ({each.trigger!a}, not {each.did_you_mean!a})."
                )
            elif each.did_you_mean is not None:
                text += f": did you mean {names([each.did_you_mean])}?"
            else:
                text += "."
            said.append(text)
        if len(unheard) > _MAX_SHOWN:
            more = unheard[_MAX_SHOWN:]
            said.append(f"And {count(len(more), 'more trigger')} that no task waits for.")
        return said

    # -- tasks --------------------------------------------------------------------------------

    def task(self, task: Task, instances: Sequence[Instance]) -> TaskExplained:
        shown = _shown(instances)
        if instances:
            missing = sorted(task.required.missing(instances[-1].taken))
        else:
            missing = sorted(task.required.triggers - self.header.latest.keys())
        return TaskExplained(
            name=task.name,
            rule=rule_of(task),
            why=self._summary(task, instances) if instances else self._not_begun(task, missing),
            waits_for=missing,
            instances=[self.instance(task, each) for each in shown],
            left_out=len(instances) - len(shown),
        )

    def _summary(self, task: Task, instances: Sequence[Instance]) -> str:
        counts = [
            f"{amount:,} {status.value}"
            for status in Status
            if (amount := self.header.count(task.name, status))
        ]
        if len(instances) > 1:
            return f"{count(len(instances), 'instance')}: {', '.join(counts)}."
        return f"1 instance, {instances[0].status.value}."

    def _not_begun(self, task: Task, missing: Sequence[str]) -> str:
        """Why a task has no instance. Configurations but the first look at no past events."""
        past = sorted(task.required.triggers & self.header.latest.keys())
        fired = f"{names(past)} fired before the task was configured"
        if not missing:
            again = "it" if len(past) == 1 else "one of them"
            return f"It has not begun: {fired}. It begins when {again} fires again."
        text = f"It has not begun: it waits for {self._awaited(missing)}."
        return f"{text} ({fired}, and will count.)" if past else text

    def _awaited(self, triggers: Iterable[str]) -> str:
        """What is waited for, and where it stands if it is a task itself."""
        return listed([f"{names([each])}{self._standing(each)}" for each in triggers])

    def _standing(self, trigger: str) -> str:
        if trigger in self.header.latest:
            return ""
        if trigger not in self.tasks:
            answer = self.ask(trigger) if self.ask is not None else None
            return f" (which {answer})" if answer else ""
        for status, words in (
            (Status.FAILED, "which failed"),
            (Status.RUNNING, "which is running"),
            (Status.SCHEDULED, "which is scheduled"),
            (Status.UNSTARTED, "which waits, too"),
            (Status.ABANDONED, "which was abandoned"),
            (Status.SKIPPED, "which was skipped without a cascade"),
        ):
            if self.header.count(trigger, status):
                return f" ({words})"
        return " (which has not begun)"

    # -- instances ----------------------------------------------------------------------------

    def instance(self, task: Task, instance: Instance) -> InstanceExplained:
        waits = sorted(task.required.missing(instance.taken))
        return InstanceExplained(
            name=instance.name,
            status=instance.status,
            has=self._seen(instance.taken),
            waits_for=waits if instance.status is Status.UNSTARTED else [],
            unless=self._seen(instance.noted),
            why=self._why(task, instance, waits),
            holder=holder_of(instance),
        )

    def _why(self, task: Task, instance: Instance, waits: list[str]) -> str:
        status = instance.status
        ended = self._at(instance.ended_at or self.now)
        if status is Status.UNSTARTED and instance.not_before is not None:
            return (
                f"held back for a retry, which comes in {duration(instance.not_before - self.now)};"
                f" retry {instance.retries}, of {instance.parent}."
            )
        if status is Status.UNSTARTED:
            return self._waiting(task, instance, waits)
        if status is Status.ABANDONED:
            noted = self._seen(instance.noted)
            fired = [f"{names([each.trigger])} fired {self._at(each.at)}" for each in noted]
            return f"abandoned: {listed(fired)}, before it could run."
        if status is Status.SCHEDULED:
            return self._scheduled(instance)
        if status is Status.RUNNING:
            lease = (instance.lease_until or self.now) - self.now
            held = f"its lease ends in {duration(lease)}"
            if lease < 0:
                held = f"its lease ran out {duration(-lease)} ago: its worker may be gone"
            started = self._since(instance.started_at or self.now)
            holder = holder_of(instance)
            by = f" by {holder}" if holder else ""
            return f"running {started}{by}, attempt {instance.attempt}; {held}."
        if status is Status.FINISHED:
            return f"finished {ended}."
        error = _error_of(instance)
        if status is Status.FAILED:
            tries = ""
            if instance.retries:
                tries = f" after {count(instance.retries, 'retry', 'retries')}"
            return f"failed{tries} {ended}{error}. Replay it, or skip it."
        if status is Status.REPLAYED:
            return f"failed{error}; replayed as {instance.replayed_as}, {ended}."
        return f"skipped {ended}{error}."

    def _waiting(self, task: Task, instance: Instance, waits: list[str]) -> str:
        text = f"waits for {self._awaited(waits)}"
        has = self._seen(instance.taken)
        if has:
            since = [f"{names([each.trigger])}, {self._since(each.at)}" for each in has]
            text += f"; has {'; '.join(since)}"
        noted = self._seen(instance.noted)
        if noted:
            left = names(sorted(task.abandoned_by.missing(instance.noted)))
            fired = names([seen.trigger for seen in noted])
            text += f". {fired} of its unless fired: it is called off once {left} fires, too"
        past = [trigger for trigger in waits if trigger in self.header.latest]
        if past:
            text += f". {names(past)} fired before the task waited for it, and must fire again"
        return f"{text}."

    def _scheduled(self, instance: Instance) -> str:
        ready = instance.created_at
        if not instance.parent and instance.scheduled_by in self.events:
            ready = self.events[instance.scheduled_by].at
        text = f"scheduled {self._since(ready)}"
        passed_on = read_metadata(instance).get(PASSED_ON)
        if isinstance(passed_on, dict):
            times = passed_on.get("times", 1)
            often = "a worker" if times == 1 else f"{times} workers in turn"
            return (
                f"{text}; {often} left it to others: {passed_on.get('why', '')}".rstrip(". ") + "."
            )
        if instance.attempt > 1:
            text = f"scheduled for attempt {instance.attempt}, after its worker was lost"
        if not instance.redispatches:
            text += "; no worker has claimed it yet."
            left = (instance.due_at or 0.0) - self.now
            if left > 0:
                text += f" Should its message be lost, another is sent in {duration(left)}."
            return text
        times = count(instance.redispatches, "time")
        return f"{text}; dispatched again {times}, and no worker claimed it. Is one running?"

    def _seen(self, seen: dict[str, list[int]]) -> list[Seen]:
        return [
            Seen(trigger=trigger, event=number, at=self.events[number].at)
            for trigger, (number, *_) in seen.items()
            if number in self.events
        ]

    def _at(self, at: float) -> str:
        return f"{clock(at, self.now)} ({duration(self.now - at)} ago)"

    def _since(self, at: float) -> str:
        return f"since {clock(at, self.now)} ({duration(self.now - at)})"


def _error_of(instance: Instance) -> str:
    error = read_metadata(instance).get("error")
    if not isinstance(error, dict):
        return ""
    lines = str(error.get("message", "")).strip().splitlines() or [""]
    message = lines[0] if len(lines) == 1 else f"{lines[0]} …"
    return f": {error.get('type', 'error')}: {message}".rstrip(": .")


def holder_of(instance: Instance) -> str:
    """Who runs it; empty when nobody does, or nobody knows."""
    return instance.holder if instance.status is Status.RUNNING else ""


def _alike(name: str, known: Iterable[str]) -> str | None:
    """The known name that looks the same, if any."""
    looks = _looks(name)
    return next((each for each in known if each != name and _looks(each) == looks), None)


def _looks(name: str) -> str:
    """What a reader sees of a name: no invisible characters, one form of each letter."""
    import unicodedata  # a library of its own, 4 ms: most sessions have no look-alikes to compare

    folded = unicodedata.normalize("NFKC", name)
    visible = "".join(each for each in folded if unicodedata.category(each) not in ("Cf", "Mn"))
    return " ".join(visible.split())


def _number(instance: Instance) -> int:
    return instance.number
