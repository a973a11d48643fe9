"""Storages that break a promise each, and the contract run on every one of them.

`test_broken_storages` runs this file; by itself it is not collected. A class says in `breaks` which
promises fail by its defect; those with none are so broken that they fail whatever is left.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from triggers_core.engine.protocol import Plan, Query, Snapshot
from triggers_core.engine.records import Status
from triggers_core.exceptions import StorageError, TriggersError, UnknownSchema
from triggers_core.storages.base import Due, Store
from triggers_core.storages.driving import drive
from triggers_core.storages.groups import FailedInstance, failed_in
from triggers_core.storages.memory import MemoryStore
from triggers_core.storages.sqlite import SqliteStore
from triggers_core.testing import StorageContract

IN_MEMORY = dict.fromkeys(
    ("durable", "processes", "transactions", "joined", "awaited"), "it is in memory"
)
ON_FILE = dict.fromkeys(("joined", "awaited"), "no application shares the file")

PATIENCE = 60.0
"""Seconds that a thread or process waits for the other one with which it breaks a promise."""

BREAKS: dict[str, tuple[str, ...]] = {}
"""Name of a suite → the promises that fail in it."""


def breaks(*promises: str) -> Callable[[type[Store]], type[Store]]:
    """Make a suite for a broken store."""

    def make(store: type[Store]) -> type[Store]:
        on_file = issubclass(store, SqliteStore)
        name = f"Test{store.__name__}"

        class Suite(OnFile if on_file else InMemory):  # type: ignore[misc]
            lacks = ON_FILE if on_file else IN_MEMORY

        Suite.__name__ = Suite.__qualname__ = name
        Suite.__test__, Suite.broken = True, store
        globals()[name] = Suite
        BREAKS[name] = promises
        return store

    return make


class InMemory(StorageContract):
    broken: ClassVar[type[Any]]

    @pytest.fixture
    def make_store(self) -> Any:
        return self.broken


class OnFile(StorageContract):
    broken: ClassVar[type[Any]]

    @pytest.fixture
    def make_store(self, tmp_path: Path) -> Any:
        numbers = count()
        return lambda clock: self.broken(
            tmp_path / f"{next(numbers)}.db", synchronous="NORMAL", clock=clock
        )

    @pytest.fixture
    def opener(self) -> Any:
        return lambda store: partial(self.broken, store.file.path, synchronous="NORMAL")


class Planned(MemoryStore):
    """Its plans are spoilt before they are written."""

    def spoil(self, plan: Plan[Any]) -> None:
        raise NotImplementedError

    def commit(self, uid: str, command: Any, rules: Any) -> Any:
        outer = self

        class Spoilt:
            def decide(self, uid: str, rules: Any) -> Any:
                plan = yield from command.decide(uid, rules)
                if not plan.empty:
                    outer.spoil(plan)
                return plan

        return super().commit(uid, Spoilt(), rules)


class Answered(MemoryStore):
    """Its snapshots are spoilt before they are answered."""

    def spoil(self, uid: str, query: Query, snapshot: Snapshot) -> None:
        raise NotImplementedError

    def _load(self, uid: str, query: Query) -> Snapshot:
        snapshot = super()._load(uid, query)
        self.spoil(uid, query, snapshot)
        return snapshot


# -- events ---------------------------------------------------------------------------------------


@breaks(
    "the same id again is a duplicate",
    "an id is remembered as long as the session lives",
    "a generated id is an id",
    "an id names one event",
    "a duplicate is a duplicate before anything else",
    "ids of a bodys fires are ids",
    "one event id is recorded once",
)
class ForgetsIds(Answered):
    def spoil(self, uid: str, query: Query, snapshot: Snapshot) -> None:
        snapshot.known.clear()


@breaks("a generated id is of one session")
class FindsIdsByNumber(Answered):
    def spoil(self, uid: str, query: Query, snapshot: Snapshot) -> None:
        for each in query.event_ids:
            if each.startswith("~") and uid in self._sessions:
                for event in self.events(uid)[:1]:
                    event.id = each
                    snapshot.known[each] = event


@breaks("ids belong to their session")
class SharesIds(Answered):
    def spoil(self, uid: str, query: Query, snapshot: Snapshot) -> None:
        for other in self._sessions:
            for event in self.events(other):
                if event.id in query.event_ids:
                    snapshot.known[event.id] = event


@breaks("events by number", "events by their numbers")
class AnswersAllNumbers(MemoryStore):
    def events_by_number(self, uid: str, numbers: Iterable[int]) -> Any:
        return {event.number: event for event in self.events(uid)}

    def _load(self, uid: str, query: Query) -> Snapshot:
        snapshot = super()._load(uid, query)
        snapshot.numbered = {} if query.numbers else snapshot.numbered
        return snapshot


@breaks("payloads of numbers that are no events")
class CountsFromTheEnd(MemoryStore):
    def payloads(self, uid: str, numbers: Iterable[int]) -> dict[int, bytes]:
        events = self.events(uid)
        return {n: bytes(events[n].payload) for n in numbers if n < len(events)}


@breaks("events are read window by window", "events are read in parts")
class IgnoresTheWindow(MemoryStore):
    def events(self, uid: str, start: int = 0, limit: int | None = None) -> Any:
        return super().events(uid, start, None)


@breaks("a window that is none is refused")
class TakesAnyWindow(MemoryStore):
    def events(self, uid: str, start: Any = 0, limit: Any = None) -> Any:
        return [each for each in super().events(uid) if each.number >= (start or 0)]


@breaks("payloads come back equal and of the same type")
class RoundsNumbers(Planned):
    def spoil(self, plan: Plan[Any]) -> None:
        for event in plan.events:
            event.payload = msgspec.Raw(bytes(event.payload).replace(b".", b"").replace(b"1", b"2"))


@breaks(
    "any name is good for a session a trigger and a task", "names are never taken for one another"
)
class FoldsNames(MemoryStore):
    def commit(self, uid: str, command: Any, rules: Any) -> Any:
        return super().commit(uid.casefold(), command, rules)

    def load(self, uid: str, query: Query) -> Snapshot:
        return super().load(uid.casefold(), query)


@breaks("neighbouring names do not run together", "sessions do not see each other")
class CutsNames(MemoryStore):
    def commit(self, uid: str, command: Any, rules: Any) -> Any:
        return super().commit(uid[:1], command, rules)

    def load(self, uid: str, query: Query) -> Snapshot:
        return super().load(uid[:1], query)


# -- instances and their indexes ------------------------------------------------------------------


@breaks(
    "an instance waits for all of after in any order",
    "instances wait together and start together",
    "unless abandons what has not started",
    "unless wants all of its triggers",
)
class FindsNobodyWaiting(Answered):
    def spoil(self, uid: str, query: Query, snapshot: Snapshot) -> None:
        for name in [*snapshot.instances]:
            if name not in query.instances:
                del snapshot.instances[name]


@breaks(
    "waiting for something else is indexed anew", "an instance that moves leaves nothing behind"
)
class NeverReindexes(Planned):
    def spoil(self, plan: Plan[Any]) -> None:
        for change in plan.changes:
            if change.waits_before:
                object.__setattr__(change, "waits_before", frozenset())


@breaks("what was loaded is the callers own", "a command that raises writes nothing")
class HandsOutItsOwn(MemoryStore):
    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self.answers: dict[str, Snapshot] = {}

    def _load(self, uid: str, query: Query) -> Snapshot:
        answer = super()._load(uid, query)
        first = self.answers.setdefault(f"{uid} {self._serial}", answer)
        answer.header = first.header
        for name, instance in answer.instances.items():
            answer.instances[name] = first.instances.setdefault(name, instance)
        return answer


@breaks("warnings are listed until they are resolved")
class ListsAllLogs(MemoryStore):
    def instances(self, uid: str, *, unresolved_logs: bool = False, **asked: Any) -> Any:
        return super().instances(uid, **asked)


@breaks("a plan that cannot be written writes nothing")
class WritesBitByBit(MemoryStore):
    def commit(self, uid: str, command: Any, rules: Any) -> Any:
        plan = drive(command, uid, rules, partial(self._load, uid))
        if not plan.empty:
            plan.stamp(self.clock())
            for change in plan.changes:
                self._sessions[uid].instances[change.instance.task, change.instance.number] = (
                    msgspec.json.encode(change.instance)
                )
        return super().commit(uid, command, rules)


# -- commits --------------------------------------------------------------------------------------


@breaks("a plan comes back stamped", "a heartbeat renews the lease")
class StampsNothing(MemoryStore):
    def commit(self, uid: str, command: Any, rules: Any) -> Any:
        clock, self.clock = self.clock, lambda: 7.0
        try:
            return super().commit(uid, command, rules)
        finally:
            self.clock = clock


@breaks("what a newer version added survives")
class DropsWhatItDoesNotKnow(Planned):
    def spoil(self, plan: Plan[Any]) -> None:
        for record in (plan.header, *(change.instance for change in plan.changes)):
            if record is not None:
                record.extra = {}


@breaks("an unknown schema is a clear error")
class ReadsNothingForTheUnknown(MemoryStore):
    def load(self, uid: str, query: Query) -> Snapshot:
        try:
            return super().load(uid, query)
        except UnknownSchema:
            return Snapshot(now=self.clock())


@breaks("each commit is one version", "a command that changes nothing writes nothing")
class SkipsVersions(Planned):
    def spoil(self, plan: Plan[Any]) -> None:
        if plan.header is not None:
            plan.header.version += 1

    def commit(self, uid: str, command: Any, rules: Any) -> Any:
        plan = super().commit(uid, command, rules)
        if uid in self._sessions and plan.empty:
            self._sessions[uid].header = self._sessions[uid].header.replace(b'"', b' "', 1)
            self._sessions[uid].events.append(b"")
        return plan


@breaks(
    "no fire is lost and a barrier is scheduled once",
    "one claim wins",
    "one replay wins",
    "once is decided inside the commit",
    "one event id is recorded once",
)
class HasNoLockBetweenThreads(MemoryStore):
    """The first two of several threads that have decided write both."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.have_decided = threading.Barrier(2)

    def commit(self, uid: str, command: Any, rules: Any) -> Any:
        plan = drive(command, uid, rules, partial(self._load, uid))
        if threading.current_thread() is not threading.main_thread():
            with suppress(threading.BrokenBarrierError):  # there have been two
                self.have_decided.wait(PATIENCE)
                self.have_decided.abort()

        class Decided:
            def decide(self, uid: str, rules: Any) -> Any:
                yield Query()
                return plan

        return plan if plan.empty else super().commit(uid, Decided(), rules)


