"""The tasks of an explanation as trees, and the explanation of a single instance."""

from __future__ import annotations

import json
from typing import Any

import pytest

from triggers_core.explain import explain
from triggers_core.storages.memory import MemoryStorage, MemoryStore
from triggers_core.testing import SessionDriver, VirtualClock
from triggers_core.views.tasks import tasks_data

HOUR = 3_600


@pytest.fixture
def session() -> SessionDriver:
    return SessionDriver(MemoryStore(VirtualClock()))


def tasks(session: SessionDriver, *only: str) -> list[dict[str, Any]]:
    storage = MemoryStorage(session.uid, session.store)  # type: ignore[arg-type]
    task, instance = only or (None, None)
    explained = explain(storage, task, instance_name=instance)
    found = tasks_data(explained, session.store.now())
    assert json.loads(json.dumps(found)) == found
    return found


def outline(part: dict[str, Any]) -> list[Any]:
    """What holds, and in which words."""
    own = f"{'x' if part['holds'] else ' '} {part['text']} {part['has']}/{part['needs']}"
    return [own, *(outline(each) for each in part["of"])]


def test_a_condition_is_a_tree(session: SessionDriver) -> None:
    packed = {"atLeast": "placed.items", "of": "packed"}
    session.configure(
        t_x={"after": ["placed", {"anyOf": ["paid", "agreed"]}, packed], "unless": ["stop"]}
    )
    [task] = tasks(session)
    assert outline(task["condition"])[3] == ["  packed: 0 of ? 0/None"]
    session.fire("placed", {"items": 3})
    session.fire("packed")
    [task] = tasks(session)
    assert task["condition"] is None
    [instance] = task["instances"]
    told = json.dumps(outline(instance["condition"]))
    assert told.startswith('["  all of these 1/3", ["x placed, since')
    assert '["  one of these 0/1", ["  paid 0/1"], ["  agreed 0/1"]]' in told
    assert '"  packed: 1 of 3, since' in told
    assert outline(instance["called_off_by"]) == ["  stop 0/1"]


def test_what_comes_by_itself(session: SessionDriver) -> None:
    session.configure(
        t_late={"after": ["a", "b"], "within": "3 hours"},
        t_held={"after": ["a"], "waiting": "2 hours"},
    )
    session.fire("a")
    at = session.store.now()
    late, held = (task["instances"][0]["due"] for task in tasks(session))
    assert late == {"at": at + 3 * HOUR, "then": "late", "left": "3 hours"}
    assert held == {"at": at + 2 * HOUR, "then": "scheduled", "left": "2 hours"}
    session.store.clock.advance(5 * HOUR)  # type: ignore[attr-defined]
    late, held = (task["instances"][0]["due"] for task in tasks(session))
    assert (late["left"], held["left"]) == (None, None)


def test_what_is_over_has_no_condition_any_more(session: SessionDriver) -> None:
    session.configure(t_x={"after": ["a"], "unless": ["stop"]})
    session.fire("a")
    session.run("t_x#0")
    [instance] = tasks(session)[0]["instances"]
    kept = [instance[key] for key in ("status", "condition", "called_off_by", "due")]
    assert kept == ["finished", None, None, None]


def test_secrets_in_texts_are_masked(session: SessionDriver) -> None:
    session.configure(t_x={"after": ["a"]})
    session.fire("a")
    error = {"type": "Refused", "message": "redis://:hunter2@host/0"}
    session.fail_now("t_x#0", {"error": error})
    [instance] = tasks(session)[0]["instances"]
    assert "redis://:***@host/0" in instance["why"]


def test_one_instance_of_many(session: SessionDriver) -> None:
    session.configure(t_x={"after": ["open"], "andEvery": "page"})
    session.fire("open")
    for _ in range(40):
        session.fire("page")
    session.run_all()
    [task] = tasks(session)
    assert "t_x#20" not in [each["name"] for each in task["instances"]]
    [task] = tasks(session, "t_x", "t_x#20")
    assert [each["name"] for each in task["instances"]] == ["t_x#20"]
    assert task["instances"][0]["why"].startswith("finished")
