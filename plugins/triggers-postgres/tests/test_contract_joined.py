"""The contract of all storages, in transactions of an application and in those of the store."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import pytest
from each_within import EachWithin, InTransactions, Joining, opened

from triggers_core.storages.base import Clock, Store
from triggers_core.testing import StorageContract
from triggers_postgres import PostgresStore


class TestJoined(StorageContract):
    name = "postgres, joined"
    lacks: ClassVar = dict.fromkeys(
        ("transactions", "joined", "awaited"), "each call is in one already"
    )
    kind: type[EachWithin] = Joining

    @pytest.fixture
    def make_store(
        self, make_postgres_store: Callable[..., PostgresStore]
    ) -> Callable[[Clock], Store]:
        return lambda clock: self.kind(make_postgres_store(clock))

    @pytest.fixture
    def opener(self, postgres_url: str) -> Callable[[Store], Callable[..., Store]]:
        def opener(store: Store) -> Callable[..., Store]:
            assert isinstance(store, EachWithin)
            return partial(opened, self.kind, postgres_url, store.inner.schema)

        return opener


@pytest.mark.slow  # the same statements as in the other one
class TestTransactions(TestJoined):
    name = "postgres, in transactions"
    kind = InTransactions
