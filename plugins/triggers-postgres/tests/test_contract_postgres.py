"""The storage, against the contract of all storages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import psycopg
import pytest

from triggers_core.storages.base import Clock, Store
from triggers_core.testing import StorageContract
from triggers_postgres import PostgresStore


class TestPostgres(StorageContract):
    @pytest.fixture
    def make_store(
        self, make_postgres_store: Callable[..., PostgresStore]
    ) -> Callable[[Clock], Store]:
        return make_postgres_store

    @pytest.fixture
    def opener(self, postgres_url: str) -> Callable[[Store], Callable[..., Store]]:
        def opener(store: Store) -> Callable[..., Store]:
            assert isinstance(store, PostgresStore)
            return partial(PostgresStore, postgres_url, store.schema, num_workers=1)

        return opener

    @pytest.fixture
    def joining(self, postgres_url: str) -> Callable[[Store], Any]:
        return lambda store: psycopg.connect(postgres_url)

    @pytest.fixture
    def awaited_joining(self, postgres_url: str) -> Callable[[Store], Any]:
        @asynccontextmanager
        async def joining(store: Store) -> AsyncIterator[Any]:
            async with await psycopg.AsyncConnection.connect(postgres_url) as connection:
                yield connection

        return joining
