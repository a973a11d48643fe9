"""What all themes of the storage contract share: the fixtures, and the check after every test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest

from triggers_core.storages.base import Clock, Store
from triggers_core.testing.clock import VirtualClock
from triggers_core.testing.driver import SessionDriver
from triggers_core.testing.invariants import check_store
from triggers_core.testing.suite import Suite

MakeStore = Callable[[Clock], Store]
Reopen = Callable[[Store], Store]


class StoragePromises(Suite):
    """Base of the themes. After every test, all counts and indexes of the store are recounted."""

    not_durable: ClassVar[str] = ""
    """Why sessions do not outlive the store object. Empty for a storage whose sessions do: its
    suite overrides the fixture `reopen`."""

    @pytest.fixture
    def make_store(self) -> MakeStore:
        """Override: a function that makes a new, empty store with a given clock."""
        pytest.fail(
            f"override the fixture make_store in {type(self).__name__}: it returns a function"
            " that takes a clock and makes a new, empty store"
        )

    @pytest.fixture
    def reopen(self) -> Reopen:
        """Override: a function that closes a store and opens what it kept as a new object."""
        if self.not_durable:
            pytest.skip(self.not_durable)
        pytest.fail(
            f"override the fixture reopen in {type(self).__name__} (a function that closes a store"
            " and opens the same place as a new object, with the same clock), or say in its"
            " attribute not_durable why sessions do not outlive the store"
        )

    @pytest.fixture
    def reopened(self, reopen: Reopen) -> Iterator[Reopen]:
        """`reopen`, and the stores that it made are closed after the test."""
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
        yield store
        check_store(store)
        store.close()

    @pytest.fixture
    def session(self, store: Store) -> SessionDriver:
        """A session of the store; nothing has happened in it."""
        return SessionDriver(store)
