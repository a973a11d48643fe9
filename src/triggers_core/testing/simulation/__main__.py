"""``python -m triggers_core.testing.simulation``: many seeds, or one of them line by line."""

from __future__ import annotations

import argparse
import random
import sys
import time

from triggers_core.testing.simulation.pool import many
from triggers_core.testing.simulation.runs import Simulator


def main(arguments: list[str] | None = None) -> int:
    """Run it; 1 if a law was broken."""
    parser = argparse.ArgumentParser(
        prog="python -m triggers_core.testing.simulation",
        description="Simulate sessions under crashes, lost messages, frozen workers and wrong"
        " clocks, and hold every commit against the laws.",
    )
    parser.add_argument("--seeds", type=int, default=1_000, help="how many (default: %(default)s)")
    parser.add_argument("--from", dest="first", type=int, help="the first; default: a fresh one")
    parser.add_argument("--seconds", type=float, help="stop after so many, whatever --seeds says")
    parser.add_argument("--storage", choices=("memory", "sqlite"), default="memory")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two lines")
    parser.add_argument("--seed", type=int, help="just this one, and what came of it")
    parser.add_argument("--verbose", action="store_true", help="with --seed: line by line")
    chosen = parser.parse_args(arguments)
    if chosen.seed is not None:
        return _one(chosen)
    if chosen.first is None:
        chosen.first = random.SystemRandom().randrange(1, 1 << 40)
    print(f"first seed {chosen.first}, storage {chosen.storage}", flush=True)
    return _many(chosen)


def _one(chosen: argparse.Namespace) -> int:
    with Simulator(storage=chosen.storage, recount=1) as simulator:
        outcome = simulator.run(chosen.seed, print if chosen.verbose else None, hashed=True)
    for problem in outcome.problems:
        print(f"seed {outcome.seed}: {problem}")
    print(
        f"seed {outcome.seed}: {outcome.sessions} sessions, {outcome.commits} commits,"
        f" {len(outcome.problems)} violations, fingerprint {outcome.fingerprint[:16]}"
    )
    return bool(outcome.problems)


def _many(chosen: argparse.Namespace) -> int:
    began = told = time.monotonic()
    seeds = sessions = commits = violations = 0

    def line() -> str:
        seconds = time.monotonic() - began
        return (
            f"{seeds:,} seeds, {sessions:,} sessions, {commits:,} commits, {violations} violations"
            f" in {seconds:,.0f} s: {seeds / seconds:,.1f} seeds/s,"
            f" {sessions / seconds:,.1f} sessions/s; next seed {chosen.first + seeds}"
        )

    for each in many(chosen.first, chosen.seeds, chosen.storage, chosen.jobs):
        seeds, sessions, commits = seeds + 1, sessions + each.sessions, commits + each.commits
        violations += len(each.problems)
        for problem in each.problems:
            print(f"VIOLATION seed {each.seed} ({chosen.storage}): {problem}", flush=True)
        now = time.monotonic()
        if now - told >= chosen.every:
            told = now
            print(line(), flush=True)
        if chosen.seconds is not None and now - began >= chosen.seconds:
            break
    print(line(), flush=True)
    return bool(violations)


if __name__ == "__main__":
    sys.exit(main())
