"""A Hypothesis state machine that takes a storage and the model through the same changes.

After every change it compares everything that the storage shows with the model. The tests of a
storage use it in one line::

    compare_with_model(lambda clock: closing(MemoryStore(clock)), settings(max_examples=100))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from triggers_core.engine import attempts, commands, recovery
from triggers_core.engine.configuration import parse_configuration
from triggers_core.engine.protocol import Command, Plan, Rules
from triggers_core.exceptions import TriggersError
from triggers_core.storages.base import Clock, Store
from triggers_core.testing.model import strategies as some
from triggers_core.testing.model.attempts import WorkedSession as Session
from triggers_core.testing.model.compare import (
    all_due,
    check_absent,
    check_fleet,
    check_session,
    count,
)
from triggers_core.testing.model.session import Dict, Refused
from triggers_core.testing.model.strategies import (
    DEEPEST,
    MOST,
    RULES,
    TASKS,
    TRIGGERS,
    UIDS,
    encoded,
)

OpenStore = Callable[[Clock], AbstractContextManager[Store]]
"""Opens an empty store whose only clock is the given one."""

T = TypeVar("T")

ENDINGS = ("close", "delete", "prune", "prune all", "reopen")
ACTIONS = ("replay", "skip", "fail", "note", "logs", "recover", "lose every worker")
UNDER_WAY = ("scheduled", "running")
UNRESOLVED = ("unstarted", *UNDER_WAY, "failed")


class Comparison(RuleBasedStateMachine):
    """Changes a storage and the model in the same way; `open` says which storage."""

    def open(self) -> AbstractContextManager[Store]:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.now: float = 1_000.0
        self.serial: int = 0
        self.model: dict[str, Session] = {}
        self.messages: list[tuple[str, str, str, int]] = []  # uid, generation, instance, attempt
        self.tries: list[tuple[str, str, str]] = []  # uid, instance, token
        self.opened: AbstractContextManager[Store] = self.open()
        self.store: Store = self.opened.__enter__()

    def teardown(self) -> None:
        self.opened.__exit__(None, None, None)

    # -- taking both through a change -------------------------------------------------------------

    def both(
        self,
        uid: str,
        command: Command[Any],
        change: Callable[[Session], Any],
        missing: str = "SessionNotFound",
        creates: str = "",
        rules: Rules = RULES,
    ) -> tuple[Plan[Any] | None, Any]:
        """Carry out a change on the storage and on the model, which answer in the same way.

        :param missing: the error when there is no session.
        :param creates: the generation under which the change makes a session that is missing.
        :returns: the plan and the model's answer; None and None when both refuse the change.
        """
        session, answer, error = self.model.get(uid), None, ""
        if session is None and creates:
            session = Session(creates, self.now, MOST, DEEPEST)
        try:
            if session is None:
                raise Refused(missing)
            session.now, session.ready = self.now, []
            answer = change(session)
        except Refused as refused:
            error = str(refused)
        if error:
            with pytest.raises(TriggersError) as caught:
                self.store.commit(uid, command, rules)
            assert type(caught.value).__name__ == error
            return None, None
        assert session is not None
        plan = self.store.commit(uid, command, rules)
        assert [each.name for each in plan.scheduled] == session.ready
        self.model[uid] = session
        self.sent(
            uid, [(each.name, session.instance(each.name)["attempt"]) for each in plan.scheduled]
        )
        return plan, answer

    def sent(self, uid: str, dispatched: list[tuple[str, int]]) -> None:
        generation = self.model[uid].generation
        self.messages += [(uid, generation, name, attempt) for name, attempt in dispatched]

    def new(self, what: str) -> str:
        self.serial += 1
        return f"{what}{self.serial}"

    def instances(self, *statuses: str) -> list[tuple[str, str]]:
        return [
            (uid, instance["name"])
            for uid, session in sorted(self.model.items())
            for instance in session.instances
            if not statuses or instance["status"] in statuses
        ]

    def due(self) -> list[tuple[str, str]]:
        return [key for key, at in sorted(all_due(self.model).items()) if at <= self.now]

    # -- an application ---------------------------------------------------------------------------

    @initialize(early=some.fires, configuration=some.configurations(min_size=2))
    def begin(self, early: list[tuple[str, Dict]], configuration: dict[str, Dict]) -> None:
        self.fire_some(UIDS[0], early)
        self.configure(UIDS[0], configuration)

    @rule(uid=some.uids, configuration=some.configurations(min_size=1))
    def configure(self, uid: str, configuration: dict[str, Dict]) -> None:
        version = self.model[uid].version if uid in self.model else 0
        generation, parsed = self.new("g"), parse_configuration(configuration)
        command = commands.Configure(configuration=parsed, generation=generation)
        plan, _ = self.both(uid, command, lambda s: s.configure(configuration), creates=generation)
        if plan is not None:
            assert plan.outcome.version == self.model[uid].version
            assert plan.outcome.changed == (plan.outcome.version > version)

    @rule(uid=some.uids, fires=some.fires)
    def fire_some(self, uid: str, fires: list[tuple[str, Dict]]) -> None:
        for trigger, kwargs in fires:
            self.fire(uid, trigger, kwargs, {"id": "", "once": False, "force": False}, None)

    @rule(
        uid=some.uids,
        trigger=some.names,
        kwargs=some.kwargs,
        how=some.fire_options,
        default=st.none() | some.configurations(),
    )
    def fire(
        self, uid: str, trigger: str, kwargs: Dict, how: Dict, default: dict[str, Dict] | None
    ) -> None:
        command = commands.Fire(
            trigger=trigger,
            payload=encoded(kwargs),
            event_id=how["id"] or self.new("id"),
            given_id=bool(how["id"]),
            once=how["once"],
            force=how["force"],
            generation=self.new("g"),
        )

        def fire(session: Session) -> Any:
            if uid not in self.model and default is not None:
                session.configure(default)
            identity = how["id"] or f"~{len(session.events)}.{command.event_id}"
            return session.fire(trigger, kwargs, identity, how["once"], how["force"])

        parsed = None if default is None else parse_configuration(default)
        rules = msgspec.structs.replace(RULES, default_configuration=parsed)
        plan, answer = self.both(uid, command, fire, creates=command.generation, rules=rules)
        if plan is not None:
            assert plan.outcome.status == answer

    # -- workers ----------------------------------------------------------------------------------

    @precondition(lambda self: self.instances("scheduled"))
    @rule(index=some.picks)
    def claim(self, index: int) -> None:
        uid, name = pick(self.instances("scheduled"), index)
        session = self.model[uid]
        self.claim_attempt(uid, session.generation, name, session.instance(name)["attempt"])

    def claim_attempt(
        self, uid: str, generation: str, name: str, attempt: int, token: str = ""
    ) -> None:
        token = token or self.new("token")
        command = attempts.Claim(instance=name, attempt=attempt, generation=generation, token=token)
        plan, kwargs = self.both(
            uid, command, lambda s: s.claim(generation, name, attempt, token), "StaleMessage"
        )
        if plan is not None:
            assert plan.outcome.kwargs() == kwargs
            self.tries.append((uid, name, token))

    def attempt(self, index: int, any_ever: bool = False) -> tuple[str, str, str]:
        """An attempt that goes on now, or any that there ever was."""
        running = [(u, n, self.model[u].instance(n)["token"]) for u, n in self.instances("running")]
        return pick(self.tries if any_ever or not running else running, index)

    @precondition(lambda self: self.instances("scheduled"))
    @rule(runs=st.lists(st.tuples(some.picks, some.kwargs, some.levels), min_size=1, max_size=8))
    def work(self, runs: list[tuple[int, Dict, int]]) -> None:
        for index, result, level in runs:
            if self.instances("scheduled"):
                self.claim(index)
                self.finish(self.tries[-1], result, [], level)

    @precondition(lambda self: self.instances("running"))
    @rule(index=some.picks, result=some.kwargs, fires=some.body_fires, level=some.levels)
    def finish_one(self, index: int, result: Dict, fires: list[Dict], level: int) -> None:
        self.finish(self.attempt(index), result, fires, level)

    def finish(
        self, attempt: tuple[str, str, str], result: Dict, fires: list[Dict], level: int
    ) -> None:
        uid, name, token = attempt
        command = attempts.Finish(
            instance=name,
            token=token,
            result=encoded(result),
            fires=[
                attempts.BodyFire(
                    trigger=fire["trigger"],
                    payload=encoded(fire["kwargs"]),
                    event_id=fire["id"],
                    once=fire["once"],
                    force=fire["force"],
                )
                for fire in fires
            ],
            log_level=level,
        )
        plan, status = self.both(
            uid, command, lambda s: s.finish(name, token, result, fires, level), "LeaseLost"
        )
        if plan is not None:
            assert plan.outcome.instance.status == status

    @precondition(lambda self: self.instances(*UNDER_WAY))
    @rule(index=some.picks, level=some.levels, retry=st.none() | some.retries)
    def fail_one(self, index: int, level: int, retry: Dict | None) -> None:
        if not self.instances("running"):
            self.claim(index)
        self.fail(self.attempt(index), level, retry)

    def fail(self, attempt: tuple[str, str, str], level: int, retry: Dict | None) -> None:
        uid, name, token = attempt
        wish = None
        if retry is not None:
            payload = None if retry["kwargs"] is None else encoded(retry["kwargs"])
            wish = attempts.Retry(cooldown=retry["cooldown"], payload=payload)
        command = attempts.Fail(instance=name, token=token, log_level=level, retry=wish)
        self.both(uid, command, lambda s: s.fail(name, token, level, retry), "LeaseLost")

    @precondition(lambda self: self.tries)
    @rule(
        index=some.picks,
        any_ever=st.booleans(),
        action=st.sampled_from(("message", "claim", "heartbeat", "finish", "fail", "skip")),
    )
    def zombie(self, index: int, any_ever: bool, action: str) -> None:
        """A worker that may be too late, and a message that comes twice."""
        uid, name, token = attempt = self.attempt(index, any_ever)
        if action == "message":
            self.claim_attempt(*pick(self.messages, index))
        elif action == "claim":
            self.claim_attempt(*pick([m for m in self.messages if m[2] == name], index), token)
        elif action == "heartbeat":
            heartbeat = attempts.Heartbeat(instance=name, token=token)
            self.both(uid, heartbeat, lambda s: s.heartbeat(name, token), "LeaseLost")
        elif action == "finish":
            self.finish(attempt, {}, [], 0)
        elif action == "fail":
            self.fail(attempt, 0, {"cooldown": 0.0, "kwargs": None})
        else:
            skip = attempts.SkipRunning(instance=name, token=token)
            self.both(uid, skip, lambda s: s.skip_running(name, token), "LeaseLost")

    # -- time, and what becomes due in it ---------------------------------------------------------

    @rule(seconds=st.sampled_from((1.0, 30.0, 61.0, 4_000.0)), sweep=st.booleans())
    def wait(self, seconds: float, sweep: bool) -> None:
        self.now += seconds
        for uid in UIDS:
            due = {name for u, name in self.due() if u == uid}
            if sweep and due:
                self.recover(uid, due)

    def lose_every_worker(self, uid: str, name: str) -> None:
        session = self.model[uid]
        while (found := session.instance(name))["status"] in UNDER_WAY:
            if found["status"] == "scheduled":
                self.claim_attempt(uid, session.generation, name, found["attempt"])
            self.now += 60.0
            self.recover(uid, {name})

    def recover(self, uid: str, names: set[str]) -> None:
        session = self.model[uid]
        overdue = {name for u, name in self.due() if u == uid}
        held = {i["name"] for i in session.instances if i["hold"] is not None}
        due = overdue & (names | held)  # a hold that is over is found without its name
        in_order = [i["name"] for i in session.instances if i["name"] in names]
        command = recovery.Recover(instances=tuple(in_order))
        plan, lost = self.both(uid, command, lambda s: s.recover(names))
        assert plan is not None
        again = {(name, session.instance(name)["attempt"]) for name in due - set(lost)}
        assert set(plan.outcome.dispatch) == again
        assert plan.outcome.failed == lost
        self.sent(uid, sorted(again))

    # -- an operator ------------------------------------------------------------------------------

    @precondition(lambda self: self.instances("failed"))
    @rule(index=some.picks, kwargs=some.replacements, sent=some.sent)
    def replay_failed(self, index: int, kwargs: Dict | None, sent: int) -> None:
        uid, name = pick(self.instances("failed"), index)
        request = self.new("request")
        for _ in range(sent):
            self.replay(uid, name, kwargs, request)

    def replay(self, uid: str, name: str, kwargs: Dict | None, request: str) -> None:
        payload = None if kwargs is None else encoded(kwargs)
        command = commands.Replay(instance=name, payload=payload, request=request)
        plan, clone = self.both(uid, command, lambda s: s.replay(name, kwargs, request))
        if plan is not None:
            assert plan.outcome.replay.name == clone

    @precondition(lambda self: self.instances("failed"))
    @rule(index=some.picks, cascade=st.booleans(), result=some.kwargs, sent=some.sent)
    def skip_failed(self, index: int, cascade: bool, result: Dict, sent: int) -> None:
        uid, name = pick(self.instances("failed"), index)
        request = self.new("request")
        for _ in range(sent):
            self.skip(uid, name, cascade, result, request)

    def skip(self, uid: str, name: str, cascade: bool, result: Dict, request: str) -> None:
        command = commands.Skip(
            instance=name, cascade=cascade, result=encoded(result), request=request
        )
        self.both(uid, command, lambda s: s.skip(name, cascade, result, request))

    @precondition(lambda self: self.instances())
    @rule(index=some.picks, action=st.sampled_from(ACTIONS))
    def touch_any(self, index: int, action: str) -> None:
        uid, name = pick(self.instances(), index)
        if action == "replay":
            self.replay(uid, name, {}, self.new("request"))
        elif action == "skip":
            self.skip(uid, name, True, {}, self.new("request"))
        elif action == "fail":
            fail = commands.FailByHand(instance=name, reason="stuck")
            self.both(uid, fail, lambda s: s.fail_by_hand(name))
        elif action == "note":
            note = {self.new("note"): index}
            update = commands.UpdateMetadata(instance=name, metadata=note)
            self.both(uid, update, lambda s: s.note(name, note))
        elif action == "logs":
            self.both(uid, commands.ResolveLogs(instance=name), lambda s: s.resolve_logs(name))
        elif action == "recover":
            self.recover(uid, {name})
        else:
            self.lose_every_worker(uid, name)

    @precondition(lambda self: self.serial > 30)
    @rule(uid=some.uids, action=st.sampled_from(ENDINGS))
    def end(self, uid: str, action: str) -> None:
        if action == "close":
            self.both(uid, commands.Close(), lambda s: s.close())
        elif action == "delete":
            assert self.store.delete(uid) == (self.model.pop(uid, None) is not None)
        elif action == "reopen":
            self.store.close()
        else:
            self.prune(30.0, resolved_only=action == "prune")

    def prune(self, idle: float, resolved_only: bool) -> None:
        old = [
            uid
            for uid, session in self.model.items()
            if session.updated_at <= self.now - idle
            and not (resolved_only and count(session, *UNRESOLVED))
        ]
        assert self.store.prune(idle, resolved_only) == len(old)
        for uid in old:
            del self.model[uid]

    # -- comparing --------------------------------------------------------------------------------

    @invariant()
    def agree(self) -> None:
        for uid in UIDS:
            if uid in self.model:
                check_session(self.store, uid, self.model[uid], (*TRIGGERS, *TASKS))
            else:
                check_absent(self.store, uid)
        check_fleet(self.store, self.model, self.now)


def compare_with_model(open_store: OpenStore, options: settings) -> None:
    """Take a storage and the model through many random histories; raises where they differ."""

    class Compared(Comparison):
        def open(self) -> AbstractContextManager[Store]:
            return open_store(lambda: self.now)

    run_state_machine_as_test(Compared, settings=options)


def pick(items: Sequence[T], index: int) -> T:
    """One of the items, counted from the newest."""
    return items[-1 - index % len(items)]
