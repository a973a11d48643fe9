"""What a waiting session takes of the server's memory, by its own account."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from triggers_core import payloads
from triggers_core.engine.commands import Fire
from triggers_core.engine.configuration import parse_configuration
from triggers_core.engine.names import new_id
from triggers_core.engine.protocol import Rules
from triggers_core.limits import Limits
from triggers_redis import RedisStore
from triggers_redis.testing import RedisServer

SESSIONS = 10_000
GOAL = 1_500  # bytes; a Celery chord that waits for its third task takes 4,100

CONFIGURATION = parse_configuration(
    {"t_ship": {"after": ["paid", "packed", "approved"], "run": "shop.Ship"}}
)


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("memory")) as server:
        yield server


def test_ten_thousand_waiting_sessions(
    server: RedisServer, make_redis_store: Callable[..., RedisStore]
) -> None:
    """Two of three events in, with 300 bytes of kwargs each, in the default number of shards."""
    store = make_redis_store(url=server.url, namespace="triggers", shards=None)
    payload = payloads.encode({"text": "x" * 289}, Limits())
    assert len(payload) == 300
    rules = Rules(default_configuration=CONFIGURATION)
    store.commit("warm-up", Fire(trigger="paid", payload=payload, event_id=new_id()), rules)
    with redis.Redis.from_url(server.url) as client:
        before = client.info("memory")["used_memory"]
        for number in range(SESSIONS):
            for trigger in ("paid", "packed"):
                fire = Fire(trigger=trigger, payload=payload, event_id=new_id())
                store.commit(f"order:{number:05}", fire, rules)
        each = (client.info("memory")["used_memory"] - before) / SESSIONS
    assert len(store.sessions(waiting=True, limit=SESSIONS + 5)) == SESSIONS + 1
    print(f"\n{each:,.0f} bytes for a waiting session (goal {GOAL:,})")
    assert each <= GOAL
