"""What fires, claims and finishes cost on PostgreSQL, beside a commit of one row.

Each figure is over a *floor* timed in the same rounds: an INSERT of 300 bytes through psycopg, in
autocommit mode. The server writes to the disk before it acknowledges, as by default; client and
server take turns in short slices.

The goals: each kind of fire takes at most 2.5 floors; with 10,000 events in the session, at most
1.1 times what it takes with none.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
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
from sessions import KINDS, KWARGS, PAYLOAD, Population, application, grow, make_session

from triggers_core.application import Application
from triggers_core.engine.attempts import Claim, Claimed, Finish
from triggers_core.manager import TriggerManager
from triggers_postgres.testing import PostgresServer

GOAL, FLAT_GOAL = 2.5, 1.1
FLOOR = "floor: INSERT of 300 bytes, committed"
NONE = Population()


def floor(connection: psycopg.Connection[Any]) -> Snapshot:
    """Commits of one row, the usual way of psycopg."""
    connection.execute("CREATE TABLE floor (id bigserial PRIMARY KEY, record bytea NOT NULL)")
    record = b"x" * 300

    def inserts(operations: int) -> None:
        for _ in range(operations):
            connection.execute("INSERT INTO floor (record) VALUES (%s)", (record,))

    return inserts


class Session:
    """The session that a case fires into; made anew before each slice if that is quick."""

    def __init__(self, app: Application, events: int = 0) -> None:
        self._app, self._events = app, events
        self.current = self._make()

    def _make(self) -> TriggerManager:
        manager = make_session(self._app, NONE)
        grow(manager, "noted", self._events)
        return manager

    def renew(self) -> None:
        """Called before each slice."""
        if not self._events:
            self.current = self._make()

    def fires(self, trigger: str) -> Snapshot:
        """Fires, as applications make them."""

        def run(operations: int) -> None:
            for _ in range(operations):
                self.current.fire(trigger, KWARGS)

        return run


class Worker:
    """Claims and finishes of instances that were scheduled before the slice."""

    def __init__(self, app: Application, operations: int) -> None:
        self._app, self._operations = app, operations
        self._ready: list[tuple[TriggerManager, str, str]] = []
        self._held: list[tuple[TriggerManager, Claimed]] = []

    def prepare(self, claimed: bool = False) -> None:
        """Schedule as many instances as a slice takes, all in one session."""
        self._ready.clear()
        self._held.clear()
        manager = make_session(self._app, NONE)
        metadata = manager.storage.metadata
        assert metadata is not None
        for _ in range(self._operations):
            name = manager.fire("runs", KWARGS).scheduled[0]
            self._ready.append((manager, name, metadata.generation))
        if claimed:
            self.claim(self._operations)

    def claim(self, operations: int) -> None:
        """Claim them."""
        for manager, name, generation in self._ready[:operations]:
            command = Claim(instance=name, attempt=1, generation=generation)
            self._held.append((manager, manager.commit(command).outcome))

    def finish(self, operations: int) -> None:
        """Finish those that are claimed."""
        for manager, claimed in self._held[:operations]:
            manager.commit(Finish(instance=claimed.instance.name, token=claimed.instance.token))


def cases_of(app: Application, connection: psycopg.Connection[Any], given: Options) -> list[Case]:
    """The floor, the kinds of fires, and each of them where much has happened before."""
    many = 10_000 if not given.quick else 1_000
    cases = [Case(name=FLOOR, run=floor(connection), floor=True)]

    def add(name: str, run: Snapshot, before: Callable[[], object], ratio: Ratio) -> None:
        cases.append(Case(name=name, run=run, before=before, ratios=(ratio,)))

    few, full = Session(app), Session(app, events=many)
    for trigger, kind in KINDS.items():
        over = Ratio(label="÷ floor", over=FLOOR, at_most=GOAL)
        add(kind, few.fires(trigger), few.renew, over)
        flat = Ratio(label="÷ none", over=kind, at_most=FLAT_GOAL)
        add(f"{kind}, {many:,} events", full.fires(trigger), full.renew, flat)
    plain = Ratio(label="÷ floor", over=FLOOR)
    worker = Worker(app, given.operations)
    add("a claim", worker.claim, worker.prepare, plain)
    add("a finish", worker.finish, lambda: worker.prepare(claimed=True), plain)
    return cases


def main() -> None:
    """Run the benchmark."""
    given = options("bench_postgres", __doc__ or "", operations=50, rounds=25, quick=(20, 5))
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=given.directory))
        server = stack.enter_context(PostgresServer(Path(folder), durable=True))
        connection = stack.enter_context(psycopg.connect(server.url, autocommit=True))
        version = connection.info.server_version // 10_000
        facts = {**machine(), "PostgreSQL": version, "psycopg": psycopg.__version__}
        print(f"bench_postgres: {facts}", file=given.out)
        print(
            f"{given.rounds} rounds of {given.operations} operations; median [min–max];"
            f" {len(PAYLOAD)} bytes a payload",
            file=given.out,
        )
        app = application("postgres", url=server.url)
        figures = measure(cases := cases_of(app, connection, given), given)
        print(f"\n{ratio_table(figures, cases)}", file=given.out)
        app.store.close()
    content = {"postgresql": version, "psycopg": psycopg.__version__, "figures": as_data(figures)}
    write_json(given, content)


if __name__ == "__main__":
    main()
