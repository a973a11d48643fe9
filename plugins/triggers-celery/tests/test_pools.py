"""Whatever a body raises, in whatever pool: its instance ends, the worker and its places go on."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import Any

import pytest
from celery_fleet import Fleet, statuses, until

POOLS = [
    "solo",
    "threads",
    "gevent",
    pytest.param("prefork", marks=pytest.mark.slow),
    pytest.param("eventlet", marks=pytest.mark.slow),
]
KINDS = (
    "base",
    "system-exit",
    "keyboard",
    "generator",
    "cancelled",
    "memory",
    "ignore",
    "unprintable",
)


@pytest.fixture(params=POOLS)
def pool(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name in ("gevent", "eventlet") and find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    return name


def error_of(manager: Any, instance: str) -> dict[str, Any]:
    found: dict[str, Any] = manager.storage[instance].metadata["error"]
    return found


def test_what_a_body_raises_fails_its_instance_and_harms_nobody(fleet: Fleet, pool: str) -> None:
    """More of them than the pool has places."""
    fleet.configure(TRIGGER_TIMING={"sweep": 0.5, "lease": 60, "attempts": 1})
    manager = fleet.manager(
        "raises",
        {
            "t_raises": {"andEvery": "go", "run": "test.raises"},
            "t_after": {"andEvery": "well", "run": "test.record"},
        },
    )
    with fleet.worker("-P", pool, "-c", "2") as worker:
        for kind in KINDS:
            manager.fire("go", {"kind": kind})
        until(lambda: list(statuses(manager).values()).count("failed") == len(KINDS))
        manager.fire("well")
        until(lambda: statuses(manager).get("t_after#0") == "finished")
        assert worker.process.poll() is None
        assert "WorkerLost" not in json.dumps(
            [error_of(manager, f"t_raises#{n}")["type"] for n in range(len(KINDS))]
        )
        assert "WorkerLostError" not in worker.said()
    assert error_of(manager, "t_raises#0")["type"] == "celery_worker_app.Odd"


def test_what_a_hook_raises_on_the_way_to_a_body_harms_nobody(fleet: Fleet, pool: str) -> None:
    fleet.configure(TRIGGER_TIMING={"sweep": 0.2, "redispatch_after": 0.2})
    manager = fleet.manager("hooks", {"t_x": {"after": ["go"], "run": "test.record"}})
    plugins = json.dumps(["celery_worker_app:hooks"])
    with fleet.worker("-P", pool, "-c", "1", TEST_HOOK="raise", TRIGGER_PLUGINS=plugins) as worker:
        manager.fire("go")
        until(lambda: statuses(manager) == {"t_x#0": "finished"})
        assert worker.process.poll() is None
        assert "on the way to a body" in worker.said()
        assert "WorkerLostError" not in worker.said()


def test_time_limits_count_in_every_pool(fleet: Fleet, pool: str) -> None:
    fleet.configure(TRIGGER_TIMING={"sweep": 0.5, "redispatch_after": 60})
    tasks = {
        "t_own": {"after": ["go"], "run": "test.limited"},
        "t_celerys": {"after": ["go"], "run": "test.hard"},
        "t_soft": {"after": ["go"], "run": "test.own-soft"},
    }
    if pool == "eventlet":  # nothing can be raised in its greenlets but their end
        del tasks["t_soft"]
    manager = fleet.manager("limits", tasks)
    with fleet.worker("-P", pool, "-c", "1") as worker:
        manager.fire("go")
        until(lambda: set(statuses(manager).values()) == {"failed"})
        for name in tasks:
            kind = "SoftTimeLimitExceeded" if name == "t_soft" else "TimeLimitExceeded"
            assert error_of(manager, f"{name}#0")["type"].endswith(f".{kind}"), name
        fleet.manager("next", {"t_x": {"after": ["go"], "run": "test.record"}}).fire("go")
        until(lambda: statuses(fleet.manager("next")) == {"t_x#0": "finished"})
        assert worker.process.poll() is None


@pytest.mark.parametrize("pool", ["threads", pytest.param("prefork", marks=pytest.mark.slow)])
def test_the_place_of_a_body_that_hangs_outside_of_python_is_given_to_others(
    fleet: Fleet, pool: str
) -> None:
    manager = fleet.manager("hangs", {"t_x": {"after": ["go"], "run": "test.hangs"}})
    with fleet.worker("-P", pool, "-c", "1"):
        manager.fire("go")
        until(lambda: statuses(manager) == {"t_x#0": "failed"})
        fleet.manager("next", {"t_x": {"after": ["go"], "run": "test.record"}}).fire("go")
        until(lambda: statuses(fleet.manager("next")) == {"t_x#0": "finished"})


@pytest.mark.parametrize(
    "pool", ["solo", "threads", pytest.param("prefork", marks=pytest.mark.slow)], indirect=True
)
def test_asynchronous_bodies_share_the_loop_of_their_process_or_thread(
    fleet: Fleet, pool: str
) -> None:
    manager = fleet.manager("looped", {"t_x": {"andEvery": "go", "run": "test.looped"}})
    fleet.open_gate("looped")
    with fleet.worker("-P", pool, "-c", "1"):
        for number in range(2):
            manager.fire("go")
            until(lambda n=number: statuses(manager).get(f"t_x#{n}") == "finished")
    results = [manager.storage[f"t_x#{number}"].result for number in range(2)]
    assert results == [{"bodies": 1}, {"bodies": 2}]


@pytest.mark.parametrize("pool", ["threads", "gevent"], indirect=True)
def test_asynchronous_bodies_run_beside_each_other(fleet: Fleet, pool: str) -> None:
    manager = fleet.manager("looped", {"t_x": {"andEvery": "go", "run": "test.looped"}})
    with fleet.worker("-P", pool, "-c", "2"):
        manager.fire("go")
        manager.fire("go")
        until(lambda: len(list(fleet.directory.glob("began-looped-*"))) == 2)
        fleet.open_gate("looped")
        until(lambda: list(statuses(manager).values()) == ["finished"] * 2)


@pytest.mark.parametrize("pool", ["gevent"], indirect=True)
def test_a_greenlet_that_is_terminated_is_revoked_not_failed_by_its_body(
    fleet: Fleet, pool: str
) -> None:
    from triggers_celery import task_id

    pytest.importorskip("celery", "5.5", "before Celery 5.5 no greenlet can be terminated")
    manager = fleet.manager("terminated", {"t_x": {"after": ["go"], "run": "test.wait"}})
    with fleet.worker("-P", pool, "-c", "1"):
        manager.fire("go")
        until(lambda: fleet.traces("terminated"))
        until(fleet.celery_app.control.ping)  # a worker takes tasks before it hears commands
        fleet.celery_app.control.revoke(task_id(manager, "t_x#0"), terminate=True)
        until(lambda: statuses(manager) == {"t_x#0": "failed"})
    assert "terminated through Celery" in error_of(manager, "t_x#0")["message"]
