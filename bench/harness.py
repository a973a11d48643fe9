"""What every benchmark shares: slices in turn, medians, ratios to a floor, a table and JSON.

A duration alone says little: the same fire takes twice as long on another disk, or in a noisy
minute. So each figure is divided by a *floor*, the least that any implementation has to do, timed
in the same rounds. A round runs a short slice of every case, one after the other, and the floor in
between, so that whatever slows the machine slows them all; medians over the rounds do the rest.

A goal that is missed is printed, never raised: a benchmark informs, the tests judge.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

Snapshot = Callable[[int], object]
"""Carries out so many operations."""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A comparison with another case of the same run."""

    label: str
    """The heading of its column, for example ``÷ floor``."""
    over: str
    """The name of the case to divide by."""
    at_most: float | None = None
    """The goal for the median; None: only print the ratio."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Something to time."""

    name: str
    run: Snapshot
    before: Callable[[], object] | None = None
    """Called before each slice, untimed."""
    floor: bool = False
    """Timed several times a round, so that others are compared with the slices next to theirs."""
    ratios: tuple[Ratio, ...] = ()


@dataclass(kw_only=True)
class Figure:
    """The durations of one case, in microseconds an operation, by round."""

    case: Case
    micros: list[float] = field(default_factory=list)
    beside: dict[str, list[float]] = field(default_factory=dict)
    """Name of a floor → its durations right before and after this case's slices, on average."""

    @property
    def median(self) -> float:
        """The median over the rounds."""
        return statistics.median(self.micros)

    def over(self, other: Figure) -> list[float]:
        """The ratios to another case, round by round."""
        theirs = self.beside.get(other.case.name, other.micros)
        return [mine / their for mine, their in zip(self.micros, theirs, strict=True)]


@dataclass(kw_only=True)
class Options:
    """What the command line says."""

    name: str
    quick: bool
    operations: int
    rounds: int
    directory: str | None
    json: str | None
    more: dict[str, int] = field(default_factory=dict)
    """The numbers that only this benchmark takes, by name."""

    @property
    def out(self) -> Any:
        """Where the table goes: stdout, unless that is for the JSON."""
        return sys.stderr if self.json == "-" else sys.stdout


def options(
    name: str,
    description: str,
    *,
    operations: int | None = 200,
    rounds: int = 25,
    quick: tuple[int | None, int] = (100, 5),
    more: Mapping[str, tuple[int, int, str]] = MappingProxyType({}),
) -> Options:
    """Read the command line.

    :param description: the text of ``--help``.
    :param operations: in one slice; None for a benchmark that does not count them.
    :param quick: operations and rounds with ``--quick``.
    :param more: name of another number → its default, that with ``--quick``, and its help.
    """
    parser = argparse.ArgumentParser(
        prog=name, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--json", metavar="FILE", help="write the figures there too; - for stdout (table on stderr)"
    )
    parser.add_argument("--quick", action="store_true", help="few rounds: a smoke test")
    if operations is None:
        parser.set_defaults(operations=None)
    else:
        parser.add_argument("--operations", type=int, metavar="N", help="operations in one slice")
    parser.add_argument("--rounds", type=int, metavar="N", help="slices of each case")
    parser.add_argument(
        "--directory", metavar="DIR", help="where files are made, for now (default: the usual)"
    )
    for option, (_, _, told) in more.items():
        parser.add_argument(f"--{option}", type=int, metavar="N", help=told)
    given = parser.parse_args()
    default_operations, default_rounds = quick if given.quick else (operations, rounds)
    return Options(
        name=name,
        quick=given.quick,
        operations=given.operations or default_operations or 0,
        rounds=given.rounds or default_rounds,
        directory=given.directory,
        json=given.json,
        more={
            option: getattr(given, option) or (short if given.quick else usual)
            for option, (usual, short, _) in more.items()
        },
    )


def pin(core: int = 0) -> str:
    """Keep this process on one core, where the system can; says what was done.

    Unpinned, the scheduler moves the process and the same call takes one of two durations.
    """
    if not hasattr(os, "sched_setaffinity"):
        return "not pinned (this system cannot)"
    allowed = os.sched_getaffinity(0)
    chosen = core if core in allowed else min(allowed)
    os.sched_setaffinity(0, {chosen})
    return f"pinned to core {chosen}"


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
    }


_FLOOR_EVERY = 3
"""Cases between two slices of the floors: few enough for the machine to be as fast for both."""


