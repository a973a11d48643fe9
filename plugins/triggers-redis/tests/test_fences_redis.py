"""What the scripts compare by themselves: a lease that is not one's own stays as it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from triggers_core.exceptions import LeaseLost
from triggers_core.testing import SessionDriver, VirtualClock
from triggers_redis import RedisStore, writing


@pytest.mark.parametrize("size", [0, writing.PACKED_SIZE], ids=["spread", "packed"])
def test_a_heartbeat_of_a_lost_attempt_renews_nothing(
    make_redis_store: Callable[..., RedisStore], monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(writing, "PACKED_SIZE", size)
    clock = VirtualClock()
    session = SessionDriver(make_redis_store(clock))
    session.configure(t_ship={"after": ["paid"]})
    session.fire("paid")
    lost = session.claim("t_ship#0")
    clock.advance(session.rules.timing.lease)
    session.recover("t_ship#0")
    session.claim("t_ship#0")
    before = session.instance("t_ship#0").lease_until
    clock.advance(session.rules.timing.lease / 2)
    with pytest.raises(LeaseLost):
        session.heartbeat(lost)
    assert session.instance("t_ship#0").lease_until == before
    assert session.store.next_due() == pytest.approx(session.rules.timing.lease / 2)
