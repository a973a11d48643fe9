"""Threads and processes that fire into one session on Redis, beside one thread that fires as much.

*Fairness* is what the fastest of those that started together took, over what the slowest took: 1 is
perfect. *Total time* is what the slowest took, over what a single thread takes for all the fires.
Not pinned: contention is about what happens at the same moment.

The goals: a fairness of at least 0.5, a total time of at most 1.
"""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
from harness import machine, options, spread, table, verdict, write_json
from sessions import KWARGS, Population, application, make_session

from triggers_core.application import Application
from triggers_redis.testing import RedisServer

FAIRNESS_GOAL, TOTAL_GOAL = 0.5, 1.0
TRIGGER = "waits"  # each fire makes an instance that begins to wait

Took = list[float]
"""Seconds, for each of those that fired."""


def fires(app: Application, uid: str, count: int) -> float:
    """Fire so often; returns the seconds it took."""
    fire = app.manager(uid).fire
    began = time.perf_counter()
    for _ in range(count):
        fire(TRIGGER, KWARGS)
    return time.perf_counter() - began


def by_threads(app: Application, uid: str, threads: int, count: int) -> Took:
    """So many threads of this process."""
    start, took = threading.Barrier(threads), [0.0] * threads

    def work(number: int) -> None:
        fires(app, uid, 1)  # each has a connection of its own
        start.wait()
        took[number] = fires(app, uid, count // threads)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return took


def process(url: str, uid: str, count: int, start: Any, answers: Any) -> None:
    """One of several processes."""
    app = application("redis", url=url)
    fires(app, uid, 1)
    start.wait()
    answers.put(fires(app, uid, count))
    app.close()


def by_processes(url: str, uid: str, processes: int, count: int) -> Took:
    """So many processes, each with a single thread."""
    context = multiprocessing.get_context("spawn")
    start, answers = context.Barrier(processes), context.SimpleQueue()
    arguments = (url, uid, count // processes, start, answers)
    workers = [context.Process(target=process, args=arguments) for _ in range(processes)]
    for worker in workers:
        worker.start()
    took = [answers.get() for _ in workers]
    for worker in workers:
        worker.join()
    return took


def main() -> None:
    """Run the benchmark."""
    given = options("bench_contention", __doc__ or "", operations=1_600, rounds=9, quick=(320, 2))
    fairness: dict[str, list[float]] = {}
    totals: dict[str, list[float]] = {}
    with (
        tempfile.TemporaryDirectory(dir=given.directory) as folder,
        RedisServer(Path(folder)) as server,
    ):
        app = application("redis", url=server.url)
        with redis.Redis.from_url(server.url) as client:
            version = client.info("server")["redis_version"]
        print(f"bench_contention: {machine() | {'redis': version}}", file=given.out)
        print(
            f"{given.rounds} rounds of {given.operations} fires into one session; median [min–max]",
            file=given.out,
        )
        count = given.operations
        cases: dict[str, Callable[[str], Took]] = {
            "8 threads": lambda uid: by_threads(app, uid, 8, count),
            "32 threads": lambda uid: by_threads(app, uid, 32, count),
            "4 processes": lambda uid: by_processes(server.url, uid, 4, count),
        }
        for _ in range(given.rounds):
            for name, case in cases.items():
                alone = fires(app, make_session(app, Population()).uid, count)
                uid = make_session(app, Population()).uid
                took = case(uid)
                fairness.setdefault(name, []).append(min(took) / max(took))
                totals.setdefault(name, []).append(max(took) / alone)
        app.close()
    rows = [
        [
            name,
            spread(fairness[name], 2),
            verdict(statistics.median(fairness[name]), FAIRNESS_GOAL, at_least=True),
            spread(totals[name], 2),
            verdict(statistics.median(totals[name]), TOTAL_GOAL),
        ]
        for name in cases
    ]
    headings = ["who fires", "fairness", "", "total time ÷ one thread's", ""]
    print(f"\n{table(headings, rows)}", file=given.out)
    write_json(given, {"redis": version, "fairness": fairness, "total_time": totals})


if __name__ == "__main__":
    main()
