"""The tables: what the migrations make of the models, there and back, and what is said without."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections

from triggers_core.exceptions import InvalidSetting, StorageError
from triggers_core.testing.driver import SessionDriver
from triggers_django import DjangoStore


def test_no_migration_is_missing() -> None:
    call_command("makemigrations", "triggers", check=True, dry_run=True, verbosity=0)


def test_there_and_back(databases_of_each_kind: Any) -> None:
    alias = databases_of_each_kind.alias(0)
    with DjangoStore(alias) as store:
        session = SessionDriver(store)
        session.fire("paid")
        call_command("migrate", "triggers", "zero", database=alias, verbosity=0)
        try:
            tables = connections[alias].introspection.table_names()
            assert [each for each in tables if each.startswith("triggers_")] == []
            missing = rf"run `python manage\.py migrate triggers --database={alias}`"
            with pytest.raises(StorageError, match=missing):
                session.fire("paid")
            for look in (store.due, store.sessions, store.next_due):
                with pytest.raises(StorageError, match=missing):
                    look()
        finally:
            call_command("migrate", "triggers", database=alias, verbosity=0)
        session.fire("paid")
        assert len(session.events()) == 1


def test_a_database_that_django_does_not_have() -> None:
    with pytest.raises(InvalidSetting, match=r"no database 'sqlit0': did you mean 'sqlite0'"):
        DjangoStore("sqlit0")
