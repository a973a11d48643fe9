"""Stores each of whose methods is called within a transaction, for the contract of all storages."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar

from psycopg_pool import PoolClosed

from triggers_core.engine.protocol import Command, Plan, Query, Rules, Snapshot
from triggers_core.engine.records import Event, Instance, Status
from triggers_core.storages.base import Clock, Due, Store
from triggers_core.storages.groups import (
    MOST_GROUPS,
    ConfigurationInUse,
    FailedGroup,
    FailedInstance,
    WaitingGroup,
)
from triggers_core.storages.summaries import SessionSummary
from triggers_postgres import PostgresStore
from triggers_postgres.connections import Connections

T = TypeVar("T")


class EachWithin(Store):
    """A store each of whose methods is called within a transaction, which is then committed."""

    def __init__(self, inner: PostgresStore) -> None:
        super().__init__(inner.clock)
        self.inner: PostgresStore = inner

    def within(self, call: Callable[[Store], T]) -> T:
        raise NotImplementedError

    def commit(self, uid: str, command: Command[T], rules: Rules) -> Plan[T]:
        return self.within(lambda store: store.commit(uid, command, rules))

    def load(self, uid: str, query: Query) -> Snapshot:
        return self.within(lambda store: store.load(uid, query))

    def now(self) -> float:
        return self.within(lambda store: store.now())

    def instances(
        self,
        uid: str,
        *,
        statuses: Collection[Status] | None = None,
        task: str | None = None,
        unresolved_logs: bool = False,
    ) -> list[Instance]:
        return self.within(
            lambda store: store.instances(
                uid, statuses=statuses, task=task, unresolved_logs=unresolved_logs
            )
        )

    def events(self, uid: str, start: int = 0, limit: int | None = None) -> list[Event]:
        return self.within(lambda store: store.events(uid, start, limit))

    def events_by_number(self, uid: str, numbers: Iterable[int]) -> dict[int, Event]:
        return self.within(lambda store: store.events_by_number(uid, numbers))

    def delete(self, uid: str) -> bool:
        return self.within(lambda store: store.delete(uid))

    def due(self, limit: int = 100, within: float = 0.0) -> list[Due]:
        return self.within(lambda store: store.due(limit, within))

    def coming(self, within: float, limit: int | None = 100) -> list[tuple[str, Instance]]:
        return self.within(lambda store: store.coming(within, limit))

    def due_ahead(self, seconds: float, limit: int = 100) -> list[Due]:
        return self.within(lambda store: store.due_ahead(seconds, limit))

    def next_due(self) -> float | None:
        return self.within(lambda store: store.next_due())

    def sessions(self, **asked: Any) -> list[SessionSummary]:
        return self.within(lambda store: store.sessions(**asked))

    def waiting_groups(self, *asked: Any, **more: Any) -> list[WaitingGroup]:
        return self.within(lambda store: store.waiting_groups(*asked, **more))

    def waiting_for(self, *asked: Any, **more: Any) -> list[SessionSummary]:
        return self.within(lambda store: store.waiting_for(*asked, **more))

    def failed_groups(self, limit: int | None = MOST_GROUPS) -> list[FailedGroup]:
        return self.within(lambda store: store.failed_groups(limit))

    def failed_instances(self, **asked: Any) -> list[FailedInstance]:
        return self.within(lambda store: store.failed_instances(**asked))

    def find_event(self, event_id: str, limit: int | None = 100) -> list[tuple[str, int]] | None:
        return self.within(lambda store: store.find_event(event_id, limit))

    def configurations_in_use(self, *asked: Any, **named: Any) -> list[ConfigurationInUse] | None:
        return self.within(lambda store: store.configurations_in_use(*asked, **named))

    def sessions_with(self, *asked: Any, **named: Any) -> list[SessionSummary] | None:
        return self.within(lambda store: store.sessions_with(*asked, **named))

    def prune(self, older_than: float, resolved_only: bool = True) -> int:
        return self.within(lambda store: store.prune(older_than, resolved_only))

    def acquire_lease(self, name: str, owner: str, seconds: float) -> bool:
        return self.within(lambda store: store.acquire_lease(name, owner, seconds))

    def release_lease(self, name: str, owner: str) -> None:
        self.within(lambda store: store.release_lease(name, owner))


class Joining(EachWithin):
    """In transactions of psycopg, on connections of an application."""

    def __init__(self, inner: PostgresStore) -> None:
        super().__init__(inner)
        self.connections: Connections = Connections(inner.url, {"num_workers": 1})

    def within(self, call: Callable[[Store], T]) -> T:
        while True:
            try:
                with self.connections.lent() as connection, connection.transaction():
                    return call(self.inner.joined(connection))
            except PoolClosed:  # by `close`, before it was lent
                continue

    def close(self) -> None:
        self.connections.close()
        self.inner.close()


class InTransactions(EachWithin):
    """In `PostgresStore.transaction`."""

    def within(self, call: Callable[[Store], T]) -> T:
        with self.inner.transaction():
            return call(self.inner)

    def close(self) -> None:
        self.inner.close()


def opened(kind: type[EachWithin], url: str, schema: str, clock: Clock) -> EachWithin:
    """What other processes open."""
    return kind(PostgresStore(url, schema, clock=clock, num_workers=1))
