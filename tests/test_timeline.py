"""The timeline of a session: what each event was, and for whom."""

from __future__ import annotations

import json
from typing import Any

import pytest

from triggers_core.engine.commands import Close, Skip
from triggers_core.exceptions import SessionNotFound
from triggers_core.storages.memory import MemoryStorage, MemoryStore
from triggers_core.testing import SessionDriver, VirtualClock
from triggers_core.views.timeline import timeline

HOUR = 3_600


class Told(SessionDriver):
    """A session on a clock of its own, and what its timeline says."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.memory = MemoryStore(self.clock)
        super().__init__(self.memory)

    def timeline(self, **options: Any) -> dict[str, Any]:
        found = timeline(MemoryStorage(self.uid, self.memory), **options)
        assert json.loads(json.dumps(found)) == found
        return found

    def told(self, number: int) -> list[str]:
        """What is said of an event."""
        [event] = [each for each in self.timeline()["events"] if each["number"] == number]
        return [each["text"] for each in event["arrivals"]]

    def kinds(self, number: int) -> list[str]:
        [event] = [each for each in self.timeline()["events"] if each["number"] == number]
        return [each["what"] for each in event["arrivals"]]


@pytest.fixture
def session() -> Told:
    return Told()


def test_what_was_taken(session: Told) -> None:
    session.configure(t_x={"after": ["a", "b"], "unless": ["c"]}, t_y={"after": ["a"]})
    session.fire("a")
    session.fire("b")
    assert session.told(0) == [
        "taken by t_x#0, which began",
        "taken by t_y#0, which began and which then had all that it waited for",
    ]
    assert session.told(1) == ["taken by t_x#0, which then had all that it waited for"]
    assert session.kinds(1) == ["completed"]
    session.fire("b")
    assert session.told(2) == ["came when t_x#0 had all that it waited for"]
    session.fire("c")
    assert session.told(3) == ["came too late to call t_x#0 off"]
    assert session.kinds(3) == ["tooLate"]


def test_what_called_off(session: Told) -> None:
    session.configure(t_x={"after": ["a", "b"], "unless": ["c", "d"]})
    session.fire("a")
    session.fire("c")
    assert session.told(1) == ["noted, against its unless, by t_x#0"]
    session.fire("d")
    assert session.told(2) == ["called t_x#0 off"]
    session.fire("b")
    assert session.told(3) == ["came when t_x#0 had been called off"]


def test_what_came_too_late(session: Told) -> None:
    session.configure(t_x={"after": ["a", "b"], "within": "1 hour", "otherwise": {"late": "slow"}})
    session.fire("a")
    session.clock.advance(2 * HOUR)
    session.fire("b")
    late, fired = session.timeline()["events"][1], session.timeline()["events"][0]
    assert session.told(fired["number"]) == ["came too late for t_x#0"]
    assert (late["trigger"], late["cause"]) == ("slow", "t_x#0")
    assert late["arrivals"] == []


def test_what_nobody_waits_for(session: Told) -> None:
    session.fire("payed")
    assert session.told(0) == ["the first configuration will look at it"]
    session.configure(t_x={"after": ["paid"]})
    assert session.told(0) == ["no task waits for it: did you mean paid?"]
    session.fire("p\u0430id")  # looks like it, in Cyrillic
    assert session.kinds(1) == ["unheard"]
    session.fire("zzz")
    assert session.told(2) == ["no task waits for it"]


def test_what_fails_a_test(session: Told) -> None:
    paid = {"trigger": "paid", "where": {"status": "ok", "token": "x"}}
    session.configure(t_x={"after": [paid]})
    session.fire("paid", {"status": "bad"})
    session.fire("paid", {"status": "ok", "token": "tok_1"})
    assert session.told(0) == [
        "not what t_x waits for: it came with status 'bad', not 'ok'",
    ]
    assert session.told(1) == ["not what t_x waits for: it came with token ***, not ***"]


def test_what_there_was_no_room_for(session: Told) -> None:
    session.configure(t_x={"after": ["a", "b"]})
    session.fire("a")
    session.fire("a")
    assert session.told(1) == ["not taken by t_x#0, which has event 0"]


def test_what_a_later_one_replaced(session: Told) -> None:
    session.configure(t_x={"after": ["price", "b"], "keeping": {"price": "latest"}})
    session.fire("price")
    session.fire("price")
    assert session.told(0) == ["taken by t_x#0, until a later one came"]
    assert session.told(1) == ["taken by t_x#0"]
    session.fire("b")
    assert session.told(0) == ["taken by t_x#0, until a later one came"]
    assert session.told(1) == ["taken by t_x#0"]


def test_what_came_before_its_task(session: Told) -> None:
    session.configure(t_y={"after": ["z"]})
    session.fire("a")
    session.configure(t_x={"after": ["a"]})
    assert session.told(0) == ["fired before t_x waited for it"]


def test_what_was_counted(session: Told) -> None:
    session.configure(t_x={"after": [{"atLeast": 2, "of": "packed"}]})
    session.fire("packed")
    assert session.told(0) == ["counted by t_x#0"]
    session.fire("packed")
    assert session.told(1) == ["counted by t_x#0, which then had all that it waited for"]
    session.fire("packed")
    assert session.told(2) == ["came when t_x#0 had all that it waited for"]


def test_cascades_stand_below_what_led_to_them(session: Told) -> None:
    session.configure(t_x={"after": ["a"]}, t_y={"after": ["t_x"]}, t_z={"after": ["b"]})
    session.fire("a")
    session.fire("b")
    for name in ("t_x#0", "t_y#0", "t_z#0"):
        session.run(name)
    assert [(each["trigger"], each["level"]) for each in session.timeline()["events"]] == [
        ("b", 0),
        ("t_z", 1),
        ("a", 0),
        ("t_x", 1),
        ("t_y", 2),
    ]
    [t_y] = [each for each in session.timeline()["events"] if each["trigger"] == "t_y"]
    assert (t_y["led_by"], t_y["cause"]) == (2, "t_y#0")


def test_it_is_read_page_by_page(session: Told) -> None:
    session.configure(t_x={"after": [{"atLeast": 3, "of": "packed"}]})
    for _ in range(10):
        session.fire("packed", {"secret": 1, "note": "x" * 10})
    found = session.timeline(limit=4)
    assert [each["number"] for each in found["events"]] == [9, 8, 7, 6]
    assert (found["total"], found["earlier"]) == (10, 6)
    found = session.timeline(limit=4, before=6)
    assert [each["number"] for each in found["events"]] == [5, 4, 3, 2]
    # What lies before the page is read, to know which one was the third.
    assert found["events"][-1]["arrivals"][0]["what"] == "completed"
    assert found["events"][0]["arrivals"][0]["what"] == "after"
    found = session.timeline(limit=4, before=2)
    assert (len(found["events"]), found["earlier"]) == (2, None)
    assert session.timeline(limit=4, before=0)["events"] == []
    assert session.timeline(limit=4, before=999)["events"][0]["number"] == 9


def test_what_was_done_by_hand_stands_where_it_was_done(session: Told) -> None:
    session.configure(t_x={"after": ["a"]})
    for number in range(6):
        session.fire("a", event_id=f"e{number}")
        if number == 3:
            session.fail_now("t_x#0")
            session.commit(Skip(instance="t_x#0", by="alice"))
        session.clock.advance(1)
    session.commit(Close(by="bob"))

    def acts(**options: Any) -> list[tuple[str, str, int | None]]:
        found = session.timeline(**options)["acts"]
        return [(each["what"], each["by"], each["above"]) for each in found]

    assert acts() == [("closed", "bob", 5), ("skipped", "alice", 3)]
    assert acts(limit=2) == [("closed", "bob", 5)]
    assert acts(limit=2, before=4) == [("skipped", "alice", 3)]
    assert acts(limit=2, before=2) == []


def test_many_acts_are_bounded(session: Told) -> None:
    session.configure(t_x={"after": [], "andEvery": "a"})
    for number in range(5):
        session.fire("a", event_id=f"e{number}")
    for number in range(5):
        session.fail_now(f"t_x#{number}")
        session.clock.advance(1)
        session.commit(Skip(instance=f"t_x#{number}", by="alice"))
    found = session.timeline(limit=3)
    assert [each["instance"] for each in found["acts"]] == ["t_x#4", "t_x#3", "t_x#2"]
    assert found["more_acts"] == 2
    assert session.timeline()["more_acts"] == 0


def test_secrets_and_what_is_large(session: Told) -> None:
    session.configure(t_x={"after": ["a"]})
    session.fire("a", {"token": "tok_1", "n": 1})
    session.fire("a", {"text": "x" * 9_000})
    large, small = session.timeline()["events"]
    assert small["kwargs"] == {"token": "***", "n": 1}
    assert session.timeline(secrets=True)["events"][1]["kwargs"]["token"] == "tok_1"
    assert large["kwargs"] is None
    assert large["size"] > 9_000


def test_of_many_that_take_it_some_are_named(session: Told) -> None:
    session.configure(**{f"t_{n}": {"after": ["a", "b"]} for n in range(30)})
    session.fire("a")
    told = session.told(0)
    assert len(told) == 21
    assert told[-1] == "and by 10 more instances"


def test_there_has_to_be_a_session(session: Told) -> None:
    with pytest.raises(SessionNotFound):
        session.timeline()


def test_a_session_that_is_deleted_while_it_is_read(
    session: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.fire("a")
    session.fire("b")
    load = session.memory.load

    def then_deleted(*arguments: Any) -> Any:
        found = load(*arguments)
        session.memory.delete(session.uid)
        return found

    monkeypatch.setattr(session.memory, "load", then_deleted)
    with pytest.raises(SessionNotFound, match="any more"):
        session.timeline(before=1)