@breaks("a reader sees whole commits")
class LetsReadersInBetween(MemoryStore):
    def load(self, uid: str, query: Query) -> Snapshot:
        snapshot = super().load(uid, query)
        if query.all_events:
            time.sleep(0.001)
            snapshot.events = self.events(uid)
            snapshot.events = [*snapshot.events, *snapshot.events[-1:]]
        return snapshot


# -- configurations -------------------------------------------------------------------------------


@breaks("a default configuration is pinned by the first fire")
class LosesConfigurations(Planned):
    def spoil(self, plan: Plan[Any]) -> None:
        plan.configuration = None
        if plan.header is not None:
            plan.header.config = ""


@breaks("waiting for less schedules in the same commit")
class KeepsTheFirstConfiguration(Planned):
    def spoil(self, plan: Plan[Any]) -> None:
        if plan.configuration is not None and plan.header is not None and plan.header.version > 1:
            plan.changes.clear()


# -- what is due ----------------------------------------------------------------------------------


@breaks("due is earliest first over all sessions")
class LatestFirst(MemoryStore):
    def due(self, limit: int = 100) -> list[Due]:
        return super().due(limit)[::-1]


@breaks("nothing is due when nothing is under way", "timing is settable")
class KnowsNoNextTime(MemoryStore):
    def next_due(self) -> float | None:
        return 0.0


