"""How many commands the server gets: counted by the server itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import pytest
import redis

from triggers_core.engine.attempts import BodyFire
from triggers_core.engine.machine import Draft
from triggers_core.engine.names import generated_id, new_id
from triggers_core.engine.protocol import MOST_DUE, Query
from triggers_core.engine.records import Event, Extent
from triggers_core.testing import SessionDriver
from triggers_core.testing.storage.moments import ByHand, due, new_instance
from triggers_redis import RedisStore, writing
from triggers_redis.connection import Connection
from triggers_redis.testing import RedisServer

CONFIGURATION = {
    "t_ship": {"after": ["paid", "packed"]},
    "t_mail": {"after": ["t_ship"], "andEvery": "t_ship"},
    "t_page": {"after": ["t_ship"], "andEvery": "page"},
}


class Counted:
    """Counts the scripts that the server says it has run, and the requests that the store made."""

    def __init__(self, client: redis.Redis, patch: pytest.MonkeyPatch) -> None:
        self._client = client
        self.scripts = self.requests = self.received = 0
        """Scripts, requests, and bytes of the answers."""
        ask = Connection.ask

        def counted(connection: Connection, request: bytes) -> object:
            self.requests += 1
            answer = ask(connection, request)
            self.received += len(answer) if isinstance(answer, bytes) else 0
            return answer

        patch.setattr(Connection, "ask", counted)

    @contextmanager
    def counting(self) -> Iterator[None]:
        before, self.requests, self.received = self._scripts(), 0, 0
        yield
        self.scripts = self._scripts() - before

    def _scripts(self) -> int:
        commands = self._client.info("commandstats")
        calls = (commands.get(f"cmdstat_{name}", {}) for name in ("evalsha", "eval"))
        return sum(each.get("calls", 0) for each in calls)


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that nobody else asks for anything."""
    with RedisServer(tmp_path_factory.mktemp("counted")) as server:
        yield server


