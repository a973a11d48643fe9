"""What fires cost in the storage `django`, beside the storage `postgres` on the same server.

Django's ORM builds each statement anew and sends one at a time; the plugin for PostgreSQL sends
what belongs together in one round trip. The ratio is what that is worth where PostgreSQL is
Django's database: both store the same, and both can be part of a transaction of Django's. The floor
is an INSERT of 300 bytes in autocommit mode, as in `bench_postgres`; *in atomic()* is a fire in a
transaction of the application, which inserts a row as well.

There is no goal: the ratio is printed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import django
import psycopg
from bench_postgres import FLOOR, Session, floor
from django.conf import settings
from harness import (
    Case,
    Options,
    Ratio,
    Snapshot,
    as_data,
    machine,
    measure,
    options,
    ratio_table,
    write_json,
)
from sessions import KINDS, KWARGS, application

from triggers_core.application import Application
from triggers_postgres.testing import PostgresServer


def set_up(server: PostgresServer) -> None:
    """Django with that server as its database, and our tables in it."""
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "postgres",
        "USER": "postgres",
        "HOST": "127.0.0.1",
        "PORT": server.port,
        "CONN_MAX_AGE": None,
    }
    settings.configure(
        SECRET_KEY="bench",
        DATABASES={"default": database},
        INSTALLED_APPS=["triggers_django"],
        USE_TZ=True,
    )
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def atomically(session: Session, record: Callable[[], object], joined: bool) -> Snapshot:
    """A row of the application and a fire, in one transaction of Django's.

    :param joined: whether the session has to be told of Django's connection.
    """
    from django.db import connection, transaction

    def run(operations: int) -> None:
        for _ in range(operations):
            with transaction.atomic():
                record()
                manager = session.current.using(connection) if joined else session.current
                manager.fire("waits", KWARGS)

    return run


def insert() -> None:
    """A row of the application, through Django's connection."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO floor (record) VALUES (%s)", (b"x" * 300,))


def cases_of(plain: Application, orm: Application, first: Case) -> list[Case]:
    """Each kind of fire in both storages."""
    cases = [first]

    def pair(name: str, run: Callable[[Session, bool], Snapshot]) -> None:
        theirs, mine = Session(plain), Session(orm)
        over_floor = Ratio(label="÷ floor", over=FLOOR)
        over_plain = Ratio(label="django ÷ postgres", over=f"postgres: {name}")
        postgres = Case(
            name=f"postgres: {name}",
            run=run(theirs, True),
            before=theirs.renew,
            ratios=(over_floor,),
        )
        cases.append(postgres)
        cases.append(
            Case(
                name=f"django: {name}",
                run=run(mine, False),
                before=mine.renew,
                ratios=(over_floor, over_plain),
            )
        )

    for trigger, kind in KINDS.items():
        pair(kind, lambda session, _, trigger=trigger: session.fires(trigger))  # type: ignore[misc]
    pair("in atomic(), with a row", lambda session, joined: atomically(session, insert, joined))
    return cases


def run(given: Options, server: PostgresServer) -> dict[str, Any]:
    """Measure and print."""
    facts = {**machine(), "django": django.__version__, "psycopg": psycopg.__version__}
    load = [round(each, 1) for each in os.getloadavg()]
    print(f"bench_django: {facts}, load {load}", file=given.out)
    print(f"{given.rounds} rounds of {given.operations} operations", file=given.out)
    plain, orm = application("postgres", url=server.url), application("django")
    with psycopg.connect(server.url, autocommit=True) as connection:
        first = Case(name=FLOOR, run=floor(connection), floor=True)
        figures = measure(cases := cases_of(plain, orm, first), given)
    print(f"\n{ratio_table(figures, cases)}", file=given.out)
    plain.close()
    orm.close()
    return {"django": django.__version__, "figures": as_data(figures)}


def main() -> None:
    """Run the benchmark."""
    given = options("bench_django", __doc__ or "", operations=30, rounds=25, quick=(10, 5))
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=given.directory))
        server = stack.enter_context(PostgresServer(Path(folder), durable=True))
        set_up(server)
        write_json(given, run(given, server))


if __name__ == "__main__":
    main()
