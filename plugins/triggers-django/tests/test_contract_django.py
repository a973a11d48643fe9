"""The storage, against the contract of all storages, on each kind of database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

import pytest
from django.db import connections, transaction
from django_elsewhere import opened

from triggers_core.storages.base import Clock, Store
from triggers_core.testing import StorageContract
from triggers_django import DjangoStore

# The threads of these tests end with their connections open: only who starts a thread can know.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class OnDjango(StorageContract):
    kind = ""
    lacks: ClassVar = {"awaited": "a connection of Django's belongs to a thread"}

    @pytest.fixture
    def make_store(
        self, request: pytest.FixtureRequest, make_django_store: Callable[..., Any]
    ) -> Callable[[Clock], Store]:
        make: Callable[[Clock], Store] = make_django_store(request.getfixturevalue(self.kind))
        return make

    @pytest.fixture
    def opener(self) -> Callable[[Store], Callable[..., Store]]:
        def opener(store: Store) -> Callable[..., Store]:
            assert isinstance(store, DjangoStore)
            assert store.using is not None
            return partial(opened, store.using, connections.settings[store.using])

        return opener

    @pytest.fixture
    def joining(self) -> Callable[[Store], Any]:
        @contextmanager
        def joining(store: Store) -> Iterator[Any]:
            assert isinstance(store, DjangoStore)
            with transaction.atomic(store.using):
                yield connections[store.alias]

        return joining


class TestSqlite(OnDjango):
    name = "django, sqlite"
    kind = "sqlite"


class TestPostgres(OnDjango):
    name = "django, postgres"
    kind = "postgresql"


class TestMariadb(OnDjango):
    name = "django, mariadb"
    kind = "mariadb"
