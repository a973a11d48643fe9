"""A power cut of the server's machine: what had not been synced to the disk is gone.

A SIGKILL alone would show nothing: the kernel still writes what the server has handed to it. So the
server is killed, and then its append-only file is cut to what was on the disk for certain: what had
been written when the last sync that came to an end began. strace tells when that was. Without it
the file is cut to what it held a second ago, which is what `appendfsync everysec` promises to keep.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import pytest

from triggers_core.engine.protocol import Rules
from triggers_core.engine.records import Source
from triggers_core.exceptions import StorageError
from triggers_core.limits import Timing
from triggers_core.testing import SessionDriver, VirtualClock, check_store
from triggers_core.testing.invariants import check_session
from triggers_redis import RedisStore, connection
from triggers_redis.testing import RedisServer, find_server

# -D: the server stays our own child; --seccomp-bpf: only these calls are slowed down.
STRACE = (
    *("strace", "-D", "-f", "--seccomp-bpf", "-y", "-s0"),
    *("-e", "trace=write,fdatasync,fsync", "-o"),
)
CALL = re.compile(r"(\d+) +(?:<\.\.\. )?(write|fdatasync|fsync)( resumed>)?")
AOF = re.compile(r"\(\d+<[^>]*/appendonly\.aof(?:\.\d+\.incr\.aof)?>")  # 6.2: one file
PROMISED = 1.0
"""Seconds after which `everysec` syncs, as Redis documents it."""

PATIENCE = 60.0
"""Seconds after which a test gives up; nothing takes nearly as long."""

CONFIGURATION: dict[str, dict[str, Any]] = {
    "t_page": {"after": ["ready"], "andEvery": "page"},
    "t_mail": {"andEvery": "t_page"},
    "t_ship": {"after": ["paid", "packed"]},
    "t_close": {"after": ["t_ship", "signed"]},
}
PAGES = 6
EVENTS: tuple[tuple[str, dict[str, Any]], ...] = (
    *(("paid", {"amount": 990}), ("page", {"number": 0}), ("ready", {})),
    *(("page", {"number": number}) for number in range(1, PAGES)),
    *(("signed", {"by": "x" * 200}), ("packed", {})),
)
"""What is fired into every session, in this order."""

OUTCOME = {
    **{f"{task}#{number}": "finished" for task in ("t_page", "t_mail") for number in range(PAGES)},
    **{"t_ship#0": "finished", "t_close#0": "finished"},
}
AT_ONCE = 4
"""Sessions that a caller has under way."""

RULES = Rules(timing=Timing(attempts=100))


# -- the machine ----------------------------------------------------------------------------------


@cache
def can_trace() -> bool:
    """Whether there is a strace that may trace here (5.3 or newer, for `--seccomp-bpf`)."""
    try:
        return subprocess.run([*STRACE, "/dev/null", "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def synced(trace: Iterable[str], size: int) -> int:
    """How much of the append-only file was on the disk for certain, by what the server called.

    :param size: what was there before.
    """
    on_disk = size
    under_way: dict[str, int] = {}
    """Thread that writes or syncs the file → how much had been written when it began."""
    for line in trace:
        found = CALL.match(line)
        if found is None:
            continue
        thread, call, resumed = found.groups()
        if not resumed:
            under_way.pop(thread, None)
            if AOF.search(line):
                under_way[thread] = size
        answer = re.search(r"\) += (\d+)$", line)
        if answer is None or thread not in under_way:
            continue
        begun = under_way.pop(thread)
        if call == "write":
            size += int(answer[1])
        else:
            on_disk = begun
    return on_disk


class Machine:
    """A server whose machine can lose its power.

    :param fsync: its `appendfsync`.
    """

    def __init__(self, directory: Path, fsync: str) -> None:
        self.directory, self.fsync = directory, fsync
        self.server = RedisServer(directory, fsync)
        self.starts = 0

    def start(self) -> None:
        self.starts += 1
        self.trace = self.directory / f"trace-{self.starts}"
        if can_trace():
            self.server.prefix = (*STRACE, str(self.trace))
        self.server.start()
        self.began_with = self.size()

    @property
    def file(self) -> Path:
        [found] = [
            *self.directory.glob("appendonlydir/*.incr.aof"),
            *self.directory.glob("appendonly.aof"),
        ]
        return found

    def size(self) -> int:
        return self.file.stat().st_size

    def on_disk(self, acknowledged: list[Acknowledged], killed_at: float) -> int:
        """How much of the file the disk has, at worst."""
        if can_trace():
            end = re.compile(rf"^{self.server.pid} +\+\+\+ killed by SIGKILL", re.MULTILINE)
            deadline = time.monotonic() + PATIENCE
            while not end.search(trace := self.trace.read_text(errors="replace")):
                assert time.monotonic() < deadline, f"strace does not end: {trace[-500:]}"
            return synced(trace.splitlines(), self.began_with)
        until = killed_at - (PROMISED if self.fsync == "everysec" else 0.0)
        sizes = (each.size for each in acknowledged if each.at <= until)
        return max(sizes, default=self.began_with)

    def cut(self, on_disk: int, check: str | None = None) -> None:
        """Take from the file what the disk does not have, and start again.

        :param check: the command that cuts off what a torn write left, as the README advises: the
            server loads such a file well, but then writes on behind the piece.
        """
        with self.file.open("r+b") as file:
            file.truncate(on_disk)
        if check is not None:
            parts = [*self.directory.glob("appendonlydir/*.manifest"), self.file]
            mended = subprocess.run([check, "--fix", parts[0]], input=b"y\n", capture_output=True)
            assert mended.returncode == 0, mended.stdout.decode()
        self.start()


# -- its users ------------------------------------------------------------------------------------


class Acknowledged(NamedTuple):
    """An event that the server has said it has."""

    at: float
    uid: str
    number: int
    """Of the event in its session."""
    size: int
    """Of the append-only file then."""


class Caller:
    """Fires its sessions' events in order, and runs instances, until the power fails."""

    def __init__(self, name: str, store: RedisStore, ready: SimpleQueue[tuple[str, str]]) -> None:
        self.name, self.store, self.ready = name, store, ready
        self.chance = random.Random(name)
        self.next: dict[str, int] = {}
        """Session → index of the event to fire next; its length when all have been fired."""
        self.acknowledged: list[Acknowledged] = []
        """In this order; without those that a cut has taken."""
        self.runs: Counter[tuple[str, str]] = Counter()

    def session(self, uid: str) -> SessionDriver:
        return SessionDriver(self.store, uid, RULES)

    def work(self, machine: Machine, changed: threading.Semaphore) -> None:
        try:
            while True:
                self.fire(self.some_session(), machine.size)
                changed.release()
                self.run(changed)
        except StorageError:  # whether the last change was stored is not known
            return

    def some_session(self) -> str:
        open_ones = [uid for uid, index in self.next.items() if index < len(EVENTS)][:AT_ONCE]
        if len(open_ones) < AT_ONCE:
            open_ones.append(f"{self.name}:{len(self.next)}")
            self.next[open_ones[-1]] = 0
        return self.chance.choice(open_ones)

    def fire(self, uid: str, size: Callable[[], int]) -> None:
        """Fire the next event of a session, by its id."""
        index, session = self.next[uid], self.session(uid)
        if index == 0:
            session.configure(CONFIGURATION)
        trigger, kwargs = EVENTS[index]
        recorded = session.fire(trigger, kwargs, event_id=str(index))
        self.acknowledged.append(Acknowledged(time.time(), uid, index, size()))
        self.next[uid] += 1
        for name in recorded.scheduled:
            self.ready.put((uid, name))

    def run(self, changed: threading.Semaphore) -> None:
        """Run some instances, also of the other's sessions."""
        try:
            for _ in range(3):
                uid, name = self.ready.get_nowait()
                claimed = self.session(uid).claim(name)
                changed.release()
                self.runs[uid, name] += 1
                for following in self.session(uid).finish(claimed).scheduled:
                    self.ready.put((uid, following))
                changed.release()
        except Empty:
            pass

    def lose(self, begun: int) -> list[Acknowledged]:
        """See what a cut has taken: the last that was acknowledged, nothing before it.

        :param begun: how much had been acknowledged the time before; a cut reaches less far.
        """
        recent = self.acknowledged[begun:]
        stored = {uid: self.stored(uid) for uid in {each.uid for each in recent}}
        lost = [each for each in recent if each.number >= stored[each.uid]]
        kept = len(self.acknowledged) - len(lost)
        assert lost == self.acknowledged[kept:], "an event was lost that others had followed"
        del self.acknowledged[kept:]
        for each in reversed(lost):
            self.next[each.uid] = each.number
        return lost

    def stored(self, uid: str) -> int:
        """How many of a session's events the server has: the first ones, and all of each."""
        if not self.session(uid).exists:
            return 0
        check_session(self.store, uid)
        events = self.session(uid).events()
        ids = [event.id for event in events if event.source is Source.APPLICATION]
        assert ids == [str(index) for index in range(len(ids))], f"{uid}: a gap"
        return len(ids)


