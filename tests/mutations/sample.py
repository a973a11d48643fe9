"""Mutants of the engine in random order, for as long as there is time: ``nox -s survivors``.

    nox -s survivors -- --minutes 60 --seed 7

mutmut makes the mutants (its settings are in pyproject.toml) of a copy of the sources; tests run in
forks of one process. What is shown in the end are the changes that no test has noticed: each is
either a test that is missing, or changes nothing that anybody could notice. As the order is random,
whatever was tried before the time was over is a fair sample of all.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("src", "tests", "conftest.py", "pyproject.toml")
SHARED = ROOT.parent / "shared"
"""The oracle of the language, beside the repository; without it the scenarios are left out."""

KILLED = (1, 3)  # exit codes of pytest; mutmut's own are beyond


def copy_into(folder: Path) -> None:
    for name in PARTS:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    if SHARED.exists():
        (folder / "shared").symlink_to(SHARED.resolve())


def main() -> int:
    parser = argparse.ArgumentParser(prog="nox -s survivors --", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="without the preparations")
    parser.add_argument("--seed", type=int, default=None, help="of the order; random, if not given")
    parser.add_argument("--at-once", type=int, default=1, help="processes")
    options = parser.parse_args()
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    with tempfile.TemporaryDirectory(prefix="triggers-mutants-") as folder:
        copy_into(Path(folder))
        os.chdir(folder)
        from mutmut import __main__ as mutmut  # it looks at the folder when it is imported

        sys.modules.setdefault("mutmut.__main__", mutmut)
        order = random.Random(seed)
        places: dict[str, float] = {}

        def place(name: str) -> float:
            if not places:  # all is prepared now
                signal.alarm(round(options.minutes * 60))
            return places.setdefault(name, order.random())

        mutmut.estimated_worst_case_time = place
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            mutmut._run([], options.at_once)
        except KeyboardInterrupt:
            pass
        finally:
            signal.alarm(0)
        return tell(mutmut, seed)


def tell(mutmut: Any, seed: int) -> int:
    """Show what came of it; the exit code is 0: survivors are for people to look at."""
    found: Counter[str] = Counter()
    survivors: list[tuple[str, Path]] = []
    for path in mutmut.walk_mutatable_files():
        data = mutmut.SourceFileMutationData(path=path)
        data.load()
        for name, code in data.exit_code_by_key.items():
            if code is None:
                found["not tried"] += 1
            elif code in KILLED:
                found["killed"] += 1
            elif code == 0:
                found["survived"] += 1
                survivors.append((name, path))
            else:
                found["out of time, or without a test"] += 1
    for name, path in sorted(survivors):
        print(f"\n# {name}\n{mutmut.get_diff_for_mutant(name, path=path)}")
    print(f"\nseed {seed}: " + ", ".join(f"{count:,} {what}" for what, count in found.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
