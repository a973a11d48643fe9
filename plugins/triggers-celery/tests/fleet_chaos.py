"""A fleet of workers and firing processes, and what is done to it while it works."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis
from celery_fleet import HERE, PATIENCE, Fleet, Worker

from triggers_redis import connection
from triggers_redis.testing import RedisServer

if TYPE_CHECKING:
    from triggers_postgres.testing import PostgresServer

POINTS = (
    "before-claim",
    "after-claim",
    "in-body",
    "before-finish",
    "before-dispatch",
    "in-pop",
    "before-fire",
    "after-fire",
)
"""Where processes can be made to die, by `fleet_app`."""

SUSPENDED = 3.0
"""Seconds for which a process is suspended: longer than its lease."""

SOCKET_TIMEOUT = 0.5
"""Seconds that the storage waits for an answer; then it asks again, for a `RESEND_TIMEOUT`."""


class ChaosFleet(Fleet):
    """Two workers, which run two bodies at a time, and two firing processes, on their own Redis.

    :param configuration: of every session.
    :param events: the log whose sessions are fired.
    :param pools: of the two workers.
    :param database: where the sessions are; with the broker, if there is none.
    :param lease: seconds. Whoever loses one to a busy machine has run a body for nothing.
    """

    def __init__(
        self,
        directory: Path,
        server: RedisServer,
        configuration: dict[str, Any],
        events: Sequence[Mapping[str, Any]] = (),
        pools: tuple[str, str] = ("prefork", "prefork"),
        database: PostgresServer | None = None,
        lease: float = 2.0,
    ) -> None:
        # Dispatched again not before a long queue has been worked off: duplicates lengthen it.
        timing = {"lease": lease, "heartbeat": 0.4, "sweep": 0.3, "redispatch_after": 4.0}
        root = server.url.rpartition("/")[0]
        super().__init__(directory, f"{root}/1", **timing, redispatch_at_most=8.0, attempts=50)
        storage = {"url": f"{root}/0", "namespace": "fleet", "socket_timeout": SOCKET_TIMEOUT}
        if database is not None:
            storage = {"url": database.url}
        key = "redis" if database is None else "postgres"
        self.configure(TRIGGER_STORAGE_TYPE=key, TRIGGER_STORAGE_OPTIONS=storage)
        self.server, self.configuration = server, configuration
        self.database = database
        self.pools = pools
        (directory / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
        self.transport: dict[str, Any] = {}
        """The workers' `broker_transport_options`."""
        self.places: dict[str, Worker] = {}
        """Two places for workers and two for firing processes, and who is there now."""

    def environment(self, **more: str) -> dict[str, str]:
        return super().environment(
            TEST_CONFIGURATION=json.dumps(self.configuration),
            TEST_CELERY=json.dumps({"broker_transport_options": self.transport}),
            **more,
        )

    def put(self, place: str) -> Worker:
        """Start a process where there is none, or none any more."""
        if place.startswith("worker"):
            name = f"{place}-{len(self.workers)}@tests"
            command = ["-m", "celery", "-A", "fleet_app", "worker", "-c", "2", "-n", name]
            command += ["-P", self.pools[int(place[-1])]]
            command += ["-l", "info", "--without-mingle", "--without-gossip"]
        else:
            command = [str(HERE / "fleet_fire.py"), place[-1]]
        file = self.directory / f"{place}-{len(self.workers)}.log"
        with file.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=self.directory,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.workers.append(Worker(process, file))
        self.places[place] = self.workers[-1]
        return self.workers[-1]

    def lines(self, name: str) -> list[list[Any]]:
        """What the processes have noted."""
        file = self.directory / name
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def fired(self) -> int:
        """How many events have been acknowledged."""
        files = (self.directory / f"fired-{each}" for each in (0, 1))
        return sum(file.read_bytes().count(b"\n") for file in files if file.exists())

    def close(self) -> None:
        for worker in self.workers:  # groups outlive their leaders: orphans are in them
            with suppress(ProcessLookupError):
                os.killpg(worker.process.pid, signal.SIGKILL)
        super().close()


