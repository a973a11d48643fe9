"""`Store.joined`: commits within a transaction that is the application's to end."""

from __future__ import annotations

import asyncio

import pytest

from triggers_core import payloads
from triggers_core.engine.commands import Fire
from triggers_core.engine.names import new_id
from triggers_core.engine.protocol import Query, Rules
from triggers_core.exceptions import MustAwait, TaskNameFired
from triggers_core.storages.base import Store
from triggers_core.testing.driver import SessionDriver
from triggers_core.testing.storage.base import AwaitedJoining, Joining, StoragePromises
from triggers_core.testing.suite import needs


class _RolledBack(Exception):
    """What a block raises."""


def _fire(trigger: str) -> Fire:
    return Fire(trigger=trigger, payload=payloads.encode(None, Rules().limits), event_id=new_id())


@needs("joined")
class Joined(StoragePromises):
    """The application ends its transaction; what was fired within is stored with it, or not."""

    def test_what_is_joined_is_stored_with_the_transaction(
        self, session: SessionDriver, joining: Joining, promise: str
    ) -> None:
        session.configure(t_x={"after": ["a", "b"]})
        session.fire("a")
        told: list[str] = []
        with joining(session.store) as connection:
            joined = session.store.joined(connection)
            inner = SessionDriver(joined)
            assert inner.fire("b").scheduled == ["t_x#0"]
            joined.when_committed(lambda: told.append("stored"))
            assert inner.fired() == ["a", "b"], "what is read within has what was written within"
            assert told == [], "nothing follows before the end"
        session.store.follow_up()
        assert session.fired() == ["a", "b"]
        assert session.status("t_x#0") == "scheduled"
        assert told == ["stored"]

    def test_what_is_joined_is_gone_with_the_transaction(
        self, session: SessionDriver, joining: Joining, promise: str
    ) -> None:
        session.fire("a")
        before, told = session.image(), list[str]()

        def fire_and_fail() -> None:
            with joining(session.store) as connection:
                joined = session.store.joined(connection)
                SessionDriver(joined).fire("b", event_id="e1")
                SessionDriver(joined, "order:2").fire("a")
                joined.when_committed(lambda: told.append("stored"))
                raise _RolledBack

        with pytest.raises(_RolledBack):
            fire_and_fail()
        session.store.follow_up()
        assert session.image() == before
        assert [each.uid for each in session.store.sessions()] == [session.uid]
        assert told == []
        assert session.fire("b", event_id="e1").status == "recorded"

    def test_what_is_refused_within_leaves_the_transaction_usable(
        self, session: SessionDriver, joining: Joining, promise: str
    ) -> None:
        session.configure(t_x={"after": ["a"]})
        with joining(session.store) as connection:
            inner = SessionDriver(session.store.joined(connection))
            with pytest.raises(TaskNameFired):
                inner.fire("t_x")
            assert inner.fire("a").scheduled == ["t_x#0"]
        assert session.fired() == ["a"]


@needs("awaited")
class Awaited(StoragePromises):
    """The same, for coroutines."""

    def test_what_coroutines_join_is_stored_with_the_transaction(
        self, session: SessionDriver, awaited_joining: AwaitedJoining, promise: str
    ) -> None:
        async def fire(store: Store, error: type[Exception] | None = None) -> None:
            async with awaited_joining(store) as connection:
                joined = store.joined(connection)
                assert joined.awaits
                await joined.acommit(session.uid, _fire("a"), Rules())
                snapshot = await joined.aload(session.uid, Query(all_events=True))
                assert [each.trigger for each in snapshot.events] == ["a"]
                with pytest.raises(MustAwait):
                    joined.commit(session.uid, _fire("b"), Rules())
                if error is not None:
                    raise error

        with pytest.raises(_RolledBack):
            asyncio.run(fire(session.store, _RolledBack))
        assert not session.exists
        asyncio.run(fire(session.store))
        assert session.fired() == ["a"]
