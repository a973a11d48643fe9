"""Take each guard out of the code in turn, and see that tests fail: ``nox -s mutations``.

    nox -s mutations -- token event_id      # those whose names contain one of these
    nox -s mutations -- --list

A mutation is applied to a copy of the sources, which comes before the installed ones on the path of
a process of its own. First all chosen tests run on an unchanged copy, where none may fail. The exit
code is 1 when a guard can go without a test noticing, and when a mutation breaks more than it
should: tests have to fail, not to be missing.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mutations.guard import ROOT, Edit, Guard
from mutations.table import GUARDS

PYTEST = (
    *(sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "--tb=no", "-rfE"),
    *(
        "-p",
        "no:cacheprovider",
        "-p",
        "pytest_timeout",
        "-p",
        "triggers_core.testing.pytest_plugin",
    ),
    *("--timeout=120", "--timeout-method=thread"),
)
ALONE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
"""Half of what a short run takes would be plugins that it has no use for."""
AT_ONCE = min(2, os.cpu_count() or 1)

SURVIVED, BROKEN, SKIPPED = "SURVIVED", "BROKEN", "not tried"


@dataclass(frozen=True)
class Verdict:
    """What came of one guard's absence."""

    guard: Guard
    outcome: str
    """``killed by <test>``, or begins with `SURVIVED`, `BROKEN` or `SKIPPED`."""
    output: str = ""

    @property
    def is_good(self) -> bool:
        return self.outcome.startswith(("killed", SKIPPED))


def packages(edits: Iterable[Edit]) -> list[Path]:
    """The folders of the packages that are changed, from the root: ``src/triggers_core``."""
    found = (Path(*part[: part.index("src") + 2]) for part in (Path(e.file).parts for e in edits))
    return sorted(set(found))


def mutated(folder: Path, edits: Sequence[Edit], of: Iterable[Path]) -> list[str]:
    """Copy packages into a folder, with changes; what has to be on the path before all else."""
    paths = []
    for package in of:
        shutil.copytree(ROOT / package, folder / package)
        paths.append(str(folder / package.parent))
    for edit in edits:
        file = folder / edit.file
        file.write_text(edit.applied(file.read_text("utf-8")), "utf-8")
    return paths


def run_tests(paths: Sequence[str], tests: Iterable[str]) -> tuple[int, str]:
    """Run tests with these folders first on the path; exit code and output of pytest."""
    path = os.pathsep.join((*paths, os.environ.get("PYTHONPATH", "")))
    environment = {**os.environ, **ALONE, "PYTHONPATH": path, "NO_COLOR": "1"}
    done = subprocess.run(
        (*PYTEST, *dict.fromkeys(tests)),
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    return done.returncode, done.stdout


def judge(code: int, output: str) -> str:
    """The outcome that an exit code and an output of pytest stand for."""
    if code == 0:
        skipped = " skipped" in output and " passed" not in output
        return f"{SKIPPED}: its tests are skipped here" if skipped else SURVIVED
    failed = re.search(r"^FAILED (\S+)", output, re.MULTILINE)
    if code == 1 and failed:
        return f"killed by {failed[1].rpartition('/')[2]}"
    return f"{BROKEN}: no test failed, pytest ended with {code}"


def without(guard: Guard) -> Verdict:
    """Run a guard's tests where it is missing."""
    with tempfile.TemporaryDirectory(prefix="triggers-mutation-") as folder:
        try:
            paths = mutated(Path(folder), guard.edits, packages(guard.edits))
        except ValueError as error:
            return Verdict(guard, f"{BROKEN}: it is not where it was", str(error))
        code, output = run_tests(paths, guard.tests)
    return Verdict(guard, judge(code, output), output)


def with_all(guards: Sequence[Guard]) -> str:
    """Run all tests of the table on an unchanged copy; what went wrong, empty if nothing did.

    For each distribution a process of its own, as the plugins' fixtures have equal names.
    """
    edits = [edit for guard in guards for edit in guard.edits]
    tests: dict[str, None] = dict.fromkeys(test for guard in guards for test in guard.tests)
    with tempfile.TemporaryDirectory(prefix="triggers-mutation-") as folder, ExitStack() as stack:
        paths = mutated(Path(folder), (), packages(edits))
        pool = stack.enter_context(ThreadPoolExecutor(AT_ONCE))
        parts: dict[str, list[str]] = {}
        for test in tests:
            parts.setdefault(test[: test.index("tests/")], []).append(test)
        for code, output in pool.map(lambda part: run_tests(paths, part), parts.values()):
            if code:
                return output
    return ""


def table(verdicts: Iterable[Verdict]) -> str:
    """The verdicts as a table in Markdown."""
    rows = [f"| {each.guard.name} | {each.guard.promise} | {each.outcome} |" for each in verdicts]
    return "\n".join(("| without | it would not be true that | outcome |", "|---|---|---|", *rows))


def main() -> int:
    parser = argparse.ArgumentParser(prog="nox -s mutations --", description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of the names of guards; all, if none")
    parser.add_argument("--list", action="store_true", help="only name the guards")
    options = parser.parse_args()
    chosen = [
        guard
        for guard in GUARDS
        if not options.names or any(name in guard.name for name in options.names)
    ]
    if options.list or not chosen:
        print("\n".join(guard.name for guard in chosen or GUARDS))
        return 0 if options.list else 2
    began = time.monotonic()
    if problem := with_all(chosen):
        print(problem, "\nTests of the table fail without any mutation.", sep="\n")
        return 1
    verdicts = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for verdict in pool.map(without, chosen):
            verdicts.append(verdict)
            print(f"{verdict.guard.name}: {verdict.outcome}", flush=True)
    bad = [verdict for verdict in verdicts if not verdict.is_good]
    for verdict in bad:
        print(f"\n--- {verdict.guard.name}: {verdict.outcome}\n{verdict.output}")
    print(f"\n{table(verdicts)}\n")
    skipped = sum(verdict.outcome.startswith(SKIPPED) for verdict in verdicts)
    print(
        f"{len(verdicts)} guards in {time.monotonic() - began:.0f} s:"
        f" tests notice the absence of {len(verdicts) - len(bad) - skipped}, and not of {len(bad)}"
        + (f"; {skipped} not tried" if skipped else "")
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
