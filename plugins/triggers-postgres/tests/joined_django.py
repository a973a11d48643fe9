"""Fires within Django's transactions; run as a program, for Django's settings are a process's."""

from __future__ import annotations

import sys
import threading
from urllib.parse import urlsplit

import django
import psycopg
import pytest
from django.conf import settings
from joined_app import TASKS, Heard

from triggers_core.application import Application
from triggers_core.exceptions import CannotJoin, NestedCommit, StorageError, TransactionConflict
from triggers_core.runners import ManualRunner
from triggers_core.settings import Settings
from triggers_core.testing.interruptions import in_another_thread
from triggers_postgres import PostgresStore

url, schema, table = sys.argv[1:]
parts = urlsplit(url)
settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": parts.path.lstrip("/"),
            "USER": parts.username,
            "PASSWORD": parts.password or "",
            "HOST": parts.hostname,
            "PORT": parts.port,
        },
        "other": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
    }
)
django.setup()

from django.db import connection, connections, transaction  # noqa: E402
from django.test.testcases import TestCase  # noqa: E402

heard = Heard()
app = Application(
    "django",
    Settings.isolated(TRIGGER_PLUGINS=[heard]),
    store=PostgresStore(url, schema=schema, num_workers=1),
    runner=ManualRunner,
)
manager = app.manager("order:1")
manager.update_configuration(TASKS)
here = {threading.current_thread().name}


def insert(number: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {table} VALUES ({number})")


def triggers() -> list[str]:
    return [event.trigger for event in manager.storage.events]


def of_a_request(using: object) -> None:
    with transaction.atomic():
        insert(1)
        manager.using(using).fire("paid")
        assert heard.triggers == []
        assert triggers() == []
    assert heard.triggers == ["paid"] == triggers()
    assert heard.threads == here


def rolled_back() -> None:
    try:
        with transaction.atomic():
            insert(2)
            manager.using(connection).fire("undone")
            raise ValueError("no")
    except ValueError:
        pass
    assert heard.triggers == ["paid"] == triggers()


def savepoints() -> None:
    with transaction.atomic():
        manager.using(connection).fire("kept")
        try:
            with transaction.atomic():
                manager.using(connection).fire("undone")
                raise ValueError("no")
        except ValueError:
            pass
    assert heard.triggers == ["paid", "kept"] == triggers()


def outside_of_a_transaction() -> None:
    manager.using(connection).fire("alone")
    assert heard.triggers == ["paid", "kept", "alone"] == triggers()


def managed_by_hand() -> None:
    transaction.set_autocommit(False)
    manager.using(connection).fire("by hand")
    transaction.commit()
    heard.wait_for("paid", "kept", "alone", "by hand")
    transaction.set_autocommit(True)


def a_conflict_ends_the_block() -> None:
    """Leaving the block after it was caught must not look as if it had been committed."""
    begun = triggers()
    with transaction.atomic():
        insert(3)
        connection.cursor().execute("SET LOCAL lock_timeout = '1ms'")
        with psycopg.connect(url) as other:
            in_another_thread(lambda: manager.using(other).fire("first"))
            with pytest.raises(TransactionConflict, match="has locked the session"):
                manager.using(connection).fire("second")
        with pytest.raises(StorageError, match="the connection of Django cannot be used"):
            manager.using(connection).fire("third")
        assert connection.needs_rollback
    assert triggers() == [*begun, "first"]


def fired_past_the_open_transaction() -> None:
    begun = triggers()
    with transaction.atomic():
        manager.using(connection).fire("within")
        with pytest.raises(NestedCommit, match=r"'order:1' has been changed in a transaction"):
            manager.fire("past")
        with transaction.atomic():
            manager.using(connection).fire("within, too")
    manager.fire("after")
    try:
        with transaction.atomic():
            with transaction.atomic():
                manager.using(connection).fire("undone")
            raise ValueError("no")
    except ValueError:
        pass
    with transaction.atomic():
        insert(5)
        manager.fire("past another one")
        transaction.set_rollback(True)
    assert triggers() == [*begun, "within", "within, too", "after", "past another one"]


def captured_by_a_test() -> None:
    told = len(heard.triggers)
    with transaction.atomic():
        with TestCase.captureOnCommitCallbacks() as callbacks:
            manager.using(connection).fire("in a test")
        assert len(callbacks) == 1
        assert len(heard.triggers) == told
        callbacks[0]()
        assert heard.triggers[told:] == ["in a test"]
        transaction.set_rollback(True)


def other_databases() -> None:
    with pytest.raises(CannotJoin, match=r"'other' of Django is no PostgreSQL \(sqlite\)"):
        manager.using(connections["other"])


of_a_request(connection)
for check in (
    rolled_back,
    savepoints,
    outside_of_a_transaction,
    managed_by_hand,
    a_conflict_ends_the_block,
    fired_past_the_open_transaction,
    captured_by_a_test,
    other_databases,
):
    check()
    print(check.__name__)
with connection.cursor() as cursor:
    cursor.execute(f"SELECT number FROM {table}")
    assert cursor.fetchall() == [(1,)]
manager.using(connections["default"]).fire("at the end")
connections.close_all()
app.stop()
app.store.close()