# -- the tests ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fsync", "cuts", "changes", "torn"),
    [
        ("always", 10, (20, 300), False),
        ("everysec", 20, (100, 3_000), False),
        ("everysec", 6, (100, 3_000), True),
    ],
    ids=["always", "everysec", "everysec-torn"],
)
def test_a_power_cut_takes_only_what_was_not_synced_and_firing_again_brings_it_back(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
    capsys: pytest.CaptureFixture[str],
    fsync: str,
    cuts: int,
    changes: tuple[int, int],
    torn: bool,
) -> None:
    """:param torn: the disk has some of what was not synced, and the last command only partly."""
    try:
        find_server()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    check = shutil.which("redis-check-aof") if torn else None
    if torn and check is None:
        pytest.skip(
            "needs redis-check-aof: servers before Valkey 9.1 keep what a torn write leaves"
        )
    # Callers learn at once that the server is gone.
    monkeypatch.setattr(connection, "RESEND_TIMEOUT", -1.0)
    chance, clock, machine = random.Random(cuts), VirtualClock(), Machine(tmp_path, fsync)
    machine.start()
    ready: SimpleQueue[tuple[str, str]] = SimpleQueue()
    stores = [RedisStore(machine.server.url, shards=2, clock=clock) for _ in range(2)]
    callers = [Caller(f"caller-{at}", store, ready) for at, store in enumerate(stores)]
    acknowledged, lost = 0, list[tuple[float, str]]()
    try:
        for _ in range(cuts):
            begun = [len(caller.acknowledged) for caller in callers]
            killed_at = work_until_killed(machine, callers, chance.randint(*changes))
            told = [each for caller in callers for each in caller.acknowledged]
            acknowledged += len(told) - sum(begun)
            on_disk = machine.on_disk(told, killed_at)
            machine.cut(chance.randint(on_disk, machine.size()) if torn else on_disk, check)
            while not ready.empty():  # messages were on that machine too
                ready.get()
            for caller, before in zip(callers, begun, strict=True):
                lost += [(killed_at - each.at, each.uid) for each in caller.lose(before)]

        missing, doubled, extra = complete(callers, clock)
        what = "power cut that tears a write" if torn else "power cut"
        how = "" if can_trace() else " (as documented: there is no strace)"
        sessions, age = len({uid for _, uid in lost}), max(lost, default=(0.0,))[0]
        within = f" in {sessions} sessions, all within {age:.2f} s before the cut"
        line = (
            f"{fsync}, {what} simulated{how}: {cuts} cuts, {acknowledged:,} acknowledged events:"
            f" {len(lost):,} lost{within if lost else ''}; fired again by id:"
            f" {missing} lost, {doubled} double commits, {extra:,} extra executions"
        )
        record_property("summary", line)
        with capsys.disabled():
            print(f"\n{line}")
        assert (missing, doubled) == (0, 0)
        assert fsync == "everysec" or not lost
        assert fsync == "always" or lost, "the cuts have taken nothing"
    finally:
        for store in stores:
            store.close()
        machine.server.kill()