class Chaos:
    """Strikes at a fleet, and puts up again what has fallen."""

    def __init__(self, fleet: ChaosFleet, seed: int) -> None:
        self.fleet, self.chance = fleet, random.Random(seed)
        self.suspended: list[tuple[float, int]] = []
        self.trap: Path | None = None
        """A file that is there until somebody has suspended Redis."""
        self.moments: list[float] = []
        """When something was struck, in seconds since 1970."""
        self.counts: dict[str, int] = {}
        self.broker = redis.Redis.from_url(fleet.broker)

    def plan(self, strikes: int) -> list[str]:
        """Each placed point and each kind of strike equally often, in random order."""
        kinds = [*(f"die-{point}" for point in POINTS), *self.KINDS]
        planned = [kinds[number % len(kinds)] for number in range(strikes)]
        self.chance.shuffle(planned)
        return planned

    def strike(self, kind: str) -> None:
        self.moments.append(time.time())
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if kind.startswith("die-"):
            (self.fleet.directory / kind).touch()
        else:
            self.KINDS[kind](self)

    def restart_redis(self) -> None:
        self.fleet.server.kill()
        self.fleet.server.start()

    def suspend_redis_unnoticed(self) -> None:
        self._suspend(self.fleet.server.pid, SOCKET_TIMEOUT / 2)

    def suspend_redis(self) -> None:
        """Requests are sent again; those that nobody waits for any more are carried out later."""
        self._suspend(self.fleet.server.pid, SOCKET_TIMEOUT * 2)

    def suspend_redis_beyond_patience(self) -> None:
        """Callers get an error and must fire again: the next one that fires stops the server."""
        prepared = self.fleet.directory / "stop-redis-soon"
        prepared.write_text(str(self.fleet.server.pid))
        self.trap = prepared.rename(self.fleet.directory / "stop-redis")

    def flush_broker(self) -> None:
        self.broker.flushdb()

    def kill_machine(self) -> None:
        """A worker and all its processes at once."""
        os.killpg(self._pick("worker"), signal.SIGKILL)

    def kill_worker(self) -> None:
        """The main process alone: its children are orphans, which may go on for a while."""
        os.kill(self._pick("worker"), signal.SIGKILL)

    def kill_child(self) -> None:
        self._signal(self._child(), signal.SIGKILL)

    def terminate_child(self) -> None:
        self._signal(self._child(), signal.SIGTERM)

    def terminate_worker(self) -> None:
        os.kill(self._pick("worker"), signal.SIGTERM)

    def kill_firing(self) -> None:
        os.kill(self._pick("fire"), signal.SIGKILL)

    def terminate_firing(self) -> None:
        os.kill(self._pick("fire"), signal.SIGTERM)

    def suspend_child(self) -> None:
        self._suspend(self._child())

    def suspend_worker(self) -> None:
        self._suspend(self._pick("worker"))

    def suspend_firing(self) -> None:
        self._suspend(self._pick("fire"))

    KINDS = {  # noqa: RUF012
        each.__name__: each
        for each in (
            *(restart_redis, suspend_redis_unnoticed, suspend_redis),
            *(suspend_redis_beyond_patience, flush_broker),
            *(kill_machine, kill_worker, kill_child, kill_firing),
            *(terminate_child, terminate_worker, terminate_firing),
            *(suspend_child, suspend_worker, suspend_firing),
        )
    }

    def _pick(self, kind: str, among: Sequence[int] = (0, 1)) -> int:
        place = f"{kind}-{self.chance.choice(among)}"
        worker = self.fleet.places[place]
        if worker.process.poll() is not None:  # it has just died by itself, at a placed point
            worker = self.fleet.put(place)
        return worker.process.pid

    def _child(self) -> int:
        """A process of a worker's pool; the worker itself when it has none yet, or only threads."""
        forking = [at for at, pool in enumerate(self.fleet.pools) if pool == "prefork"]
        parent = self._pick("worker", forking or (0, 1))
        listed = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return int(self.chance.choice(listed)) if listed else parent

    def _suspend(self, pid: int, seconds: float = SUSPENDED) -> None:
        self._signal(pid, signal.SIGSTOP)
        self.suspended.append((time.monotonic() + seconds, pid))

    def _signal(self, pid: int, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    def look_after(self, all_of_them: bool = False) -> None:
        """Resume who has been suspended for long enough, restart who has died."""
        if self.trap is not None and not self.trap.exists():
            self.trap = None
            self._suspend(self.fleet.server.pid, 2 * SOCKET_TIMEOUT + connection.RESEND_TIMEOUT + 1)
        for until, pid in list(self.suspended):
            if all_of_them or time.monotonic() > until:
                self._signal(pid, signal.SIGCONT)
                self.suspended.remove((until, pid))
        for place, worker in list(self.fleet.places.items()):
            code = worker.process.poll()
            if code is not None and not (place.startswith("fire") and code == 0):
                # A firing process that fell over an error is no victim of ours.
                assert code < 0 or place.startswith("worker"), worker.said()
                self.fleet.put(place)

    @property
    def redis_is_suspended(self) -> bool:
        """Whether it is, or soon will be, and has to be left alone for its time."""
        return self.trap is not None or any(
            pid == self.fleet.server.pid for _, pid in self.suspended
        )

    @property
    def over(self) -> bool:
        """Whether both firing processes are through."""
        return all(self.fleet.places[f"fire-{each}"].process.poll() == 0 for each in (0, 1))

    def run(self, events: int, strikes: int) -> None:
        """Let everything be fired, with as many strikes spread at random over the log.

        A strike comes when so many events have been fired, so that a slow machine has as many
        kills in the midst of its work as a fast one.
        """
        moments = sorted(self.chance.sample(range(events // 50, events * 9 // 10), strikes))
        planned = self.plan(strikes)
        deadline = time.monotonic() + PATIENCE * (3 + strikes / 10)
        while not self.over:
            assert time.monotonic() < deadline, f"{self.fleet.fired()} of {events}: {self.counts}"
            due = moments and self.fleet.fired() >= moments[0]
            if due and not self.redis_is_suspended:
                moments.pop(0)
                self.strike(planned.pop())
            self.look_after()
            time.sleep(0.01)
        self.look_after(all_of_them=True)

    @property
    def kills(self) -> int:
        """Strikes that ended or suspended something: armed points count once somebody died."""
        placed = sum(count for kind, count in self.counts.items() if kind.startswith("die-"))
        return sum(self.counts.values()) - placed + len(self.fleet.lines("deaths"))


class PostgresChaos(Chaos):
    """The same for sessions in PostgreSQL, which is restarted; Redis has the messages alone."""

    def restart_postgres(self) -> None:
        """As `pg_ctl restart -m immediate` does: everybody's connection ends, and it recovers."""
        assert self.fleet.database is not None
        self.fleet.database.restart()

    KINDS = {  # noqa: RUF012
        "restart_postgres": restart_postgres,  # the first one comes twice among thirty
        **{name: strike for name, strike in Chaos.KINDS.items() if "suspend_redis" not in name},
    }
