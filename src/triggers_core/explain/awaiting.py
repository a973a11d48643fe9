"""What is waited for, in words: and where it stands, if it is a task itself or a plugin's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from triggers_core.engine.conditions import Leaf, Missing
from triggers_core.engine.configuration import Task
from triggers_core.engine.records import Header, Instance, Status
from triggers_core.engine.rule import Rule
from triggers_core.engine.standing import count_of, events_that_count, holding
from triggers_core.explain.rules import awaited, said_leaf
from triggers_core.texts import listed, names

Answers = Callable[[str], str | None]
"""What a trigger that a plugin fires waits for."""


class Awaiting:
    """Says what instances of a session wait for."""

    def __init__(self, header: Header, tasks: Mapping[str, Task], ask: Answers | None) -> None:
        self._header, self._tasks, self._ask = header, tasks, ask

    def lacks(self, rule: Rule, instance: Instance, missing: Missing) -> str:
        """What an instance lacks of its condition."""
        if rule.plain:
            return self.triggers(sorted(missing.triggers))
        if rule.required.holds(holding(rule, instance, self._header)):
            return f"a moment in {rule.until}"
        return awaited(missing, lambda leaf: self._leaf(leaf, instance))

    def triggers(self, triggers: Iterable[str]) -> str:
        """Triggers, and where they stand."""
        return listed([f"{names([each])}{self._standing(each)}" for each in triggers])

    def _leaf(self, leaf: Leaf, instance: Instance) -> str:
        text = f"{said_leaf(leaf)}{self._standing(leaf.trigger)}"
        if leaf.keep != "count":
            return text
        needs, has = count_of(leaf, instance), events_that_count(leaf, instance, self._header)
        if needs is None:
            return text
        return f"{needs - has:,} {'more ' if has else ''}of {names([leaf.trigger])}"

    def _standing(self, trigger: str) -> str:
        if trigger in self._header.latest:
            return ""
        if trigger not in self._tasks:
            answer = self._ask(trigger) if self._ask is not None else None
            return f" (which {answer})" if answer else ""
        for status, words in (
            (Status.FAILED, "which failed"),
            (Status.RUNNING, "which is running"),
            (Status.SCHEDULED, "which is scheduled"),
            (Status.UNSTARTED, "which waits, too"),
            (Status.ABANDONED, "which was abandoned"),
            (Status.SKIPPED, "which was skipped without a cascade"),
        ):
            if self._header.count(trigger, status):
                return f" ({words})"
        return " (which has not begun)"
