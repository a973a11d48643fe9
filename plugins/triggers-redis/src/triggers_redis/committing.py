"""Changes of one session: decide on what was seen, write if that still holds, else decide again."""

from __future__ import annotations

import os
import random
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from triggers_core.engine.attempts import Claim, Heartbeat, Recover
from triggers_core.engine.names import new_id, split_instance_name
from triggers_core.engine.protocol import Command, Plan, Rules
from triggers_core.engine.records import SCHEMA
from triggers_core.exceptions import Contended
from triggers_core.storages.base import drive
from triggers_redis.keys import DUE, SessionKeys
from triggers_redis.link import Answer
from triggers_redis.recent import Recent
from triggers_redis.scripts import CLAIM, COMMIT, HEARTBEAT, Script
from triggers_redis.turns import Turn, Turns
from triggers_redis.view import Ask, FindConfiguration, View
from triggers_redis.writing import Write, prepare

if TYPE_CHECKING:
    from triggers_redis.store import RedisStore

HELD: Final = 1_000
"""Attempts of which a process remembers what their claim returned; of others, the end loads."""

TICKET_AFTER: Final = 2
"""Conflicts after which a change reserves the session: with more, it may starve."""

_TICKET_LASTS: Final = 0.06  # seconds; a little longer than the server keeps it
_GIVE_UP_AFTER: Final = 30.0  # seconds of conflicts
_POLL: Final = (0.000_2, 0.001)  # seconds, drawn at random: those who wait must not come at once


class _Moved(Exception):
    """The session changed between two loads of one decision."""

    def __init__(self, view: View) -> None:
        self.view = view


