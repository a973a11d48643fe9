"""Guards of attempts: who may end what, and what ends together."""

from __future__ import annotations

from mutations.guard import Guard
from mutations.guard_of import engine

ATTEMPTS: tuple[Guard, ...] = (
    # -- attempts are fenced ----------------------------------------------------------------------
    engine(
        "token at the end of an attempt",
        "only who holds the attempt ends it",
        "attempts",
        "if instance.status is not Status.RUNNING or instance.token != token:",
        "if instance.status is not Status.RUNNING:",
        "an_end_needs_the_token",
        "a_zombie_ends_nothing",
    ),
    engine(
        "token at a heartbeat",
        "only who holds the attempt renews its lease",
        "attempts",
        "draft, instance = _held(snapshot, rules, uid, self.instance, self.token)\n"
        "        change = draft.touch(instance)",
        "draft = Draft(snapshot, rules)\n"
        "        instance = draft.instance(*split_instance_name(self.instance))\n"
        "        change = draft.touch(instance)",
        "a_heartbeat_without_the_lease_is_rejected",
    ),
    engine(
        "status at the end of an attempt",
        "an attempt ends once",
        "attempts",
        "if instance.status is not Status.RUNNING or instance.token != token:",
        "if instance.token != token:",
        "a_second_finish_is_rejected",
        "a_scheduled_instance_cannot_be_ended",
    ),
    engine(
        "session at the end of an attempt",
        "a deleted session is not brought back by its workers",
        "attempts",
        "    if snapshot.header is None:\n        raise LeaseLost(",
        "    if snapshot.header is None and not token:\n        raise LeaseLost(",
        "a_worker_of_a_deleted_session_ends_nothing",
    ),
    engine(
        "attempt at a claim",
        "a message is good for its own attempt only",
        "attempts",
        "if instance.status is not Status.SCHEDULED or instance.attempt != self.attempt:",
        "if instance.status is not Status.SCHEDULED:",
        "a_message_for_another_attempt_is_stale",
    ),
    engine(
        "status at a claim",
        "one message in two copies runs one body",
        "attempts",
        "if instance.status is not Status.SCHEDULED or instance.attempt != self.attempt:",
        "if instance.attempt != self.attempt:",
        "two_workers_with_one_message",
    ),
    engine(
        "generation at a claim",
        "a message about a deleted session runs nothing in the one that took its uid",
        "attempts",
        "if snapshot.header is None or snapshot.header.generation != self.generation:",
        "if snapshot.header is None:",
        "a_message_of_a_deleted_session_is_stale",
    ),
    engine(
        "a claim that is sent again",
        "a worker whose claim was carried out, but not answered, has its attempt",
        "attempts",
        "if claimed == (Status.RUNNING, self.attempt, self.token):",
        "if claimed == ():",
        "a_claim_that_is_sent_again_is_the_same_claim",
    ),
    engine(
        "lease at a claim",
        "an attempt whose worker dies is made again",
        "attempts",
        "instance.config_version = draft.header.config_version\n"
        "        change.lease_in = change.due_in = rules.timing.lease",
        "instance.config_version = draft.header.config_version\n"
        "        change.lease_in = rules.timing.lease",
        "a_lease_that_runs_out_makes_another_attempt",
    ),
    engine(
        "lease at a heartbeat",
        "a heartbeat keeps the sweep away",
        "attempts",
        "change = draft.touch(instance)\n"
        "        change.lease_in = change.due_in = rules.timing.lease",
        "change = draft.touch(instance)\n        change.keep_times = True",
        "a_heartbeat_renews_the_lease",
        "a_heartbeat_keeps_the_sweep_away",
    ),
    engine(
        "another attempt after a lost worker",
        "who lost its lease is fenced off by the number of the next attempt",
        "machine",
        "instance.attempt += 1",
        "instance.attempt = max(instance.attempt, 1)",
        "a_lease_that_runs_out_makes_another_attempt",
    ),
    engine(
        "due time in the sweep's decision",
        "a heartbeat between the sweep's look and its decision wins",
        "recovery",
        "if instance.due_at is not None and instance.due_at > now:\n            if is_misdated",
        "if instance.due_at is None:\n            if is_misdated",
        "a_heartbeat_between_the_look_and_the_sweep_wins",
    ),
    engine(
        "number of attempts",
        "an instance that kills its workers ends failed, and is not tried for ever",
        "recovery",
        "if instance.attempt < timing.attempts:",
        "if instance.attempt < timing.attempts * 100:",
        "after_too_many_attempts_it_is_failed",
    ),
    # -- messages ---------------------------------------------------------------------------------
    engine(
        "same-attempt redispatch",
        "a message that arrives late is good although another one was sent",
        "recovery",
        "change = draft.touch(instance)  # nobody claimed it: the message may be lost",
        "draft.schedule(instance)\n        change = draft.touch(instance)",
        "a_first_message_that_arrives_late_is_good",
    ),
    engine(
        "due time of a scheduled instance",
        "a message that is lost is sent again",
        "machine",
        "change.due_in = self.rules.timing.redispatch_after",
        "change.due_in = None",
        "what_nobody_claims_is_dispatched_again",
    ),
    engine(
        "due time of a redispatch",
        "a second message that is lost is sent again, too",
        "recovery",
        "change.due_in = draft.rules.timing.redispatch_in(instance.redispatches)",
        "change.due_in = None",
        "what_nobody_claims_is_dispatched_again",
    ),
    # -- outcome, cascade and fires are one commit ------------------------------------------------
    engine(
        "cascade in the commit of the outcome",
        "no instance is finished without its cascade",
        "attempts",
        "instance.result = (yield from record(draft, cascade_of(instance, self.result))).number",
        "yield from ()",
        "outcome_cascade_and_fires_are_one_commit",
    ),
    engine(
        "fires of a body in the commit of its outcome",
        "what a body fires is recorded once, with its success",
        "attempts",
        "            yield from record(draft, event)\n            known[event.id] = event",
        "            known[event.id] = event",
        "outcome_cascade_and_fires_are_one_commit",
    ),
    engine(
        "cascade of a skip in the commit of the skip",
        "an operator's skip cascades with its result",
        "commands",
        "instance.result = (yield from record(draft, cascade_of(instance, self.result))).number",
        "yield from ()",
        "a_skip_may_cascade_with_a_result",
    ),
    engine(
        "refusal of a body's fire",
        "an outcome of which a part cannot be stored is not stored in part",
        "attempts",
        "except (LimitExceeded, EventIdConflict, TaskNameFired) as error:\n"
        "            failure = error",
        "except (LimitExceeded, EventIdConflict, TaskNameFired):\n"
        "            draft, instance = _held(\n"
        "                (yield query), rules, uid, self.instance, self.token\n"
        "            )\n"
        "            draft.set_status(instance, Status.FINISHED)\n"
        "            return draft.plan(AttemptResult(instance=instance))",
        "a_fire_that_is_refused_fails_the_instance",
        "a_cascade_for_which_there_is_no_room_fails_its_instance",
    ),
    engine(
        "a plugin that fails in a finish is left out",
        "no plugin undoes what a body did",
        "attempts",
        "        except HookFailed as error:\n"
        "            dropped[error.plugin] = str(error)\n            continue\n"
        "        return draft.plan(\n            AttemptResult(",
        "        except HookFailed:\n            raise\n"
        "        return draft.plan(\n            AttemptResult(",
        "an_error_of_a_hook_never_undoes_what_a_body_did",
    ),
)
