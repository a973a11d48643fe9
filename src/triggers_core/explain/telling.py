"""Sentences about a session, its tasks and their instances."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from triggers_core.engine.by_hand import CLOSED, CONFIGURED, noted
from triggers_core.engine.configuration import Task
from triggers_core.engine.features import newest, unknown_features
from triggers_core.engine.records import Event, Header, Instance, SessionState, Status
from triggers_core.engine.standing import lacking, prospect
from triggers_core.explain.awaiting import Answers, Awaiting
from triggers_core.explain.data import TaskExplained
from triggers_core.explain.instances import InstanceWords
from triggers_core.explain.outline import outline, says_more_than_names
from triggers_core.explain.progress import Progress, note_facts
from triggers_core.explain.rules import alternatives, rule_of
from triggers_core.explain.times import Times
from triggers_core.texts import count, listed, names

MAX_SHOWN: Final = 5  # instances described one by one; the rest is counted


def shown(instances: Iterable[Instance]) -> list[Instance]:
    """The instances of a task that are described one by one: open ones first."""
    open_first = sorted(instances, key=lambda each: (each.resolved, each.number))
    chosen = [
        each
        for index, each in enumerate(open_first)
        if index < MAX_SHOWN or (not each.resolved and index < 4 * MAX_SHOWN)
    ]
    return sorted(chosen, key=_number)


class Words:
    """Says where a session stands.

    :ivar events: those that are told of, by number.
    """

    def __init__(
        self,
        header: Header,
        now: float,
        events: Mapping[int, Event],
        tasks: Mapping[str, Task],
        ask: Answers | None,
    ) -> None:
        self.header: Header = header
        self.events: Mapping[int, Event] = events
        self.times: Times = Times(now)
        self._awaiting = Awaiting(header, tasks, ask)
        self._instances = InstanceWords(header, events, self.times, self._awaiting)

    def session(self) -> str:
        header = self.header
        facts = [count(header.events, "event")]
        if header.state is SessionState.CLOSED:
            closed = noted(header, CLOSED)
            facts.insert(0, f"closed to further events{self.times.by(closed) if closed else ''}")
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
            facts.append(f"nothing under way {self.times.since(header.waiting_since)}")
        configured = noted(header, CONFIGURED)
        if configured is not None and configured.version > 1:  # a change, not the first one
            since = " and again since" if configured.version < header.config_version else ""
            facts.append(f"configuration changed{self.times.by(configured)}{since}")
        return f"{', '.join(facts)}."

    def notes(self) -> list[str]:
        """What a reader must know before anything else."""
        unknown = unknown_features(self.header.requires)
        if not unknown:
            return []
        install = newest(unknown.values())
        version = f" ({install} or later)" if install else ""
        return [
            f"Its configuration needs a newer triggers-core{version}, which knows"
            f" {listed(list(unknown))}: what follows may leave something out."
        ]

    # -- tasks --------------------------------------------------------------------------------

    def task(self, task: Task, instances: Sequence[Instance]) -> TaskExplained:
        if not instances:
            return self._not_begun(task)
        chosen = shown(instances)
        return TaskExplained(
            name=task.name,
            rule=rule_of(task),
            why=self._summary(task, instances),
            waits_for=self._waits_for(task, instances[-1]),
            instances=[self._instances.explained(task, each) for each in chosen],
            left_out=len(instances) - len(chosen),
        )

    def _waits_for(self, task: Task, instance: Instance) -> list[str]:
        lacks = lacking(task.rule, instance, self.header)
        return sorted(lacks.triggers) if lacks is not None else []

    def _summary(self, task: Task, instances: Sequence[Instance]) -> str:
        counts = [
            f"{amount:,} {status.value}"
            for status in Status
            if (amount := self.header.count(task.name, status))
        ]
        text = f"1 instance, {instances[0].status.value}."
        if len(instances) > 1:
            text = f"{count(len(instances), 'instance')}: {', '.join(counts)}."
        waiting = [each for each in instances if each.status is Status.UNSTARTED]
        if task.rule.every_time and not any(not each.parent for each in waiting):
            again = [names([each]) for each in sorted(task.required.triggers)]
            text += f" The next one begins with {alternatives(again)}."
        return text

    def _not_begun(self, task: Task) -> TaskExplained:
        """Why a task has no instance. Configurations but the first look at no past events."""
        rule = task.rule
        first = prospect(task.name, rule, self.header)
        note_facts(rule, first, self.events)
        progress = Progress(rule, first, self.header, self.events)
        lacks = lacking(rule, first, self.header)
        missing = sorted(lacks.triggers) if lacks is not None else []
        past = sorted({leaf.trigger for leaf in rule.leaves.values() if leaf.key in first.taken})
        fired = f"{names(past)} fired before the task was configured"
        if lacks is None:
            again = "it" if len(past) == 1 else "one of them"
            why = f"It has not begun: {fired}. It begins when {again} fires again."
            if not past:
                why = "It has not begun: it begins with the next event that it listens to."
        else:
            text = self._awaiting.lacks(rule, first, lacks)
            why = f"It has not begun: it waits for {text}."
            if past:
                why += f" ({fired}, and will count.)"
        condition = progress.condition
        return TaskExplained(
            name=task.name,
            rule=rule_of(task),
            why=why,
            waits_for=missing,
            instances=[],
            left_out=0,
            condition=condition,
            tree=outline(condition, self.times) if says_more_than_names(condition) else [],
        )


def _number(instance: Instance) -> int:
    return instance.number
