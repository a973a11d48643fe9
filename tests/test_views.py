"""Views: what storages hold, as data that JSON can hold."""

from __future__ import annotations

import json

import pytest

from triggers_core.engine.protocol import Query
from triggers_core.exceptions import SessionNotFound
from triggers_core.storages.memory import MemoryStorage, MemoryStore
from triggers_core.testing import SessionDriver, VirtualClock
from triggers_core.views.session import (
    event_data,
    instance_data,
    session_data,
    summary_data,
)
from triggers_core.views.stuck import (
    Waits,
    count_waits,
    find_overdue,
    list_all,
    list_stuck,
    never_fired,
)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def store(clock: VirtualClock) -> MemoryStore:
    """``a`` has failed, ``b`` waits for a trigger, and nobody claims what ``c`` has scheduled."""
    store = MemoryStore(clock)
    for uid in "abc":
        session = SessionDriver(store, uid)
        session.configure(t_x={"after": ["go", "paid"]})
        session.fire("go", {"token": "tok_1", "amount": 1})
        if uid != "b":
            session.fire("paid")
        if uid == "a":
            session.fail_now("t_x#0")
        clock.advance(1)
    return store


def test_a_session(store: MemoryStore) -> None:
    data = session_data(MemoryStorage("a", store))
    assert json.loads(json.dumps(data)) == data
    assert data["tasks"]["t_x"]["failed"] == 1
    assert data["unresolved"] == [{"name": "t_x#0", "status": "failed"}]
    assert data["fired"] == ["go", "paid"]
    with pytest.raises(SessionNotFound, match="there is no session 'z'"):
        session_data(MemoryStorage("z", store))


def test_secrets_are_masked_unless_asked_for(store: MemoryStore) -> None:
    storage = MemoryStorage("a", store)
    event, instance = storage.events[0], storage["t_x#0"]
    assert event_data(event)["kwargs"] == {"token": "***", "amount": 1}
    assert event_data(event, secrets=True)["kwargs"] == {"token": "tok_1", "amount": 1}
    assert instance_data(instance)["kwargs"]["go"] == {"token": "***", "amount": 1}
    assert instance_data(instance, secrets=True)["kwargs"]["go"]["token"] == "tok_1"


def test_what_is_stuck(store: MemoryStore, clock: VirtualClock) -> None:
    clock.advance(100_000)
    assert [each.uid for each in list_stuck(store).sessions] == ["a", "c", "b"]
    assert [each["uid"] for each in list_stuck(store, failed=True).data] == ["a"]
    assert [each["overdue"] for each in list_stuck(store, overdue=True).data] == [1]
    page = list_stuck(store, limit=2)
    assert [each.uid for each in page.sessions] == ["a", "c"]
    assert page.more
    assert not list_stuck(store, limit=3).more
    assert list_stuck(store, failed=True).data[0] == summary_data(store.sessions(failed=True)[0])


def test_late_is_not_overdue(store: MemoryStore, clock: VirtualClock) -> None:
    clock.advance(100_000)
    assert find_overdue(store).instances == {"c": 1}
    assert find_overdue(store, grace=200_000).instances == {}


def test_all_sessions_page_by_page(store: MemoryStore) -> None:
    first = list_all(store, limit=2)
    assert ([each.uid for each in first.sessions], first.more) == (["a", "b"], True)
    rest = list_all(store, limit=2, after="b")
    assert ([each.uid for each in rest.sessions], rest.more) == (["c"], False)


def test_a_session_that_cannot_be_read_hides_no_other(
    store: MemoryStore, clock: VirtualClock
) -> None:
    clock.advance(100_000)
    session = SessionDriver(store, "d")
    session.configure(t_x={"after": ["go"]})
    session.fire("go")
    clock.advance(100_000)
    store._sessions["d"].header = b"\x00"
    found = find_overdue(store)
    assert list(found.sessions) == ["c"]
    assert len(found.unreadable) == 1
    assert "d" in found.unreadable[0]