class Committer:
    """Carries out the changes of a store's sessions."""

    def __init__(self, store: RedisStore) -> None:
        self.store = store
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._owner = new_id().encode()
        self._turns = Turns()
        self._held: OrderedDict[str, View] = OrderedDict()
        self._recent = Recent()

    # -- any change -------------------------------------------------------------------------------

    def commit(
        self, uid: str, command: Command[Any], rules: Rules, view: View | None = None
    ) -> Plan[Any]:
        """Decide and write: two round trips, one when what is known of the session still holds.

        It is known from the claim of the attempt that ends, or from this process's last changes.

        :param view: the session as it was a moment ago, if that is known.
        """
        if self._pid != os.getpid():
            self._forget()
        turn = self._turns.turn(uid)
        try:
            turn.enter()
            return self._commit(uid, command, rules, view, turn)
        finally:
            try:
                turn.leave()
            finally:
                turn.leave()  # the first one may be interrupted as well

    def _commit(
        self, uid: str, command: Command[Any], rules: Rules, view: View | None, turn: Turn
    ) -> Plan[Any]:
        fresh = view is not None
        # A view is altered by the change that has it, so nobody else may: both are taken out.
        left, held = self._recent.take(uid), self._held.pop(getattr(command, "token", ""), None)
        view = view or held or left
        keys, since, conflicts = self.store.names.session(uid), time.monotonic(), 0
        while True:
            known = view
            try:
                plan, view, ask, now = self._decide(keys, command, rules, known, fresh)
            except _Moved as moved:
                view, fresh = moved.view, True
                continue
            except Exception:
                if fresh or known is None:
                    raise
                view = None  # what was decided on may be long out of date
                continue
            fresh = fresh or view is not known
            if plan.empty:
                if fresh:
                    if view.facts is None and isinstance(command, Recover):
                        self._forget_due(keys, command)
                    return plan
                view = None
                continue
            plan.stamp(now)
            write = prepare(
                self.store.names, keys, view, plan, self._find(keys), self.store.idle_ttl
            )
            ticket = self._owner if conflicts >= TICKET_AFTER else b""
            reply, resent = self._send(keys, view, write, ask, ticket, None if fresh else now)
            if reply == b"M":  # the namespace has been erased
                self.store.settle_again(keys.shard)
                view = None
                continue
            if reply == b"+":
                self._written(uid, view, write, plan, turn)
                return plan
            conflicts += fresh  # a wrong guess is not a race that was lost
            view, fresh = View(reply[1:], ask, time.monotonic()), True
            if resent and self._is_written(keys, view, write):
                return plan
            if time.monotonic() - since > _GIVE_UP_AFTER:
                raise Contended(
                    f"{uid}: lost {conflicts} races in {_GIVE_UP_AFTER:g} s against other changes"
                    " of the session; nothing is stored: try again"
                )
            view = self._wait_for_others(keys, view, ask)

    def _decide(
        self, keys: SessionKeys, command: Command[Any], rules: Rules, view: View | None, fresh: bool
    ) -> tuple[Plan[Any], View, Ask, float]:
        """Let a command decide on one version of its session.

        :param fresh: whether `view` is how the session is; else it is loaded if that lacks much.
        :returns: its plan, what it was decided on, all that it asked for, and its time.
        """
        find, now = self._find(keys), 0.0
        ask: Ask | None = None
        steps = command.decide(keys.uid, rules)
        try:
            query = next(steps)
            if view is not None and not fresh and view.lacks(query):
                view = None
            while True:
                wanted = Ask.of(query)
                ask = wanted if ask is None else ask | wanted
                if view is None:
                    view, fresh = self.store.view(keys, wanted, query), True
                    view = self._wait_for_others(keys, view, wanted)
                while lacking := view.lacks(query):
                    more = self.store.view(keys, lacking)
                    if more.first != view.first:
                        raise _Moved(self._wait_for_others(keys, self.store.view(keys, ask), ask))
                    view.absorb(more)
                if not now:
                    now = view.now if fresh else self.store.time_of(view)
                query = steps.send(view.snapshot(query, find, now))
        except StopIteration as done:
            assert view is not None
            assert ask is not None
            return done.value, view, ask, now

    def _forget_due(self, keys: SessionKeys, command: Recover) -> None:
        """The session has expired, which took nothing out of the due index."""
        if not command.instances:
            return
        members = [f"{name}\t{keys.uid}".encode() for name in command.instances]
        self.store.link.ask(b"ZREM", keys.names[DUE - 1], *members)

    def _find(self, keys: SessionKeys) -> FindConfiguration:
        return lambda address: self.store.configuration(keys.shard, address)

    def _send(
        self,
        keys: SessionKeys,
        view: View,
        write: Write,
        ask: Ask,
        ticket: bytes,
        checked: float | None,
    ) -> Answer:
        store = self.store
        count, names = write.keys(ask.keys)
        head = [store.time_argument(checked), ask.argument(keys.uid), view.first]
        arguments = [*head, *write.arguments(ticket, bring_configuration=False)]
        reply, resent = store.link.run(COMMIT, count, names, arguments)
        if reply == b"?":
            arguments = [*head, *write.arguments(ticket, bring_configuration=True)]
            reply, again = store.link.run(COMMIT, count, names, arguments)
            resent = resent or again
        return reply, resent

    def _written(self, uid: str, view: View, write: Write, plan: Plan[Any], turn: Turn) -> None:
        """Remember what a commit left, if that is likely to be of use."""
        first = write.form + write.first
        expected = turn.wanted or self._recent.is_left(uid, view.first)
        if plan.configuration is not None:
            self.store.learn(plan.configuration)
            expected = False
        keeps = expected and view.change(first, write, plan.changes)
        self._recent.keep(uid, first, view if keeps else None)

    def _is_written(self, keys: SessionKeys, view: View, write: Write) -> bool:
        """Whether a change whose reply was lost is in the session, whatever came after it.

        Its records tell: events have ids, attempts tokens, replays and skips their requests.
        """
        if write.events:
            number, record = next(iter(write.events.items()))
            if not view.packed:
                view = self.store.view(keys, Ask(numbers=str(number)))
            return view.events.get(number) == record
        if write.instances:
            name, stored = next(iter(write.instances.items()))
            if not view.packed:
                view = self.store.view(keys, Ask(instances=(name,)))
            return view.instances.get(name) == stored
        return view.header == write.header

    def _wait_for_others(self, keys: SessionKeys, view: View, ask: Ask) -> View:
        """Let whoever has reserved the next commit go first."""
        if view.facts is None or not view.facts.ticket:
            return view
        owner = view.ticket_owner
        if owner == self._owner:
            return view
        until = time.monotonic() + _TICKET_LASTS
        while view.ticket_owner == owner and time.monotonic() < until:
            time.sleep(random.uniform(*_POLL))
            view = self.store.view(keys, ask)
        return view

    # -- attempts ---------------------------------------------------------------------------------

    def claim(self, uid: str, command: Claim, rules: Rules) -> Plan[Any]:
        """Claim in one round trip: the script compares and sets, the command decides the same."""
        task, _ = split_instance_name(command.instance)
        ask = Ask(triggers=(task,), instances=(command.instance,), payloads=True)
        arguments = (
            b"%d" % command.attempt,
            command.generation.encode(),
            command.token.encode(),
            repr(rules.timing.lease).encode(),
        )
        keys = self.store.names.session(uid)
        claimed, view = self._attempt(CLAIM, keys, command.instance, ask, arguments, rules)
        if not claimed:
            # Stale, or claimed by this very request before, or not for a script to decide.
            return self.commit(uid, command, rules, self._wait_for_others(keys, view, ask))
        self._recent.forget(uid)
        plan = self._plan_on(keys, command, rules, view)
        view.claimed(command.instance, command.token, view.now + rules.timing.lease)
        self._held[command.token] = view
        if len(self._held) > HELD:
            self._held.popitem(last=False)
        return plan

    def heartbeat(self, uid: str, command: Heartbeat, rules: Rules) -> Plan[Any]:
        """Renew a lease in one round trip, without a new version of the session."""
        ask = Ask(instances=(command.instance,))
        arguments = (command.token.encode(), repr(rules.timing.lease).encode())
        keys = self.store.names.session(uid)
        _, view = self._attempt(HEARTBEAT, keys, command.instance, ask, arguments, rules)
        return self._plan_on(keys, command, rules, view)

    def _attempt(
        self,
        script: Script,
        keys: SessionKeys,
        instance: str,
        ask: Ask,
        arguments: tuple[bytes, ...],
        rules: Rules,
    ) -> tuple[bool, View]:
        plugins = "".join(f"\3{plugin}\3" for plugin in rules.plugins).encode()
        given = (self.store.time_argument(), ask.argument(keys.uid))
        about = (keys.uid_bytes, instance.encode(), *arguments, b"%d" % SCHEMA, plugins)
        reply, _ = self.store.link.run(script, DUE, keys.resp[DUE], (*given, *about))
        return reply[:1] == b"C", View(reply[1:], ask, time.monotonic())

    def _plan_on(
        self, keys: SessionKeys, command: Command[Any], rules: Rules, view: View
    ) -> Plan[Any]:
        """The plan of a change that a script has made already, or the reason why it did not."""
        find = self._find(keys)
        plan = drive(command, keys.uid, rules, lambda query: view.snapshot(query, find, view.now))
        plan.stamp(view.now)
        return plan
