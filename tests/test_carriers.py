"""What events carry for tracers: small, optional, and no part of what a fire decides."""

from __future__ import annotations

from typing import Any

import pytest
from applications import application

from triggers_core import TaskContext, trigger_task
from triggers_core.engine.carriers import CARRIER_SIZE, check_carrier
from triggers_core.engine.commands import Fire
from triggers_core.engine.records import Event, decode_event, encode_record
from triggers_core.exceptions import InvalidArgument
from triggers_core.storages.memory import MemoryStore
from triggers_core.testing import SessionDriver, VirtualClock

CARRIER = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}


def test_what_can_be_stored() -> None:
    assert check_carrier(CARRIER) == CARRIER
    assert check_carrier({}) is None
    assert check_carrier(None) is None
    fits = {"k": "v" * (CARRIER_SIZE - 1)}
    assert check_carrier(fits) == fits


@pytest.mark.parametrize(
    ("carrier", "message"),
    [
        (["traceparent"], "expected a mapping of texts, got \\['traceparent'\\]"),
        ({"a": 1}, "expected a mapping of texts, got 'a': 1"),
        ({b"a": "b"}, "got b'a': 'b'"),
        ({"a": "b\n"}, "'a': expected printable text"),
        ({"a": "\ud800"}, "expected printable text"),
        ({"k": "v" * CARRIER_SIZE}, "1,025 characters, the limit is 1,024"),
    ],
)
def test_what_cannot(carrier: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        check_carrier(carrier)


def test_an_event_without_one_is_stored_as_ever() -> None:
    event = Event(id="e", trigger="paid", number=3, at=5.0)
    assert encode_record(event) == b'{"id":"e","t":"paid","n":3,"at":5.0}'
    assert decode_event(encode_record(event)).carrier is None
    carried = Event(id="e", trigger="paid", number=3, at=5.0, carrier=CARRIER)
    assert decode_event(encode_record(carried)) == carried


def test_what_was_due_before_has_other_causes() -> None:
    clock = VirtualClock(1_000.0)
    session = SessionDriver(MemoryStore(clock))
    session.configure(t_x={"after": ["a", "b"], "within": 60, "otherwise": {"late": "tooLate"}})
    session.fire("a")
    clock.advance(61)
    session.commit(Fire(trigger="c", payload=b"{}", event_id="c", carrier=CARRIER))
    carried = {each.trigger: each.carrier for each in session.events()}
    assert carried == {"a": None, "tooLate": None, "c": CARRIER}


def test_additions_of_plugins_carry_what_the_commit_does() -> None:
    from triggers_core.testing.driver import rules_with

    def add(session: Any, plan: Any) -> None:
        if not session.has_fired("added"):
            plan.fire("added")

    session = SessionDriver(MemoryStore())
    session.rules = rules_with("adds", add)
    session.commit(Fire(trigger="go", payload=b"{}", event_id="g", carrier=CARRIER))
    assert [each.carrier for each in session.events()] == [CARRIER, CARRIER]


def test_a_body_sees_the_records_that_it_waited_for(tmp_path: Any) -> None:
    seen: list[list[tuple[int, str]]] = []

    @trigger_task(name="carriers.look")
    def look(context: TaskContext) -> None:
        for limit in (1_000, 2):
            records = context.event_records(limit)
            seen.append([(each.number, each.trigger) for each in records])

    with application("memory", tmp_path) as app:
        manager = app.manager("s")
        waits: Any = {"after": ["a", {"atLeast": 3, "of": "page"}], "unless": ["x", "y"]}
        manager.update_configuration({"t": {**waits, "run": "carriers.look"}})
        for trigger in ("page", "x", "page", "a", "other", "page"):
            manager.fire(trigger)
        assert manager.join(120)
    events = [(0, "page"), (2, "page"), (3, "a"), (5, "page")]
    assert seen == [events, events[:2]]


def test_a_body_that_spoils_its_carrier_harms_nothing(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    @trigger_task(name="carriers.spoil")
    def spoil(context: TaskContext) -> None:
        context.carrier = {"a": object()}  # type: ignore[dict-item]

    with application("memory", tmp_path) as app:
        manager = app.manager("s")
        manager.update_configuration({"t": {"after": ["a"], "run": "carriers.spoil"}})
        manager.fire("a")
        assert manager.join(120)
        assert manager.storage["t#0"].status == "finished"
        assert [each.carrier for each in manager.storage.events] == [None, None]
    assert "context.carrier is left out" in caplog.text
