"""Sessions within a transaction of the application's: what `PostgresStore.joined` answers."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from triggers_core.engine.protocol import Command, Plan, Query, Rules, Snapshot
from triggers_core.engine.records import Event, Instance, Status
from triggers_core.exceptions import TransactionConflict
from triggers_core.storages.arguments import check_age
from triggers_core.storages.base import Due, Store
from triggers_core.storages.groups import (
    MOST_COUNTED,
    MOST_GROUPS,
    ConfigurationInUse,
    FailedGroup,
    FailedInstance,
    WaitingGroup,
)
from triggers_core.storages.summaries import SessionSummary
from triggers_postgres import fleet
from triggers_postgres.identity import identity_steps
from triggers_postgres.joints import Joint
from triggers_postgres.marks import Mark
from triggers_postgres.nesting import CHANGING, refuse_nesting
from triggers_postgres.outcomes import Pending
from triggers_postgres.steps import Steps, commit_steps, delete_steps, load_steps
from triggers_postgres.still_open import note, refuse_to_wait
from triggers_postgres.within import carry_within, check_usable, is_alone, of_the_transaction

if TYPE_CHECKING:
    from triggers_postgres.store import PostgresStore

T = TypeVar("T")


class Following:
    """What is to follow the commits of one joined store."""

    def __init__(self, store: PostgresStore, joint: Joint) -> None:
        self.store: PostgresStore = store
        self.joint: Joint = joint
        self._within = joint.always_open
        self._xid = self._transaction = 0

    def mark(self, uid: str) -> Mark:
        """For the next commit, within the open transaction."""
        joint = self.joint
        notify = joint.untold and not joint.prepares and self.store.outcomes.listening
        return Mark(self.store.tables, uid, self.store.outcomes.channel if notify else None)

    def commit_steps(self, uid: str, command: Command[T], rules: Rules) -> Steps[Plan[T]]:
        """As `steps.commit_steps`, within a transaction of the application's."""
        tables, tell = self.store.tables, not self.joint.prepares
        return commit_steps(tables, uid, command, rules, collect=False, tell=tell)

    def committed(self, mark: Mark) -> None:
        """A commit was written within a transaction."""
        self._within = True
        if mark.xid is not None:
            self._xid, self._transaction = mark.xid, mark.transaction

    def committed_alone(self) -> None:
        """A commit was a transaction of its own, and is durable."""
        self._within = False

    def call_back(self, callback: Callable[[], None]) -> None:
        """As `Store.when_committed`."""
        if self._within:
            entry = Pending(self._xid, self._transaction, callback)
            self.joint.follow(self.store.outcomes, entry)
        else:
            callback()


