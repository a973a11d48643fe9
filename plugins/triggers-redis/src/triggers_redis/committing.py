"""Optimistic concurrency control: decide on a version, write if that still holds, else again."""

from __future__ import annotations

import os
import random
import time
from collections import OrderedDict
from typing import Any, Final

from triggers_core.engine.attempts import Claim, Heartbeat
from triggers_core.engine.features import UNDERSTOOD
from triggers_core.engine.names import new_id, split_instance_name
from triggers_core.engine.protocol import Command, Plan, Rules
from triggers_core.engine.records import SCHEMA
from triggers_core.engine.recovery import Recover
from triggers_core.exceptions import Contended, TriggersError, is_time_limit
from triggers_core.storages.driving import drive
from triggers_redis.connection import Answer
from triggers_redis.erasing import GONE, erase
from triggers_redis.keys import DUE, SessionKeys
from triggers_redis.reader import SessionReader
from triggers_redis.scripts import CLAIM, COMMIT, HEARTBEAT, Script
from triggers_redis.session_locks import SessionLock, SessionLocks
from triggers_redis.view import Ask, FindConfiguration, View
from triggers_redis.write_cache import WriteCache
from triggers_redis.writing import Write, prepare

CACHED_CLAIMS: Final = 1_000
"""Attempts of which a process remembers what their claim returned; of others, the end loads."""

TICKET_AFTER: Final = 2
"""Conflicts after which a change reserves the session: with more, it may starve."""

_TICKET_TIMEOUT: Final = 0.06  # seconds; a little longer than the server keeps it
_CONFLICT_TIMEOUT: Final = 30.0  # seconds of conflicts
_POLL_INTERVAL: Final = (0.000_2, 0.001)
"""Seconds, drawn at random: those who wait must not come at once."""


class _SessionChanged(Exception):
    """The session changed between two loads of one decision."""

    def __init__(self, view: View) -> None:
        self.view = view


