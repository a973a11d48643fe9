"""How fast a log is replayed, in memory and into a file, and whether that stays so as it grows.

The log is made here: orders whose events arrive interleaved with those of thousands of others,
three to eight each. A bare fire, of the same run and into a storage of the same kind, is the floor:
an event of a backtest is a fire, and all that it makes ready besides.

Each size is replayed in a process of its own, with triggers-finalize if it is installed. Seconds
are those of the processor; the clock's stand beside them, for they tell how busy the machine was.

The goals: 10,000 events a second in memory and 5,000 into a file, for logs of any length, and at
most 3 kB of memory for each session.
"""

from __future__ import annotations

import gc
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from typing import Any

from harness import machine, options, table, write_json

from triggers_core.application import Application
from triggers_core.backtest import backtest
from triggers_core.manager import TriggerManager
from triggers_core.runners.manual import ManualRunner
from triggers_core.settings import Settings
from triggers_core.storages.memory import MemoryStore
from triggers_core.storages.session import SessionStorage
from triggers_core.storages.sqlite import SqliteStore

GOALS = {"memory": 10_000, "file": 5_000}
"""Storage → events a second."""
GOAL_BYTES = 3_000
"""Of memory, a session."""

SMALLEST = 10_000  # events
BARE = 2_000  # fires for the floor
OPEN = 5_000  # orders whose events are under way at a time

FLOW = {
    "t_ship": {"after": ["paid", "packed"], "unless": ["cancelled"], "run": "bench.Ship"},
    "t_invoice": {"after": ["t_ship"], "run": "bench.Invoice"},
    "t_mail": {"after": ["t_ship"], "andEvery": "parcelMoved", "run": "bench.Mail"},
    "t_refund": {"after": ["paid", "cancelled"], "run": "bench.Refund"},
}


def log(events: int, seed: int = 1) -> Iterator[dict[str, Any]]:
    """A log of about a fifth as many orders as events; made as it is read."""
    chance = random.Random(seed)
    under_way: list[tuple[str, list[str]]] = []
    orders = made = 0
    while made < events:
        if len(under_way) < min(OPEN, events // 10 + 1):
            orders += 1
            under_way.append((f"order:{orders}", _order(chance)))
        position = chance.randrange(len(under_way))
        uid, left = under_way[position]
        yield {
            "session": uid,
            "trigger": left.pop(),
            "kwargs": {"order": uid, "amount": chance.randrange(10_000), "by": "webhook"},
        }
        made += 1
        if not left:
            under_way[position] = under_way[-1]
            under_way.pop()


def _order(chance: random.Random) -> list[str]:
    """The triggers of an order, last one first."""
    first = ["paid", "packed", "addressChecked"]
    chance.shuffle(first)
    if chance.random() < 0.1:
        first.insert(chance.randrange(4), "cancelled")
    return [*["parcelMoved"] * chance.randrange(5), *first]


def replay(storage: str, events: int, directory: str | None) -> dict[str, Any]:
    """Replay a log, and fire a few bare events; in a process that has done nothing yet."""
    plugins = ["finalize"] if find_spec("triggers_finalize") else []
    app = Application("bench", Settings.isolated(TRIGGER_PLUGINS=plugins))
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        bare = _bare_fire(storage, folder)
        store = None
        if storage == "file":
            store = SqliteStore(os.path.join(folder, "backtest.db"), synchronous="NORMAL")
        gc.collect()
        before, wall, cpu = _memory(), time.perf_counter(), time.process_time()
        result = backtest(FLOW, log(events), store, app=app)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        gc.collect()
        return {
            "storage": storage,
            "events": events,
            "sessions": result.sessions,
            "plugins": plugins,
            "runs": sum(task.run for task in result.tasks.values()),
            "wall": wall,
            "cpu": cpu,
            "bare": bare,
            "bytes": (_memory() - before) / result.sessions,
        }


def _bare_fire(storage: str, folder: str) -> float:
    """Seconds of the processor for a fire that makes nothing ready, into sessions of its own."""
    app = Application("bare", Settings.isolated(TRIGGER_PLUGINS=[], TRIGGER_STORAGE_TYPE="memory"))
    app.use_runner(ManualRunner(app, keep=0))
    store = MemoryStore() if storage == "memory" else SqliteStore(os.path.join(folder, "bare.db"))
    managers = [TriggerManager(SessionStorage.on(store, f"order:{i}"), app) for i in range(10)]
    for manager in managers:
        manager.update_configuration(FLOW)
    begun = time.process_time()
    for number in range(BARE):
        managers[number % 10].fire("addressChecked", {"order": number, "amount": 1, "by": "bench"})
    return (time.process_time() - begun) / BARE


def _memory() -> int:
    """Bytes that this process has in memory now; 0 where that cannot be told."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def main() -> None:
    given = options(
        "bench_backtest",
        f"{__doc__}\n--operations N: events of the longest log; 1000000 takes minutes.",
        operations=100_000,
        rounds=1,
        quick=(2_000, 1),
    )
    sizes = [size for size in (SMALLEST, 10 * SMALLEST) if size < given.operations]
    sizes.append(given.operations)
    print(f"bench_backtest: {machine()}", file=given.out)
    found = []
    for storage in GOALS:
        for size in sizes:
            found += [_alone(storage, size, given.directory) for _ in range(given.rounds)]
    print(table(HEAD, [_row(each) for each in found]), file=given.out)
    print(f"plugins: {', '.join(found[0]['plugins']) or 'none'}", file=given.out)
    for each in found:
        if each["events"] / each["cpu"] < GOALS[each["storage"]]:
            print(f"missed: {_row(each)[:4]}, goal {GOALS[each['storage']]:,}", file=given.out)
    write_json(given, {"runs": found})


HEAD = ["storage", "events", "sessions", "events/s", "by the clock", "÷ bare fire", "B/session"]


def _row(each: dict[str, Any]) -> list[str]:
    return [
        each["storage"],
        f"{each['events']:,}",
        f"{each['sessions']:,}",
        f"{each['events'] / each['cpu']:,.0f}",
        f"{each['events'] / each['wall']:,.0f}",
        f"{each['cpu'] / each['events'] / each['bare']:.2f}",
        f"{each['bytes']:,.0f}",
    ]


def _alone(storage: str, events: int, directory: str | None) -> dict[str, Any]:
    context = get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        found = pool.submit(replay, storage, events, directory).result()
    print(f"{storage}, {events:,} events: {found['cpu']:.1f} s", file=sys.stderr)
    return found


if __name__ == "__main__":
    main()
