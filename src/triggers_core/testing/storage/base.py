"""What all themes of the storage contract share: the fixtures, and the check after every test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, ClassVar, NoReturn

import pytest

from triggers_core.storages.base import Clock, Store
from triggers_core.testing.clock import VirtualClock
from triggers_core.testing.driver import SessionDriver
from triggers_core.testing.elsewhere import Opener
from triggers_core.testing.invariants import check_store
from triggers_core.testing.suite import Suite

MakeStore = Callable[[Clock], Store]
Reopen = Callable[[Store], Store]
MakeOpener = Callable[[Store], Opener]
Joining = Callable[[Store], AbstractContextManager[Any]]
AwaitedJoining = Callable[[Store], AbstractAsyncContextManager[Any]]

OPENER = (
    "override the fixture opener (it returns a function that takes a store and returns what opens"
    " the same place, here and in another process: functools.partial(YourStore, store.path))"
)
JOINING = (
    "override the fixture joining (it returns a function that takes a store and returns a context"
    " manager: a transaction of the application, whose value is what Store.joined takes)"
)


class StoragePromises(Suite):
    """Base of the themes. After every test, all counts and indexes of the store are recounted."""

    subject: ClassVar[str] = "storage"
    capabilities: ClassVar[Mapping[str, str]] = {
        "durable": "sessions outlive the store object",
        "processes": "several processes may use it at the same time",
        "transactions": "several commits can be one: Store.transaction",
        "joined": "commits can be part of the application's transactions: Store.joined",
        "awaited": "the same on connections of an event loop: joined answers with an AwaitedStore",
    }
    to_override: ClassVar[frozenset[str]] = Suite.to_override | {
        *("make_store", "opener", "reopen", "joining", "awaited_joining"),
    }

    @pytest.fixture
    def make_store(self) -> MakeStore:
        """Override: a function that makes a new, empty store with a given clock."""
        pytest.fail(
            f"override the fixture make_store in {type(self).__name__}: it returns a function"
            " that takes a clock and makes a new, empty store"
        )

    @pytest.fixture
    def opener(self) -> MakeOpener:
        """Override, for `durable` and `processes`: what opens the place of a store again.

        A function that takes a store and returns an `Opener`, which is called as
        ``opener(clock=…)``, in this process and in others.
        """
        if "processes" in self.lacks:
            return self._not_durable
        pytest.fail(self.undeclared("processes", OPENER))

    @pytest.fixture
    def reopen(self, opener: MakeOpener) -> Reopen:
        """May be overridden: a function that closes a store and opens its place as a new object.

        By default by what `opener` says, with the same clock.
        """

        def reopen(store: Store) -> Store:
            again = opener(store)
            store.close()
            return again(clock=store.clock)

        return reopen

    @pytest.fixture
    def joining(self) -> Joining:
        """Override, for `joined`: a function that takes a store and returns a context manager.

        That is a transaction of the application, which is committed at the end and rolled back if
        the block raises; its value is what `Store.joined` takes.
        """
        pytest.fail(self.undeclared("joined", JOINING))

    @pytest.fixture
    def awaited_joining(self) -> AwaitedJoining:
        """Override, for `awaited`: as `joining`, and an asynchronous context manager."""
        cure = JOINING.replace("joining", "awaited_joining").replace("manager:", "manager, async:")
        pytest.fail(self.undeclared("awaited", cure))

    def _not_durable(self, store: Store) -> NoReturn:
        pytest.fail(self.undeclared("durable", f"{OPENER}, or the fixture reopen"))

    @pytest.fixture
    def reopened(self, promise: str, reopen: Reopen) -> Iterator[Reopen]:
        """`reopen`, and the stores that it made are closed after the test."""
        if "durable" in self.lacks:
            pytest.skip(f"not offered: durable: {self.lacks['durable']}")
        opened: list[Store] = []

        def again(store: Store) -> Store:
            opened.append(reopen(store))
            return opened[-1]

        yield again
        for store in opened:
            store.close()

    @pytest.fixture
    def clock(self) -> VirtualClock:
        """The store's clock."""
        return VirtualClock()

    @pytest.fixture
    def store(self, make_store: MakeStore, clock: VirtualClock) -> Iterator[Store]:
        """A new store; checked and closed after the test."""
        store = make_store(clock)
        assert isinstance(store, Store), (
            f"the fixture make_store of {type(self).__name__} returns a function that makes a"
            f" Store; this one made {type(store).__name__}"
        )
        assert store.sessions() == [], "make_store makes an empty store; this one has sessions"
        yield store
        check_store(store)
        store.close()

    @pytest.fixture
    def session(self, store: Store) -> SessionDriver:
        """A session of the store; nothing has happened in it."""
        return SessionDriver(store)
