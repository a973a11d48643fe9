"""The command of the sweep: look after what is overdue, whatever became of its worker."""

from __future__ import annotations

from typing import Final

import msgspec

from triggers_core.engine.additions import run_before_commit
from triggers_core.engine.commands import no_success
from triggers_core.engine.conditions import FAILED
from triggers_core.engine.due_times import is_misdated
from triggers_core.engine.machine import Draft
from triggers_core.engine.metadata import add_metadata
from triggers_core.engine.moments import MoreDue, work_off
from triggers_core.engine.names import split_instance_name
from triggers_core.engine.protocol import CommandSteps, Plan, Query, Rules
from triggers_core.engine.records import Instance, Status
from triggers_core.exceptions import HookFailed


class Recovered(msgspec.Struct, kw_only=True):
    """What a sweep did to the overdue instances of one session."""

    dispatch: list[tuple[str, int]] = []
    """(instance, attempt) to dispatch."""
    again: list[Instance] = []
    """Those among them that were scheduled before: nobody has claimed them in time."""
    failed: list[str] = []
    lost: list[tuple[str, int, str]] = []
    """(instance, attempt, holder) of the attempts whose worker is gone; the holder is what stands
    behind ``@`` in its token, empty when the runner gave none."""
    generation: str = ""
    dropped: dict[str, str] = {}
    """Plugin → error, for plugins whose additions were left out."""
    due: list[str] = []
    """The instances that fell due: scheduled by the end of a hold, or late."""


class Recover(msgspec.Struct, kw_only=True):
    """Look after instances that are overdue, whatever their worker or the broker did.

    So are those whose time lies further ahead than anybody can have asked for: a clock was wrong.
    A plugin that fails now is left out: it must not keep what its worker left behind from going on.
    """

    instances: tuple[str, ...] = ()
    """Those that may be overdue. What falls due at a moment of the session is found without."""

    def decide(self, uid: str, rules: Rules) -> CommandSteps[Recovered]:
        dropped: dict[str, str] = {}
        while True:
            snapshot = yield Query(instances=self.instances)
            if snapshot.header is None:
                return Plan(outcome=Recovered())
            draft, again = Draft(snapshot, rules), False
            recovered = Recovered(generation=draft.header.generation, dropped=dropped)
            expected = draft.header.next_moment
            try:
                yield from work_off(draft, overdue=snapshot.instances)
            except MoreDue:
                again = bool(draft.changes)
            for name in () if again else self.instances:
                instance = snapshot.instances.get(name)
                if instance is None or name in draft.worked_off:
                    continue
                if instance.due_at is not None:
                    self._recover(draft, instance, recovered)
            for name in recovered.failed:
                instance = draft.instance(*split_instance_name(name))
                yield from no_success(draft, instance, FAILED)
            recovered.due = list(draft.worked_off)
            if not draft.changes and draft.header.next_moment == expected:
                return Plan(outcome=recovered)
            try:
                yield from run_before_commit(draft, uid, without=dropped)
            except HookFailed as error:
                dropped[error.plugin] = str(error)
                continue
            ready = (*draft.scheduled, *recovered.again)
            asked = {name: position for position, name in enumerate(self.instances)}
            recovered.dispatch = sorted(  # as they were asked for; then, by moment, the others
                ((each.name, each.attempt) for each in ready),
                key=lambda each: asked.get(each[0], len(asked)),
            )
            return draft.plan(recovered, again)

    def _recover(self, draft: Draft, instance: Instance, recovered: Recovered) -> None:
        timing = draft.rules.timing
        now = draft.at if instance.status is Status.UNSTARTED else draft.now
        if instance.due_at is not None and instance.due_at > now:
            if is_misdated(instance, draft.now, timing):
                self._put_right(draft, instance, recovered)
        elif instance.status is Status.SCHEDULED:
            self._dispatch_again(draft, instance, recovered)
        elif instance.status is Status.RUNNING:
            recovered.lost.append((instance.name, instance.attempt, instance.holder))
            if instance.attempt < timing.attempts:
                draft.schedule(instance)  # its worker is gone: the next attempt
            else:
                self._give_up(draft, instance, recovered)

    def _put_right(self, draft: Draft, instance: Instance, recovered: Recovered) -> None:
        if instance.status is Status.RUNNING:
            # A worker that lives keeps it; without one it is overdue when this lease runs out.
            change = draft.touch(instance)
            change.lease_in = change.due_in = draft.rules.timing.lease
        elif instance.status is Status.SCHEDULED:
            self._dispatch_again(draft, instance, recovered)
        elif instance.not_before is not None:
            held_for = max(0.0, instance.not_before - instance.created_at)
            instance.created_at = draft.now
            draft.hold(instance, held_for)

    def _dispatch_again(self, draft: Draft, instance: Instance, recovered: Recovered) -> None:
        change = draft.touch(instance)  # nobody claimed it: the message may be lost
        instance.redispatches += 1
        change.due_in = draft.rules.timing.redispatch_in(instance.redispatches)
        recovered.again.append(instance)

    def _give_up(self, draft: Draft, instance: Instance, recovered: Recovered) -> None:
        message = (
            f"no worker finished it in {instance.attempt} attempts: each died or hung until"
            " its lease ran out"
        )
        draft.set_status(instance, Status.FAILED)
        instance.token = ""
        left_out = {"plugins_left_out": recovered.dropped} if recovered.dropped else {}
        error = {"error": {"type": WORKER_LOST, "message": message}}
        add_metadata(draft, instance, {**error, **left_out})
        recovered.failed.append(instance.name)


WORKER_LOST: Final = "WorkerLost"
"""The type of the error of an instance whose workers died too often; nothing raises it."""
