"""What a worker holds while a body runs, step by step: its lease, its token, what it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from triggers_core import Application, TaskContext, TriggerManager, trigger_task
from triggers_core.engine.attempts import Claim
from triggers_core.engine.records import Status
from triggers_core.engine.recovery import Recover
from triggers_core.runners import ManualRunner
from triggers_core.running.heartbeats import Heartbeats
from triggers_core.running.worker import run_message
from triggers_core.settings import Settings
from triggers_core.storages.memory import MemoryStore
from triggers_core.testing import VirtualClock

body: Callable[[TaskContext], Any] = lambda context: None  # noqa: E731


@trigger_task(name="leases.body")
def leases_body(context: TaskContext) -> Any:
    return body(context)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def heartbeats() -> Iterator[Heartbeats]:
    heartbeats = Heartbeats(3_600)  # in tests it beats when it is told to
    yield heartbeats
    heartbeats.stop()


@pytest.fixture
def manager(clock: VirtualClock) -> Iterator[TriggerManager]:
    settings = Settings.isolated(TRIGGER_PLUGINS=[])
    with Application("leases", settings, store=MemoryStore(clock), runner=ManualRunner) as app:
        manager = app.manager("order:1")
        manager.update_configuration({"t_x": {"after": ["go"], "run": "leases.body"}})
        manager.fire("go")
        yield manager


def run(manager: TriggerManager, heartbeats: Heartbeats, does: Callable[[TaskContext], Any]) -> Any:
    global body
    body = does
    runner = manager.app.runner()
    assert isinstance(runner, ManualRunner)
    [message] = runner.clear()
    return run_message(manager, message, heartbeats)


def take_away(manager: TriggerManager) -> None:
    """The lease has run out: another worker has the instance."""
    manager.commit(Recover(instances=("t_x#0",)))
    header = manager.storage.header
    assert header is not None
    manager.commit(Claim(instance="t_x#0", attempt=2, generation=header.generation))


def test_the_lease_of_a_body_that_runs_is_renewed(
    manager: TriggerManager, heartbeats: Heartbeats, clock: VirtualClock
) -> None:
    lease = manager.app.rules.timing.lease

    def does(context: TaskContext) -> dict[str, Any]:
        for _ in range(3):
            clock.advance(lease / 2)
            heartbeats.beat()
            manager.commit(Recover(instances=("t_x#0",)))
        return {"lost": context.lease_lost}

    run(manager, heartbeats, does)
    instance = manager.storage["t_x#0"]
    assert (instance.status, instance.attempt) == (Status.FINISHED, 1)
    assert manager.storage.latest_kwargs["t_x"] == {"lost": False}


def test_a_worker_that_lost_its_attempt_is_told_and_stores_nothing(
    manager: TriggerManager, heartbeats: Heartbeats, clock: VirtualClock
) -> None:
    told = []

    def does(context: TaskContext) -> None:
        clock.advance(manager.app.rules.timing.lease + 1)
        take_away(manager)
        told.append(context.lease_lost)
        heartbeats.beat()
        told.append(context.lease_lost)

    assert run(manager, heartbeats, does) is None
    assert told == [False, True]
    instance = manager.storage["t_x#0"]
    assert (instance.status, instance.attempt) == (Status.RUNNING, 2)
    assert [event.trigger for event in manager.storage.events] == ["go"]


def test_after_its_end_nothing_is_renewed(
    manager: TriggerManager, heartbeats: Heartbeats, clock: VirtualClock
) -> None:
    def fails(context: TaskContext) -> None:
        raise RuntimeError("no")

    run(manager, heartbeats, fails)
    version = manager.storage.header.version  # type: ignore[union-attr]
    heartbeats.beat()
    assert manager.storage.header.version == version  # type: ignore[union-attr]
    assert manager.storage["t_x#0"].status is Status.FAILED


def test_a_message_that_comes_twice_runs_one_body(
    manager: TriggerManager, heartbeats: Heartbeats
) -> None:
    global body
    ran = []
    body = lambda context: ran.append(context.instance.name)  # noqa: E731
    runner = manager.app.runner()
    assert isinstance(runner, ManualRunner)
    [message] = runner.clear()
    assert run_message(manager, message, heartbeats) is not None
    assert run_message(manager, message, heartbeats) is None
    assert ran == ["t_x#0"]
