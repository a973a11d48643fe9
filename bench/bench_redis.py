"""What fires, claims and finishes cost on Redis, beside one script that writes a record.

Each figure is over a *floor* timed in the same rounds: one EVALSHA through redis-py that writes
a record of 300 bytes. Client and server are pinned to one core and take turns in short slices.

A fire takes two round trips where several processes change the session: here two of them in turn.
It takes one where this process made the last two changes: *alone*.

The goals: a fire that makes nothing ready takes at most 3 floors, one that schedules at most 3.5;
with 10,000 events or waiting instances in the session, or 100,000 waiting sessions on the server,
at most 1.1 times what it takes with none; a session that waits takes at most 1.5 kB.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any, NamedTuple, Self

import redis
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
    verdict,
    write_json,
)
from sessions import KINDS, KWARGS, PAYLOAD, Population, application, make_session

from triggers_core import payloads
from triggers_core.application import Application
from triggers_core.engine.attempts import Claim, Claimed, Finish
from triggers_core.engine.commands import Fire
from triggers_core.engine.configuration import parse_configuration
from triggers_core.engine.names import new_id
from triggers_core.engine.protocol import Rules
from triggers_core.limits import Limits
from triggers_core.manager import TriggerManager
from triggers_redis.testing import RedisServer

QUIET_GOAL, SCHEDULING_GOAL, FLAT_GOAL = 3.0, 3.5, 1.1
MEMORY_GOAL = 1_500
"""Bytes. A Celery chord that waits for its third task takes about 4,100."""

FLOOR = "floor: EVALSHA, 300 bytes"
NONE = Population()
WAITING = parse_configuration(
    {"t_ship": {"after": ["paid", "packed", "approved"], "run": "bench.Task"}}
)


def floor(url: str) -> Snapshot:
    """Scripts that write a record, the usual way of redis-py."""
    client = redis.Redis.from_url(url)
    sha = client.script_load("return redis.call('SET', KEYS[1], ARGV[1])")
    record = b"x" * 300

    def scripts(operations: int) -> None:
        for _ in range(operations):
            client.evalsha(sha, 1, "floor", record)

    return scripts


class Processes(NamedTuple):
    """An application as two processes have it: each with a store of its own."""

    one: Application
    other: Application

    @classmethod
    def on(cls, url: str) -> Self:
        """Both on one server."""
        return cls(*(application("redis", url=url, client_name=name) for name in cls._fields))


class Session:
    """The session that a case fires into; made anew before each slice if that is quick."""

    def __init__(
        self, processes: Processes, population: Population = NONE, events: int = 0
    ) -> None:
        self._app, self._elsewhere = processes
        self._population, self._events = population, events
        self.current = self._make()

    def _make(self) -> TriggerManager:
        manager = make_session(self._app, self._population)
        for _ in range(self._events):
            manager.fire("noted", KWARGS)
        return manager

    def renew(self) -> None:
        """Called before each slice."""
        if self._population.renewable and not self._events:
            self.current = self._make()

    def fires(self, trigger: str, alone: bool = False) -> Snapshot:
        """Fires, as applications make them.

        :param alone: one process makes them all; else two in turn.
        """

        def run(operations: int) -> None:
            here = self.current.fire
            there = here if alone else self._elsewhere.manager(self.current.uid).fire
            for fire in islice(cycle((here, there)), operations):
                fire(trigger, KWARGS)

        return run


class Worker:
    """Claims and finishes of instances that were scheduled before the slice."""

    def __init__(self, app: Application, operations: int) -> None:
        self._app, self._operations = app, operations
        self._ready: list[tuple[TriggerManager, str, str]] = []
        self._held: list[tuple[TriggerManager, Claimed]] = []

    def prepare(self, claimed: bool = False) -> None:
        """Schedule as many instances as a slice takes, each in a session of its own."""
        self._ready.clear()
        self._held.clear()
        for _ in range(self._operations):
            manager = make_session(self._app, NONE)
            name = manager.fire("runs", KWARGS).scheduled[0]
            metadata = manager.storage.metadata
            assert metadata is not None
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


def first_fires(app: Application) -> Snapshot:
    """Fires that each begin a session."""
    numbers = count()

    def run(operations: int) -> None:
        for _ in range(operations):
            app.manager(f"first:{next(numbers)}").fire("noted", KWARGS)

    return run


def crowd(app: Application, sessions: int, payload: bytes = PAYLOAD) -> None:
    """Sessions that wait for the third of three events."""
    rules = Rules(default_configuration=WAITING)
    for number in range(sessions):
        for trigger in ("paid", "packed"):
            fire = Fire(trigger=trigger, payload=payload, event_id=new_id())
            app.store.commit(f"order:{number:06}", fire, rules)


def cases_of(plain: Processes, url: str, crowded: Processes, given: Options) -> list[Case]:
    """The floor, the kinds of fires, and each of them where there is much else."""
    app = plain.one
    many, waiting = 10_000, f"{CROWD[given.quick]:,} waiting sessions"
    cases = [Case(name=FLOOR, run=floor(url))]

    def add(name: str, run: Snapshot, before: Callable[[], object], *ratios: Ratio) -> None:
        cases.append(Case(name=name, run=run, before=before, ratios=ratios))

    for trigger, kind in KINDS.items():
        session = Session(plain)
        goal = SCHEDULING_GOAL if trigger == "runs" else QUIET_GOAL
        over = Ratio(label="÷ floor", over=FLOOR, at_most=goal)
        add(kind, session.fires(trigger), session.renew, over)
        add(f"{kind}, alone", session.fires(trigger, alone=True), session.renew, over)
    quiet, scheduling = KINDS["noted"], KINDS["runs"]
    for label, session in (
        (f"{many:,} events", Session(plain, events=many)),
        (f"{many:,} waiting instances", Session(plain, Population(waiting=many))),
        (waiting, Session(crowded)),
    ):
        for trigger, kind in (("noted", quiet), ("runs", scheduling)):
            flat = Ratio(label="÷ none", over=kind, at_most=FLAT_GOAL)
            add(f"{kind}, {label}", session.fires(trigger), session.renew, flat)
    plain = Ratio(label="÷ floor", over=FLOOR)
    cases.append(Case(name="the first fire of a session", run=first_fires(app), ratios=(plain,)))
    worker = Worker(app, given.operations)
    add("a claim", worker.claim, worker.prepare, plain)
    add("a finish", worker.finish, lambda: worker.prepare(claimed=True), plain)
    return cases


CROWD = {False: 100_000, True: 5_000}


def memory(directory: Path, sessions: int = 10_000) -> float:
    """Bytes of the server's memory for a session that waits, two of three events in."""
    with RedisServer(directory) as server, redis.Redis.from_url(server.url) as client:
        app = application("redis", url=server.url)
        app.store.sessions(limit=1)
        before = client.info("memory")["used_memory"]
        crowd(app, sessions, payloads.encode({"text": "x" * 289}, Limits()))
        used: int = client.info("memory")["used_memory"]
        app.store.close()
    return (used - before) / sessions