def work_until_killed(machine: Machine, callers: list[Caller], changes: int) -> float:
    """Let the callers work, and kill the server in the midst of it; returns when that was."""
    changed = threading.Semaphore(0)
    with ThreadPoolExecutor(len(callers)) as pool:
        working = [pool.submit(caller.work, machine, changed) for caller in callers]
        try:
            for _ in range(changes):
                assert changed.acquire(timeout=PATIENCE), "the callers go on"
        finally:
            killed_at = time.time()
            machine.server.kill()
        for each in working:
            each.result()
    return killed_at


def complete(callers: list[Caller], clock: VirtualClock) -> tuple[int, int, int]:
    """Fire what is left and what was lost, sweep, and see that everything is there, once.

    :returns: events that are missing, changes that were made twice, executions beyond the first.
    """
    for caller in callers:
        for uid, index in caller.next.items():
            for _ in range(index, len(EVENTS)):
                caller.fire(uid, lambda: 0)
    store = callers[0].store
    clock.advance(7_200)  # every lease has run out, and every message is overdue
    while due := store.due(1_000):
        for uid in {each.uid for each in due}:
            session = callers[0].session(uid)
            session.recover(*(each.instance for each in due if each.uid == uid))
            for name in session.run_all():
                callers[0].runs[uid, name] += 1
        clock.advance(7_200)
    check_store(store)

    missing, doubled, instances = 0, 0, 0
    for caller in callers:
        for uid in caller.next:
            session = caller.session(uid)
            before = session.image()
            for index, (trigger, kwargs) in enumerate(EVENTS):
                assert session.fire(trigger, kwargs, event_id=str(index)).status == "duplicate"
            assert session.image() == before
            events = session.events()
            fired = [each.id for each in events if each.source is Source.APPLICATION]
            causes = [each.cause for each in events if each.source is Source.INSTANCE]
            missing += len(EVENTS) - len(set(fired))
            doubled += len(fired) - len(set(fired)) + len(causes) - len(set(causes))
            assert session.statuses() == OUTCOME
            for number in range(PAGES):
                expected = {"ready": {}, "page": {"number": number}}
                assert session.kwargs(f"t_page#{number}") == expected
            instances += len(OUTCOME)
    return missing, doubled, sum(each.runs.total() for each in callers) - instances


def test_what_was_written_after_the_last_sync_began_counts_as_lost() -> None:
    trace = """
        7  write(1</dev/null>, ""..., 80) = 80
        7  write(9</data/appendonlydir/appendonly.aof.1.incr.aof>, ""..., 31) = 31
        8  fdatasync(9</data/appendonlydir/appendonly.aof.1.incr.aof> <unfinished ...>
        7  write(9</data/appendonlydir/appendonly.aof.1.incr.aof>, ""..., 50 <unfinished ...>
        8  <... fdatasync resumed>) = 0
        7  <... write resumed>) = 50
        7  write(4<socket:[12]>, ""..., 5) = 5
        8  fsync(5</data/appendonlydir>) = 0
        8  fdatasync(9</data/appendonlydir/appendonly.aof.1.incr.aof>) = ?
    """
    assert synced(map(str.strip, trace.strip().splitlines()), 1_000) == 1_031
