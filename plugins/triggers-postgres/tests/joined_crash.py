"""Processes that insert an order and fire its event, to be killed on the way. Run as a program.

For each line on its input, ``KIND NUMBER WHERE``, it forks one; when that has ended, it prints how.
``WHERE`` is ``before`` or ``after``: there the process kills itself around its dispatch.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import django
import psycopg
import sqlalchemy as sa
from django.conf import settings
from sqlalchemy import orm

from triggers_core import TriggerManager
from triggers_core.application import Application
from triggers_core.runners.base import TaskRunner
from triggers_core.settings import Settings
from triggers_postgres import PostgresStore

TASKS = {"t_ship": {"after": ["paid"], "run": "shop.Ship"}}

url, wire, schema, table, journal = sys.argv[1:]
parts = urlsplit(wire)


class Journal(TaskRunner):
    """Notes what is dispatched in a file, which outlives the process."""

    where = ""
    executes_here = False

    def dispatch(self, manager: TriggerManager, message: Any, task: Any) -> None:
        die_if(self.where == "before")
        with Path(journal).open("a") as file:
            file.write(f"{message.uid}\n")
        die_if(self.where == "after")


def die_if(now: bool) -> None:
    if now:
        os.kill(os.getpid(), signal.SIGKILL)


def with_psycopg(pay: Callable[[Any, Callable[[str], Any]], None], name: str) -> None:
    with psycopg.connect(wire, application_name=name) as connection:
        pay(connection, connection.execute)


def with_sqlalchemy(pay: Callable[[Any, Callable[[str], Any]], None], name: str) -> None:
    engine = sa.create_engine(
        wire.replace("postgresql:", "postgresql+psycopg:"),
        connect_args={"application_name": name},
    )
    with orm.Session(engine) as session:
        pay(session, lambda statement: session.execute(sa.text(statement)))
        session.commit()


def with_django(pay: Callable[[Any, Callable[[str], Any]], None], name: str) -> None:
    from django.db import connection, transaction

    connection.settings_dict["OPTIONS"]["application_name"] = name
    with transaction.atomic(), connection.cursor() as cursor:
        pay(connection, cursor.execute)


def child(kind: str, number: int, where: str) -> None:
    Journal.where = where
    store = PostgresStore(url, schema=schema)
    given = Settings.isolated(TRIGGER_PLUGINS=[], TRIGGER_CONFIGURATION=TASKS)
    app = Application("crash", given, store=store, runner=Journal)

    def pay(connection: Any, execute: Callable[[str], Any]) -> None:
        execute(f"INSERT INTO {table} VALUES ({number})")
        manager = app.manager(f"order:{number}").using(connection)
        manager.fire("paid")

    {"psycopg": with_psycopg, "sqlalchemy": with_sqlalchemy, "django": with_django}[kind](
        pay, f"crash-{os.getpid()}"
    )
    store.follow_up()
    store.close()


settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": parts.path.lstrip("/"),
            "USER": parts.username,
            "HOST": parts.hostname,
            "PORT": parts.port,
            "OPTIONS": {"sslmode": "disable", "gssencmode": "disable"},
        },
    }
)
django.setup()
for line in sys.stdin:
    kind, number, where = line.split()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            child(kind, int(number), where)
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    _, ended = os.waitpid(pid, 0)
    print(pid, os.waitstatus_to_exitcode(ended), flush=True)
