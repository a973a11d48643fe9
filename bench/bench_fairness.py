"""Whether processes that write to one SQLite file get equal turns.

Four processes fire in a loop for a few seconds, into one session and into one session each.
Fairness is what the slowest got done over what the fastest did; the longest wait is that of a
single fire. Beside them, in the same rounds: four processes that commit one row each with nothing
but SQLite's busy handler (a waiting process sleeps and tries again), and one process alone.

The goal: a fairness of at least 0.9 for the fires. Processes are not pinned: how they meet on
several cores is what is measured.
"""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from typing import Any

from harness import Options, machine, options, spread, table, verdict, write_json
from sessions import KWARGS, PAYLOAD, Population, application, make_session

GOAL = 0.9
PROCESSES = 4

Work = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Processes that write to one file, all in the same way."""

    name: str
    processes: int
    fires: bool
    """Whether they fire; else they commit bare rows."""
    sessions: int = 1
    goal: float | None = None


SCENARIOS = (
    Scenario(name="bare commits, 1 process", processes=1, fires=False),
    Scenario(name="bare commits, 4 processes, busy handler", processes=PROCESSES, fires=False),
    Scenario(name="fires, 1 process", processes=1, fires=True),
    Scenario(name="fires, 4 processes, 1 session", processes=PROCESSES, fires=True, goal=GOAL),
    Scenario(
        name="fires, 4 processes, 4 sessions",
        processes=PROCESSES,
        fires=True,
        sessions=PROCESSES,
        goal=GOAL,
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What the processes of one scenario got done in one round."""

    counts: list[int]
    longest: float
    """The longest that one write took, in seconds."""
    seconds: float

    @property
    def fairness(self) -> float:
        """The slowest process over the fastest."""
        return min(self.counts) / max(self.counts)

    @property
    def rate(self) -> float:
        """Writes a second, of all processes together."""
        return sum(self.counts) / self.seconds


def bare_commits(path: str) -> Work:
    """A commit of one row, in a file that exists."""
    connection = sqlite3.connect(path, timeout=60.0, isolation_level=None)
    connection.execute("PRAGMA synchronous = FULL")

    def commit() -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO events (payload) VALUES (?)", (PAYLOAD,))
        connection.execute("COMMIT")

    return commit


def fires(path: str, uid: str) -> Work:
    """A fire that makes nothing ready, into a session that exists."""
    manager = application("sqlite", path=path).manager(uid)
    return lambda: manager.fire("noted", KWARGS)


def process(path: str, uid: str | None, seconds: float, start: Barrier, answers: Any) -> None:
    """Write in a loop, from the moment when all are ready."""
    work = bare_commits(path) if uid is None else fires(path, uid)
    work()  # files, connections and configurations are opened before the start
    start.wait()
    count, longest, now = 0, 0.0, time.perf_counter()
    end = now + seconds
    while now < end:
        work()
        before, now = now, time.perf_counter()
        longest = max(longest, now - before)
        count += 1
    answers.put((count, longest))


def set_up(scenario: Scenario, path: str) -> list[str | None]:
    """Make the file; returns the session of each process."""
    if not scenario.fires:
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(
            "CREATE TABLE events (number INTEGER PRIMARY KEY, payload BLOB NOT NULL)"
        )
        connection.close()
        return [None] * scenario.processes
    app = application("sqlite", path=path)
    uids = [make_session(app, Population()).uid for _ in range(scenario.sessions)]
    app.close()
    return [uids[number % len(uids)] for number in range(scenario.processes)]


def run(scenario: Scenario, directory: str, seconds: float) -> Outcome:
    """One round of one scenario."""
    # Spawned, not forked: no connection may cross a fork.
    context = multiprocessing.get_context("spawn")
    start, answers = context.Barrier(scenario.processes), context.SimpleQueue()
    path = os.path.join(directory, "bench.db")
    processes = [
        context.Process(target=process, args=(path, uid, seconds, start, answers))
        for uid in set_up(scenario, path)
    ]
    for each in processes:
        each.start()
    for each in processes:
        each.join()
        if each.exitcode:
            raise SystemExit(f"{scenario.name}: a process ended with exit code {each.exitcode}")
    found = [answers.get() for _ in processes]
    return Outcome([count for count, _ in found], max(wait for _, wait in found), seconds)


def measure(given: Options, seconds: float) -> dict[Scenario, list[Outcome]]:
    """Every scenario in turn, as often as the command line says."""
    outcomes: dict[Scenario, list[Outcome]] = {scenario: [] for scenario in SCENARIOS}
    for _ in range(given.rounds):
        for scenario, found in outcomes.items():
            with tempfile.TemporaryDirectory(dir=given.directory) as directory:
                found.append(run(scenario, directory, seconds))
    return outcomes


def row(scenario: Scenario, found: list[Outcome]) -> list[str]:
    """A line of the table."""
    several = scenario.processes > 1
    fairness = [each.fairness for each in found]
    return [
        scenario.name,
        spread([each.rate for each in found], 0),
        spread([each.longest * 1e3 for each in found], 1),
        spread(fairness, 2) if several else "",
        verdict(statistics.median(fairness), scenario.goal, at_least=True),
    ]


def as_data(scenario: Scenario, found: list[Outcome]) -> dict[str, Any]:
    """The same for JSON."""
    fairness = statistics.median(each.fairness for each in found)
    return {
        "case": scenario.name,
        "counts": [each.counts for each in found],
        "writes_per_second": [round(each.rate, 1) for each in found],
        "longest_ms": [round(each.longest * 1e3, 3) for each in found],
        "fairness": round(fairness, 4),
        "goal": scenario.goal,
        "met": None if scenario.goal is None else fairness >= scenario.goal,
    }


def main() -> None:
    given = options("bench_fairness", __doc__ or "", operations=None, rounds=5, quick=(None, 1))
    seconds = 1.0 if given.quick else 3.0
    outcomes = measure(given, seconds)
    print(f"bench_fairness: {machine()}", file=given.out)
    print(f"{given.rounds} rounds of {seconds:g} s; median [min–max]\n", file=given.out)
    headings = ["case", "writes a second", "longest wait, ms", "slowest ÷ fastest", ""]
    print(table(headings, [row(*each) for each in outcomes.items()]), file=given.out)
    figures = [as_data(*each) for each in outcomes.items()]
    write_json(given, {"seconds": seconds, "figures": figures})


if __name__ == "__main__":
    main()
