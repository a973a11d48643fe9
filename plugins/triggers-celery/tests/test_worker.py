"""What becomes of instances in a real worker: prefork, two processes, Redis as the broker."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from celery_fleet import Fleet, statuses, until

from triggers_celery import task_id
from triggers_celery.identity import id_of
from triggers_core.exceptions import WrongState
from triggers_core.running.messages import Message


def settled(manager: Any) -> dict[str, str]:
    """The statuses, once nothing is under way."""

    def look() -> dict[str, str] | None:
        found = statuses(manager)
        return None if {"scheduled", "running"} & set(found.values()) else found

    return until(look, f"{manager.uid} to settle")


def error_of(manager: Any, instance: str) -> dict[str, Any]:
    return manager.storage[instance].metadata["error"]


def revoke(fleet: Fleet, identity: str) -> None:
    replies = fleet.celery_app.control.revoke(
        identity, reply=True, timeout=30, destination=["w0@tests"]
    )
    assert replies


def test_it_runs_and_cascades(running: Fleet) -> None:
    manager = running.manager(
        "plain",
        {
            "t_first": {"after": ["a", "b"], "run": "test.record"},
            "t_second": {"after": ["t_first"], "run": "test.record"},
        },
    )
    manager.fire("a", {"n": 1})
    manager.fire("b", {"odd": {"__type__": "bytes", "__value__": "AA=="}})
    until(lambda: "t_second#0" in statuses(manager))
    assert settled(manager) == {"t_first#0": "finished", "t_second#0": "finished"}
    got = {"a": {"n": 1}, "b": {"odd": {"__type__": "bytes", "__value__": "AA=="}}}
    assert manager.storage["t_first#0"].result == {"got": got}
    assert [each["instance"] for each in running.traces("plain")] == ["t_first#0", "t_second#0"]


def test_celery_knows_the_tasks_by_their_names(running: Fleet) -> None:
    replies = running.celery_app.control.inspect(["w0@tests"], timeout=30).registered()
    (names,) = replies.values()
    assert {"test.record", "test.wait", "triggers.run", "triggers.sweep"} <= set(names)


def test_options_and_routes_choose_the_queue(running: Fleet) -> None:
    manager = running.manager(
        "queues",
        {
            "t_plain": {"after": ["go"], "run": "test.record"},
            "t_routed": {"after": ["go"], "run": "test.routed"},
        },
    )
    manager.fire("go")
    settled(manager)
    queues = {each["instance"]: each["queue"] for each in running.traces("queues")}
    assert queues == {"t_plain#0": "celery", "t_routed#0": "letters"}


def test_the_workers_own_options_choose_the_queue_of_a_cascade(running: Fleet) -> None:
    manager = running.manager(
        "option",
        {
            "t_first": {"after": ["go"], "run": "test.record"},
            "t_parcels": {"after": ["t_first"], "run": "test.parcels"},
        },
    )
    manager.fire("go")
    until(lambda: statuses(manager).get("t_parcels#0") == "finished")
    assert running.traces("option")[-1]["queue"] == "parcels"


def test_a_failed_body_is_a_failed_task_and_tells_celery_no_secrets(running: Fleet) -> None:
    manager = running.manager("fails", {"t_fails": {"after": ["go"], "run": "test.fails"}})
    manager.fire("go", {"card": "4111-1111"})
    assert settled(manager) == {"t_fails#0": "failed"}
    assert "4111-1111" in error_of(manager, "t_fails#0")["message"]
    (said,) = until_said(running, "AttemptFailed", "t_fails#0")
    assert "ValueError" in said
    assert "4111" not in said


def until_said(fleet: Fleet, *words: str) -> list[str]:
    """Lines of the worker's log with all of these, once there are any."""
    worker = fleet.workers[0]

    def look() -> list[str]:
        lines = worker.said().splitlines()
        return [line for line in lines if all(word in line for word in words)]

    return until(look, f"a line with {words}")


def test_a_task_that_no_worker_knows_fails_and_says_so(running: Fleet) -> None:
    manager = running.manager("unknown", {"t_x": {"after": ["go"], "run": "test.recrod"}})
    manager.fire("go")
    assert settled(manager) == {"t_x#0": "failed"}
    assert "did you mean 'test.record'" in error_of(manager, "t_x#0")["message"]


def test_a_soft_time_limit_fails_the_instance(running: Fleet) -> None:
    manager = running.manager("soft", {"t_x": {"after": ["go"], "run": "test.soft"}})
    manager.fire("go")
    assert settled(manager) == {"t_x#0": "failed"}
    assert (
        error_of(manager, "t_x#0")["type"] == "triggers_celery.interruptions.SoftTimeLimitExceeded"
    )