@breaks("what is due far ahead is found")
class NearestFirst(MemoryStore):
    def due_ahead(self, seconds: float, limit: int = 100) -> list[Due]:
        return super().due_ahead(seconds, 1_000)[::-1][:limit]


@breaks("what nobody claims is dispatched again", "a lease that runs out makes another attempt")
class FindsNothingDue(MemoryStore):
    def due(self, limit: int = 100) -> list[Due]:
        return []


@breaks(
    "what falls due comes earliest first",
    "no more than needed and no moment is split",
    "an instance that will not fall due any more",
    "what an older process left in the index is passed over",
    "they come along with other instances",
    "to the microsecond",
)
class KnowsNoMoments(Answered):
    def spoil(self, uid: str, query: Query, snapshot: Snapshot) -> None:
        if query.moments is not None:
            snapshot.instances.clear()
            snapshot.next_moment = 5.0


@breaks("what is deleted is not due")
class DeletesBySight(MemoryStore):
    def _erase(self, uid: str, address: str | None) -> None:
        due = dict(self._due)
        super()._erase(uid, address)
        self._due.update(due)


# -- the fleet ------------------------------------------------------------------------------------


@breaks("one owner at a time holds a lease", "a lease is given back by its owner only")
class LeasesToAnybody(MemoryStore):
    def acquire_lease(self, name: str, owner: str, seconds: float) -> bool:
        self.release_lease(name, "")
        return super().acquire_lease(name, "", seconds)

    def release_lease(self, name: str, owner: str) -> None:
        self._leases.pop(name, None)


