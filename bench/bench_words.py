"""What the words of conditions cost: counted leaves, fan-ins, deadlines, `where`.

A fire is set beside a fire that differs in one thing only, and beside a *floor* of the same rounds,
the least that its storage has to do: in memory, a payload encoded and put into a dict; in SQLite, a
commit of one row; on Redis, a script that writes one record. For a fan-in, the floor reads as many
payloads at once and decodes them.

The goals: the 10,000th event of a counted leaf takes at most 1.1 times what one of the first
hundred takes, and a fire whose leaf has a `where` at most 1.1 times what it takes without.

Microseconds are those of the processor, the Redis server's included: what the disk and other
processes take is no part of them.

Deadlines are worked off by sweeps, as a running application makes them: the rate is that of one
process. All fall due within one second, once in as many sessions, once in sessions of a thousand.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import redis
from bench_fire import fill_log, memory_floor, sqlite_floor
from bench_redis import floor as redis_floor
from harness import (
    Case,
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
from sessions import KWARGS, PAYLOAD, application, grow

from triggers_core import payloads
from triggers_core.application import Application
from triggers_core.engine.attempts import Claim
from triggers_core.engine.commands import Fire
from triggers_core.engine.configuration import parse_configuration
from triggers_core.engine.names import new_id
from triggers_core.limits import Limits
from triggers_core.manager import TriggerManager
from triggers_core.running.sweep import sweep
from triggers_core.storages.base import Store
from triggers_core.storages.memory import MemoryStore
from triggers_core.storages.sqlite import SqliteStore
from triggers_core.testing import VirtualClock
from triggers_redis import RedisStore
from triggers_redis.connection import Connection
from triggers_redis.testing import RedisServer

GOAL = 1.1

COUNTED = {"t_all": {"after": ["opened", {"atLeast": 10**9, "of": "page"}], "run": "bench.Task"}}
FAN_IN = {
    "t_report": {
        "after": ["opened", {"atLeast": "opened.pages", "of": "page"}],
        "run": "bench.Task",
    }
}

TESTED = {"trigger": "paid", "where": {"status": "succeeded", "amount": {"atLeast": 100}}}
PAID: dict[str, Any] = {
    "status": "succeeded",
    "amount": 120,
    "currency": "GBP",
    "order": {"number": "2026-00042", "lines": [3, 1, 1], "express": False, "voucher": None},
    "customer": {"name": "Ada Lovelace", "email": "ada@example.org", "since": 1843},
    "note": "The engine might compose elaborate pieces of music of any degree.",
}
"""The payload that `where` reads: that of a payment, about 300 bytes."""

WHERES: dict[str, tuple[str | None, dict[str, Any]]] = {
    "recorded only, passes": (None, PAID),
    "recorded only, does not pass": (None, {**PAID, "amount": 80}),
    "an instance is scheduled": ("andEvery", PAID),
}
"""What a fire does → where its leaf stands, if not in `after`, and its kwargs."""

DUE = parse_configuration(
    {
        "t_ship": {
            "after": ["never"],
            "andEvery": "placed",
            "within": "1 hour",
            "run": "bench.Task",
        }
    }
)
EACH = 1_000
"""Instances of a session that has many; as many as one commit works off."""
BEGAN = 1_000_000_000.0
"""When the first of them begins, in seconds since 1970."""

_UIDS = count()


@dataclass(kw_only=True)
class Place:
    """A storage: an application on it, its floor, and how much is asked of it."""

    name: str
    directory: Path
    floor: Snapshot
    read_floor: Callable[[list[bytes]], Snapshot]
    """Reads those payloads, so many times, each time all at once."""
    open: Callable[[str, VirtualClock], Store]
    """A new store under a name, with that clock."""
    counting: Callable[[Application, list[str]], Any]
    """While it lasts, what is asked of the storage is added to the list."""
    app: Application
    clock: Callable[[], float] = time.process_time
    """Seconds of the processor."""


# -- the storages -------------------------------------------------------------------------------


def memory_place(directory: Path) -> Place:
    """Sessions in this process."""

    @contextmanager
    def nothing(app: Application, asked: list[str]) -> Iterator[None]:
        yield

    def reading(stored: list[bytes]) -> Snapshot:
        return _repeated(lambda: iter(stored))

    return Place(
        name="memory",
        directory=directory,
        floor=memory_floor(),
        read_floor=reading,
        open=lambda _, clock: MemoryStore(clock),
        counting=nothing,
        app=application("memory"),
    )


def sqlite_place(directory: Path) -> Place:
    """Sessions in a file, with `synchronous=FULL`."""

    @contextmanager
    def statements(app: Application, asked: list[str]) -> Iterator[None]:
        store: Any = app.store
        connection = store.file.opened.connection
        connection.set_trace_callback(lambda text: asked.append(text.split(None, 1)[0].upper()))
        yield
        connection.set_trace_callback(None)

    def reading(stored: list[bytes]) -> Snapshot:
        connection = sqlite3.connect(directory / "reads.db")
        connection.execute("CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY, b BLOB)")
        connection.executemany("INSERT INTO events (b) VALUES (?)", [(each,) for each in stored])
        connection.commit()
        return _repeated(lambda: (b for (b,) in connection.execute("SELECT b FROM events")))

    path = str(directory / "fires.db")
    app = application("sqlite", path=path)
    other = session(app, COUNTED)
    fill_log(path, fires(lambda: other, "page", KWARGS))
    return Place(
        name="sqlite",
        directory=directory,
        floor=sqlite_floor(str(directory / "floor.db"), "FULL"),
        read_floor=reading,
        # Thousands of commits would tell how fast the disk is, were each to wait for it.
        open=lambda name, clock: SqliteStore(directory / f"{name}.db", "NORMAL", clock=clock),
        counting=statements,
        app=app,
    )


def redis_place(directory: Path, url: str) -> Place:
    """Sessions on a server of this run."""

    @contextmanager
    def requests(app: Application, asked: list[str]) -> Iterator[None]:
        ask = Connection.ask

        def counted(connection: Connection, request: bytes) -> object:
            asked.append("request")
            return ask(connection, request)

        Connection.ask = counted  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            Connection.ask = ask  # type: ignore[method-assign]

    def reading(stored: list[bytes]) -> Snapshot:
        client: Any = redis.Redis.from_url(url)
        client.rpush("reads", *stored)
        return _repeated(lambda: client.lrange("reads", 0, -1))

    control: Any = redis.Redis.from_url(url)

    def processors() -> float:
        told = control.info("cpu")
        return time.process_time() + float(told["used_cpu_user"]) + float(told["used_cpu_sys"])

    return Place(
        name="redis",
        directory=directory,
        floor=redis_floor(url),
        read_floor=reading,
        open=lambda name, clock: RedisStore(url, namespace=name, clock=clock),
        counting=requests,
        app=application("redis", url=url),
        clock=processors,
    )


def _repeated(read: Callable[[], Any]) -> Snapshot:
    decode = msgspec.json.Decoder(dict[str, Any]).decode

    def run(operations: int) -> None:
        for _ in range(operations):
            [decode(each) for each in read()]

    return run


# -- fires --------------------------------------------------------------------------------------


def session(app: Application, configuration: Mapping[str, Any]) -> TriggerManager:
    """A new session of that configuration, opened."""
    manager = app.manager(f"order:{next(_UIDS)}")
    manager.update_configuration(configuration)
    manager.fire("opened", {})
    return manager


def fires(manager: Callable[[], TriggerManager], trigger: str, kwargs: dict[str, Any]) -> Snapshot:
    """`TriggerManager.fire`, as applications call it."""

    def run(operations: int) -> None:
        fire = manager().fire
        for _ in range(operations):
            fire(trigger, kwargs)

    return run


class Fresh:
    """A session of some configuration, made anew before each slice."""

    def __init__(self, app: Application, configuration: Mapping[str, Any]) -> None:
        self._app, self._configuration = app, configuration
        self.renew()

    def __call__(self) -> TriggerManager:
        return self.current

    def renew(self) -> None:
        """Called before each slice."""
        self.current = session(self._app, self._configuration)


def fire_cases(place: Place, given: Options) -> list[Case]:
    """The floor; the first events of a counted leaf and late ones; with `where` and without."""
    floor = f"{place.name}: floor"
    cases = [Case(name=floor, run=place.floor, floor=True)]

    def add(
        name: str,
        found: Callable[[], TriggerManager],
        trigger: str,
        kwargs: dict[str, Any],
        over: str = "",
    ) -> None:
        ratios = [Ratio(label="÷ floor", over=floor)]
        if over:
            ratios.append(Ratio(label="÷ other", over=f"{place.name}: {over}", at_most=GOAL))
        before = found.renew if isinstance(found, Fresh) else None
        run = fires(found, trigger, kwargs)
        cases.append(
            Case(name=f"{place.name}: {name}", run=run, before=before, ratios=tuple(ratios))
        )

    first = f"a counted leaf, its first {given.operations} events"
    grown = session(place.app, COUNTED)
    grow(grown, "page", given.more["events"] - 1)
    add(first, Fresh(place.app, COUNTED), "page", KWARGS)
    add(
        f"a counted leaf, from event {given.more['events']:,} on",
        lambda: grown,
        "page",
        KWARGS,
        over=first,
    )
    for name, (word, kwargs) in WHERES.items():
        for leaf in ("paid", TESTED):
            after: dict[str, Any] = {"after": ["go", leaf]}
            if word is not None:
                after = {"after": ["opened"], word: leaf}
            tested = leaf is TESTED
            add(
                f"{name}, where" if tested else name,
                Fresh(place.app, {"t_ship": {**after, "run": "bench.Task"}}),
                "paid",
                kwargs,
                over=name if tested else "",
            )
    return cases


# -- a fan-in -----------------------------------------------------------------------------------


class FanIn:
    """An instance that has so many events, to be claimed; made anew before each slice."""

    def __init__(self, app: Application, parts: int) -> None:
        self._app, self._parts = app, parts
        self._ready: tuple[TriggerManager, Claim]

    def prepare(self) -> None:
        """Fire all parts, the last of which schedules it."""
        manager = self._app.manager(f"order:{next(_UIDS)}")
        manager.update_configuration(FAN_IN)
        manager.fire("opened", {"pages": self._parts})
        grow(manager, "page", self._parts - 1)
        [name] = manager.fire("page", KWARGS).scheduled
        metadata = manager.storage.metadata
        assert metadata is not None
        claim = Claim(instance=name, attempt=1, generation=metadata.generation)
        self._ready = (manager, claim)

    def claim(self, operations: int = 1) -> None:
        """Claim it, and read what its body gets."""
        manager, command = self._ready
        kwargs = manager.commit(command).outcome.kwargs()
        assert len(kwargs["page"]) == self._parts


def fan_in(place: Place, given: Options) -> dict[str, Any]:
    """What a claim of a fan-in reads, and how fast."""
    parts = given.more["events"]
    fan = FanIn(place.app, parts)
    fan.prepare()
    asked: list[str] = []
    with place.counting(place.app, asked):
        fan.claim()
    cases = [
        Case(name="floor", run=place.read_floor([PAYLOAD] * parts), floor=True),
        Case(
            name="claim",
            run=fan.claim,
            before=fan.prepare,
            ratios=(Ratio(label="÷ floor", over="floor"),),
        ),
    ]
    rounds = max(given.rounds // 5, 2)
    figures = measure(cases, replace(given, operations=1, rounds=rounds), place.clock)
    told = {text: asked.count(text) for text in dict.fromkeys(asked)}
    micros = figures["claim"].median
    return {
        "storage": place.name,
        "parts": parts,
        "asked": told,
        "milliseconds": round(micros / 1e3, 2),
        "events_a_second": round(parts / micros * 1e6),
        "figures": as_data(figures),
    }


# -- deadlines ----------------------------------------------------------------------------------


def deadlines(place: Place, sessions: int, each: int) -> dict[str, Any]:
    """Work off the deadlines of so many sessions with so many instances each, due in one second."""
    clock = VirtualClock(BEGAN)
    store = place.open(f"due{sessions}", clock)
    app = application("memory", store)
    rules = msgspec.structs.replace(
        app.rules, default_configuration=DUE, default_requires=tuple(DUE.requires)
    )
    total = sessions * each
    for number in range(sessions):
        clock.now = BEGAN + number / sessions
        manager = app.manager(f"order:{number}")
        fire = Fire(trigger="placed", payload=PAYLOAD, event_id=new_id())
        store.commit(manager.uid, fire, rules)
        grow(manager, "placed", each - 1, batch=EACH)
    clock.now = BEGAN + 3_601
    worked_off = commits = 0
    began, worked = time.perf_counter(), place.clock()
    while (turn := sweep(store, app.manager, timing=app.rules.timing)).instances:
        worked_off += sum(len(recovered.due) for recovered in turn.recovered)
        commits += len(turn.recovered)
    processor, seconds = place.clock() - worked, time.perf_counter() - began
    assert worked_off == total, f"{worked_off} of {total}"
    app.close()
    return {
        "storage": place.name,
        "sessions": sessions,
        "instances_each": each,
        "commits": commits,
        "seconds": round(seconds, 2),
        "processor_seconds": round(processor, 2),
        "instances_a_second": round(total / processor),
        "by_the_clock": round(total / seconds),
    }


def due_table(found: list[dict[str, Any]]) -> str:
    """One row for each storage and shape."""
    heads = ["deadlines of one second", "instances each", "commits", "instances/s", "by the clock"]
    rows = [
        [
            f"{each['storage']}: {each['sessions']:,} sessions",
            f"{each['instances_each']:,}",
            f"{each['commits']:,}",
            f"{each['instances_a_second']:,}",
            f"{each['by_the_clock']:,}",
        ]
        for each in found
    ]
    return table(heads, rows)


def fan_in_table(found: list[dict[str, Any]]) -> str:
    """One row for each storage."""
    rows = []
    for each in found:
        asked = ", ".join(f"{times} {what}" for what, times in each["asked"].items())
        [ratio] = each["figures"][-1]["ratios"]
        rows.append(
            [
                each["storage"],
                f"{each['parts']:,}",
                f"{each['milliseconds']:.1f}",
                f"{each['events_a_second']:,}",
                f"{ratio['median']:.2f}",
                asked or "nothing to ask",
            ]
        )
    return table(["a claim of a fan-in", "events", "ms", "events/s", "÷ floor", "asked"], rows)


def main() -> None:
    given = options(
        "bench_words",
        __doc__ or "",
        operations=100,
        rounds=25,
        quick=(50, 3),
        more={
            "events": (10_000, 1_000, "of the counted leaf and of the fan-in"),
            "deadlines": (100_000, 2_000, "that fall due within one second"),
        },
    )
    pinned = pin()  # the server, which this process starts, inherits it
    print(f"bench_words: {pinned}, {machine()}", file=given.out)
    print(
        f"{given.rounds} rounds of {given.operations} operations; median [min–max], of the"
        " processor;"
        f" {len(payloads.encode(PAID, Limits()))} bytes that where reads",
        file=given.out,
    )
    figures: list[dict[str, Any]] = []
    fans: list[dict[str, Any]] = []
    due: list[dict[str, Any]] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=given.directory)))
        (folder / "redis").mkdir()
        server = stack.enter_context(RedisServer(folder / "redis"))
        for place in (memory_place(folder), sqlite_place(folder), redis_place(folder, server.url)):
            cases = fire_cases(place, given)
            here = measure(cases, given, place.clock)
            print(f"\n{place.name}", file=given.out)
            print(ratio_table(here, cases, f"{place.name}: "), file=given.out)
            figures += as_data(here)
            fans.append(fan_in(place, given))
            many = given.more["deadlines"]
            for sessions, each in ((many, 1), (max(many // EACH, 1), EACH)):
                due.append(deadlines(place, sessions, each))
            place.app.close()
    print(f"\n{fan_in_table(fans)}", file=given.out)
    print(f"\n{due_table(due)}", file=given.out)
    write_json(given, {"pinned": pinned, "figures": figures, "fan_ins": fans, "deadlines": due})


if __name__ == "__main__":
    main()