def test_a_hard_time_limit_fails_the_instance(running: Fleet) -> None:
    manager = running.manager("hard", {"t_x": {"after": ["go"], "run": "test.hard"}})
    manager.fire("go")
    assert settled(manager) == {"t_x#0": "failed"}
    error = error_of(manager, "t_x#0")
    assert error["type"] == "billiard.exceptions.TimeLimitExceeded"
    assert "1 s" in error["message"]
    assert len(running.traces("hard")) == 1


def test_a_killed_process_is_recovered_at_once(running: Fleet) -> None:
    """Its lease of a minute has not run out by far; the test would not wait for that."""
    manager = running.manager("killed", {"t_x": {"after": ["go"], "run": "test.wait"}})
    manager.fire("go")
    (first,) = until(lambda: running.traces("killed"))
    os.kill(first["pid"], signal.SIGKILL)
    until(lambda: len(running.traces("killed")) == 2)
    running.open_gate("killed")
    assert settled(manager) == {"t_x#0": "finished"}
    assert manager.storage["t_x#0"].attempt == 2


def test_a_body_that_kills_its_process_fails_after_some_attempts(running: Fleet) -> None:
    manager = running.manager("dies", {"t_x": {"after": ["go"], "run": "test.dies"}})
    manager.fire("go")
    assert settled(manager) == {"t_x#0": "failed"}
    error = error_of(manager, "t_x#0")
    assert error["type"] == "WorkerLost"
    assert "2 attempts" in error["message"]
    assert [each["attempt"] for each in running.traces("dies")] == [1, 2]


def test_a_message_revoked_before_the_claim_fails_the_instance(running: Fleet) -> None:
    manager = running.manager("revoked", {"t_x": {"after": ["go"], "run": "test.record"}})
    generation = manager.storage.header.generation
    identity = id_of(Message("default", "revoked", generation, "t_x#0", 1))
    revoke(running, identity)
    manager.fire("go")
    assert settled(manager) == {"t_x#0": "failed"}
    assert error_of(manager, "t_x#0")["message"] == "revoked through Celery before it began"
    stays_failed(running, manager)
    assert running.traces("revoked") == []


def test_a_terminated_task_fails_the_instance(running: Fleet) -> None:
    manager = running.manager("terminated", {"t_x": {"after": ["go"], "run": "test.wait"}})
    manager.fire("go")
    until(lambda: running.traces("terminated"))
    until(running.celery_app.control.ping)
    running.celery_app.control.revoke(task_id(manager, "t_x#0"), terminate=True)
    assert settled(manager) == {"t_x#0": "failed"}
    assert "terminated through Celery" in error_of(manager, "t_x#0")["message"]
    stays_failed(running, manager)
    assert len(running.traces("terminated")) == 1


def stays_failed(fleet: Fleet, manager: Any) -> None:
    """The sweep has nothing to look after, and neither has an operator who would fail it."""
    (instance,) = manager.storage.instances.values()
    assert instance.record.due_at is None
    with pytest.raises(WrongState):
        manager.fail_instance(instance, "again")


def test_a_revoked_instance_can_be_replayed(running: Fleet) -> None:
    manager = running.manager("again", {"t_x": {"after": ["go"], "run": "test.record"}})
    generation = manager.storage.header.generation
    identity = id_of(Message("default", "again", generation, "t_x#0", 1))
    revoke(running, identity)
    manager.fire("go")
    assert settled(manager) == {"t_x#0": "failed"}
    manager.replay_failed_instance("t_x#0")
    assert settled(manager) == {"t_x#0": "replayed", "t_x#1": "finished"}


def test_a_message_that_the_broker_lost_is_sent_again(running: Fleet) -> None:
    """It went to a queue without a worker, which is as good as lost."""
    manager = running.manager("lost", {"t_x": {"after": ["go"], "run": "test.lost"}})
    # Not in other tests: what a busy worker gets to late would be sent again, by other routes.
    running.application.configure(TRIGGER_TIMING={**running.timing, "redispatch_after": 1.0})
    try:
        manager.fire("go")
    finally:
        running.application.configure(TRIGGER_TIMING=running.timing)
    assert settled(manager) == {"t_x#0": "finished"}
    assert [each["queue"] for each in running.traces("lost")] == ["celery"]


def test_a_cooldown_ends_without_a_countdown_in_the_broker(running: Fleet) -> None:
    manager = running.manager("retries", {"t_x": {"after": ["go"], "run": "test.retries"}})
    manager.fire("go")
    until(lambda: statuses(manager).get("t_x#1") == "finished")
    assert statuses(manager) == {"t_x#0": "replayed", "t_x#1": "finished"}


def test_a_duplicate_message_is_dropped(running: Fleet) -> None:
    manager = running.manager("twice", {"t_x": {"after": ["go"], "run": "test.record"}})
    manager.fire("go")
    assert settled(manager) == {"t_x#0": "finished"}
    header, tasks = manager.storage.header, manager.storage.tasks
    manager.dispatch(header.generation, [manager.storage["t_x#0"].record], tasks)
    until_said(running, "succeeded", "'stale'")
    assert len(running.traces("twice")) == 1
