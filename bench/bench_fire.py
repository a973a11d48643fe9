"""What a fire costs, beside the least that its storage has to do, and how that grows.

Each figure is a fire's duration over that of a *floor* timed in the same rounds:

* sqlite: one commit (BEGIN IMMEDIATE, INSERT, COMMIT) of one row with the payload's bytes, in WAL,
  with the same `synchronous`, on the same kind of connection, in a file of its own;
* memory: the payload encoded by msgspec and put into a dict under a lock.

The goals: a fire into SQLite takes at most 1.5 floors with `synchronous=FULL`, and with 10,000
finished or waiting instances in the session at most 1.1 times what it takes with none.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
from harness import (
    Case,
    Figure,
    Options,
    Ratio,
    Snapshot,
    as_data,
    machine,
    measure,
    options,
    pin,
    ratio_table,
    table,
    write_json,
)
from sessions import KINDS, KWARGS, PAYLOAD, Population, application, make_session
from stopwatch import Stopwatch

from triggers_core import payloads
from triggers_core.application import Application
from triggers_core.engine.commands import Fire
from triggers_core.engine.names import new_id
from triggers_core.manager import TriggerManager
from triggers_core.storages import memory, sqlite

FLOOR_GOAL = 1.5
FLAT_GOAL = 1.1

NONE = Population()
POPULATIONS = (
    NONE,
    Population(finished=100),
    Population(finished=1_000),
    Population(finished=10_000),
    Population(waiting=10_000),
)

_WAL_FULL = 4_000_000
"""Bytes of a write-ahead log of 1,000 pages, where SQLite checkpoints and begins to overwrite it;
before, each commit also makes the file longer, which takes the disk twice the time."""


@dataclass(frozen=True)
class Place:
    """A storage with its options, and the goal for its fires over its floor."""

    name: str
    storage: str
    options: dict[str, Any]
    goal: float | None = None

    def application(self, directory: str, name: str) -> Application:
        """An application that keeps its sessions here, in a file of its own if there are files."""
        path = {"path": os.path.join(directory, name)} if self.storage == "sqlite" else {}
        return application(self.storage, **self.options, **path)


PLACES = (
    Place("sqlite FULL", "sqlite", {"synchronous": "FULL"}, FLOOR_GOAL),
    Place("sqlite NORMAL", "sqlite", {"synchronous": "NORMAL"}),
    Place("memory", "memory", {}),
)


# -- floors -------------------------------------------------------------------------------------


def sqlite_floor(path: str, synchronous: str) -> Snapshot:
    """Commits of one row; the file is at its working size when this returns."""
    connection = sqlite3.connect(path, timeout=30.0, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE events (number INTEGER PRIMARY KEY, payload BLOB NOT NULL)")
    execute = connection.execute

    def commits(operations: int) -> None:
        for _ in range(operations):
            execute("BEGIN IMMEDIATE")
            execute("INSERT INTO events (payload) VALUES (?)", (PAYLOAD,))
            execute("COMMIT")

    fill_log(path, commits)
    execute(f"PRAGMA synchronous = {synchronous}")
    return commits


def memory_floor() -> Snapshot:
    """Payloads, encoded and kept."""
    encode, lock, kept = msgspec.json.Encoder().encode, threading.Lock(), dict[int, bytes]()

    def stores(operations: int) -> None:
        for _ in range(operations):
            with lock:
                kept[len(kept)] = encode(KWARGS)

    return stores


def fill_log(path: str, commits: Snapshot) -> None:
    """Commit until SQLite overwrites its write-ahead log instead of making it longer."""
    while os.path.getsize(f"{path}-wal") < _WAL_FULL:
        commits(50)


# -- fires --------------------------------------------------------------------------------------


def fires(manager: Callable[[], TriggerManager], trigger: str) -> Snapshot:
    """`TriggerManager.fire`, as applications call it."""

    def run(operations: int) -> None:
        fire = manager().fire
        for _ in range(operations):
            fire(trigger, KWARGS)

    return run


def commits(manager: Callable[[], TriggerManager], trigger: str) -> Snapshot:
    """`Store.commit` alone: without checks, encoding of the payload, hooks and dispatch."""

    def run(operations: int) -> None:
        session = manager()
        store, uid, rules = session.storage.store, session.uid, session.app.rules
        for _ in range(operations):
            store.commit(uid, Fire(trigger=trigger, payload=PAYLOAD, event_id=new_id()), rules)

    return run


class Sessions:
    """The session of one population that the cases fire into, made anew if that is quick."""

    def __init__(self, app: Application, population: Population) -> None:
        self._app, self._population = app, population
        self.current = make_session(app, population)

    def __call__(self) -> TriggerManager:
        return self.current

    def renew(self) -> None:
        """Called before each slice, so that "0 finished" does not become thousands scheduled."""
        if self._population.renewable:
            self.current = make_session(self._app, self._population)


def prepare(place: Place, population: Population, directory: str) -> Application:
    """An application with its own file, at its working size."""
    app = place.application(directory, f"{place.name} {population}.db")
    if path := app.settings.TRIGGER_STORAGE_OPTIONS.get("path"):
        other = make_session(app, NONE)
        fill_log(path, fires(lambda: other, "runs"))
    return app


def cases_of(place: Place, directory: str) -> list[Case]:
    """The floor, and every kind of fire: at every population, and as a bare commit."""
    floor = f"{place.name}: floor"
    if place.storage == "sqlite":
        path = os.path.join(directory, f"{place.name} floor.db")
        run = sqlite_floor(path, place.options["synchronous"])
    else:
        run = memory_floor()
    cases = [Case(name=floor, run=run, floor=True)]
    sessions = {
        population: Sessions(prepare(place, population, directory), population)
        for population in POPULATIONS
    }
    for trigger, kind in KINDS.items():
        none = f"{place.name}: {kind}, {NONE}"
        over_floor = Ratio(label="÷ floor", over=floor, at_most=place.goal)
        for population, found in sessions.items():
            goal = FLAT_GOAL if str(population).startswith("10,000") else None
            flat = Ratio(label="÷ none", over=none, at_most=goal)
            cases.append(
                Case(
                    name=f"{place.name}: {kind}, {population}",
                    run=fires(found, trigger),
                    before=found.renew,
                    ratios=(over_floor,) if population is NONE else (over_floor, flat),
                )
            )
        cases.append(
            Case(
                name=f"{place.name}: {kind}, Store.commit alone",
                run=commits(sessions[NONE], trigger),
                before=sessions[NONE].renew,
                ratios=(Ratio(label="÷ floor", over=floor),),
            )
        )
    return cases


# -- where the time goes ------------------------------------------------------------------------


def breakdown(place: Place, directory: str, given: Options) -> dict[str, dict[str, float]]:
    """Kind of fire → part → microseconds a fire; the clock itself adds some to each part."""
    app = prepare(place, Population(), os.path.join(directory, "parts"))
    parts: dict[str, dict[str, float]] = {}
    total = given.operations * given.rounds
    for trigger, kind in KINDS.items():
        manager = make_session(app, NONE)
        watch = Stopwatch("the rest: checks, records, hooks, dispatch")
        with (
            watch.patched(payloads, "encode", "encode the payload"),
            watch.patched(memory, "drive", "load and decide"),
            watch.patched(sqlite.store, "drive", "load and decide"),
            timed_connection(app.store, watch),
            watch.running(),
        ):
            fires(lambda manager=manager: manager, trigger)(total)  # type: ignore[misc]
        parts[kind] = {part: spent / total * 1e6 for part, spent in watch.spent.items()}
    return parts


@contextmanager
def timed_connection(store: Any, watch: Stopwatch) -> Iterator[None]:
    """Let a stopwatch see what a SQLite store asks of its connection and its turnstile."""
    if store.key != "sqlite":
        yield
        return
    opened, queue = store.file.opened, "the turnstile"
    connection, turnstile = opened.connection, opened.turnstile
    opened.connection = watch.proxy(connection, execute=sql_part)
    opened.turnstile = watch.proxy(turnstile, enter=lambda *_: queue, leave=lambda *_: queue)
    try:
        yield
    finally:
        opened.connection, opened.turnstile = connection, turnstile


def sql_part(statement: str, *_: object) -> str:
    """What a statement counts as."""
    verb = statement.split(None, 1)[0]
    return {"BEGIN": "BEGIN", "COMMIT": "COMMIT", "SELECT": "SQL reads"}.get(verb, "SQL writes")


def pages_written(place: Place, directory: str) -> dict[str, float]:
    """Kind of fire → pages that its commit writes, on average over a hundred: no clock in it."""
    app = prepare(place, NONE, os.path.join(directory, "pages"))
    path, pages = app.settings.TRIGGER_STORAGE_OPTIONS["path"], {}
    with closing(sqlite3.connect(path)) as connection:
        for trigger, kind in KINDS.items():
            manager = make_session(app, NONE)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            for _ in range(100):
                manager.fire(trigger, KWARGS)
            _, frames, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            pages[kind] = frames / 100
    return pages


def print_breakdown(
    place: Place, parts: dict[str, dict[str, float]], pages: dict[str, float], out: Any
) -> None:
    """Show where the time of each kind of fire goes."""
    names = list(dict.fromkeys(part for each in parts.values() for part in each))
    rows = [[name, *(f"{each.get(name, 0.0):.1f}" for each in parts.values())] for name in names]
    rows.append(["all of it", *(f"{sum(each.values()):.1f}" for each in parts.values())])
    if pages:
        rows.append(["(pages written, a floor: 1)", *(f"{pages[kind]:.1f}" for kind in parts)])
    print(f"\n{place.name}: where the time of a fire goes, µs (mean, under a stopwatch)", file=out)
    print(table(["part", *parts], rows), file=out)


def main() -> None:
    given = options("bench_fire", __doc__ or "", operations=200, rounds=25)
    pinned = pin()
    print(f"bench_fire: {pinned}, {machine()}", file=given.out)
    print(
        f"{given.rounds} rounds of {given.operations} operations; median [min–max];"
        f" {len(PAYLOAD)} bytes a payload",
        file=given.out,
    )
    figures: dict[str, Figure] = {}
    parts: dict[str, Any] = {}
    for place in PLACES:
        with tempfile.TemporaryDirectory(dir=given.directory) as directory:
            os.mkdir(os.path.join(directory, "parts"))
            os.mkdir(os.path.join(directory, "pages"))
            cases = cases_of(place, directory)
            here = measure(cases, given)
            print(f"\n{place.name}", file=given.out)
            print(ratio_table(here, cases, f"{place.name}: "), file=given.out)
            figures |= here
            spent = breakdown(place, directory, given)
            pages = pages_written(place, directory) if place.storage == "sqlite" else {}
            print_breakdown(place, spent, pages, given.out)
            parts[place.name] = {"microseconds": spent, "pages": pages}
    write_json(given, {"pinned": pinned, "figures": as_data(figures), "parts": parts})


if __name__ == "__main__":
    main()
