"""Sentences about instances: where each stands, and why."""

from __future__ import annotations

from collections.abc import Mapping

from triggers_core.engine.attempts import PASSED_ON
from triggers_core.engine.by_hand import LOGS, noted
from triggers_core.engine.conditions import Missing
from triggers_core.engine.configuration import Task
from triggers_core.engine.metadata import read_metadata
from triggers_core.engine.moments import DROPPED
from triggers_core.engine.records import Event, Header, Instance, Status
from triggers_core.engine.rule import Rule
from triggers_core.engine.standing import (
    deadline_of,
    has_room,
    hold_end,
    holding,
    is_idle,
    lacking,
    later,
    latest_event,
    on_record,
    record_of,
)
from triggers_core.explain.awaiting import Awaiting
from triggers_core.explain.data import Answer, InstanceExplained, Seen
from triggers_core.explain.outline import outline, says_more_than_names
from triggers_core.explain.progress import Progress
from triggers_core.explain.rules import awaited, said_leaf, span
from triggers_core.explain.times import Times
from triggers_core.texts import clock, count, duration, listed, names

UNSTARTED, ABANDONED = Status.UNSTARTED, Status.ABANDONED


def holder_of(instance: Instance) -> str:
    """Who runs it; empty when nobody does, or nobody knows."""
    return instance.holder if instance.status is Status.RUNNING else ""


