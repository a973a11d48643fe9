"""Workers that start and end: warm and cold shutdown, other pools, Celery beat."""

from __future__ import annotations

import signal
from importlib.util import find_spec

import pytest
from celery_fleet import Fleet, statuses, until

CHAIN = {
    "t_first": {"after": ["go"], "run": "test.wait"},
    "t_second": {"after": ["t_first"], "run": "test.record"},
}


def test_a_warm_shutdown_finishes_what_runs_and_a_cold_one_hands_it_on(fleet: Fleet) -> None:
    warm, cold = fleet.manager("warm", CHAIN), fleet.manager("cold", CHAIN)
    with fleet.worker("-c", "1") as worker:
        warm.fire("go")
        until(lambda: fleet.traces("warm"))
        worker.process.send_signal(signal.SIGTERM)
        until(lambda: "Warm shutdown" in worker.said())
        fleet.open_gate("warm")
        assert worker.process.wait(60) == 0
    assert statuses(warm) == {"t_first#0": "finished", "t_second#0": "scheduled"}

    with fleet.worker("-c", "1") as worker:
        until(lambda: statuses(warm)["t_second#0"] == "finished")
        cold.fire("go")
        until(lambda: fleet.traces("cold"))
        worker.stop(signal.SIGQUIT)
    # Not when the lease of a minute has run out, but now, and no failure of the body.
    assert statuses(cold) == {"t_first#0": "scheduled"}
    assert cold.storage["t_first#0"].attempt == 2

    fleet.open_gate("cold")
    with fleet.worker("-c", "1"):
        until(lambda: statuses(cold) == {"t_first#0": "finished", "t_second#0": "finished"})
    assert [each["instance"] for each in fleet.traces("warm")].count("t_first#0") == 2
    assert [(each["attempt"], each["what"]) for each in fleet.traces("cold")] == [
        (1, "began"),
        (2, "began"),
        (2, "ended"),
        (1, "ran"),
    ]


BEATS = {"lease": 20.0, "heartbeat": 0.2, "sweep": 0.2}
"""A machine may stand still for seconds: what runs must not have lost its lease then."""


@pytest.mark.parametrize("pool", ["threads", "solo", "gevent", "eventlet"])
def test_heartbeats_keep_a_lease_in_pools_without_processes(fleet: Fleet, pool: str) -> None:
    if pool in ("gevent", "eventlet") and find_spec(pool) is None:
        pytest.skip(f"{pool} is not installed")
    fleet.configure(TRIGGER_TIMING=BEATS)
    manager = fleet.manager("beats", CHAIN)
    with fleet.worker("-P", pool, "-c", "2") as worker:
        manager.fire("go")
        until(lambda: fleet.traces("beats"))
        first = manager.storage["t_first#0"].lease_until
        until(lambda: manager.storage["t_first#0"].lease_until > first + 2.0)
        fleet.open_gate("beats")
        until(lambda: statuses(manager) == {"t_first#0": "finished", "t_second#0": "finished"})
        assert manager.storage["t_first#0"].attempt == 1
        assert worker.stop() == 0


def test_heartbeats_keep_a_lease_in_a_prefork_child(fleet: Fleet) -> None:
    fleet.configure(TRIGGER_TIMING=BEATS)
    manager = fleet.manager("beats", CHAIN)
    with fleet.worker("-c", "1"):
        manager.fire("go")
        until(lambda: fleet.traces("beats"))
        first = manager.storage["t_first#0"].lease_until
        until(lambda: manager.storage["t_first#0"].lease_until > first + 2.0)
        fleet.open_gate("beats")
        until(lambda: statuses(manager) == {"t_first#0": "finished", "t_second#0": "finished"})
    assert manager.storage["t_first#0"].attempt == 1


def test_celery_beat_sweeps(fleet: Fleet) -> None:
    """Though the app has assigned a schedule of its own after `setup`."""
    fleet.configure(TRIGGER_TIMING={"sweep": 0.2, "redispatch_after": 0.1})
    fleet.configure(TRIGGER_RUNNER_OPTIONS={"sweep": False})
    manager = fleet.manager("beat", {"t_x": {"after": ["go"], "run": "test.lost"}})
    manager.fire("go")
    with fleet.worker(
        *("-P", "solo", "-B", "-s", str(fleet.directory / "schedule")),
        TEST_CELERY_LATE='{"beat_schedule": {}}',
    ):
        until(lambda: statuses(manager) == {"t_x#0": "finished"})


@pytest.mark.slow
def test_children_that_are_spawned_know_the_tasks(fleet: Fleet) -> None:
    pytest.importorskip("celery", "5.6", "no setting worker_pool_start_method before Celery 5.6")
    manager = fleet.manager("spawned", CHAIN)
    fleet.open_gate("spawned")
    with fleet.worker("-c", "1", TEST_CELERY='{"worker_pool_start_method": "spawn"}'):
        manager.fire("go")
        until(lambda: statuses(manager) == {"t_first#0": "finished", "t_second#0": "finished"})
