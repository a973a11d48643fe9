"""What Triggers costs on Celery and Redis, beside what Celery does by itself on the same server.

1. Sending: a fire that schedules an instance and publishes its message, over a bare `apply_async`.
2. Joins: three events, then one task, beside a chord of three tasks and a callback; in joins a
   second, until the last body has begun. The events are fired by this process, as the chord is sent
   by it; or, like for like, each by a Celery task of its own.
3. Latency: from the last fire to the start of the body, beside that of a bare task.
4. Round trips of the worker to the storage for each task, counted by what the server saw.

Messages, results and sessions are on one server, and one worker runs both sides in turn. The bodies
that are waited for do nothing but write eight bytes to a pipe.

Everything is pinned to one core, the server and the worker too: what is compared is the work of all
processes together. Unpinned it depends on what else the cores do: in three runs of either on a busy
machine, the median of the joins fired here, over the chords, was 3.3 to 4.0 unpinned, single rounds
1.8 to 5.3; and pinned 3.6 to 3.7, single rounds 2.9 to 5.1.

The goals: 1.5 times `apply_async`; 4 and 1.25 times the chords a second; 1.3 times the bare task's
latency (p50); 3 round trips a task.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import celery
import celery_bench_app as bench
import kombu
import redis
from celery import chord
from celery_bench_app import JOINED, PATIENCE, Bodies
from harness import (
    Case,
    Figure,
    Options,
    Ratio,
    as_data,
    machine,
    measure,
    options,
    pin,
    ratio_table,
    spread,
    table,
    verdict,
    write_json,
)
from sessions import KINDS, KWARGS, PAYLOAD, Population, make_session

from triggers_core.engine.names import new_id
from triggers_core.manager import TriggerManager
from triggers_redis.testing import RedisServer

SENDING_GOAL, JOIN_GOAL, LIKE_FOR_LIKE_GOAL, LATENCY_GOAL, TRIPS_GOAL = 1.5, 4.0, 1.25, 1.3, 3.0

POOLS = {"solo": ("-P", "solo"), "prefork 2": ("-P", "prefork", "-c", "2")}
BARE, LAST_FIRE = "apply_async(ignore_result=True)", "the last fire of a join"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of a table."""

    name: str
    values: dict[str, float | list[float]]
    """Heading → a figure, or one of each round."""
    ratios: list[float]
    """How it compares, by round, to what the table's first line says; empty: it is that line."""
    goal: float
    at_least: bool = False

    def cells(self) -> list[str]:
        """It as text."""
        shown = [f"{v:.2f}" if isinstance(v, float) else spread(v, 0) for v in self.values.values()]
        if not self.ratios:
            return [self.name, *shown, "", ""]
        judged = verdict(statistics.median(self.ratios), self.goal, at_least=self.at_least)
        return [self.name, *shown, spread(self.ratios, 2), judged]

    def as_data(self) -> dict[str, Any]:
        """It as JSON."""
        found = {name: v if isinstance(v, float) else three(v) for name, v in self.values.items()}
        if not self.ratios:
            return {"case": self.name, **found}
        value = statistics.median(self.ratios)
        met = value >= self.goal if self.at_least else value <= self.goal
        judged = {"ratio": three(self.ratios), "goal": self.goal, "met": met}
        return {"case": self.name, **found, **judged}


def three(values: list[float]) -> dict[str, float]:
    """Median, least and most."""
    found = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, 3) for name, value in found.items()}


def shown(rows: list[Row], label: str) -> str:
    """A table.

    :param label: the heading of the ratios.
    """
    return table(["case", *rows[0].values, label, ""], [row.cells() for row in rows])


# -- the worker ---------------------------------------------------------------------------------


@contextmanager
def worker(pool: str, server: RedisServer, bodies: Bodies, directory: Path) -> Iterator[None]:
    """A Celery worker in a process of its own, for the block."""
    path = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.getenv("PYTHONPATH"))))
    with (directory / f"{pool}.log").open("w+b") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "celery_bench_app", "worker", *POOLS[pool]],
            env={**os.environ, bench.SERVER: server.url, "PYTHONPATH": path},
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            bench.bare_task.delay()
            bodies.wait(1)
            yield
        except Exception:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace"))
            raise
        finally:
            if process.poll() is None:
                process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


# -- 1: sending ---------------------------------------------------------------------------------


class Joins:
    """Sessions that wait for the last of three events, as many as a slice takes."""

    def __init__(self, operations: int) -> None:
        self._operations = operations
        self._waiting: list[TriggerManager] = []

    def prepare(self) -> None:
        """Called before each slice."""
        self._waiting = [waiting_session() for _ in range(self._operations)]

    def complete(self, operations: int) -> None:
        """Fire the last ones."""
        for manager in self._waiting[:operations]:
            manager.fire(JOINED[-1], KWARGS)


