"""What the documentation says about this storage is true."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated

import psycopg
import pytest
import sqlalchemy
from doc_pages import DOCS, ROOT, Page
from sqlalchemy import orm
from sqlalchemy.ext import asyncio as sqlalchemy_async

from triggers_core import Application
from triggers_core.engine.names import new_id
from triggers_core.exceptions import TransactionConflict
from triggers_core.settings import Settings
from triggers_postgres import PostgresStore

README = Page(ROOT / "plugins" / "triggers-postgres" / "README.md")
TRANSACTIONS = Page(DOCS / "transactions.md")
URL = "postgresql://shop@localhost/shop"


def test_the_order_and_its_event_in_one_transaction(
    postgres_url: str, connection: psycopg.Connection[object], tmp_path: Path
) -> None:
    page = Page(DOCS / "transactions.md")
    page.write_files(tmp_path)
    database = f"docs_{os.getpid()}"
    connection.execute(f"CREATE DATABASE {database}")
    try:
        for command in page.commands:
            printed = subprocess.run(
                [sys.executable, "-W", "error", *command.line.split()[1:]],
                cwd=tmp_path,
                env={
                    **os.environ,
                    "DATABASE_URL": postgres_url.rpartition("/")[0] + f"/{database}",
                },
                capture_output=True,
                encoding="utf-8",
                timeout=60,
                check=False,
            )
            assert printed.returncode == 0, printed.stderr
            assert printed.stdout == command.output
    finally:
        connection.execute(f"DROP DATABASE {database} WITH (FORCE)")


@pytest.fixture
def database(postgres_url: str, connection: psycopg.Connection[object]) -> Iterator[str]:
    """The URL of a new one."""
    name = f"docs_{new_id()}".lower().replace("-", "_")
    connection.execute(f"CREATE DATABASE {name}")
    yield f"{postgres_url.rpartition('/')[0]}/{name}"
    connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_the_event_of_the_readme(database: str) -> None:
    code = README.piece("from triggers_core import TriggerManager")
    assert URL in code
    for _ in range(2):
        exec(code.replace(URL, database), scope := {})
    assert [each.trigger for each in scope["storage"].events] == ["paid"]
    scope["storage"].store.close()


def test_the_settings_of_the_readme() -> None:
    [text] = README.fences("toml")
    settings = Settings.isolated(**tomllib.loads(text)["tool"]["triggers"])
    assert settings.TRIGGER_STORAGE_TYPE == "postgres"
    assert PostgresStore(**settings.TRIGGER_STORAGE_OPTIONS).place


def test_the_pieces_about_transactions(database: str) -> None:
    """Each inserts an order and fires: both are there, or, after a conflict, there once."""
    settings = Settings.isolated(
        TRIGGER_PLUGINS=[],
        TRIGGER_RUNNER="manual",
        TRIGGER_STORAGE_TYPE="postgres",
        TRIGGER_STORAGE_OPTIONS={"conninfo": database},
    )
    with Application("page", settings) as app, psycopg.connect(database, autocommit=True) as own:
        own.execute("CREATE TABLE orders (number int)")
        for manager in (app.manager("order:1"), app.manager("order:2")):
            manager.update_configuration({})
        known = {
            "psycopg": psycopg,
            "conninfo": database,
            "manager": app.manager("order:1"),
            "other_manager": app.manager("order:2"),
        }
        starts = ("with psycopg.connect", "with manager.storage.store.transaction() as")
        for fired, start in enumerate(starts, start=1):
            exec(TRANSACTIONS.piece(start), dict(known))
            assert len(app.manager("order:1").storage.events) == fired
            assert own.execute("SELECT count(*) FROM orders").fetchone() == (fired,)
        assert len(app.manager("order:2").storage.events) == 1

        engine = sqlalchemy.create_engine(database.replace("postgresql:", "postgresql+psycopg:"))

        class Base(orm.DeclarativeBase):
            pass

        class Order(Base):
            __tablename__ = "orders"
            number = orm.mapped_column(sqlalchemy.Integer, primary_key=True)

        used = {"Session": orm.Session, "engine": engine, "Order": Order}
        exec(TRANSACTIONS.piece("with Session(engine)"), known | used)
        engine.dispose()
        assert len(app.manager("order:1").storage.events) == 3
        assert own.execute("SELECT count(*) FROM orders").fetchone() == (3,)

        tries = []

        def transfer(connection: psycopg.Connection[object]) -> None:
            connection.execute("INSERT INTO orders (number) VALUES (43)")
            tries.append(connection)
            if len(tries) < 3:
                raise TransactionConflict("deadlock")

        exec(TRANSACTIONS.piece("from triggers_core.exc"), known | {"transfer": transfer})
        assert len(tries) == 3
        assert own.execute("SELECT count(*) FROM orders WHERE number = 43").fetchone() == (1,)


def test_a_request_of_fastapi(database: str) -> None:
    fastapi = pytest.importorskip("fastapi")
    httpx = pytest.importorskip("httpx")

    settings = Settings.isolated(
        TRIGGER_PLUGINS=[],
        TRIGGER_RUNNER="manual",
        TRIGGER_STORAGE_TYPE="postgres",
        TRIGGER_STORAGE_OPTIONS={"conninfo": database},
    )

    class Base(orm.DeclarativeBase):
        pass

    class Payment(Base):
        __tablename__ = "payments"
        order = orm.mapped_column(sqlalchemy.Integer, primary_key=True)

    engine = sqlalchemy_async.create_async_engine(
        database.replace("postgresql:", "postgresql+psycopg:"), poolclass=sqlalchemy.NullPool
    )

    async def session() -> AsyncIterator[sqlalchemy_async.AsyncSession]:
        async with sqlalchemy_async.AsyncSession(engine) as session:
            yield session

    with Application("page", settings) as app, psycopg.connect(database, autocommit=True) as own:
        own.execute('CREATE TABLE payments ("order" int PRIMARY KEY)')
        web = fastapi.FastAPI()
        scope = {
            "app": web,
            "Annotated": Annotated,
            "Depends": fastapi.Depends,
            "AsyncSession": sqlalchemy_async.AsyncSession,
            "session": session,
            "Payment": Payment,
            "get_trigger_manager": app.manager,
        }
        exec(TRANSACTIONS.piece("@app.post("), scope)

        async def call() -> list[int]:
            transport = httpx.ASGITransport(web, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://page") as client:
                return [(await client.post("/orders/42/paid")).status_code for _ in range(2)]

        assert asyncio.run(call()) == [200, 500], "the second one has its key already"
        storage = app.manager("order:42").storage
        assert (len(storage.events), storage.latest_kwargs["paid"]) == (1, {"order": 42})


def test_the_commands_of_the_readme(database: str, tmp_path: Path) -> None:
    pytest.importorskip("triggers_cli")
    for command in README.commands:
        if command.line.startswith("triggers "):
            program, *arguments = shlex.split(command.line, comments=True)
            done = subprocess.run(
                [Path(sys.executable).with_name(program), *arguments],
                cwd=tmp_path,
                env={
                    **os.environ,
                    "TRIGGER_STORAGE_TYPE": "postgres",
                    "TRIGGER_STORAGE_OPTIONS": json.dumps({"conninfo": database}),
                },
                capture_output=True,
                encoding="utf-8",
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            assert ("CREATE TABLE" in done.stdout) == ("--sql" in command.line)


DJANGO = """
import sys
from urllib.parse import urlsplit
import django
from django.conf import settings
from triggers_core import Application
from triggers_core.runners import ManualRunner
from triggers_core.settings import Settings
from triggers_postgres import PostgresStore

url = urlsplit(sys.argv[1])
names = {"NAME": url.path[1:], "USER": url.username, "PASSWORD": url.password or "",
         "HOST": url.hostname, "PORT": url.port}
settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", **names}})
django.setup()
from django.db import connection, models

class Order(models.Model):
    number = models.IntegerField()

    class Meta:
        app_label = "page"

with connection.schema_editor() as editor:
    editor.create_model(Order)
store = PostgresStore(sys.argv[1])
app = Application("page", Settings.isolated(TRIGGER_PLUGINS=[]), store=store, runner=ManualRunner)
manager = app.manager("order:42")
code = sys.stdin.read()
exec(code)
try:
    exec(code + "    raise KeyError\\n")
except KeyError:
    print(Order.objects.count(), [each.trigger for each in manager.storage.events])
app.close()
"""


def test_the_piece_about_django(database: str) -> None:
    pytest.importorskip("django")
    done = subprocess.run(
        [sys.executable, "-c", DJANGO, database],
        input=TRANSACTIONS.piece("from django.db import connection, transaction"),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.stdout == "1 ['paid']\n", done.stderr