def main() -> None:
    """Run the benchmark."""
    given = options("bench_redis", __doc__ or "", operations=150, rounds=25, quick=(50, 3))
    pinned = pin()  # the servers, which this process starts, inherit it
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=given.directory))
        servers = []
        for name in ("plain", "crowded"):
            Path(folder, name).mkdir()
            servers.append(stack.enter_context(RedisServer(Path(folder, name))))
        plain, crowded = (Processes.on(server.url) for server in servers)
        with redis.Redis.from_url(servers[0].url) as client:
            version = client.info("server")["redis_version"]
        facts: dict[str, Any] = {**machine(), "redis": version, "redis-py": redis.__version__}
        print(f"bench_redis: {pinned}, {facts}", file=given.out)
        print(
            f"{given.rounds} rounds of {given.operations} operations; median [min–max];"
            f" {len(PAYLOAD)} bytes a payload",
            file=given.out,
        )
        crowd(crowded.one, CROWD[given.quick])
        cases = cases_of(plain, servers[0].url, crowded, given)
        figures = measure(cases, given)
        print(f"\n{ratio_table(figures, cases)}", file=given.out)
        Path(folder, "memory").mkdir()
        each = memory(Path(folder, "memory"))
        goal = verdict(each, MEMORY_GOAL)
        print(f"\nmemory of a waiting session: {each:,.0f} bytes {goal}", file=given.out)
        for app in (*plain, *crowded):
            app.store.close()
    write_json(
        given,
        {
            "pinned": pinned,
            "redis": version,
            "redis-py": redis.__version__,
            "figures": as_data(figures),
            "bytes_a_waiting_session": round(each),
        },
    )


if __name__ == "__main__":
    main()