def waiting_session() -> TriggerManager:
    """A session that waits for the last of three events."""
    manager = bench.session(f"order:{new_id()[:12]}")
    for trigger in JOINED[:-1]:
        manager.fire(trigger, KWARGS)
    return manager


def sending(client: Any, given: Options) -> tuple[dict[str, Figure], list[Case]]:
    """Fires that publish a message, and bare ones; nobody consumes them."""
    queue = bench.app.conf.task_default_queue
    joins, again = Joins(given.operations), list[TriggerManager]()

    def renew() -> None:
        again[:] = [make_session(bench.application, Population())]

    def emptied(before: Callable[[], object]) -> Callable[[], None]:
        def prepare() -> None:
            before()
            client.delete(queue)

        return prepare

    def bare(operations: int) -> None:
        send = bench.bare_task.apply_async
        for _ in range(operations):
            send(kwargs=KWARGS, ignore_result=True)

    def fires(operations: int) -> None:
        fire = again[0].fire
        for _ in range(operations):
            fire("runs", KWARGS)

    over = (Ratio(label="÷ apply_async", over=BARE, at_most=SENDING_GOAL),)
    cases = [
        Case(name=BARE, run=bare, before=emptied(lambda: None), floor=True),
        Case(name=KINDS["runs"], run=fires, before=emptied(renew), ratios=over),
        Case(name=LAST_FIRE, run=joins.complete, before=emptied(joins.prepare), ratios=over),
    ]
    figures = measure(cases, given)
    client.delete(queue)
    return figures, cases


# -- 2: joins -----------------------------------------------------------------------------------


def joining(bodies: Bodies, given: Options) -> list[Row]:
    """Chords and joins of both kinds, in turn."""

    def chords(operations: int) -> None:
        """As Celery's manual writes them."""
        for _ in range(operations):
            chord([bench.part_task.s(KWARGS) for _ in JOINED])(bench.whole_task.s())
        bodies.wait(operations)

    def direct(operations: int) -> None:
        for uid in uids(operations):
            manager = bench.session(uid)
            for trigger in JOINED:
                manager.fire(trigger, KWARGS)
        bodies.wait(operations)

    def by_tasks(operations: int) -> None:
        for uid in uids(operations):
            for trigger in JOINED:
                bench.firing_task.delay(uid, trigger, KWARGS)
        bodies.wait(operations)

    chorded = Case(name="a chord of three", run=chords, floor=True)
    goals = {
        Case(name="a join, fired here", run=direct): JOIN_GOAL,
        Case(name="a join, fired in three tasks", run=by_tasks): LIKE_FOR_LIKE_GOAL,
    }
    figures = measure([chorded, *goals], given)
    over = figures[chorded.name]
    return [
        Row(
            name=figure.case.name,
            values={"a second": [1e6 / micros for micros in figure.micros]},
            ratios=[1 / ratio for ratio in figure.over(over)] if figure is not over else [],
            goal=goals.get(figure.case, 0.0),
            at_least=True,
        )
        for figure in figures.values()
    ]


def uids(operations: int) -> Iterator[str]:
    """Uids of new sessions."""
    run = new_id()[:12]
    return (f"order:{run}:{number}" for number in range(operations))


# -- 3: latency ---------------------------------------------------------------------------------

SETTLED = 0.005
"""Seconds in which a worker has finished with what it ran, so that each message finds it idle."""


def latency(bodies: Bodies, given: Options) -> list[Row]:
    """From sending to the start of the body, one at a time."""
    found: dict[str, list[list[float]]] = {BARE: [], LAST_FIRE: []}
    bare = partial(bench.bare_task.apply_async, kwargs=KWARGS)
    for number in range(given.rounds + 1):
        waits: dict[str, list[float]] = {BARE: [], LAST_FIRE: []}
        for _ in range(given.operations):
            last_fire = partial(waiting_session().fire, JOINED[-1], KWARGS)
            waits[LAST_FIRE].append(wait_for(bodies, last_fire))
            waits[BARE].append(wait_for(bodies, bare))
        if number:  # the first one warms up
            for name, each in waits.items():
                found[name].append(each)
    medians = {name: [statistics.median(each) for each in by] for name, by in found.items()}
    pairs = zip(medians[LAST_FIRE], medians[BARE], strict=True)
    ratios = {BARE: list[float](), LAST_FIRE: [mine / theirs for mine, theirs in pairs]}
    return [
        Row(
            name=f"{name} → the body begins",
            values={f"p{p}, ms": percentile(found[name], p) for p in (50, 99)},
            ratios=ratios[name],
            goal=LATENCY_GOAL,
        )
        for name in found
    ]


def wait_for(bodies: Bodies, send: Callable[[], object]) -> float:
    """Seconds from the call to the start of the body, with an idle worker."""
    time.sleep(SETTLED)
    sent = time.time()
    send()
    return bodies.wait(1) - sent


def percentile(found: list[list[float]], percent: int) -> float:
    """Of all rounds together, in milliseconds."""
    waits = [wait for each in found for wait in each]
    return round(statistics.quantiles(waits, n=100)[percent - 1] * 1e3, 3)