@pytest.fixture
def counted(own_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    with redis.Redis.from_url(own_server.url) as client:
        yield Counted(client, monkeypatch)


@pytest.fixture(params=["packed", "spread"])
def session(
    own_server: RedisServer,
    make_redis_store: Callable[..., RedisStore],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> SessionDriver:
    if request.param == "spread":
        monkeypatch.setattr(writing, "PACKED_SIZE", 0)
    session = SessionDriver(make_redis_store(url=own_server.url, namespace=new_id()))
    session.configure(CONFIGURATION)
    session.fire("other")
    session.fire("page")  # an instance that waits for the cascade of t_ship
    warm_up = SessionDriver(session.store, "another")
    warm_up.configure(CONFIGURATION)
    warm_up.fire("paid")
    warm_up.fire("packed")
    claimed = warm_up.claim("t_ship#0")  # now the server knows every script
    warm_up.heartbeat(claimed)
    return session


@pytest.fixture
def elsewhere(session: SessionDriver, make_redis_store: Callable[..., RedisStore]) -> SessionDriver:
    """The same session in another process."""
    store = session.store
    assert isinstance(store, RedisStore)
    other = SessionDriver(make_redis_store(url=store.client.url, namespace=store.namespace))
    other.fire("elsewhere")  # connects, reads the configuration
    return other


def trips(counted: Counted) -> int:
    assert counted.requests == counted.scripts, "each request is one script"
    return counted.scripts


def test_a_fire_takes_two(
    session: SessionDriver, elsewhere: SessionDriver, counted: Counted
) -> None:
    for kwargs in ({"amount": 1}, {"amount": 2}):
        with counted.counting():
            session.fire("paid", kwargs)
        assert trips(counted) == 2
        elsewhere.fire("other")
    with counted.counting():
        assert session.fire("packed").scheduled == ["t_ship#0"]
    assert trips(counted) == 2


def test_a_third_change_in_a_row_by_one_process_takes_one(
    session: SessionDriver, elsewhere: SessionDriver, counted: Counted
) -> None:
    for expected in (2, 2, 1, 1):
        with counted.counting():
            session.fire("page")
        assert trips(counted) == expected
    assert session.fired() == ["other", "page", "elsewhere", *["page"] * 4]
    assert session.image() == elsewhere.image()


def test_a_wrong_guess_that_nobody_else_changed_the_session_takes_two(
    session: SessionDriver, elsewhere: SessionDriver, counted: Counted
) -> None:
    for _ in range(3):
        session.fire("paid", {"amount": 1})
    elsewhere.fire("other")
    for expected in (2, 2, 1):  # guessed; loaded, for the guess was wrong; guessed
        with counted.counting():
            session.fire("paid", {"amount": 2})
        assert trips(counted) == expected
    elsewhere.fire("packed", {"boxes": 3})
    assert session.kwargs("t_ship#0") == {"paid": {"amount": 1}, "packed": {"boxes": 3}}
    assert session.fired()[-3:] == ["paid", "paid", "packed"]


def test_a_fire_with_an_id_takes_two_and_a_duplicate_one(
    session: SessionDriver, elsewhere: SessionDriver, counted: Counted
) -> None:
    with counted.counting():
        session.fire("paid", event_id="stripe:1")
    assert trips(counted) == 2
    with counted.counting():
        assert session.fire("paid", event_id="stripe:1").status == "duplicate"
    assert trips(counted) == 1


def test_the_first_fire_of_a_session_takes_two(session: SessionDriver, counted: Counted) -> None:
    other = SessionDriver(session.store, "order:2")
    with counted.counting():
        other.fire("paid")
    assert trips(counted) == 2


def test_a_claim_takes_one_a_heartbeat_one_and_a_finish_one(
    session: SessionDriver, counted: Counted
) -> None:
    session.fire("paid", {"amount": 1})
    session.fire("packed", {"boxes": 2})
    generation = session.header.generation
    with counted.counting():
        claimed = session.claim("t_ship#0", attempt=1, generation=generation)
        assert claimed.kwargs() == {"paid": {"amount": 1}, "packed": {"boxes": 2}}
    assert trips(counted) == 1
    with counted.counting():
        session.heartbeat(claimed)
    assert trips(counted) == 1
    with counted.counting():
        ended = session.finish(claimed, {"parcel": 7})
        assert ended.scheduled == ["t_mail#0", "t_page#0"]
    assert trips(counted) == 1


def test_a_failure_takes_one(session: SessionDriver, counted: Counted) -> None:
    session.fire("paid")
    session.fire("packed")
    claimed = session.claim("t_ship#0")
    with counted.counting():
        session.fail(claimed)
    assert trips(counted) == 1


def test_a_finish_takes_two_when_the_session_has_changed_since(
    session: SessionDriver, counted: Counted
) -> None:
    session.fire("paid")
    session.fire("packed")
    claimed = session.claim("t_ship#0")
    session.fire("other")
    with counted.counting():
        ended = session.finish(claimed)
    assert trips(counted) == 2
    assert set(ended.scheduled) == {"t_page#0", "t_mail#0"}
    assert session.fired().count("t_ship") == 1


def test_a_body_that_fires_takes_no_more_than_a_load(
    session: SessionDriver, counted: Counted
) -> None:
    session.fire("paid")
    session.fire("packed")
    claimed = session.claim("t_ship#0")
    with counted.counting():
        session.finish(claimed, fires=[BodyFire(trigger="other", payload=b"{}")])
    assert trips(counted) <= 2


def test_a_stale_message_takes_one_look_more(session: SessionDriver, counted: Counted) -> None:
    session.fire("paid")
    session.fire("packed")
    generation = session.header.generation
    session.claim("t_ship#0")
    with counted.counting(), pytest.raises(Exception, match="attempt 1 of t_ship#0"):
        session.claim("t_ship#0", attempt=1, generation=generation)
    assert trips(counted) == 1


def test_a_load_takes_one(session: SessionDriver, counted: Counted) -> None:
    with counted.counting():
        session.store.load(session.uid, Query(instances=("t_page#0",), triggers=("page",)))
    assert trips(counted) == 1


def test_a_fan_in_of_ten_thousand_is_claimed_in_one(
    session: SessionDriver, counted: Counted
) -> None:
    first = session.header.events

    def create(draft: Draft) -> None:
        for n in range(10_000):
            draft.events.append(
                Event(
                    id=generated_id(first + n),
                    trigger="imported",
                    number=first + n,
                    payload=msgspec.Raw(b'{"n":%d}' % n),
                )
            )
        draft.header.events += 10_000
        draft.header.latest["imported"] = first + 9_999
        instance = new_instance(draft, "t_ship")
        extent = Extent(amount=10_000, first=first, last=first + 9_999, trigger="imported")
        instance.extents = {"imported": extent}
        draft.schedule(instance)

    session.commit(ByHand(create))
    generation = session.header.generation
    with counted.counting():
        claimed = session.claim("t_ship#0", attempt=1, generation=generation)
    assert trips(counted) == 1
    assert claimed.kwargs() == {"imported": [{"n": n} for n in range(10_000)]}
    with counted.counting():
        session.heartbeat(claimed)
    assert trips(counted) == 1


def test_what_falls_due_takes_one_and_brings_no_more_than_that(
    session: SessionDriver, counted: Counted
) -> None:
    now = session.store.now()
    due(session, *(now + n for n in range(4)), task="t_ship")
    for moment, expected in ((1.5, 2), (9, 4)):
        with counted.counting():
            found = session.store.load(session.uid, Query(moments=now + moment))
        assert (trips(counted), len(found.instances)) == (1, expected)
    due(session, *(now + 100 + n for n in range(3_000)), task="t_ship")
    for moment, expected in ((9, 4), (9_999, MOST_DUE)):
        with counted.counting():
            found = session.store.load(session.uid, Query(moments=now + moment))
        assert (trips(counted), len(found.instances)) == (1, expected)
        assert counted.received < 2_000 + 250 * expected, "nothing of those behind"
        assert found.next_moment is not None


def test_a_new_process_reads_a_configuration_once(
    session: SessionDriver, counted: Counted, make_redis_store: Callable[..., RedisStore]
) -> None:
    store = session.store
    assert isinstance(store, RedisStore)
    other = make_redis_store(url=store.client.url, namespace=store.namespace)
    driver = SessionDriver(other)
    _ = driver.exists  # connects, reads the configuration
    with counted.counting():
        driver.fire("paid")
        driver.fire("other")
    assert trips(counted) == 4