class JoinedStore(Store):
    """The sessions of a store, within a transaction of the application's.

    Nothing is tried again: a conflict is the application's to deal with.

    :param store: the store outside of the transaction.
    :param joint: what the application has its transaction in.
    """

    key = "postgres"

    def __init__(self, store: PostgresStore, joint: Joint) -> None:
        super().__init__(store.clock)
        self.outside: PostgresStore = store
        """The store outside of the transaction."""
        self.joint: Joint = joint
        self._following = Following(store, joint)

    @property
    def place(self) -> str:
        return self.outside.place

    def now(self) -> float:
        return self.read(fleet.now_steps(self.outside.tables))

    # -- carrying out -----------------------------------------------------------------------------

    def _connection(self) -> psycopg.Connection[Any]:
        identity = self.outside.identity()
        connection = self.joint.connection()
        check_usable(connection)
        if not self.outside.knows(connection):
            found = carry_within(connection, self.place, identity_steps(self.outside.schema))
            if found != identity:
                identity = self.outside.ask_identity()
            self.outside.check(connection, found, identity)
        return connection

    def read(self, steps: Steps[T]) -> T:
        """Carry out steps after which nothing is to follow."""
        connection = self._connection()
        try:
            return carry_within(connection, self.place, steps)
        except TransactionConflict:
            self.joint.lost()
            raise

    def _write(self, steps: Steps[T], uid: str, wrote: Callable[[T], bool]) -> T:
        refuse_nesting(self.outside, sys._getframe())
        connection = self._connection()
        refuse_to_wait(self.outside, uid, connection)
        if is_alone(connection):
            handled = sys.exception()
            try:
                with connection.transaction():
                    answer = carry_within(connection, self.place, steps)
            except psycopg.Error as error:  # of its COMMIT
                raise of_the_transaction(self.place, error, handled) from error
            self._following.committed_alone()
            return answer
        mark = self._following.mark(uid)
        try:
            answer = carry_within(connection, self.place, steps, mark.extended, mark.heard)
        except TransactionConflict:
            self.joint.lost()
            raise
        note(self.outside, uid, connection, mark)
        if wrote(answer):
            self._following.committed(mark)
        return answer

    # -- one session ------------------------------------------------------------------------------

    def commit(self, uid: str, command: Command[T], rules: Rules) -> Plan[T]:
        steps = self._following.commit_steps(uid, command, rules)
        return self._write(steps, uid, has_written)

    def joined(self, connection: object) -> Store:
        return self.outside.joined(connection)

    def when_committed(self, callback: Callable[[], None]) -> None:
        self._following.call_back(callback)

    def follow_up(self) -> None:
        self.outside.follow_up()

    def load(self, uid: str, query: Query) -> Snapshot:
        return self.read(load_steps(self.outside.tables, uid, query))

    def instances(
        self,
        uid: str,
        *,
        statuses: Collection[Status] | None = None,
        task: str | None = None,
        unresolved_logs: bool = False,
    ) -> list[Instance]:
        tables = self.outside.tables
        return self.read(fleet.instances_steps(tables, uid, statuses, task, unresolved_logs))

    def events(self, uid: str, start: int = 0, limit: int | None = None) -> list[Event]:
        return self.read(fleet.events_steps(self.outside.tables, uid, start, limit))

    def events_by_number(self, uid: str, numbers: Iterable[int]) -> dict[int, Event]:
        return self.read(fleet.events_by_number_steps(self.outside.tables, uid, numbers))

    def delete(self, uid: str) -> bool:
        steps = delete_steps(self.outside.tables, uid, collect=False)
        return self._write(steps, uid, no_matter)

    # -- the fleet --------------------------------------------------------------------------------

    def due(self, limit: int = 100, within: float = 0.0) -> list[Due]:
        return self.read(fleet.due_steps(self.outside.tables, limit, within))

    def coming(self, within: float, limit: int | None = 100) -> list[tuple[str, Instance]]:
        return self.read(fleet.coming_steps(self.outside.tables, within, limit))

    def due_ahead(self, seconds: float, limit: int = 100) -> list[Due]:
        return self.read(fleet.due_ahead_steps(self.outside.tables, seconds, limit))

    def next_due(self) -> float | None:
        return self.read(fleet.next_due_steps(self.outside.tables))

    def sessions(
        self,
        *,
        failed: bool = False,
        waiting: bool = False,
        limit: int | None = None,
        after: str = "",
    ) -> list[SessionSummary]:
        return self.read(fleet.sessions_steps(self.outside.tables, failed, waiting, limit, after))

    def waiting_groups(
        self, limit: int | None = MOST_GROUPS, most: int = MOST_COUNTED
    ) -> list[WaitingGroup]:
        return self.read(fleet.waiting_groups_steps(self.outside.tables, limit, most))

    def waiting_for(
        self, missing: Sequence[str], limit: int | None = 100, after: float = -math.inf
    ) -> list[SessionSummary]:
        return self.read(fleet.waiting_for_steps(self.outside.tables, missing, limit, after))

    def failed_groups(self, limit: int | None = MOST_GROUPS) -> list[FailedGroup]:
        return self.read(fleet.failed_groups_steps(self.outside.tables, limit))

    def failed_instances(
        self,
        *,
        task: str | None = None,
        error: str | None = None,
        limit: int | None = 100,
        after: FailedInstance | None = None,
    ) -> list[FailedInstance]:
        return self.read(
            fleet.failed_instances_steps(self.outside.tables, task, error, limit, after)
        )

    def find_event(self, event_id: str, limit: int | None = 100) -> list[tuple[str, int]] | None:
        return self.read(fleet.find_event_steps(self.outside.tables, event_id, limit))

    def configurations_in_use(
        self, limit: int | None = 100, after: str = "", most: int = MOST_COUNTED
    ) -> list[ConfigurationInUse]:
        return self.read(fleet.configurations_steps(self.outside.tables, limit, after, most))

    def sessions_with(
        self, address: str, limit: int | None = 100, after: str = ""
    ) -> list[SessionSummary]:
        return self.read(fleet.sessions_with_steps(self.outside.tables, address, limit, after))

    def prune(self, older_than: float, resolved_only: bool = True) -> int:
        tables, erased, after = self.outside.tables, 0, ""
        before = self.now() - check_age(older_than, resolved_only)
        while True:
            old, last = self.read(
                fleet.old_sessions_steps(tables, before, resolved_only, after, 1000)
            )
            for uid in old:
                steps = fleet.prune_steps(tables, uid, before, resolved_only)
                erased += self._write(steps, uid, no_matter)
            if last is None:
                return erased
            after = last

    # A lease is about what is going on now, whatever becomes of the transaction.

    def acquire_lease(self, name: str, owner: str, seconds: float) -> bool:
        return self.outside.acquire_lease(name, owner, seconds)

    def release_lease(self, name: str, owner: str) -> None:
        self.outside.release_lease(name, owner)

    def close(self) -> None:
        """The connection is the application's, and the store goes on outside of it."""


def has_written(plan: Plan[Any]) -> bool:
    """Whether anything is to follow a commit."""
    return not plan.empty


def no_matter(answer: object) -> bool:
    """Whether anything is to follow a deletion: nothing."""
    return False


CHANGING.add(JoinedStore._write.__code__)

__all__ = ["Following", "JoinedStore", "has_written", "no_matter"]
