"""`Store.close`: it lets go, it may come at any time, and the next use opens again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from triggers_core.storages.base import Store
from triggers_core.testing.clock import VirtualClock
from triggers_core.testing.driver import SessionDriver
from triggers_core.testing.storage.base import MakeOpener, MakeStore, StoragePromises
from triggers_core.testing.suite import needs


class Closing(StoragePromises):
    """Who closes a store is often not the only one who uses it."""

    def test_a_closed_store_opens_again_when_it_is_used(
        self, store: Store, session: SessionDriver
    ) -> None:
        """An application that was closed may fire once more; so may a late thread."""
        session.configure(t_x={"after": ["a", "b"]})
        session.fire("a", {"n": 1}, event_id="e1")
        store.close()
        assert session.fired() == ["a"]
        store.close()
        assert session.fire("b").scheduled == ["t_x#0"]
        store.close()
        assert session.fire("a", {"n": 1}, event_id="e1").status == "duplicate"
        assert [each.uid for each in store.sessions()] == [session.uid]
        store.close()
        assert store.acquire_lease("sweep", "me", 30)

    def test_a_store_may_be_closed_more_than_once(
        self, make_store: MakeStore, clock: VirtualClock
    ) -> None:
        """And before anything was done with it."""
        store = make_store(clock)
        store.close()
        store.close()
        with store:
            SessionDriver(store).fire("a")
        store.close()
        store.close()
        assert SessionDriver(store).fired() == ["a"]
        store.close()

    @needs("durable")
    def test_closing_a_store_leaves_others_of_its_place_open(
        self, session: SessionDriver, opener: MakeOpener, promise: str
    ) -> None:
        session.fire("a")
        with opener(session.store)(clock=session.store.clock) as other:
            assert SessionDriver(other).fired() == ["a"]
            session.store.close()
            assert SessionDriver(other).fire("b").number == 1
        assert session.fired() == ["a", "b"]

    def test_a_store_that_is_closed_while_threads_use_it_loses_nothing(
        self, store: Store, session: SessionDriver
    ) -> None:
        session.configure(t_x={"andEvery": "go"})

        def fire() -> int:
            return sum(session.fire("go").status == "recorded" for _ in range(20))

        def close() -> None:
            for _ in range(5):
                store.close()

        with ThreadPoolExecutor(3) as pool:
            fired = [pool.submit(fire) for _ in range(2)]
            pool.submit(close).result()
            assert [each.result() for each in fired] == [20, 20]
        assert len(session.statuses()) == 40
