"""A history with every kind of change, for stores whose answers are lost: none is made twice."""

from __future__ import annotations

from typing import Any, Final

from triggers_core.engine.attempts import BodyFire, Retry
from triggers_core.engine.commands import UpdateMetadata
from triggers_core.engine.protocol import Query
from triggers_core.storages.base import Store
from triggers_core.testing.driver import SessionDriver

CONFIGURATION: Final[dict[str, dict[str, Any]]] = {
    "t_ship": {"after": ["paid", "packed"]},
    "t_mail": {"andEvery": "t_ship"},
    "t_page": {"after": ["ready"], "andEvery": "page"},
}


def every_change(session: SessionDriver) -> list[Any]:
    """Everything that can happen to an open session once; what each change said of itself."""
    said: list[Any] = []
    said.append(session.fire("paid", {"amount": 1}, event_id="stripe:1").status)
    said.append(session.configure(CONFIGURATION).changed)
    said.append(session.fire("paid", {"amount": 1}, event_id="stripe:1").status)
    said.append(session.fire("page", {"number": 1}).scheduled)
    said.append(session.fire("packed").scheduled)
    claimed = session.claim("t_ship#0", attempt=1, generation=session.header.generation)
    said.append(claimed.kwargs())
    session.heartbeat(claimed)
    said.append(session.fail(claimed, {"why": "no van"}, retry=Retry()).scheduled)
    again = session.claim("t_ship#1")
    fires = [BodyFire(trigger="ready", payload=b"{}", event_id="van:1")]
    said.append(session.finish(again, {"parcel": 7}, fires).scheduled)
    session.skip_running(session.claim("t_page#0"))
    said.append(session.fail_by_hand("t_mail#0").instance.status)
    said.append(session.replay("t_mail#0", request="operator 1").instance.replayed_as)
    session.fail(session.claim("t_mail#1"))
    said.append(session.skip("t_mail#1", cascade=True, request="operator 2").instance.status)
    session.commit(UpdateMetadata(instance="t_mail#1", metadata={"ticket": 5}))
    return said


def outcome_of(store: Store, uid: str) -> dict[str, Any]:
    """What a session holds, without times and random ids. The version counts its commits."""
    snapshot = store.load(uid, Query())
    assert snapshot.header is not None
    return {
        "version": snapshot.header.version,
        "counts": snapshot.header.counts,
        "state": snapshot.header.state,
        "events": [(e.number, e.trigger, e.cause, bytes(e.payload)) for e in store.events(uid)],
        "instances": [
            (each.name, each.status, each.attempt, each.taken, each.parent, bytes(each.metadata))
            for each in store.instances(uid)
        ],
    }
