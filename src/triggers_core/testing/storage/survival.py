"""What a store survives: exceptions out of signal handlers, and clocks that were wrong."""

from __future__ import annotations

import gc

import pytest

from triggers_core.storages.base import Due
from triggers_core.testing.clock import VirtualClock
from triggers_core.testing.driver import SessionDriver
from triggers_core.testing.interruptions import at_random
from triggers_core.testing.invariants import check_store
from triggers_core.testing.storage.base import MakeStore, StoragePromises


class Survival(StoragePromises):
    """Exceptions between any two bytecodes, and times that nobody could have asked for."""

    # Python itself swallows what a handler raises within a `__del__`, and says so.
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    def test_exceptions_out_of_signal_handlers_are_survived(
        self, make_store: MakeStore, request: pytest.FixtureRequest
    ) -> None:
        # What was half-made goes then, and not in the middle of another test.
        request.addfinalizer(gc.collect)
        store = make_store(lambda: 1_700_000_000.0)
        try:
            report = at_random(store, 60)
            assert not report.problems, report
            check_store(store)
        finally:
            store.close()

    def test_a_lease_that_a_wrong_clock_wrote_is_free(self, make_store: MakeStore) -> None:
        times = [1_700_003_600.0]
        store = make_store(lambda: times[-1])
        try:
            assert store.acquire_lease("sweep", "ahead", 30)
            times.append(1_700_000_000.0)
            assert store.acquire_lease("sweep", "right", 30)
            assert not store.acquire_lease("sweep", "ahead", 30)
        finally:
            store.close()

    def test_what_is_due_far_ahead_is_found(
        self, session: SessionDriver, clock: VirtualClock
    ) -> None:
        session.configure(t_x={"andEvery": "go"})
        session.fire("go")
        clock.advance(60)
        session.fire("go")
        wait = session.store.next_due()
        assert wait is not None
        both = [Due(session.uid, "t_x#1"), Due(session.uid, "t_x#0")]
        assert session.store.due_ahead(wait - 1) == both, "farthest first"
        assert session.store.due_ahead(wait - 1, limit=1) == both[:1]
        assert session.store.due_ahead(wait + 1) == both[:1]
        assert session.store.due_ahead(wait - 1, limit=0) == []
        assert session.store.due_ahead(wait + 61) == []

    def test_a_store_says_where_it_is(self, make_store: MakeStore) -> None:
        with make_store(lambda: 1_700_000_000.0) as store:
            assert store.place

    def test_a_store_exists_once_something_is_in_it(self, session: SessionDriver) -> None:
        store = session.store
        before = store.exists
        assert store.exists is before, "whoever only looks creates nothing"
        session.fire("a")
        assert store.exists