def measure(
    cases: Sequence[Case], options: Options, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Figure]:
    """Time the cases in turn, after one slice each to warm up.

    :param clock: in seconds; such as `time.process_time`, where waiting does not count.
    """
    figures = {case.name: Figure(case=case) for case in cases}
    if len(figures) < len(cases):
        raise ValueError("two cases have the same name")
    for number in range(options.rounds + 1):
        # Every other round backwards: no case always follows the same one, warm or cold.
        turns = _with_floors(cases if number % 2 else cases[::-1])
        timed = [(case, _micros(case, options.operations, clock)) for case in turns]
        if number:
            _add_round(figures, timed)
    return figures


def _with_floors(cases: Sequence[Case]) -> list[Case]:
    floors = [case for case in cases if case.floor]
    turns: list[Case] = []
    for position, case in enumerate(case for case in cases if not case.floor):
        turns += [*floors, case] if position % _FLOOR_EVERY == 0 else [case]
    return turns + floors


def _micros(case: Case, operations: int, clock: Callable[[], float]) -> float:
    if case.before is not None:
        case.before()
    gc.collect()
    began = clock()
    case.run(operations)
    return (clock() - began) / operations * 1e6


def _add_round(figures: dict[str, Figure], timed: Sequence[tuple[Case, float]]) -> None:
    for name in {case.name: None for case, _ in timed}:
        figure = figures[name]
        places = [place for place, (case, _) in enumerate(timed) if case.name == name]
        figure.micros.append(statistics.mean(timed[place][1] for place in places))
        if figure.case.floor:
            continue
        (here,) = places
        for floor in {case.name: None for case, _ in timed if case.floor}:
            before = [took for case, took in timed[:here] if case.name == floor][-1]
            after = next(took for case, took in timed[here:] if case.name == floor)
            figure.beside.setdefault(floor, []).append((before + after) / 2)


# -- telling ------------------------------------------------------------------------------------


def spread(values: Sequence[float], digits: int) -> str:
    """The median with the least and the most in brackets."""
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} [{least:.{digits}f}–{most:.{digits}f}]"


def verdict(value: float, goal: float | None, *, at_least: bool = False) -> str:
    """Whether a goal is met, as it is printed."""
    if goal is None:
        return ""
    met = value >= goal if at_least else value <= goal
    return f"{'≥' if at_least else '≤'} {goal:g} {'ok' if met else 'missed'}"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay rows out in columns, the first one to the left, the others to the right."""
    lines = [list(headings), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    shown = [
        "  ".join(
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    shown.insert(1, "─" * max(len(line) for line in shown))
    return "\n".join(shown)


def ratio_table(figures: dict[str, Figure], cases: Sequence[Case], prefix: str = "") -> str:
    """One row a case: its duration, and each ratio with its goal.

    :param prefix: left out where the name of a case begins with it.
    """
    labels = list(dict.fromkeys(ratio.label for case in cases for ratio in case.ratios))
    rows = []
    for case in cases:
        row = [case.name.removeprefix(prefix), spread(figures[case.name].micros, 1)]
        by_label = {ratio.label: ratio for ratio in case.ratios}
        for label in labels:
            row += _compared(figures, case, by_label.get(label))
        rows.append(row)
    headings = ["case", "µs an operation", *(each for label in labels for each in (label, ""))]
    return table(headings, rows)


def _compared(figures: dict[str, Figure], case: Case, ratio: Ratio | None) -> list[str]:
    if ratio is None:
        return ["", ""]
    values = figures[case.name].over(figures[ratio.over])
    return [spread(values, 2), verdict(statistics.median(values), ratio.at_most)]


def as_data(figures: dict[str, Figure]) -> list[dict[str, Any]]:
    """The figures for JSON."""
    return [
        {
            "case": name,
            "microseconds": _three(figure.micros),
            "ratios": [
                _as_data(ratio, figure.over(figures[ratio.over])) for ratio in figure.case.ratios
            ],
        }
        for name, figure in figures.items()
    ]


def _as_data(ratio: Ratio, values: Sequence[float]) -> dict[str, Any]:
    goal = ratio.at_most
    met = None if goal is None else statistics.median(values) <= goal
    return {"over": ratio.over, **_three(values), "goal": goal, "met": met}


def _three(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def write_json(options: Options, content: dict[str, Any]) -> None:
    """Put the benchmark's results where ``--json`` says, beside those of others in that file."""
    if options.json is None:
        return
    results: dict[str, Any] = {}
    if options.json != "-" and os.path.exists(options.json):
        with open(options.json, encoding="utf-8") as file:
            results = json.load(file)
    results[options.name] = {
        "machine": machine(),
        "operations": options.operations,
        "rounds": options.rounds,
        **content,
    }
    text = json.dumps(results, indent=2, ensure_ascii=False)
    if options.json == "-":
        print(text)
        return
    with open(options.json, "w", encoding="utf-8") as file:
        file.write(text + "\n")