@breaks("leases are apart by name")
class KnowsOneLease(MemoryStore):
    def acquire_lease(self, name: str, owner: str, seconds: float) -> bool:
        return super().acquire_lease("one", owner, seconds)


@breaks("a lease that a wrong clock wrote is free")
class BelievesClocks(MemoryStore):
    def acquire_lease(self, name: str, owner: str, seconds: float) -> bool:
        holder, until = self._leases.get(name, (owner, 0.0))
        return (holder == owner or until <= self.clock()) and super().acquire_lease(
            name, owner, seconds
        )


@breaks(
    "failed sessions are listed most first",
    "waiting sessions are listed longest first",
    "failed or waiting",
    "all sessions are read page by page",
)
class ListsAnyhow(MemoryStore):
    def sessions(self, *, limit: int | None = None, **asked: Any) -> Any:
        return super().sessions()[::-1][:limit]


@breaks("a listing refuses an amount that is none")
class TakesAnyAmount(MemoryStore):
    def sessions(self, *, limit: Any = None, **asked: Any) -> Any:
        return super().sessions(**asked)[: limit if isinstance(limit, int) else None]


@breaks("a deleted session is not listed")
class ListsTheDeleted(MemoryStore):
    def delete(self, uid: str) -> bool:
        return uid in self._sessions


@breaks("prune erases what is old and resolved", "prune keeps what is unresolved")
class PrunesEverything(MemoryStore):
    def prune(self, older_than: float, resolved_only: bool = True) -> int:
        return super().prune(-1, resolved_only=False)


@breaks("prune refuses an age that is none", "a negative age erases nothing unless all are meant")
class TakesAnyAge(MemoryStore):
    def prune(self, older_than: Any, resolved_only: bool = True) -> int:
        try:
            return super().prune(older_than, resolved_only)
        except ValueError:
            return super().prune(-1, resolved_only=False)


# -- groups ----------------------------------------------------------------------------------------


