"""What triggers-otel adds to a fire: without an SDK, sampling nothing, and with everything.

Each fire is timed beside the same fire without the plugin, in rounds that take turns: in CPU time
(of this process: a server's does not count) and in time on the clock, which is what whoever fires
waits for. The goal is 1.10 times that.

The floor is *a span alone*: with as many attributes, made the current one, its context injected by
the configured propagator, ended and handed to the same processor. Its ratio is its share of a fire
without the plugin: with 0.40, no plugin that makes a span gets below 1.40.

With ``--base CHECKOUT`` the same fires without any plugin are timed against another checkout of the
core, in processes that take turns: what the plugin's places in the core cost who does not have it.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import (
    Case,
    Ratio,
    Snapshot,
    as_data,
    machine,
    measure,
    options,
    pin,
    ratio_table,
    spread,
    write_json,
)
from sessions import KINDS, KWARGS, Population, application, make_session

from triggers_core.application import Application

GOAL = 1.10

PLACES: dict[str, tuple[dict[str, Any], int]] = {
    "memory": ({}, 1),
    "sqlite NORMAL": ({"synchronous": "NORMAL"}, 2),
    "sqlite FULL": ({}, 4),
    "redis": ({}, 2),
    "postgres": ({}, 4),
}
"""Place (its first word is the storage's key) → options, and by what to divide the rounds. The
servers are the benchmark's own; PostgreSQL's writes to the disk before it answers."""

CLOCKS = {"CPU time": time.process_time, "time on the clock": time.perf_counter}

TRIGGER = "runs"
NONE = "no plugin"

ROUNDS, OPERATIONS = 30, 2_000
"""Of each checkout, with `--base`."""


def fires(app: Application) -> tuple[Snapshot, Callable[[], None]]:
    """Fires into a session, and what has to happen before each slice of them."""
    current = [make_session(app, Population())]

    def run(operations: int) -> None:
        fire = current[0].fire
        for _ in range(operations):
            fire(TRIGGER, KWARGS)

    def renew() -> None:
        current[0] = make_session(app, Population())

    return run, renew


def providers() -> dict[str, tuple[Any, Any]]:
    """Sort → tracer provider and meter provider; None: the global ones, which nobody has set."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    class Nowhere(SpanExporter):
        def export(self, spans: Sequence[Any]) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    every = TracerProvider()
    every.add_span_processor(BatchSpanProcessor(Nowhere()))
    return {
        "API without SDK": (None, None),
        "SDK, nothing sampled": (
            TracerProvider(sampler=ALWAYS_OFF),
            MeterProvider([InMemoryMetricReader()]),
        ),
        "SDK, everything sampled": (every, MeterProvider([InMemoryMetricReader()])),
    }


@contextmanager
def located(place: str, directory: str) -> Iterator[Callable[[int], dict[str, Any]]]:
    """What makes the options of a place's storage, for each application its own file or server."""
    key, given = place.split()[0], PLACES[place][0]
    if key == "redis":
        from triggers_redis.testing import RedisServer

        with RedisServer(Path(directory)) as redis:
            yield lambda _: {"url": redis.url}
    elif key == "postgres":
        from triggers_postgres.testing import PostgresServer

        with PostgresServer(Path(directory), durable=True) as postgres:
            yield lambda _: {"url": postgres.url}
    elif key == "sqlite":
        yield lambda number: {**given, "path": os.path.join(directory, f"{number}.db")}
    else:
        yield lambda _: given


def cases_of(
    place: str,
    made: Callable[[int], dict[str, Any]],
    sorts: dict[str, tuple[Any, Any]],
) -> tuple[list[Application], list[Case]]:
    """The fire without the plugin, and with it on each sort of provider."""
    from triggers_otel import OpenTelemetry

    apps, cases = [], []
    for number, (sort, given) in enumerate({NONE: None, **sorts}.items()):
        app = application(place.split()[0], **made(number))
        if given is not None:
            app.plugins.register(OpenTelemetry(*given), "otel")
        run, renew = fires(app)
        ratios = (Ratio(label="÷ no plugin", over=f"{place}, {NONE}", at_most=GOAL),)
        apps.append(app)
        cases.append(
            Case(
                name=f"{place}, {sort}",
                run=run,
                before=renew,
                floor=given is None,
                ratios=() if given is None else ratios,
            )
        )
    return apps, cases


def span_alone(place: str, sorts: dict[str, tuple[Any, Any]]) -> list[Case]:
    """The floor: what the SDK takes for such a span, and nothing else."""
    from opentelemetry import context, propagate
    from opentelemetry.trace import SpanKind, set_span_in_context

    def case(sort: str, provider: Any) -> Case:
        tracer = provider.get_tracer("bench")

        def run(operations: int) -> None:
            for _ in range(operations):
                given = {"a": "a", "b": "b", "c": "c", "d": "d", "e": "e"}
                span = tracer.start_span("fire", kind=SpanKind.PRODUCER, attributes=given)
                token = context.attach(set_span_in_context(span))
                propagate.inject({})
                context.detach(token)
                if span.is_recording():
                    span.set_attributes({"f": "f", "g": "g"})
                span.end()

        share = Ratio(label="÷ no plugin", over=f"{place}, {NONE}")
        return Case(name=f"{place}, a span alone, {sort}", run=run, ratios=(share,))

    return [case(sort, given[0]) for sort, given in sorts.items() if given[0] is not None]


def with_and_without() -> None:
    """Time every place; print tables, and JSON if that is asked for."""
    given = options("bench_otel", __doc__ or "", operations=50, rounds=120, quick=(50, 12))
    pinned = pin()
    print(f"bench_otel: {pinned}, {machine()}", file=given.out)
    content: dict[str, list[Any]] = {clock: [] for clock in CLOCKS}
    sorts = providers()
    for place, (_, divisor) in PLACES.items():
        less = dataclasses.replace(given, rounds=max(2, given.rounds // divisor))
        with (
            tempfile.TemporaryDirectory(dir=given.directory) as directory,
            located(place, directory) as made,
        ):
            apps, cases = cases_of(place, made, sorts)
            cases += span_alone(place, sorts)
            for clock, seconds in CLOCKS.items():
                here = measure(cases, less, seconds)
                print(
                    f"\n{place}, {KINDS[TRIGGER]}: {less.rounds} rounds of {less.operations}"
                    f" operations, {clock}; median [min–max]\n"
                    f"{ratio_table(here, cases, f'{place}, ')}",
                    file=given.out,
                )
                content[clock] += as_data(here)
            for app in apps:
                app.close()
    write_json(given, {"pinned": pinned, "figures": content})


# -- two checkouts --------------------------------------------------------------------------------


HERE = ("memory", "sqlite NORMAL")
"""The places that are compared: without a server, and without waiting for the disk."""


def serve() -> None:
    """Time a slice for each line of input: a storage's name; answers seconds of CPU time."""
    pin()
    with tempfile.TemporaryDirectory() as directory:
        runs = {}
        for place in HERE:
            given, _ = PLACES[place]
            path = {"path": os.path.join(directory, "x.db")} if "sqlite" in place else {}
            runs[place] = fires(application(place.split()[0], **given, **path))
        for line in sys.stdin:
            place, _, operations = line.strip().rpartition(" ")
            run, renew = runs[place]
            renew()
            began = time.process_time()
            run(int(operations))
            print(time.process_time() - began, flush=True)


def against(base: str) -> None:
    """Time this checkout's fires against another's, without any plugin."""
    here = Path(__file__).parents[1]
    servers = [
        subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            env={**os.environ, "PYTHONPATH": os.path.join(root, "src")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for root in (here, base, here)
    ]
    ratios: dict[str, dict[str, list[float]]] = {}
    for number in range(ROUNDS + 1):
        for place in HERE:
            turns = (0, 1, 2) if number % 2 else (2, 1, 0)
            took = {turn: _ask(servers[turn], place) for turn in turns}
            if number:
                ours = ratios.setdefault(place, {"this ÷ base": [], "this ÷ this": []})
                ours["this ÷ base"].append((took[0] + took[2]) / 2 / took[1])
                ours["this ÷ this"].append(took[0] / took[2])
    for server in servers:
        server.communicate()
    for place, found in ratios.items():
        shown = ", ".join(f"{label} {spread(values, 3)}" for label, values in found.items())
        print(f"{place}, no plugin: {shown}")


def _ask(server: subprocess.Popen[str], place: str) -> float:
    assert server.stdin is not None
    assert server.stdout is not None
    print(f"{place} {OPERATIONS}", file=server.stdin, flush=True)
    return float(server.stdout.readline())


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--base")
    known, rest = parser.parse_known_args()
    if known.serve:
        serve()
    elif known.base is not None:
        against(known.base)
    else:
        sys.argv[1:] = rest
        with_and_without()


if __name__ == "__main__":
    main()
