"""The same tests of users' workflows on every storage of ours, and on a real Celery worker."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from celery import current_task

from triggers_core import TaskContext, TriggerTask
from triggers_core.exceptions import WrongState
from triggers_core.testing import Triggers

pytestmark = pytest.mark.triggers_storage("memory", "sqlite", "redis", "postgres", "celery")

ORDER = {
    "t_ship": {"after": ["paid", "packed"], "unless": ["cancelled"], "run": "shop.Ship"},
    "t_tell": {"after": ["t_ship"], "run": "shop.Tell"},
}
REMIND = {"t_remind": {"after": ["placed"], "unless": ["paid"], "waiting": "2 days", "run": "x.R"}}
LATE = {
    "t_ship": {"after": ["placed", "paid"], "within": "1 day", "otherwise": "late", "run": "x.S"},
    "t_refund": {"after": ["late"], "run": "x.Refund"},
}


class Double(TriggerTask):
    """A real body, which tells where it ran."""

    name = "everywhere.Double"

    def _run(self, context: TaskContext) -> dict[str, Any]:
        context.fire("counted")
        return {
            "twice": 2 * context.trigger_kwargs["given"]["number"],
            "thread": threading.current_thread().name,
            "celery": current_task.name if current_task else "",
        }


def test_a_combination(triggers: Triggers) -> None:
    s = triggers.session(ORDER)
    s.fire("paid", {"amount": Decimal("19.90"), "at": datetime(2026, 1, 2, tzinfo=UTC)})
    assert s.ran("t_ship") == 0
    s.fire("packed", {"boxes": [1, 2], "seal": b"\x00"})
    assert s.ran("t_ship") == s.ran("t_tell") == 1
    assert s.instance("t_ship").kwargs == {
        "paid": {"amount": Decimal("19.90"), "at": datetime(2026, 1, 2, tzinfo=UTC)},
        "packed": {"boxes": [1, 2], "seal": b"\x00"},
    }


def test_what_was_called_off(triggers: Triggers) -> None:
    s = triggers.session(ORDER)
    for trigger in ("paid", "cancelled", "packed"):
        s.fire(trigger)
    assert s.ran("t_ship") == 0
    assert s.status("t_ship") == "abandoned"


def test_a_retry_cools_down(triggers: Triggers) -> None:
    s = triggers.session(ORDER)
    s.retries("t_ship", times=2, cooldown=3600)
    s.fire("paid")
    s.fire("packed")
    s.advance("59 minutes")
    assert s.ran("t_ship") == 1
    s.advance("61 minutes")
    assert s.ran("t_ship") == 3
    assert s.ran("t_tell") == 1


def test_a_hold(triggers: Triggers) -> None:
    s, paid = triggers.session(REMIND), triggers.session(REMIND)
    s.fire("placed")
    paid.fire("placed")
    s.advance("47 hours")
    paid.fire("paid")
    assert s.ran("t_remind") == 0
    s.advance("1 hour")
    assert (s.ran("t_remind"), paid.ran("t_remind")) == (1, 0)


def test_a_deadline_and_what_follows(triggers: Triggers) -> None:
    s = triggers.session(LATE)
    began = triggers.clock.now
    s.fire("placed")
    s.advance("30 days")
    assert (s.ran("t_ship"), s.fired("late"), s.ran("t_refund")) == (0, 1, 1)
    assert s.instance("t_refund").moment == began + 86_400


def test_failure_and_replay(triggers: Triggers) -> None:
    s = triggers.session(ORDER)
    s.fails("t_ship", ConnectionError("no parcel service"), times=1)
    s.fire("paid")
    s.fire("packed")
    assert s.status("t_ship") == "failed"
    assert s.instance("t_ship").metadata["error"]["message"] == "no parcel service"
    assert s.replay("t_ship").status == "finished"
    assert s.ran("t_tell") == 1


def test_a_worker_dies_in_a_body(triggers: Triggers) -> None:
    s = triggers.session(ORDER)
    s.dies("t_ship")
    s.fire("paid")
    s.fire("packed")
    assert s.status("t_ship") == "running"
    s.advance("59 seconds")
    assert s.ran("t_ship") == 0
    s.advance("1 second")
    assert s.ran("t_ship") == s.ran("t_tell") == 1
    assert s.instance("t_ship").attempt == 2


def test_any_order(triggers: Triggers) -> None:
    triggers.assert_any_order(ORDER, ["paid", "packed"], {"t_ship": 1}, duplicates="redelivered")


def test_a_body_of_the_application(triggers: Triggers) -> None:
    s = triggers.session({"t_double": {"andEvery": "given", "run": Double.name}})
    s.returns("t_double", {"twice": 0}, times=1)
    s.fire("given", {"number": 21})
    s.fire("given", {"number": 21})
    assert s.result("t_double#0") == {"twice": 0}
    assert s.fired("counted") == 1
    found = s.result("t_double#1")
    assert found is not None
    assert found["twice"] == 42
    celery = triggers.place_name == "celery"
    assert found["celery"] == (Double.name if celery else "")
    assert (found["thread"] == threading.current_thread().name) is not celery


def test_nothing_is_done_in_a_pause(triggers: Triggers) -> None:
    s = triggers.session(ORDER)
    with triggers.pause():
        s.fire("paid")
        s.fire("packed")
        assert s.status("t_ship") == "scheduled"
    assert s.ran("t_tell") == 1


def test_a_crash_at_an_operation(triggers: Triggers) -> None:
    s = triggers.session(ORDER)
    s.fire("paid")
    if triggers.place_name == "celery":  # bodies run in the worker, where none can be placed
        with pytest.raises(WrongState, match="celery"), triggers.crash(at=2):
            raise AssertionError("it is refused")
        return
    with triggers.crash(at=2) as points:
        s.fire("packed", event_id="1")
    assert points.dead
    assert s.fire("packed", event_id="1").status == "duplicate"
    s.advance("2 minutes")
    assert s.ran("t_ship") == 1


def test_the_sessions_of_another_test_are_gone(triggers: Triggers) -> None:
    assert triggers.place.store.next_due() is None
    s = triggers.session(ORDER, uid="session 1")  # as the first one of each test above
    assert s.status("t_ship") == "missing"