@breaks(
    "waiting sessions are grouped by what they lack",
    "a session changes its group with what it lacks",
    "what any of several would end counts for each",
    "who waits for the next time only lacks nothing",
    "a group is read from a time on",
)
class PutsAllInOneGroup(MemoryStore):
    def sessions(self, **asked: Any) -> Any:
        return [msgspec.structs.replace(each, missing=()) for each in super().sessions(**asked)]


@breaks("a group is read from a time on")
class ReadsGroupsFromTheStart(MemoryStore):
    def waiting_for(self, missing: Any, limit: Any = 100, after: float = 0.0) -> Any:
        return super().waiting_for(missing, limit)


@breaks("a deleted session is in no group")
class GroupsTheDeleted(MemoryStore):
    kept: Any = ()

    def delete(self, uid: str) -> bool:
        self.kept = super().failed_groups()
        return super().delete(uid)

    def failed_groups(self, limit: Any = None) -> Any:
        return list(self.kept) or super().failed_groups(limit)


@breaks("failed instances are grouped by task and error")
class GroupsByTask(MemoryStore):
    def failed_groups(self, limit: Any = None) -> Any:
        found = super().failed_groups(limit)
        return [msgspec.structs.replace(each, error="Error") for each in found]


@breaks(
    "failed instances are listed in the order of their failures",
    "they are read page by page while they are replayed",
)
class ListsFailuresAnyhow(MemoryStore):
    def failed_instances(self, **asked: Any) -> Any:
        return super().failed_instances(**{**asked, "error": None, "after": None})[::-1]


@breaks("what is replayed or skipped is failed no more")
class KeepsFailures(MemoryStore):
    def _failed(self, task: str | None, error: str | None) -> list[FailedInstance]:
        found = super()._failed(task, error)
        for session in self.sessions():
            for each in self.instances(session.uid, statuses=[Status.REPLAYED]):
                kept = msgspec.structs.replace(each, status=Status.FAILED)
                found += failed_in(session.uid, [kept], task, error)
        return found


@breaks("events are found by the applications id")
class FindsEventsOnce(MemoryStore):
    def find_event(self, event_id: str, limit: Any = 100) -> Any:
        found = super().find_event(event_id, limit)
        return found[:1] if found else found


@breaks("a group is counted no further than asked for")
class CountsWholeGroups(MemoryStore):
    def waiting_groups(self, limit: Any = None, most: int = 0) -> Any:
        return super().waiting_groups(limit)


@breaks("what comes by itself is not hidden by what is under way")
class ComesAsItFallsDue(MemoryStore):
    def coming(self, within: float, limit: Any = 100) -> Any:
        first = {(each.uid, each.instance) for each in self.due(limit or 0, within)}
        return [each for each in super().coming(within, limit) if (each[0], each[1].name) in first]


@breaks("what is due soon is listed on request")
class SeesNothingAhead(MemoryStore):
    def due(self, limit: int = 100, within: float = 0.0) -> list[Due]:
        return super().due(limit)


@breaks("groups outlive a restart")
class ForgetsGroups(SqliteStore):
    def failed_groups(self, limit: Any = None) -> Any:
        known = getattr(self, "known", None)
        self.known = super().failed_groups(limit) if known is None else known
        return self.known if known is None else []


@breaks("a limit of a group is a whole number")
class TakesAnyLimit(MemoryStore):
    def waiting_groups(self, limit: Any = None, most: int = 10_000) -> Any:
        return super().waiting_groups(None, most)

    def failed_groups(self, limit: Any = None) -> Any:
        return super().failed_groups(None)


# -- configurations in use -------------------------------------------------------------------------


@breaks("sessions are counted by their configuration")
class ForgetsTheClosed(MemoryStore):
    def sessions_with(self, *asked: Any, **named: Any) -> Any:
        return [each for each in super().sessions_with(*asked, **named) if each.state != "closed"]


@breaks("configurations in use are read page by page")
class ReadsTheFirstPageOfUses(MemoryStore):
    def sessions_with(self, address: str, limit: Any = 100, after: str = "") -> Any:
        return super().sessions_with(address, limit)


