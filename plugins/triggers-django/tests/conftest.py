"""One Django for all of these tests: there is only one in a process. Its settings name a database
of each kind; what they stand for is made when a test asks for it."""

from __future__ import annotations

import gc
import os
import secrets
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import django
import pymysql
import pytest
from django.conf import settings
from django.db import connections
from django.db.backends.signals import connection_created

# Under importlib, test files reach the helper modules beside them only through the path.
sys.path.insert(0, str(Path(__file__).parent))

pymysql.version_info = (2, 2, 7, "final", 0)  # which one of mysqlclient it stands in for
pymysql.install_as_MySQLdb()

KINDS = ("sqlite", "postgresql", "mariadb")
COPIES = 3
"""Databases of a kind: stores that a test has at the same time share none."""
ENGINES = {"sqlite": "sqlite3", "postgresql": "postgresql", "mariadb": "mysql"}


def databases() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "default", {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    for kind in KINDS:
        for number in range(COPIES):
            yield f"{kind}{number}", {"ENGINE": f"django.db.backends.{ENGINES[kind]}", "NAME": "-"}


if not settings.configured:
    settings.configure(
        SECRET_KEY="for tests",
        DATABASES=dict(databases()),
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "triggers_django",
        ],
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )
    django.setup()

from django_databases import Databases, MakeDjangoStore  # noqa: E402  - after the settings

from triggers_core.application import default_application  # noqa: E402
from triggers_core.host import Host, set_host  # noqa: E402
from triggers_core.settings.sources import remove_source  # noqa: E402
from triggers_django import DjangoStore  # noqa: E402
from triggers_django.host import DjangoHost  # noqa: E402
from triggers_django.settings import SOURCE  # noqa: E402

# The tests of others, in this process, are in no Django project.
set_host(Host())
remove_source(SOURCE)
default_application.settings_changed()

_RUN = f"triggers_test_{secrets.token_hex(4)}"


@pytest.fixture(scope="module", autouse=True)
def tests_leave_nothing() -> Iterator[None]:
    """Connections of threads that have ended are let go of here, not in the middle of a test."""
    collect()
    yield
    collect()


def collect() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture(autouse=True)
def connections_are_closed() -> Iterator[None]:
    yield
    connections.close_all()


def _fast(sender: object, connection: Any, **_: object) -> None:
    """What a power cut would lose does not matter here."""
    if connection.vendor == "sqlite":
        connection.connection.execute("PRAGMA synchronous = OFF").close()


connection_created.connect(_fast)


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server of the run: POSTGRES_URL, else one that is started for it."""
    from triggers_postgres.testing import PostgresServer

    url = os.environ.get("POSTGRES_URL")
    if url is not None:
        yield url
        return
    with PostgresServer(tmp_path_factory.mktemp("postgres")) as server:
        yield server.url


@pytest.fixture(scope="session")
def postgresql(postgres_url: str) -> Iterator[Databases]:
    import psycopg

    parts = urlsplit(postgres_url)

    def make(alias: str) -> dict[str, Any]:
        name = f"{_RUN}_{alias}"
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return {
            "NAME": name,
            "HOST": parts.hostname or "",
            "PORT": str(parts.port or ""),
            "USER": parts.username or "",
            "PASSWORD": parts.password or "",
        }

    databases = Databases("postgresql", make)
    yield databases
    if "POSTGRES_URL" not in os.environ:
        return  # the server goes with them
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for alias in databases.ready:
            connection.execute(f'DROP DATABASE "{_RUN}_{alias}" WITH (FORCE)')


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Databases]:
    """The machine's, if there is one: MYSQL_HOST, MYSQL_PORT, MYSQL_USER, MYSQL_PASSWORD."""
    given = {
        "host": os.environ.get("MYSQL_HOST", "127.0.0.1"),
        "port": int(os.environ.get("MYSQL_PORT", "3306")),
        "user": os.environ.get("MYSQL_USER", "root"),
        "password": os.environ.get("MYSQL_PASSWORD", ""),
    }
    try:
        server = pymysql.connect(**given, connect_timeout=5)
    except pymysql.err.OperationalError as error:
        pytest.skip(f"no MariaDB or MySQL at {given['host']}:{given['port']}: {error}")

    def make(alias: str) -> dict[str, Any]:
        # Whatever the database's own collation: what sorts and compares names is the columns'.
        with server.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {_RUN}_{alias}")
        return {"NAME": f"{_RUN}_{alias}", **{k.upper(): str(v) for k, v in given.items()}}

    databases = Databases("mariadb", make)
    yield databases
    with server, server.cursor() as cursor:
        for alias in databases.ready:
            cursor.execute(f"DROP DATABASE {_RUN}_{alias}")


@pytest.fixture(scope="session")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    folder = tmp_path_factory.mktemp("sqlite")
    yield Databases("sqlite", lambda alias: {"NAME": str(folder / f"{alias}.sqlite3")})
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=KINDS)
def databases_of_each_kind(request: pytest.FixtureRequest) -> Databases:
    found: Databases = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def django_host() -> Iterator[DjangoHost]:
    """Django is the host of this process, as in a project."""
    host = DjangoHost()
    before = set_host(host)
    yield host
    set_host(before)


@pytest.fixture
def make_django_store() -> Iterator[Callable[[Databases], MakeDjangoStore]]:
    """Makes what makes stores in databases of a kind, each without sessions."""
    stores: list[DjangoStore] = []

    def of(databases: Databases) -> MakeDjangoStore:
        def make(clock: Any = None, using: str | None = None) -> DjangoStore:
            alias = using or databases.alias(len(stores) % COPIES)
            store = DjangoStore(alias) if clock is None else DjangoStore(alias, clock)
            stores.append(store)
            return store

        return make

    yield of
    for store in stores:
        store.close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def project_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for a project, in memory where the system offers that: SQLite syncs often."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path_factory.mktemp("project")
        return
    with tempfile.TemporaryDirectory(prefix="triggers-", dir=memory) as name:
        yield Path(name)