class InstanceWords:
    """Explains the instances of a session.

    :param events: those that are told of, by number.
    """

    def __init__(
        self, header: Header, events: Mapping[int, Event], times: Times, awaiting: Awaiting
    ) -> None:
        self._header, self._events, self._times, self._awaiting = header, events, times, awaiting

    def explained(self, task: Task, instance: Instance) -> InstanceExplained:
        rule, header, waits = task.rule, self._header, instance.status is UNSTARTED
        lacks = lacking(rule, instance, header) if waits else None
        progress = Progress(rule, instance, header, self._events)
        condition = None if instance.parent else progress.condition
        matters = condition is not None and (waits or instance.late)
        tree = outline(condition, self._times) if condition is not None and matters else []
        if condition is None or not says_more_than_names(condition):
            tree = []
        held_until = None
        if waits and instance.not_before is not None:
            held_until = (
                hold_end(rule, instance, self._header) if instance.met else None
            ) or instance.not_before
        answer = self._answer(rule, instance)
        why = self._why(task, instance, progress, bool(tree))
        return InstanceExplained(
            name=instance.name,
            status=instance.status,
            has=self._has(rule, instance),
            waits_for=sorted(lacks.triggers) if lacks is not None else [],
            unless=self._seen(instance.noted),
            why=f"{why}{_said_answer(answer)}{self._said_logs(instance)}",
            holder=holder_of(instance),
            condition=condition,
            called_off_by=progress.unless,
            deadline=deadline_of(rule, instance, header) if waits and not instance.parent else None,
            held_until=held_until,
            idle=is_idle(rule, instance),
            reason=instance.why,
            otherwise=answer,
            tree=tree,
        )

    def _said_logs(self, instance: Instance) -> str:
        hand = noted(instance, LOGS)
        return f" Its logs were dealt with{self._times.by(hand)}." if hand else ""

    def _why(self, task: Task, instance: Instance, progress: Progress, has_tree: bool) -> str:
        status, times = instance.status, self._times
        ended = times.at(instance.ended_at or times.now)
        if status is UNSTARTED and instance.parent and instance.not_before is not None:
            return (
                "held back for a retry, which comes in"
                f" {duration(instance.not_before - times.now)};"
                f" retry {instance.retries}, of {instance.parent}."
            )
        if status is UNSTARTED and instance.not_before is not None:
            return self._held(task.rule, instance)
        if status is UNSTARTED:
            return self._waiting(task.rule, instance, has_tree)
        if status is ABANDONED:
            return self._late(task.rule, instance) if instance.late else self._called_off(instance)
        late = self._came_too_late(task.rule, instance, progress)
        if status is Status.SCHEDULED:
            return self._scheduled(instance) + late
        if status is Status.RUNNING:
            lease = (instance.lease_until or times.now) - times.now
            held = f"its lease ends in {duration(lease)}"
            if lease < 0:
                held = f"its lease ran out {duration(-lease)} ago: its worker may be gone"
            started = times.since(instance.started_at or times.now)
            holder = holder_of(instance)
            by = f" by {holder}" if holder else ""
            return f"running {started}{by}, attempt {instance.attempt}; {held}.{late}"
        if status is Status.FINISHED:
            return f"finished {ended}.{late}"
        error, by = _error_of(instance), f" by {instance.acted_by}" if instance.acted_by else ""
        if status is Status.FAILED:
            tries = ""
            if instance.retries:
                tries = f" after {count(instance.retries, 'retry', 'retries')}"
            return f"failed{tries}{by} {ended}{error}. Replay it, or skip it."
        if status is Status.REPLAYED:
            return f"failed{error}; replayed{by} as {instance.replayed_as}, {ended}."
        return f"skipped{by} {ended}{error}."

    # -- while it waits -----------------------------------------------------------------------

    def _waiting(self, rule: Rule, instance: Instance, has_tree: bool) -> str:
        lacks = lacking(rule, instance, self._header)
        text = "waits"
        if is_idle(rule, instance):
            text = "waits for the next time:" if lacks is not None else "waits for the next time"
        if lacks is not None:
            text += f" for {self._awaiting.lacks(rule, instance, lacks)}"
        has = self._has(rule, instance)
        if has and not has_tree:
            since = [f"{names([each.trigger])}, {self._times.since(each.at)}" for each in has]
            text += f"; has {'; '.join(since)}"
        noted = self._seen(instance.noted)
        if noted and rule.unless is not None:
            fired = names([seen.trigger for seen in noted])
            text += f". {fired} of its unless fired: it is called off once"
            text += f" {self._calls_off(rule, instance)} fires, too"
        past = [] if lacks is None else self._past(rule, instance, lacks)
        if past:
            text += f". {names(past)} fired before the task waited for it, and must fire again"
        return f"{text}{self._deadline(rule, instance)}."

    def _past(self, rule: Rule, instance: Instance, lacks: Missing) -> list[str]:
        """Triggers that fired, and that it does not have: its task did not wait for them then."""
        if instance.floor:
            return []  # it begins anew
        found = {
            leaf.trigger
            for leaf in lacks.leaves
            if leaf.own
            and leaf.key not in instance.taken
            and has_room(rule, leaf, instance)
            and latest_event(leaf, self._header) >= 0
        }
        return sorted(found)

    def _calls_off(self, rule: Rule, instance: Instance) -> str:
        """What would call it off, once it comes."""
        assert rule.unless is not None
        missing = rule.unless.missing(holding(rule, instance, self._header))
        if missing is None:
            return ""
        if rule.plain:
            return names(sorted(missing.triggers))
        return awaited(missing, said_leaf)

    def _deadline(self, rule: Rule, instance: Instance) -> str:
        if rule.within is None or instance.met or instance.parent:
            return ""
        allowed, deadline = span(rule.within), deadline_of(rule, instance, self._header)
        if deadline is None:
            begin = "the first event that it takes"
            if rule.within_of is not None:
                begin = said_leaf(rule.leaves[rule.within_of])
            return f". Its {allowed} begin with {begin}"
        if deadline <= self._times.now:
            return (
                f". Its {allowed} were over {self._times.at(deadline)}: the next sweep or change"
                " finds it late"
            )
        origin = self._origin(rule, instance)
        return f". It is late from {self._times.until(deadline)} on, {allowed} after {origin}"

    def _origin(self, rule: Rule, instance: Instance) -> str:
        """The event from which its time counts."""
        if rule.within_of is not None:
            return names([rule.within_of])
        numbers = sorted({*(n for ns in instance.taken.values() for n in ns), instance.created_by})
        for number in numbers:
            event = self._events.get(number)
            if event is not None and event.at == instance.began:
                return names([event.trigger])
        return clock(instance.began or self._times.now, self._times.now)

    # -- held back ----------------------------------------------------------------------------

    def _held(self, rule: Rule, instance: Instance) -> str:
        end = hold_end(rule, instance, self._header) or instance.not_before or 0.0
        text = f"held back until {self._times.until(end)}, "
        if rule.until is not None:
            text += f"as {rule.until} says"
        elif (
            rule.at_most is not None
            and instance.began is not None
            and end == later(instance.began, rule.at_most)
        ):
            text += f"{span(rule.at_most)} at most after {self._origin(rule, instance)}"
        else:
            text += f"{span(rule.waiting or 0)} after {self._latest(rule, instance, end)}"
        if end <= self._times.now:
            return f"{text}: the next sweep or change schedules it."
        calls_off = "" if rule.unless is None else self._calls_off(rule, instance)
        return f"{text}; {calls_off} would call it off before." if calls_off else f"{text}."

    def _latest(self, rule: Rule, instance: Instance, end: float) -> str:
        """The event after which it is held back until a moment, or when that came."""
        seen = [(each.at, each.trigger) for each in self._has(rule, instance)]
        seen += [
            (record_of(leaf, self._header).latest_at, leaf.trigger)
            for leaf in rule.shared
            if leaf.required and on_record(leaf, instance, self._header)
        ]
        for at, trigger in seen:
            if later(at, rule.waiting or 0) == end:
                return names([trigger])
        return clock(later(end, -(rule.waiting or 0)), self._times.now)

    # -- abandoned ----------------------------------------------------------------------------

    def _late(self, rule: Rule, instance: Instance) -> str:
        event = self._events.get(instance.scheduled_by)
        moment = instance.moment
        if moment is None:
            moment = event.at if event is not None else self._times.now
        allowed = "its time was up" if rule.within is None else f"its {span(rule.within)} were over"
        lacks = lacking(rule, instance, self._header)
        text = f"late: {allowed} {self._times.at(moment)}"
        if instance.moment is None:
            text = f"late: {allowed} before it began, {self._times.at(moment)}"
        if lacks is None:
            return f"{text}."
        return f"{text}, and it waited for {self._awaiting.lacks(rule, instance, lacks)}."

    def _called_off(self, instance: Instance) -> str:
        noted = self._seen(instance.noted)
        fired = [f"{names([each.trigger])} fired {self._times.at(each.at)}" for each in noted]
        for extent in instance.extents.values():
            event = self._events.get(extent.last)
            if extent.unless and extent.amount and event is not None:
                often, latest = count(extent.amount, "time"), self._times.at(event.at)
                fired.append(f"{names([extent.trigger])} fired {often}, the latest {latest}")
        return f"abandoned: {listed(fired)}, before it could run."

    def _came_too_late(self, rule: Rule, instance: Instance, progress: Progress) -> str:
        """What would have called it off, had it come before the hold was over."""
        if rule.unless is None or (rule.waiting is None and rule.until is None):
            return ""
        found = [progress.too_late(leaf) for leaf in rule.unless.leaves]
        return "".join(
            f" {names([each.trigger])} came too late to call it off, {self._times.at(each.at)}."
            for each in found
            if each is not None
        )

    def _answer(self, rule: Rule, instance: Instance) -> Answer | None:
        """The trigger of `otherwise` that it came to."""
        if instance.why is None or not instance.told:
            return None
        dropped = read_metadata(instance).get(DROPPED)
        if isinstance(dropped, dict):
            return Answer(
                trigger=str(dropped.get("trigger", "")),
                fired=False,
                problem=str(dropped.get("why", "")),
            )
        trigger = rule.otherwise.get(instance.why)
        return None if trigger is None else Answer(trigger=trigger, fired=True)

    # -- scheduled ----------------------------------------------------------------------------

    def _scheduled(self, instance: Instance) -> str:
        ready = instance.created_at
        if not instance.parent and instance.moment is not None:
            ready = instance.moment
        elif not instance.parent and instance.scheduled_by in self._events:
            ready = self._events[instance.scheduled_by].at
        text = f"scheduled {self._times.since(ready)}"
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
            left = (instance.due_at or 0.0) - self._times.now
            if left > 0:
                text += f" Should its message be lost, another is sent in {duration(left)}."
            return text
        times = count(instance.redispatches, "time")
        return f"{text}; dispatched again {times}, and no worker claimed it. Is one running?"

    def _has(self, rule: Rule, instance: Instance) -> list[Seen]:
        """The single events that it has, in the order in which it took them."""
        has = self._seen(instance.taken)
        for leaf in rule.shared if instance.status is UNSTARTED else ():
            if leaf.keep == "latest" and leaf.required and on_record(leaf, instance, self._header):
                record = record_of(leaf, self._header)
                its_key = "" if leaf.key == leaf.trigger else leaf.key
                has.append(
                    Seen(
                        trigger=leaf.trigger, event=record.latest, at=record.latest_at, key=its_key
                    )
                )
        return has

    def _seen(self, seen: Mapping[str, list[int]]) -> list[Seen]:
        found = []
        for key, (number, *_) in seen.items():
            event = self._events.get(number)
            if event is not None:
                its_key = "" if key == event.trigger else key
                found.append(Seen(trigger=event.trigger, event=number, at=event.at, key=its_key))
        return found


def _said_answer(answer: Answer | None) -> str:
    if answer is None:
        return ""
    if answer.fired:
        return f" {names([answer.trigger])} was fired for it."
    return f" {names([answer.trigger])} could not be fired for it: {answer.problem}."


def _error_of(instance: Instance) -> str:
    error = read_metadata(instance).get("error")
    if not isinstance(error, dict):
        return ""
    lines = str(error.get("message", "")).strip().splitlines() or [""]
    message = lines[0] if len(lines) == 1 else f"{lines[0]} …"
    return f": {error.get('type', 'error')}: {message}".rstrip(": .")