@breaks("uses are counted no further than asked for")
class CountsAllUses(MemoryStore):
    def configurations_in_use(self, limit: Any = 100, after: str = "", most: int = 0) -> Any:
        return super().configurations_in_use(limit, after)


@breaks("a session that changes its configuration has the new one")
class ListsTheDeletedOfAUse(MemoryStore):
    def delete(self, uid: str) -> bool:
        self.gone = [each for each in self.sessions() if each.uid == uid]
        return super().delete(uid)

    def sessions_with(self, *asked: Any, **named: Any) -> Any:
        return super().sessions_with(*asked, **named) or getattr(self, "gone", [])


@breaks("configurations in use outlive a restart")
class ForgetsUses(SqliteStore):
    """Knows those of sessions that it has written itself."""

    def commit(self, *arguments: Any) -> Any:
        self.has_written = True
        return super().commit(*arguments)

    def sessions_with(self, *asked: Any, **named: Any) -> Any:
        found = super().sessions_with(*asked, **named)
        return found if getattr(self, "has_written", False) else []


@breaks("a limit of configurations is a whole number")
class TakesAnyLimitOfUses(MemoryStore):
    def configurations_in_use(self, limit: Any = 100, after: str = "", most: int = 10_000) -> Any:
        return super().configurations_in_use(None, after, most)[
            : None if limit is None else int(limit)
        ]


@breaks("a store says where it is", "a store exists once something is in it")
class IsNowhere(MemoryStore):
    place = ""
    exists = False


@breaks(
    "a closed store opens again when it is used",
    "a store may be closed more than once",
    "a store that is closed while threads use it loses nothing",
)
class StaysClosed(MemoryStore):
    closed = False

    def close(self) -> None:
        if self.closed:
            raise StorageError("it is closed")
        self.closed = True


@breaks("exceptions out of signal handlers are survived")
class StaysBusy(MemoryStore):
    busy = False

    def commit(self, uid: str, command: Any, rules: Any) -> Any:
        if self.busy:
            raise StorageError("somebody writes")
        self.busy = True
        plan = super().commit(uid, command, rules)
        self.busy = False
        return plan


# -- what not everybody offers --------------------------------------------------------------------


@breaks(
    "after a roll back everything is as before",
    "after a roll back nobody is told",
    "after a roll back no callback comes",
    "of a block within that raises nothing is stored",
)
class RollsNothingBack(SqliteStore):
    def transaction(self) -> Any:
        from contextlib import nullcontext

        return nullcontext()


@breaks(
    "callbacks come after the end in their order",
    "hooks and dispatch follow the end",
    "recovery is dispatched after the end",
)
class CallsBackAtOnce(SqliteStore):
    def when_committed(self, callback: Callable[[], None]) -> None:
        callback()


@breaks("several commits can be one or the suite says why not")
class HasNoTransactions(SqliteStore):
    def transaction(self) -> Any:
        return Store.transaction(self)


@breaks("commits into several sessions are one")
class KeepsNoTransaction(SqliteStore):
    @contextmanager
    def transaction(self) -> Iterator[Any]:
        with suppress(ZeroDivisionError), super().transaction():
            yield
            raise ZeroDivisionError


@breaks("commits can be joined or the suite says why not")
class JoinsAnything(MemoryStore):
    def joined(self, connection: object) -> Store:
        return self


@breaks(
    "there must be a session to close",
    "a session must exist",
    "nothing is stored that requires a missing plugin",
    "a refused fire makes no session",
)
class RaisesItsOwn(MemoryStore):
    def commit(self, uid: str, command: Any, rules: Any) -> Any:
        try:
            return super().commit(uid, command, rules)
        except TriggersError as error:
            raise RuntimeError from error


@breaks("a session that never was is empty")
class KnowsNobody(MemoryStore):
    def instances(self, uid: str, **asked: Any) -> Any:
        return super().instances((self._sessions and uid) or 1 / 0, **asked)  # type: ignore[arg-type]