# -- 4: round trips -----------------------------------------------------------------------------

CHAIN: dict[str, Any] = {
    "t_one": {"after": ["go"], "run": "bench.Task"},
    "t_two": {"after": ["t_one"], "run": "bench.Task"},
    "t_three": {"after": ["t_two"], "run": "bench.Task"},
}


def round_trips(bodies: Bodies, client: Any, sessions: int = 50) -> dict[str, float]:
    """Case → requests of the worker to the storage, for each task that it executed.

    MONITOR shows every command with the address of its client, and those of scripts as such. The
    worker's sweep and heartbeats, if any are due, are among them.
    """

    def requests(once: Callable[[], tuple[TriggerManager, str]], tasks: int) -> float:
        with client.monitor() as monitor:
            for manager, last in [once() for _ in range(sessions)]:
                until_finished(manager, last)
            bodies.wait(sessions * tasks)
            return counted(client, monitor) / sessions / tasks

    return {
        "the task of a join": requests(join_once, 1),
        "tasks that follow one another": requests(chain_once, len(CHAIN)),
    }


def join_once() -> tuple[TriggerManager, str]:
    waiting = waiting_session()
    waiting.fire(JOINED[-1], KWARGS)
    return waiting, "t_ship#0"


def chain_once() -> tuple[TriggerManager, str]:
    manager = bench.session(f"chain:{new_id()[:12]}")
    manager.update_configuration(CHAIN)
    manager.fire("go", KWARGS)
    return manager, "t_three#0"


def counted(client: Any, monitor: Any) -> int:
    """How many requests of the worker's storage clients a monitor has seen until now."""
    clients = [each for each in client.client_list() if each["name"] == bench.WORKERS_NAME]
    addresses, found, end = {each["addr"] for each in clients}, 0, new_id()
    client.echo(end)
    while (seen := monitor.next_command())["command"] != f"ECHO {end}":
        found += f"{seen['client_address']}:{seen['client_port']}" in addresses
    return found


def until_finished(manager: TriggerManager, instance: str) -> None:
    """Wait for the end of a session's last instance."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = manager.storage.instances.get(instance)
        if found is not None and found.status.value == "finished":
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"{manager.uid}: {instance} does not finish")
        time.sleep(0.005)


def trips_table(found: dict[str, float]) -> str:
    """A row for each."""
    rows = [[name, f"{trips:.2f}", verdict(trips, TRIPS_GOAL)] for name, trips in found.items()]
    return table(["executed by the worker", "round trips each", ""], rows)


# -- all of it ----------------------------------------------------------------------------------


def facts(client: Any) -> dict[str, Any]:
    """Versions that the figures depend on; redis-py, and so Celery, is faster with hiredis."""
    return {
        "redis": client.info("server")["redis_version"],
        "redis-py": redis.__version__,
        "hiredis": redis.utils.HIREDIS_AVAILABLE,
        "celery": celery.__version__,
        "kombu": kombu.__version__,
    }


def main() -> None:
    given = options("bench_celery", __doc__ or "", operations=100, rounds=15, quick=(30, 3))
    pinned = pin()  # the server and the workers, which this process starts, inherit it
    pools: dict[str, Any] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=given.directory)))
        server = stack.enter_context(RedisServer(folder))
        client = stack.enter_context(redis.Redis.from_url(server.url))
        versions = facts(client)
        print(f"bench_celery: {pinned}, {machine() | versions}", file=given.out)
        print(
            f"{given.rounds} rounds of {given.operations} operations; median [min–max];"
            f" {len(PAYLOAD)} bytes a payload",
            file=given.out,
        )
        # In a namespace of its own, or the worker's sweep would send again what was never run.
        bench.use(server.url, "bench", "sending")
        figures, cases = sending(client, given)
        print(f"\nSending\n{ratio_table(figures, cases)}", file=given.out)
        bench.use(server.url, "bench")
        bodies = Bodies(folder / "bodies")
        for pool in POOLS:
            with worker(pool, server, bodies, folder):
                joins = joining(bodies, given)
                waits = latency(bodies, given)
                trips = round_trips(bodies, client)
            print(f"\nWorker with pool {pool}: three events, then a task", file=given.out)
            print(shown(joins, "÷ chords"), file=given.out)
            print(f"\n{shown(waits, '÷ apply_async, p50')}", file=given.out)
            print(f"\n{trips_table(trips)}", file=given.out)
            pools[pool] = {
                "joins": [row.as_data() for row in joins],
                "latency": [row.as_data() for row in waits],
                "round_trips": {"tasks": trips, "goal": TRIPS_GOAL},
            }
        bench.application.close()
        bench.app.close()
    content = {"pinned": pinned, **versions, "figures": as_data(figures), "pools": pools}
    write_json(given, content)


if __name__ == "__main__":
    main()
