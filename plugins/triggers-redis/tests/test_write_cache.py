"""What a process remembers of its last changes is never taken for more than it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from triggers_core.engine.commands import Close, Fire, UpdateMetadata
from triggers_core.engine.protocol import Rules
from triggers_core.testing import SessionDriver, VirtualClock
from triggers_redis import RedisStore, writing


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture(params=["packed", "spread"])
def session(
    make_redis_store: Callable[..., RedisStore],
    clock: VirtualClock,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> SessionDriver:
    if request.param == "spread":
        monkeypatch.setattr(writing, "PACKED_SIZE", 0)
    session = SessionDriver(make_redis_store(clock))
    session.configure(t_ship={"after": ["paid", "packed"]})
    return session


@pytest.fixture
def elsewhere(
    session: SessionDriver, make_redis_store: Callable[..., RedisStore], clock: VirtualClock
) -> SessionDriver:
    """The same session in another process."""
    assert isinstance(session.store, RedisStore)
    return SessionDriver(make_redis_store(clock, namespace=session.store.namespace))


def test_what_is_known_is_not_trusted_when_the_server_has_lost_commits(
    session: SessionDriver, elsewhere: SessionDriver, clock: VirtualClock, client: redis.Redis
) -> None:
    """A replica that takes over may lack the last commits, and version numbers come again."""
    store = session.store
    assert isinstance(store, RedisStore)
    for _ in range(3):
        session.fire("paid")
    keys = store.keyspace.session(session.uid).names[:-1]
    before = [client.dump(key) for key in keys]
    session.fire("paid")
    for key, dumped in zip(keys, before, strict=True):
        client.delete(key)
        if dumped is not None:
            client.restore(key, 0, dumped)
    clock.advance(1)
    elsewhere.fire("packed")  # a commit of the same version as the one that was lost
    assert session.fire("paid").status == "recorded"
    assert session.fired()[-2:] == ["packed", "paid"]
    assert session.header.latest["packed"] == session.header.events - 2


def test_leases_that_were_renewed_meanwhile_are_seen(
    session: SessionDriver, elsewhere: SessionDriver, clock: VirtualClock
) -> None:
    """A heartbeat changes nothing but the due index, and so no version."""
    session.fire("paid")
    session.fire("packed")
    claimed = elsewhere.claim("t_ship#0")
    lease = session.rules.timing.lease
    for number in range(3):
        session.commit(UpdateMetadata(instance="t_ship#0", metadata={"seen": number}))
    clock.advance(lease / 2)
    elsewhere.heartbeat(claimed)
    clock.advance(lease * 0.75)
    session.commit(UpdateMetadata(instance="t_ship#0", metadata={"seen": "still"}))
    session.recover("t_ship#0")
    assert session.status("t_ship#0") == "running"
    elsewhere.finish(claimed)
    assert session.metadata("t_ship#0") == {"seen": "still"}


def test_no_change_is_refused_for_what_is_only_remembered(
    session: SessionDriver, elsewhere: SessionDriver
) -> None:
    for _ in range(3):
        session.fire("paid")
    session.commit(Close())
    elsewhere.store.delete(session.uid)
    elsewhere.fire("begins anew")
    assert session.fire("paid").status == "recorded"
    assert session.fired() == ["begins anew", "paid"]


@pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
def test_a_change_overwrites_nothing_that_another_process_did_while_it_was_decided(
    session: SessionDriver, elsewhere: SessionDriver, known: bool
) -> None:
    if not known:
        session.store.delete(session.uid)

    class Fires:
        def decide(self, uid: str, rules: Rules) -> Any:
            fire = Fire(trigger="paid", payload=b"{}", event_id="e")
            plan = yield from fire.decide(uid, rules)
            if not told:
                told.append(elsewhere.fire("packed"))
            return plan

    told: list[Any] = []
    session.commit(Fires())
    assert session.fired() == ["packed", "paid"]
    assert not known or session.status("t_ship#0") == "scheduled"
