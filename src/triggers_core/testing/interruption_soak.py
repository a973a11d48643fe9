r"""100,000 interrupted operations on one place, while other processes fire into it.

::

    python -m triggers_core.testing.interruption_soak triggers_core.storages.sqlite:SqliteStore \
        '{"path": "/dev/shm/soak.db", "synchronous": "NORMAL"}' --amount 100000 --others 2

The store is what the callable returns for these options, in each process. At the end it is
recounted whole, and what was acknowledged to the other processes is compared with what is there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from contextlib import ExitStack
from importlib import import_module
from typing import Any

from triggers_core.storages.base import Store
from triggers_core.testing.driver import SessionDriver
from triggers_core.testing.interruptions import Report, at_random
from triggers_core.testing.invariants import check_store

_BREATHER = 0.002  # seconds between two fires of another process: it must not take all the time


def open_store(opener: str, options: dict[str, Any]) -> Store:
    """Call ``module:callable`` with the options."""
    module, _, name = opener.partition(":")
    store: Store = getattr(import_module(module), name)(**options)
    return store


class Other:
    """Another process at the same place: it fires when asked, or all the time."""

    def __init__(self, opener: str, options: dict[str, Any], name: str, busy: bool = False) -> None:
        call = [
            sys.executable,
            "-c",
            "from triggers_core.testing.interruption_soak import be_another; be_another()",
        ]
        task = json.dumps([opener, options, name, busy])
        self._process = subprocess.Popen(
            [*call, task], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.name = name

    def fire(self) -> None:
        """Have it fire once.

        :raises AssertionError: it could not, and says why.
        """
        answer = self._ask("fire\n")
        assert answer == "fired", f"another process: {answer or 'died'}"

    def end(self) -> dict[str, Any]:
        """End it: what it has fired, its errors, and the slowest fire in seconds."""
        told: dict[str, Any] = json.loads(self._ask("end\n"))
        self._process.communicate()
        return told

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def __enter__(self) -> Other:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.kill()
        self._process.communicate()


def be_another() -> None:
    """What `Other` runs."""
    opener, options, name, busy = json.loads(sys.argv[1])
    session = SessionDriver(open_store(opener, options), name)
    fired, slowest, errors = 0, 0.0, [""]

    def fire() -> None:
        nonlocal fired, slowest
        began = time.monotonic()
        try:
            session.fire("other", event_id=f"{name}:{fired}")
            fired += 1
            errors[0] = ""
        except Exception as error:
            errors[0] = f"{type(error).__name__}: {error}"
            errors.append(errors[0])
        slowest = max(slowest, time.monotonic() - began)

    if busy:
        import threading

        enough = threading.Event()

        def on_and_on() -> None:
            while not enough.wait(_BREATHER):
                fire()

        thread = threading.Thread(target=on_and_on)
        thread.start()
        sys.stdin.readline()
        enough.set()
        thread.join()
    else:
        for line in sys.stdin:
            if line == "end\n":
                break
            fire()
            print(errors[0] or "fired", flush=True)
    print(json.dumps({"fired": fired, "errors": errors[1:4], "slowest": slowest}), flush=True)


def soak(
    opener: str, options: dict[str, Any], amount: int, others: int = 2, seed: int = 0
) -> tuple[Report, list[dict[str, Any]]]:
    """Interrupt `amount` operations while `others` fire; what came of it, and what they saw."""
    store = open_store(opener, options)
    with ExitStack() as stack:
        busy = [
            stack.enter_context(Other(opener, options, f"other {number}", busy=True))
            for number in range(others)
        ]
        report = at_random(store, amount, seed)
        told = [each.end() for each in busy]
    for each, other in zip(told, busy, strict=True):
        stored = len(store.events(other.name))
        if stored != each["fired"] or each["errors"]:
            report.problems.append(f"{other.name}: {each}, {stored} events are there")
    try:
        check_store(store)
    except AssertionError as error:
        report.problems.append(f"at the end: {error}")
    store.close()
    return report, told


def main() -> int:
    """Run it from the command line; 1 when a problem was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("opener", help="module:callable that returns a store")
    parser.add_argument("options", type=json.loads, help="its keyword arguments, as JSON")
    parser.add_argument("--amount", type=int, default=100_000)
    parser.add_argument("--others", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    began = time.monotonic()
    report, told = soak(chosen.opener, chosen.options, chosen.amount, chosen.others, chosen.seed)
    print(report)
    print(f"{report.interrupted.total():,} interrupted in {time.monotonic() - began:.0f} s")
    for each in told:
        print(f"another process: {each['fired']:,} fires, slowest {each['slowest']:.3f} s")
    return bool(report.problems)


if __name__ == "__main__":
    raise SystemExit(main())
