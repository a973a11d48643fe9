"""Taken events: what an instance's numbers and extents stand for, as a body gets it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from triggers_core import payloads
from triggers_core.engine.machine import Draft
from triggers_core.engine.records import Event, Extent, Instance, Source, Status
from triggers_core.engine.taken_events import (
    events_of,
    kwargs_of,
    merge_params,
    recorded_kwargs,
    seen_events,
)
from triggers_core.exceptions import InvalidPayload
from triggers_core.limits import Limits
from triggers_core.storages.memory import MemoryStore
from triggers_core.storages.session import TaskInstance
from triggers_core.testing import SessionDriver, VirtualClock
from triggers_core.testing.storage.moments import ByHand, new_instance


def encoded(value: Any) -> msgspec.Raw:
    return msgspec.Raw(payloads.encode(value, Limits()))


def an_event(number: int, trigger: str, **kwargs: Any) -> Event:
    return Event(
        id=f"e{number}",
        number=number,
        trigger=trigger,
        payload=encoded(kwargs),
        at=100.0 + number,
        source=Source.PLUGIN,
        cause="p",
    )


EVENTS = {
    each.number: each
    for each in (
        an_event(0, "order", pages=2),
        an_event(1, "page", n=1),
        an_event(2, "order", pages=9),
        an_event(3, "page", n=2, good=True),
        an_event(4, "page", n=3, good=True),
        an_event(5, "page", n=4, good=True),
        an_event(6, "stop"),
    )
}


def an_instance(**fields: Any) -> Instance:
    extents = {
        "page": Extent(amount=3, first=1, last=4, trigger="page"),
        "good": Extent(amount=2, first=3, last=5, trigger="page", where=encoded({"good": True})),
        "none": Extent(amount=0, first=-1, last=-1, trigger="page"),
        "stop": Extent(amount=1, first=6, last=6, trigger="stop", unless=True),
    }
    given = {"taken": {"order": [0]}, "noted": {"halt": [6]}, "extents": extents, **fields}
    return Instance(task="t_x", number=0, **given)


def test_a_body_gets_a_dict_for_one_event_and_a_list_for_an_extent() -> None:
    assert kwargs_of(an_instance(), EVENTS) == {
        "order": {"pages": 2},
        "page": [{"n": 1}, {"n": 2, "good": True}, {"n": 3, "good": True}],
        "good": [{"n": 2, "good": True}, {"n": 3, "good": True}],
        "none": [],
    }


def test_the_events_themselves() -> None:
    def numbers(key: str) -> list[int]:
        return [each.number for each in events_of(an_instance(), key, EVENTS)]

    expected = {"order": [0], "page": [1, 3, 4], "good": [3, 4], "none": []}
    unless = {"stop": [6], "halt": [6]}
    for key, each in {**expected, **unless, "unknown": []}.items():
        assert numbers(key) == each, key
    for key, each in {**expected, "stop": [], "halt": [], "unknown": []}.items():
        assert [seen.number for seen in seen_events(an_instance(), key, EVENTS)] == each, key
    (seen,) = seen_events(an_instance(), "order", EVENTS)
    assert (seen.at, seen.kwargs, seen.trigger) == (100.0, {"pages": 2}, "order")
    assert (seen.id, seen.source, seen.cause) == ("e0", "plugin", "p")


def test_a_replay_has_its_own_kwargs_and_the_recorded_events() -> None:
    other = {"order": {"pages": 1}, "page": [{"n": 7}]}
    instance = an_instance(replaced=encoded(other))
    assert recorded_kwargs(instance, EVENTS) == other
    assert [seen.number for seen in seen_events(instance, "page", EVENTS)] == [1, 3, 4]


def test_with_params_go_under_each_member_of_a_list() -> None:
    under = {"page": {"lang": "en", "n": 0, "deep": {"a": 1}}, "absent": {"x": 1}, "none": {"y": 2}}
    recorded = {"page": [{"n": 1}, {"deep": {"b": 2}}], "order": {"list": [{"n": 1}]}, "none": []}
    assert merge_params(under, recorded) == {
        "page": [
            {"lang": "en", "n": 1, "deep": {"a": 1}},
            {"lang": "en", "n": 0, "deep": {"a": 1, "b": 2}},
        ],
        "absent": {"x": 1},
        "order": {"list": [{"n": 1}]},
        "none": [],
    }
    merged = merge_params({"order": {"list": {"n": 0}}}, recorded)
    assert merged["order"] == {"list": [{"n": 1}]}, "a list within kwargs is a value like others"
    merged["page"][0]["n"] = 5
    assert recorded["page"] == [{"n": 1}, {"deep": {"b": 2}}], "a body may change what it gets"


def test_kwargs_in_place_of_several_events() -> None:
    replacement = {"page": [{"n": 1}, {}], "order": {"pages": 1}, "none": []}
    found = payloads.decode(payloads.encode_replacement(replacement, Limits()))
    assert found == replacement
    for wrong in ([1], [{}, []], "x", None):
        with pytest.raises(InvalidPayload, match=r"replacement_kwargs\['page'\].*list of mappings"):
            payloads.encode_replacement({"page": wrong}, Limits())


def test_a_stored_instance_tells_what_it_took_and_when() -> None:
    clock = VirtualClock()
    session = SessionDriver(MemoryStore(clock))
    session.configure(t_x={"after": ["never"]})
    for event in EVENTS.values():
        session.fire(event.trigger, payloads.decode(bytes(event.payload)))
        clock.advance(1)

    def create(draft: Draft) -> None:
        made = new_instance(draft, "t_x")
        model = an_instance()
        made.taken, made.noted, made.extents = model.taken, model.noted, model.extents

    def end(draft: Draft) -> None:
        instance = draft.instance("t_x", 0)
        instance.scheduled_by, instance.late = 6, True
        draft.set_status(instance, Status.ABANDONED)

    session.commit(ByHand(create))
    before = TaskInstance(session.store, session.uid, session.instance("t_x#0"))
    assert (before.moment, before.why) == (None, None)
    session.commit(ByHand(end, "t_x#0"))
    instance = TaskInstance(session.store, session.uid, session.instance("t_x#0"))
    assert instance.taken == {
        "order": [0],
        "page": [1, 3, 4],
        "good": [3, 4],
        "none": [],
        "halt": [6],
        "stop": [6],
    }
    assert instance.kwargs["page"] == kwargs_of(an_instance(), EVENTS)["page"]
    assert instance.why == "late"
    assert instance.moment == session.events()[6].at
    instance.record.moment = 5.0
    assert instance.moment == 5.0