def test_what_a_whole_store_waits_for(store: MemoryStore) -> None:
    waits = count_waits(store, MemoryStorage("a", store).configuration)
    assert (waits.sessions, waits.failed, waits.failed_example) == (1, 1, "a")
    assert [(each.task, each.trigger, each.example) for each in waits.waits] == [
        ("t_x", "paid", "b")
    ]
    assert never_fired(store, ["paid", "packed"]) == ["packed"]


# -- the language of conditions --------------------------------------------------------------------


@pytest.fixture
def words(clock: VirtualClock) -> SessionDriver:
    session = SessionDriver(MemoryStore(clock), "w")
    session.configure(
        t_ship={
            "after": ["placed", {"anyOf": ["paid", "invoiced"]}, {"atLeast": 2, "of": "packed"}],
            "within": "1 hour",
        },
        t_remind={"after": ["placed"], "waiting": 60},
        t_count={"after": ["edited", "saved"], "everyTime": True},
    )
    return session


def stuck(session: SessionDriver) -> Waits:
    return count_waits(session.store, session.store.load(session.uid, Query()).configuration)


def waits_of(session: SessionDriver) -> list[tuple[str, str]]:
    return sorted((each.task, each.trigger) for each in stuck(session).waits)


def test_what_conditions_wait_for(words: SessionDriver) -> None:
    words.fire("placed")
    words.fire("packed")
    assert waits_of(words) == [("t_ship", "invoiced"), ("t_ship", "packed"), ("t_ship", "paid")]
    words.fire("packed")
    assert waits_of(words) == [("t_ship", "invoiced"), ("t_ship", "paid")]
    [first, _] = stuck(words).waits
    assert first.due_at == 1_000_000_000.0 + 3_600


def test_what_waits_for_the_next_time_is_not_stuck(words: SessionDriver) -> None:
    words.configure(t_ship={"after": ["never"]}, t_remind={"after": ["never"]})
    words.fire("edited")
    assert waits_of(words) == [("t_count", "saved")]
    words.fire("saved")
    words.finish(words.claim("t_count#0"))
    words.fire("edited")
    assert stuck(words).sessions == 0
    [summary] = words.store.sessions()
    assert summary_data(summary)["unstarted"] == 0
    data = session_data(MemoryStorage("w", words.store))  # type: ignore[arg-type]
    assert data["unresolved"] == []
    assert data["tasks"]["t_count"]["unstarted"] == 1


def test_what_is_held_back_is_not_stuck(words: SessionDriver) -> None:
    words.configure(t_ship={"after": ["never"]})
    words.fire("placed")
    assert stuck(words).sessions == 0


def test_moments_that_come(words: SessionDriver) -> None:
    words.fire("placed")
    storage = MemoryStorage("w", words.store)  # type: ignore[arg-type]
    assert session_data(storage)["coming"] == [
        {"name": "t_remind#0", "at": "2001-09-09T01:47:40+00:00", "then": "scheduled"},
        {"name": "t_ship#0", "at": "2001-09-09T02:46:40+00:00", "then": "late"},
    ]
    data = instance_data(storage["t_ship#0"])
    assert (data["due_at"], data["moment"], data["why"]) == (
        "2001-09-09T02:46:40+00:00",
        None,
        None,
    )


def test_moments_that_nobody_looked_at_are_overdue(
    words: SessionDriver, clock: VirtualClock
) -> None:
    words.fire("placed")
    clock.advance(61)
    assert find_overdue(words.store).instances == {"w": 1}
    clock.advance(3_600)
    assert find_overdue(words.store).instances == {"w": 2}
    words.recover()
    assert find_overdue(words.store).instances == {}
    storage = MemoryStorage("w", words.store)  # type: ignore[arg-type]
    data = instance_data(storage["t_ship#0"])
    assert (data["due_at"], data["moment"], data["why"]) == (
        None,
        "2001-09-09T02:46:40+00:00",
        "late",
    )