@breaks("several processes may use it or the suite says why not")
class IsAlone(SqliteStore):
    in_this_process = True


@breaks(
    "processes that fire into one session lose nothing",
    "processes with one event id record it once",
    "of processes with one message one claims",
)
class HasNoLockBetweenProcesses(SqliteStore):
    """Its transaction begins with the write: what was read before may be old.

    That of the first commits of two processes is.
    """

    def commit(self, uid: str, command: Any, rules: Any) -> Any:
        plan = drive(command, uid, rules, partial(self.load, uid))
        if Path(sys.argv[0]).name == "elsewhere.py":
            path = Path(self.file.path)
            path.with_suffix(f".{os.getpid()}-has-decided").touch()
            until = time.monotonic() + PATIENCE
            while len(list(path.parent.glob("*-has-decided"))) < 2:
                assert time.monotonic() < until, "the other process does not come"
                time.sleep(0.001)

        class Decided:
            def decide(self, uid: str, rules: Any) -> Any:
                yield Query(
                    instances=tuple(change.instance.name for change in plan.changes), triggers=()
                )
                return plan

        return plan if plan.empty else super().commit(uid, Decided(), rules)


@breaks("of processes that want a lease one has it")
class LeasesByProcess(SqliteStore):
    def acquire_lease(self, name: str, owner: str, seconds: float) -> bool:
        return True


@breaks(
    "what a process commits the others see",
    "a session that another process began anew is another",
)
class SeesItsOwnAlone(SqliteStore):
    own: ClassVar[set[str]] = set()

    def commit(self, uid: str, command: Any, rules: Any) -> Any:
        plan = super().commit(uid, command, rules)
        self.own.update(event.id for event in plan.events)
        self.own.update(change.instance.name for change in plan.changes)
        return plan

    def events(self, uid: str, start: int = 0, limit: int | None = None) -> Any:
        return [each for each in super().events(uid, start, limit) if each.id in self.own]

    def instances(self, uid: str, **asked: Any) -> Any:
        return [each for each in super().instances(uid, **asked) if each.name in self.own]


@breaks("of a process that is killed each commit is whole or absent")
class WritesInTwoSteps(SqliteStore):
    def commit(self, uid: str, command: Any, rules: Any) -> Any:
        plan = super().commit(uid, command, rules)
        if plan.events:  # their number is known at once, and what they are a moment later
            Path(self.file.path).with_suffix(f".{plan.events[0].number}").touch()
            time.sleep(0.001)
        return plan

    def events(self, uid: str, start: int = 0, limit: int | None = None) -> Any:
        events = super().events(uid, start, limit)
        return events[:-1] if len(events) > 1 else events


@breaks(
    "everything is as it was after a restart",
    "a configuration comes back as written",
    "moments survive a restart",
    "what a newer version added survives a restart",
    "closing a store leaves others of its place open",
)
class ForgetsAtTheEnd(SqliteStore):
    def close(self) -> None:
        for each in self.sessions():
            self.delete(each.uid)
        super().close()


# -- beyond hope ----------------------------------------------------------------------------------


@breaks()
class LosesInstances(Planned):
    def spoil(self, plan: Plan[Any]) -> None:
        plan.changes.clear()


@breaks()
class LosesEvents(Planned):
    def spoil(self, plan: Plan[Any]) -> None:
        plan.events.clear()


@breaks()
class WritesNothing(MemoryStore):
    def commit(self, uid: str, command: Any, rules: Any) -> Any:
        return drive(command, uid, rules, partial(self._load, uid))


@breaks()
class KeepsNothing(KeepsNoTransaction):
    """Its transactions are rolled back, all of them."""


@breaks()
class CommitsEachByItself(SqliteStore):
    """A transaction that is none."""

    def transaction(self) -> Any:
        return RollsNothingBack.transaction(self)  # type: ignore[arg-type]

    def when_committed(self, callback: Callable[[], None]) -> None:
        callback()
