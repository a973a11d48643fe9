"""Joins of three events a second, and from the last event to the body, beside DBOS.

On the same PostgreSQL, which writes to the disk before it acknowledges, and on SQLite. Four threads
send; the bodies do nothing. *Busy* is with up to 16 joins under way; the others are one join at a
time: the three events *together*, one right after the other; or *apart*, the last one some time
later, as webhooks come. Each pair is measured one right after the other, in turns; DBOS in a
process of its own. Not pinned: senders and bodies are threads.

DBOS is looked for in this interpreter, or in the one that ``DBOS_PYTHON`` names; without it, only
our own figures are printed.

The goals: at least 10 times the joins, at most a 20th of the latency, together and apart.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psycopg
from harness import Options, machine, options, table, verdict, write_json
from join_load import TOPICS, Joined, Load

from triggers_core.application import Application
from triggers_core.settings import Settings
from triggers_core.tasks import TriggerTask
from triggers_core.tasks.context import TaskContext
from triggers_postgres.testing import PostgresServer

MORE_GOAL, LATENCY_GOAL = 10.0, 1 / 20
CONFIGURATION = {"t_join": {"after": list(TOPICS), "run": "bench.Joined"}}
KWARGS = {"order": 7, "note": "x" * 100}

Measure = Callable[[], Joined]


class Body(TriggerTask):
    """What runs after the three events."""

    name = "bench.Joined"
    load: Load

    def _run(self, context: TaskContext) -> None:
        self.load.body(context.manager.uid)


def ours(given: Options, storage: str, **where: Any) -> Joined:
    """Measure Triggers, its bodies in threads of this process."""
    settings = Settings.isolated(
        TRIGGER_STORAGE_TYPE=storage,
        TRIGGER_STORAGE_OPTIONS=where,
        TRIGGER_CONFIGURATION=CONFIGURATION,
        TRIGGER_RUNNER="threading",
        TRIGGER_PLUGINS=[],
        TRIGGER_AUTOLOAD=False,
    )
    app = Application("joins", settings)

    def send(key: str, topic: str) -> None:
        app.manager(key).fire(topic, KWARGS)

    Body.load = Load(lambda key: None, send)
    with app:
        joined = Body.load.measure(given.more["seconds"], given.more["alone"])
    app.close()
    return joined


def dbos(given: Options, python: str, url: str) -> Joined:
    """Measure DBOS."""
    program = str(Path(__file__).with_name("dbos_joins.py"))
    arguments = (url, str(given.more["seconds"]), str(given.more["alone"]))
    ended = subprocess.run(
        [python, program, *arguments], stdout=subprocess.PIPE, text=True, check=True
    )
    return Joined(**json.loads(ended.stdout.splitlines()[-1]))


def python_with_dbos() -> tuple[str | None, str]:
    """An interpreter that has DBOS, if any; and its version, or why there is none."""
    python = os.environ.get("DBOS_PYTHON") or sys.executable
    ask = "import dbos, importlib.metadata as m; print(m.version('dbos'))"
    try:
        asked = subprocess.run([python, "-c", ask], capture_output=True, text=True)
    except OSError as error:
        return None, f"skipped: {error}"
    if asked.returncode:
        reason = (asked.stderr.strip().splitlines() or [f"exit code {asked.returncode}"])[-1]
        return None, f"skipped: {python}: {reason}"
    return python, asked.stdout.strip()


def middle(runs: list[Joined]) -> Joined:
    """The median of each figure."""
    return Joined(**{name: statistics.median(asdict(run)[name] for run in runs) for name in FIELDS})


FIELDS = ("per_second", "busy", "together", "apart")


def rows(name: str, us: list[Joined], them: list[Joined]) -> list[list[str]]:
    """A line for each side, and one of ratios, which are those of neighbouring runs."""
    lines = []
    for whose, runs in (("Triggers", us), ("DBOS", them)):
        if runs:
            m = middle(runs)
            shown = [f"{1e3 * seconds:.1f} ms" for seconds in (m.busy, m.together, m.apart)]
            lines.append([f"{name}: {whose}", f"{m.per_second:.1f}", *shown])
    if them:
        value = ratios(us, them)
        more = verdict(value["per_second"], MORE_GOAL, at_least=True)
        less = {kind: verdict(value[kind], LATENCY_GOAL) for kind in ("together", "apart")}
        lines.append(
            [
                f"{name}: Triggers ÷ DBOS",
                f"{value['per_second']:.1f} {more}",
                f"{value['busy']:.4f}",
                *(f"{value[kind]:.4f} {told}" for kind, told in less.items()),
            ]
        )
    return lines


def ratios(us: list[Joined], them: list[Joined]) -> dict[str, float]:
    """The medians of ours over theirs, round by round."""
    pairs = [(asdict(mine), asdict(their)) for mine, their in zip(us, them, strict=True)]
    return {
        name: statistics.median(mine[name] / their[name] for mine, their in pairs)
        for name in FIELDS
    }


def main() -> None:
    """Run the benchmark."""
    given = options(
        "bench_joins",
        __doc__ or "",
        operations=None,
        rounds=3,
        quick=(None, 1),
        more={
            "seconds": (5, 2, "for which joins are begun, with load, in each round"),
            "alone": (15, 5, "joins one at a time, of each kind, in each round"),
        },
    )
    python, told = python_with_dbos()
    lines: list[list[str]] = []
    figures: dict[str, Any] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=given.directory)))
        server = stack.enter_context(PostgresServer(folder, durable=True))
        facts = {**machine(), "DBOS": told, "load": [round(each, 1) for each in os.getloadavg()]}
        print(f"bench_joins: {facts}", file=given.out)
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE dbos")
        theirs_postgres = f"{server.url.removesuffix('/postgres')}/dbos"
        places: dict[str, tuple[Measure, str]] = {
            "PostgreSQL": (lambda: ours(given, "postgres", url=server.url), theirs_postgres),
            "SQLite": (
                lambda: ours(given, "sqlite", path=str(folder / "triggers.sqlite")),
                f"sqlite:///{folder / 'dbos.sqlite'}",
            ),
        }
        for name, (measure, url) in places.items():
            us: list[Joined] = []
            them: list[Joined] = []
            for _ in range(given.rounds):
                us.append(measure())
                if python is not None:
                    them.append(dbos(given, python, url))
            lines += rows(name, us, them)
            figures[name] = {
                "triggers": asdict(middle(us)),
                "dbos": asdict(middle(them)) if them else None,
                "ratios": ratios(us, them) if them else None,
            }
    print(f"{given.rounds} rounds; medians", file=given.out)
    headings = ["three events, then a body", "joins/s", "busy", "together", "apart"]
    print(f"\n{table(headings, lines)}", file=given.out)
    print(f"load at the end: {os.getloadavg()[0]:.1f}", file=given.out)
    write_json(given, {"dbos": told, "figures": figures})


if __name__ == "__main__":
    main()