class Committer:
    """Carries out the changes of sessions."""

    def __init__(self, reader: SessionReader) -> None:
        self._reader, self._client = reader, reader.client
        self._namespace, self._clock = reader.namespace, reader.clock
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._owner = new_id().encode()
        self._locks = SessionLocks()
        self._claims: OrderedDict[str, View] = OrderedDict()
        self._cache = WriteCache()

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
        lock = self._locks.lock(uid)
        try:
            lock.acquire()
            return self._commit(uid, command, rules, view, lock)
        finally:
            try:
                lock.release()
            except BaseException:  # it may be interrupted as well
                lock.release()
                raise

    def _commit(
        self, uid: str, command: Command[Any], rules: Rules, view: View | None, lock: SessionLock
    ) -> Plan[Any]:
        fresh = view is not None
        # A view is altered by the change that has it, so nobody else may: both are taken out.
        cached = self._cache.take(uid)
        claimed = self._claims.pop(getattr(command, "token", ""), None)
        view = view or claimed or cached
        keyspace, idle_ttl = self._namespace.keyspace, self._namespace.idle_ttl
        keys, since, conflicts = keyspace.session(uid), time.monotonic(), 0
        while True:
            known = view
            try:
                plan, view, ask, now = self._decide(keys, command, rules, known, fresh)
            except _SessionChanged as changed:
                view, fresh = changed.view, True
                continue
            except TriggersError as error:
                if fresh or known is None or is_time_limit(error):
                    raise
                view = None  # what was decided on may be long out of date
                continue
            fresh = fresh or view is not known
            if plan.empty:
                if fresh:
                    if view.facts is None and isinstance(command, Recover):
                        # It has expired, which took nothing out of the listings.
                        erase(self._client, keyspace, keys, GONE, command.instances)
                    return plan
                view = None
                continue
            plan.stamp(now)
            write = prepare(keyspace, keys, view, plan, self._find(keys), idle_ttl)
            ticket = self._owner if conflicts >= TICKET_AFTER else b""
            reply, resent = self._send(keys, view, write, ask, ticket, None if fresh else now)
            if reply == b"M":  # the namespace has been erased
                self._namespace.settle_again(keys.shard)
                view = None
                continue
            if reply == b"L":  # the listings hold a session of this uid that expired
                erase(self._client, keyspace, keys, GONE)
                view = None
                continue
            if reply == b"+":
                self._written(uid, view, write, plan, lock)
                return plan
            conflicts += fresh  # a wrong guess is not a race that was lost
            view, fresh = View(reply[1:], ask, time.monotonic()), True
            if resent and self._is_written(keys, view, write):
                return plan
            if time.monotonic() - since > _CONFLICT_TIMEOUT:
                raise Contended(
                    f"{uid}: lost {conflicts} races in {_CONFLICT_TIMEOUT:g} s against other"
                    " changes of the session; nothing is stored: try again"
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
            lacking = view.lacks(query) if view is not None else None
            if lacking and not fresh:
                view = None
            while True:
                wanted = Ask.of(query)
                ask = wanted if ask is None else ask | wanted
                if view is None:
                    view, fresh = self._reader.view(keys, wanted, query), True
                    view = self._wait_for_others(keys, view, wanted)
                    lacking = view.lacks(query)
                while lacking:
                    more = self._reader.view(keys, lacking)
                    if more.version_line != view.version_line:
                        view = self._reader.view(keys, ask)
                        raise _SessionChanged(self._wait_for_others(keys, view, ask))
                    view.absorb(more)
                    lacking = view.lacks(query)
                if not now:
                    now = view.now if fresh else self._clock.since(view.now, view.read_at)
                query = steps.send(view.snapshot(query, find, now))
                lacking = view.lacks(query)
        except StopIteration as done:
            assert view is not None
            assert ask is not None
            return done.value, view, ask, now

    def _find(self, keys: SessionKeys) -> FindConfiguration:
        return lambda address: self._reader.configuration(keys.shard, address)

    def _send(
        self,
        keys: SessionKeys,
        view: View,
        write: Write,
        ask: Ask,
        ticket: bytes,
        checked: float | None,
    ) -> Answer:
        count, names = write.keys(ask.keys)
        head = [self._clock.session_argument(checked), ask.argument(keys.uid), view.version_line]
        arguments = [*head, *write.arguments(ticket, bring_configuration=False)]
        reply, resent = self._client.run(COMMIT, count, names, arguments)
        if reply == b"?":
            arguments = [*head, *write.arguments(ticket, bring_configuration=True)]
            reply, again = self._client.run(COMMIT, count, names, arguments)
            resent = resent or again
        return reply, resent

    def _written(
        self, uid: str, view: View, write: Write, plan: Plan[Any], lock: SessionLock
    ) -> None:
        """Remember what a commit left, if that is likely to be of use."""
        version_line = write.layout + write.version_line
        expected = lock.contended or self._cache.is_own(uid, view.version_line)
        if plan.configuration is not None:
            self._reader.learn(plan.configuration)
            expected = False
        useful = expected and view.change(
            version_line, write.header, write.instances, write.events, plan.changes
        )
        self._cache.put(uid, version_line, view if useful else None)

    def _is_written(self, keys: SessionKeys, view: View, write: Write) -> bool:
        """Whether a change whose reply was lost is in the session, whatever came after it.

        Its records tell: events have ids, attempts tokens, replays and skips their requests.
        """
        if write.events:
            number, record = next(iter(write.events.items()))
            if not view.packed:
                view = self._reader.view(keys, Ask(numbers=(str(number),)))
            return view.events.get(number) == record
        if write.instances:
            name, stored = next(iter(write.instances.items()))
            if not view.packed:
                view = self._reader.view(keys, Ask(instances=(name,)))
            return view.instances.get(name) == stored
        return view.header == write.header

    def _wait_for_others(self, keys: SessionKeys, view: View, ask: Ask) -> View:
        """Let whoever has reserved the next commit go first."""
        if view.facts is None or not view.facts.ticket:
            return view
        owner = view.ticket_owner
        if owner == self._owner:
            return view
        until = time.monotonic() + _TICKET_TIMEOUT
        while view.ticket_owner == owner and time.monotonic() < until:
            time.sleep(random.uniform(*_POLL_INTERVAL))
            view = self._reader.view(keys, ask)
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
        keys = self._namespace.keyspace.session(uid)
        claimed, view = self._attempt(CLAIM, keys, command.instance, ask, arguments, rules)
        if not claimed:
            # Stale, or claimed by this very request before, or not for a script to decide.
            return self.commit(uid, command, rules, self._wait_for_others(keys, view, ask))
        self._cache.invalidate(uid)
        plan = self._plan_on(keys, command, rules, view)
        view.claimed(command.instance, command.token, view.now + rules.timing.lease)
        self._claims[command.token] = view
        if len(self._claims) > CACHED_CLAIMS:
            self._claims.popitem(last=False)
        return plan

    def heartbeat(self, uid: str, command: Heartbeat, rules: Rules) -> Plan[Any]:
        """Renew a lease in one round trip, without a new version of the session."""
        ask = Ask(instances=(command.instance,))
        arguments = (command.token.encode(), repr(rules.timing.lease).encode())
        keys = self._namespace.keyspace.session(uid)
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
        known = rules.plugins
        if script is HEARTBEAT:  # a claim of such a session is decided on by its command
            known |= UNDERSTOOD
        plugins = "".join(f"\3{each}\3" for each in known).encode()
        given = (self._clock.session_argument(), ask.argument(keys.uid))
        about = (keys.uid_bytes, instance.encode(), *arguments, b"%d" % SCHEMA, plugins)
        reply, _ = self._client.run(script, DUE, keys.encoded[DUE], (*given, *about))
        return reply[:1] == b"C", View(reply[1:], ask, time.monotonic())

    def _plan_on(
        self, keys: SessionKeys, command: Command[Any], rules: Rules, view: View
    ) -> Plan[Any]:
        """The plan of a change that a script has made already, or the reason why it did not."""
        find = self._find(keys)
        plan = drive(command, keys.uid, rules, lambda query: view.snapshot(query, find, view.now))
        plan.stamp(view.now)
        return plan
