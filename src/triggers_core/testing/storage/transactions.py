"""Transactions of several commits: all of them or nothing, and what follows only after the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from triggers_core.application import Application
from triggers_core.engine.commands import Close
from triggers_core.engine.protocol import Query
from triggers_core.engine.records import Status
from triggers_core.exceptions import (
    CannotJoin,
    EventIdConflict,
    HookFailed,
    SessionClosed,
    StorageError,
    TaskNameFired,
    TriggersError,
)
from triggers_core.hookspecs import hookimpl
from triggers_core.manager import TriggerManager
from triggers_core.runners.manual import ManualRunner
from triggers_core.settings import Settings
from triggers_core.storages import driving
from triggers_core.storages.base import Store
from triggers_core.storages.session import SessionStorage
from triggers_core.testing.clock import VirtualClock
from triggers_core.testing.driver import SessionDriver, rules_with
from triggers_core.testing.interruptions import in_another_thread
from triggers_core.testing.storage.base import Reopen, StoragePromises
from triggers_core.testing.storage.commits import Unwritable
from triggers_core.testing.suite import needs

_A_MOMENT = 0.2  # seconds that another thread gets within a block; it may have to wait for the end


class _Told:
    """A plugin that notes what it is told of, and in whose name."""

    def __init__(self) -> None:
        self.of: list[str] = []

    @hookimpl
    def post_commit(self, manager: TriggerManager, changes: Any) -> None:
        self.of.append(f"{manager.uid} commit")

    @hookimpl
    def post_fire(self, manager: TriggerManager, event: Any, scheduled: Any) -> None:
        self.of.append(f"{manager.uid} {event.trigger}")

    @hookimpl
    def post_replay(self, manager: TriggerManager, instance: Any, replay: Any) -> None:
        self.of.append(f"{manager.uid} {replay.name}")

    @hookimpl
    def post_skip(self, manager: TriggerManager, instance: Any, cascade: bool) -> None:
        self.of.append(f"{manager.uid} {instance.name} skipped")

    def take(self) -> list[str]:
        """What there was to tell since the last time, but for commits."""
        told, self.of = [each for each in self.of if not each.endswith(" commit")], []
        return told


class _Shop:
    """An application on a store: who is told, and what is dispatched."""

    def __init__(self, store: Store, told: _Told) -> None:
        settings = Settings.isolated(TRIGGER_PLUGINS=[told])
        self.app: Application = Application("shop", settings, store=store, runner=ManualRunner)
        self.told: _Told = told

    def manager(self, uid: str) -> TriggerManager:
        return TriggerManager(SessionStorage.on(self.app.store, uid), self.app)

    def take(self) -> list[str]:
        """The instances that were dispatched since the last time."""
        runner = self.app.runner()
        assert isinstance(runner, ManualRunner)
        return [f"{message.uid} {message.instance}" for message in runner.clear()]


class _RolledBack(Exception):
    """What a block raises."""


@contextmanager
def _rolled_back(store: Store, error: type[BaseException] = _RolledBack) -> Iterator[None]:
    """A transaction whose block raises in the end."""
    try:
        with store.transaction():
            yield
            raise error
    except error:
        return
    pytest.fail(f"the transaction has swallowed {error.__name__}")


@needs("transactions")
class Transactions(StoragePromises):
    """`Store.transaction` and `Store.when_committed`, for storages that can make many commits one.

    Another thread may have to wait for the end of a block, so that none is waited for within.
    """

    @pytest.fixture
    def orders(self, promise: str, store: Store) -> tuple[SessionDriver, SessionDriver]:
        """Two sessions of a store that has transactions; nothing has happened in them."""
        try:
            with store.transaction():
                pass
        except CannotJoin as error:
            pytest.fail(f"{self.undeclared('transactions', 'implement it')}; {error}")
        return SessionDriver(store, "order:1"), SessionDriver(store, "order:2")

    @pytest.fixture
    def shop(self, orders: tuple[SessionDriver, SessionDriver]) -> Iterator[_Shop]:
        shop = _Shop(orders[0].store, _Told())
        yield shop
        shop.app.stop()

    # -- all of it or nothing ---------------------------------------------------------------------

    def test_commits_into_several_sessions_are_one(
        self, orders: tuple[SessionDriver, SessionDriver], reopened: Reopen
    ) -> None:
        one, two = orders
        with one.store.transaction():
            one.configure(t_x={"after": ["a", "b"]})
            one.fire("a", {"n": 1})
            two.fire("a", event_id="e1")
            one.fire("b")
        assert one.fired() == ["a", "b"]
        assert two.fired() == ["a"]
        assert one.statuses() == {"t_x#0": "scheduled"}
        assert one.kwargs("t_x#0") == {"a": {"n": 1}, "b": {}}
        again = reopened(one.store)
        assert SessionDriver(again, one.uid).fired() == ["a", "b"]
        assert SessionDriver(again, two.uid).fire("a", event_id="e1").status == "duplicate"

    @pytest.mark.parametrize("error", [_RolledBack, KeyboardInterrupt])
    def test_after_a_roll_back_everything_is_as_before(
        self,
        orders: tuple[SessionDriver, SessionDriver],
        clock: VirtualClock,
        error: type[BaseException],
    ) -> None:
        one, two = orders
        store = one.store
        one.configure(t_x={"after": ["a", "b"]}, t_each={"andEvery": "go"})
        one.fire("a", event_id="kept")
        one.fire("go")
        one.fail_now("t_each#0")
        two.fire("go")
        clock.advance(5)

        def everything() -> tuple[Any, ...]:
            everyone = one.image(), two.image(), SessionDriver(store, "order:3").image()
            index = store.load(one.uid, Query(triggers=("a", "b", "go"), unstarted=("t_x",)))
            return *everyone, store.sessions(), store.due(), store.next_due(), index.instances

        before = everything()
        with _rolled_back(store, error):
            one.fire("b", event_id="lost")
            one.configure(t_x={"after": ["c"]}, t_new={"after": ["a"]})
            one.replay("t_each#0")
            one.run("t_each#1")
            one.commit(Close())
            store.delete(two.uid)
            SessionDriver(store, "order:3").configure(t_y={"after": ["a"]})
            SessionDriver(store, "order:3").fire("a")
            store.acquire_lease("sweep", "me", 30)
        assert everything() == before
        assert store.acquire_lease("sweep", "another", 30)
        assert one.fire("b", event_id="lost").status == "recorded"
        assert one.fire("a", event_id="kept").status == "duplicate"
        assert one.status("t_x#0") is Status.SCHEDULED
        assert two.fire("go").number == 1

    def test_reads_within_see_what_was_written(
        self, orders: tuple[SessionDriver, SessionDriver]
    ) -> None:
        one, two = orders
        store = one.store
        with store.transaction():
            one.configure(t_x={"after": ["a", "b"]}, t_each={"andEvery": "go"})
            one.fire("a", event_id="e1")
            assert one.fire("a", event_id="e1").status == "duplicate"
            assert one.fire("b").scheduled == ["t_x#0"]
            assert one.fired() == ["a", "b"]
            assert list(store.payloads(one.uid, [0, 1, 2])) == [0, 1]
            assert one.statuses() == {"t_x#0": "scheduled"}
            assert [each.uid for each in store.sessions()] == [one.uid]
            assert store.next_due() is not None
            one.run("t_x#0", {"parcel": 7})
            assert one.fired()[2:] == ["t_x"]
            two.fire("a")
            assert store.delete(two.uid)
            assert not two.exists
            two.fire("b")
        assert two.fired() == ["b"]
        assert one.status("t_x#0") is Status.FINISHED

    def test_another_thread_sees_all_of_it_or_nothing(
        self, orders: tuple[SessionDriver, SessionDriver]
    ) -> None:
        one, two = orders
        seen: list[list[str]] = []

        def look() -> None:
            seen.append([each.uid for each in one.store.sessions()])

        threads = [threading.Thread(target=look) for _ in range(2)]
        with one.store.transaction():
            one.fire("a")
            threads[0].start()
            threads[0].join(_A_MOMENT)
            two.fire("a")
            threads[1].start()
        for thread in threads:
            thread.join()
        look()
        assert all(each in ([], [one.uid, two.uid]) for each in seen), seen
        assert seen[-1] == [one.uid, two.uid]

    def test_others_change_the_same_session_after_the_end(
        self, orders: tuple[SessionDriver, SessionDriver]
    ) -> None:
        one, _ = orders
        others = [threading.Thread(target=one.fire, args=(f"other {n}",)) for n in range(3)]
        with one.store.transaction():
            one.fire("a")
            for other in others:
                other.start()
            one.fire("b")
        for other in others:
            other.join()
        assert sorted(one.fired()) == ["a", "b", *(f"other {n}" for n in range(3))]
        with _rolled_back(one.store):
            one.fire("c")
        in_another_thread(lambda: one.fire("d"))
        assert one.fired()[-1] == "d"

    # -- errors within, blocks within -------------------------------------------------------------

    def test_a_commit_that_is_refused_leaves_the_rest_usable(
        self, orders: tuple[SessionDriver, SessionDriver]
    ) -> None:
        one, two = orders
        one.configure(t_x={"after": ["a"]})
        one.fire("known", event_id="e1")
        two.fire("a")
        two.commit(Close())
        with one.store.transaction():
            one.fire("first")
            with pytest.raises(TaskNameFired):
                one.fire("t_x")
            with pytest.raises(EventIdConflict):
                one.fire("other", event_id="e1")
            with pytest.raises(SessionClosed):
                two.fire("late")
            one.fire("last")
        assert one.fired() == ["known", "first", "last"]

    def test_a_hook_within_a_transaction_must_not_change_the_storage(
        self, orders: tuple[SessionDriver, SessionDriver]
    ) -> None:
        one, two = orders

        def fires(session: object, plan: object) -> None:
            two.fire("inner")

        hooked = SessionDriver(one.store, one.uid, rules_with("test", fires))
        with one.store.transaction():
            one.fire("first")
            with pytest.raises(HookFailed):
                hooked.fire("outer")
            one.fire("last")
        assert one.fired() == ["first", "last"]
        assert not two.exists

    def test_a_commit_that_fails_while_it_is_written_is_whole_or_absent(
        self, orders: tuple[SessionDriver, SessionDriver]
    ) -> None:
        one, two = orders
        one.configure(t_x={"after": ["a"]}, t_y={"after": ["a"]})
        one.fire("a")
        before = one.statuses(), one.instance("t_x#0")
        # The storage may have to give all of it up then; whatever follows says so.
        with suppress(StorageError), one.store.transaction():
            two.fire("first")
            with pytest.raises((TriggersError, TypeError)):
                one.commit(Unwritable())
            two.fire("last")
        assert (one.statuses(), one.instance("t_x#0")) == before
        assert (two.exists and two.fired()) in (False, ["first", "last"])
        assert one.fire("b").status == "recorded"

    def test_a_block_within_a_block_belongs_to_it(
        self, orders: tuple[SessionDriver, SessionDriver]
    ) -> None:
        one, two = orders
        store, called = one.store, list[str]()
        with store.transaction():
            one.fire("a")
            with store.transaction():
                two.fire("a")
                store.when_committed(lambda: called.append("inner"))
            assert called == []
            one.fire("b")
        assert called == ["inner"]
        assert (one.fired(), two.fired()) == (["a", "b"], ["a"])
        with _rolled_back(store), store.transaction():
            two.fire("lost")
            store.when_committed(lambda: called.append("lost"))
        assert called == ["inner"]
        assert two.fired() == ["a"]

    def test_of_a_block_within_that_raises_nothing_is_stored(
        self, orders: tuple[SessionDriver, SessionDriver]
    ) -> None:
        one, two = orders
        store, called = one.store, list[str]()
        with store.transaction():
            one.fire("a")
            store.when_committed(lambda: called.append("outer"))
            with _rolled_back(store):
                one.fire("lost")
                two.fire("lost")
                store.when_committed(lambda: called.append("lost"))
            assert one.fired() == ["a"]
            one.fire("b")
        assert one.fired() == ["a", "b"]
        assert not two.exists
        assert called == ["outer"]

    # -- what follows the end ---------------------------------------------------------------------

    def test_callbacks_come_after_the_end_in_their_order(
        self, orders: tuple[SessionDriver, SessionDriver]
    ) -> None:
        one, two = orders
        store, called = one.store, list[str]()

        def note(what: str) -> Callable[[], None]:
            def callback() -> None:
                in_another_thread(lambda: two.fire(what))  # nothing is held any more
                one.fire(what)
                store.when_committed(lambda: called.append(f"{what} at once"))
                called.append(what)

            return callback

        store.when_committed(lambda: called.append("no transaction"))
        assert called == ["no transaction"]
        with store.transaction():
            one.fire("a")
            store.when_committed(note("first"))
            two.fire("a")
            store.when_committed(note("second"))
            assert called == ["no transaction"]
        assert called[1:] == ["first at once", "first", "second at once", "second"]
        assert one.fired() == two.fired() == ["a", "first", "second"]

    def test_callbacks_of_another_thread_are_its_own(
        self, orders: tuple[SessionDriver, SessionDriver]
    ) -> None:
        one, _ = orders
        called: list[str] = []
        with one.store.transaction():
            one.fire("a")
            other = threading.Thread(
                target=one.store.when_committed, args=(lambda: called.append("other"),)
            )
            other.start()
            other.join()
            assert called == ["other"]

    def test_after_a_roll_back_no_callback_comes(
        self, orders: tuple[SessionDriver, SessionDriver]
    ) -> None:
        one, _ = orders
        called: list[str] = []
        with _rolled_back(one.store):
            one.fire("a")
            one.store.when_committed(lambda: called.append("lost"))
        with one.store.transaction():
            one.fire("b")
        assert called == []

    # -- the manager ------------------------------------------------------------------------------

    def test_hooks_and_dispatch_follow_the_end(self, shop: _Shop) -> None:
        one, two = shop.manager("order:1"), shop.manager("order:2")
        task = {"after": ["go"], "run": "shop.Run"}
        with shop.app.store.transaction():
            one.update_configuration({"t_x": task})
            two.update_configuration({"t_x": task})
            assert one.fire("go").scheduled == ("t_x#0",)
            assert two.fire("go").scheduled == ("t_x#0",)
            assert one.storage["t_x#0"].status is Status.SCHEDULED
            one.fire("more")
            assert (shop.take(), shop.told.of) == ([], [])
        assert shop.take() == ["order:1 t_x#0", "order:2 t_x#0"]
        assert shop.told.take() == ["order:1 go", "order:2 go", "order:1 more"]

    def test_after_a_roll_back_nobody_is_told(self, shop: _Shop) -> None:
        manager = shop.manager("order:1")
        manager.update_configuration({"t_x": {"andEvery": "go", "run": "shop.Run"}})
        shop.told.of.clear()
        with _rolled_back(shop.app.store):
            assert manager.fire("go").scheduled == ("t_x#0",)
        assert (shop.take(), shop.told.of) == ([], [])
        assert manager.fire("go").scheduled == ("t_x#0",)
        assert (shop.take(), shop.told.take()) == (["order:1 t_x#0"], ["order:1 go"])

    def test_operators_work_within_a_transaction(
        self, shop: _Shop, orders: tuple[SessionDriver, SessionDriver]
    ) -> None:
        driver, other = orders
        manager = shop.manager(driver.uid)
        driver.configure(t_x={"andEvery": "go"}, t_after={"after": ["t_x"]})
        for number in range(3):
            driver.fire("go")
            if number < 2:
                driver.fail_now(f"t_x#{number}")
        other.fire("go")
        with shop.app.store.transaction():
            assert manager.replay_failed_instance("t_x#0").name == "t_x#3"
            manager.skip_failed_instance("t_x#1", cascade=True, result={"n": 1})
            manager.fail_instance("t_x#2", "stuck")
            manager.update_instance_metadata("t_x#2", {"ticket": 7})
            manager.update_configuration({"t_new": {"after": ["go"], "run": "shop.Run"}}, past=True)
            manager.close_session()
            with pytest.raises(SessionClosed):
                manager.fire("go")
            assert shop.manager(other.uid).delete_session()
            assert (shop.take(), shop.told.of) == ([], [])
        dispatched = [name.removeprefix(f"{driver.uid} ") for name in shop.take()]
        assert dispatched == ["t_x#3", "t_after#0", "t_new#0"]
        told = [each.removeprefix(f"{driver.uid} ") for each in shop.told.take()]
        assert told == ["t_x#3", "t_x", "t_x#1 skipped"]
        assert driver.metadata("t_x#2")["ticket"] == 7
        assert driver.status("t_x#2") is Status.FAILED
        assert not other.exists

    def test_recovery_is_dispatched_after_the_end(
        self, shop: _Shop, orders: tuple[SessionDriver, SessionDriver], clock: VirtualClock
    ) -> None:
        driver, _ = orders
        driver.configure(t_x={"after": ["go"]}, t_y={"after": ["go"]})
        driver.fire("go")
        driver.claim("t_x#0")
        clock.advance(100_000)
        manager = shop.manager(driver.uid)
        with _rolled_back(shop.app.store):
            manager.recover()
        assert shop.take() == []
        with shop.app.store.transaction():
            manager.recover()
            assert shop.take() == []
        assert sorted(shop.take()) == [f"{driver.uid} t_x#0", f"{driver.uid} t_y#0"]

    def test_what_is_due_is_worked_off_within_a_transaction(
        self,
        shop: _Shop,
        orders: tuple[SessionDriver, SessionDriver],
        clock: VirtualClock,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(driving, "MOST_DUE", 1)  # so that each moment is a commit of its own
        driver, _ = orders
        driver.configure(t_x={"andEvery": "go", "waiting": "1 minute"})
        for _ in range(3):
            driver.fire("go")
            clock.advance(1)
        clock.advance(60)
        manager, expected = shop.manager(driver.uid), ["t_x#0", "t_x#1", "t_x#2"]
        with _rolled_back(shop.app.store):
            manager.fire("other")
            assert driver.statuses() == dict.fromkeys(expected, "scheduled")
        assert driver.statuses() == dict.fromkeys(expected, "unstarted")
        assert shop.take() == []
        with shop.app.store.transaction():
            manager.fire("other")
        assert shop.take() == [f"{driver.uid} {name}" for name in expected]
        assert driver.fired()[-1] == "other"
