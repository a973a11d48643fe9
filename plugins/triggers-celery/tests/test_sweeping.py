"""The sweep in a worker: every tenant's store, whatever another does, and however busy a worker."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kombu
import msgspec
import pytest
from celery import Celery

from triggers_celery.connect import connect
from triggers_celery.identity import arguments_of, id_of, process_name
from triggers_celery.requests import AttemptRequest
from triggers_celery.sweeper import PACE, Sweeper
from triggers_celery.sweeping import BlockedTime, SweepTimer
from triggers_core import TriggerTask, hookimpl
from triggers_core.application import Application
from triggers_core.exceptions import StorageError
from triggers_core.running.messages import Message
from triggers_core.running.worker import claim
from triggers_core.settings import Settings
from triggers_core.storages import storage_backends
from triggers_core.storages.sqlite.file import SqliteFile
from triggers_core.testing import VirtualClock
from triggers_core.testing.manager_helpers import message_about


class Again(TriggerTask):
    name = "sweeping.again"

    def _run(self, context: Any) -> None:
        if context.retries == 0:
            raise self.retry(cooldown=30)


class Tenants:
    """A file for each tenant, as the documentation of `storage_load` has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @hookimpl
    def storage_load(self, uid: str) -> Any:
        tenant, _, _ = uid.partition(":")
        return storage_backends.get("sqlite", uid, path=str(self.folder / f"{tenant}.db"))


@pytest.fixture
def application(tmp_path: Path) -> Iterator[Application]:
    settings = Settings.isolated(
        TRIGGER_STORAGE_TYPE="sqlite",
        TRIGGER_STORAGE_OPTIONS={"path": str(tmp_path / "own.db")},
        TRIGGER_RUNNER="celery",
        TRIGGER_PLUGINS=[Tenants(tmp_path)],
        TRIGGER_TIMING={"redispatch_after": 0.001, "sweep": 5.0},
    )
    application = Application("default", settings)
    celery_app = Celery("sweeping", broker="memory://", set_as_current=False)
    connect(celery_app, application)
    yield application
    application.close()


def overdue(application: Application, uid: str) -> Any:
    """A session whose message is as good as lost."""
    manager = application.manager(uid)
    manager.update_configuration({"t_x": {"after": ["go"], "run": "sweeping.again"}})
    manager.fire("go")
    return manager


def times_sent(manager: Any) -> int:
    sent: int = manager.storage["t_x#0"].record.redispatches
    return sent


def test_the_stores_of_tenants_are_found_by_the_uids_of_messages(
    application: Application,
) -> None:
    managers = [overdue(application, f"tenant{n}:order") for n in range(3)]
    sweeper = Sweeper(application)
    for manager in managers[:2]:
        sweeper.learn(manager.uid)
        sweeper.learn(manager.uid)
    sweeper.sweep()
    assert [times_sent(each) > 0 for each in managers[:2]] == [True, True]


def test_a_message_tells_of_its_session(application: Application) -> None:
    manager = overdue(application, "acme:1")
    integration = connect(Celery("other", broker="memory://"), application)
    integration.received(Message("default", "acme:1", "g", "t_x#0", 1))
    integration.received(Message("nobody's", "acme:2", "g", "t_x#0", 1))
    integration.sweeper(application).sweep()
    assert times_sent(manager) > 0


def test_a_store_that_fails_keeps_nobody_from_theirs_and_the_log_short(
    application: Application, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = overdue(application, "bad:1"), overdue(application, "good:1")
    clock = VirtualClock()
    sweeper = Sweeper(application, clock=clock)
    sweeper.learn("bad:1")
    sweeper.learn("good:1")

    def away() -> float:
        raise StorageError("gone for lunch")

    looks = []
    monkeypatch.setattr(bad.storage.store, "next_due", lambda: looks.append(1) or away())
    for _ in range(100):
        clock.advance(max(sweeper.sweep(), 5.0))
    assert times_sent(good) > 0
    said = [each for each in caplog.records if "gone for lunch" in each.getMessage()]
    assert len(said) == 1
    assert len(looks) < 20  # seldom, after a while
    monkeypatch.undo()
    clock.advance(60)
    sweeper.sweep()
    assert times_sent(bad) > 0
    assert "works again" in caplog.text


def test_a_hook_that_fails_keeps_nobody_from_theirs(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = overdue(application, "good:1")
    sweeper = Sweeper(application)
    make = application.manager

    def picky(uid: str) -> Any:
        if uid.startswith("bad"):
            raise ValueError("no such tenant")
        return make(uid)

    monkeypatch.setattr(application, "manager", picky)
    for uid in ("bad:1", "good:1", "bad:2"):
        sweeper.learn(uid)
    sweeper.sweep()
    assert times_sent(good) > 0


def test_an_own_store_that_cannot_be_made_keeps_no_tenant_from_theirs(
    application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    application.configure(TRIGGER_STORAGE_TYPE="memory")  # which takes no path
    good = overdue(application, "good:1")
    Sweeper(application).sweep()
    assert times_sent(good) > 0
    assert "finding the stores to sweep failed" in caplog.text


def test_many_tenants_are_looked_after_in_several_turns(application: Application) -> None:
    managers = [overdue(application, f"tenant{n}:order") for n in range(150)]
    pace = msgspec.structs.replace(PACE, turn=0.0)  # however fast this machine is
    sweeper = Sweeper(application, pace)
    for manager in managers:
        sweeper.learn(manager.uid)
    turns = 0
    while not all(times_sent(each) for each in managers):
        sweeper.sweep()
        turns += 1
        assert turns < 500
    assert turns > 1  # the event loop has other things to do in between


# -- busy, or suspended ---------------------------------------------------------------------------


class Wheel:
    """A worker's timer that is turned by hand."""

    def __init__(self) -> None:
        self.waiting: tuple[float, Callable[[], None]] | None = None

    def call_after(self, seconds: float, call: Callable[[], None]) -> Any:
        self.waiting = (seconds, call)
        return self

    def cancel(self) -> None:
        self.waiting = None

    def turn(self) -> float:
        """Make the call that is due; returns the seconds until the next one."""
        assert self.waiting is not None
        self.waiting[1]()
        return self.waiting[0]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> VirtualClock:
    clock = VirtualClock()
    monkeypatch.setattr("triggers_celery.sweeping.time.time", clock)
    monkeypatch.setattr("triggers_celery.sweeping.time.monotonic", clock)
    return clock


def test_a_busy_solo_worker_sweeps_between_its_tasks(
    application: Application, clock: VirtualClock
) -> None:
    """Its event loop stands still while a body runs: that is no suspended machine."""
    from celery.concurrency.solo import TaskPool

    application.configure(TRIGGER_TIMING={"heartbeat": 1.0, "lease": 60, "sweep": 5.0})
    pool = TaskPool(app=None)
    blocked = BlockedTime(pool)
    sweeper = Sweeper(application)
    swept = []
    sweeper.sweep = lambda everything=False: swept.append(1) or 0.05  # type: ignore[method-assign]
    wheel = Wheel()
    SweepTimer(application_integration(application), sweeper, wheel, blocked)
    for _ in range(3):
        pool.on_apply(lambda: clock.advance(10), callback=lambda result: None)
        wheel.turn()
    assert len(swept) == 3


def test_a_suspended_worker_lets_its_children_renew_their_leases_first(
    application: Application, clock: VirtualClock
) -> None:
    sweeper = Sweeper(application)
    swept = []
    sweeper.sweep = lambda everything=False: swept.append(1) or 5.0  # type: ignore[method-assign]
    wheel = Wheel()
    SweepTimer(application_integration(application), sweeper, wheel, BlockedTime(None))
    clock.advance(3_600)
    assert wheel.turn() == 1.0
    assert not swept
    clock.advance(1.0)
    wheel.turn()
    assert swept


def test_a_timer_goes_on_whatever_happens(
    application: Application, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    sweeper = Sweeper(application)

    def broken(everything: bool = False) -> float:
        raise RuntimeError("a plugin, say")

    sweeper.sweep = broken  # type: ignore[method-assign]
    wheel = Wheel()
    SweepTimer(application_integration(application), sweeper, wheel, BlockedTime(None))
    for _ in range(10):
        clock.advance(wheel.turn())
    assert len([each for each in caplog.records if each.levelno == logging.ERROR]) <= 3


# -- interrupted by a signal ----------------------------------------------------------------------


def request_for(message: Message, integration: Any) -> AttemptRequest:
    """What the main process of a worker keeps of a message that it has handed to this process."""
    celery_app, arguments = integration.celery_app, arguments_of(message)
    headers, _, body, _ = celery_app.amqp.as_task_v2(id_of(message), Again.name, arguments, {})
    request = AttemptRequest(
        kombu.Message(), app=celery_app, headers=headers, body=body, decoded=True
    )
    request.worker_pid = os.getpid()
    return request


def test_a_cold_shutdown_in_the_middle_of_a_commit_of_the_sweep_is_stored_right_after_it(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    integration = application_integration(application)
    integration.node = "w@host"
    running, other = overdue(application, "acme:1"), overdue(application, "acme:2")
    assert claim(running, message_about(running, "t_x#0"), process_name("w@host"))
    request = request_for(message_about(running, "t_x#0"), integration)
    seen: list[tuple[Any, int]] = []

    def shut_down(*_: Any) -> None:
        request.cancel(None)
        record = running.storage["t_x#0"].record
        seen.append((record.status, record.attempt))

    def interrupted(file: SqliteFile, change: Callable[[Any], Any]) -> Any:
        def struck(connection: Any) -> Any:
            if not seen:
                signal.raise_signal(signal.SIGUSR1)
            return change(connection)

        return write(file, struck)

    write = SqliteFile.write
    monkeypatch.setattr(SqliteFile, "write", interrupted)
    wheel = Wheel()
    SweepTimer(integration, integration.sweeper(application), wheel, BlockedTime(None))
    before = signal.signal(signal.SIGUSR1, shut_down)
    try:
        wheel.turn()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [("running", 1)], "nothing can be stored in the middle of a commit"
    record = running.storage["t_x#0"].record
    assert (record.status, record.attempt) == ("scheduled", 2)
    assert times_sent(other) > 0, "the sweep went on"


def application_integration(application: Application) -> Any:
    from triggers_celery.connect import connected

    return connected(application).triggers
