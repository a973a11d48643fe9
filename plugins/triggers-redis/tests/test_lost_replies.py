"""A proxy between client and server that loses one request or one reply, each in turn."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from triggers_core.engine.attempts import Retry
from triggers_core.engine.commands import Close
from triggers_core.exceptions import StorageError
from triggers_core.testing import SessionDriver, VirtualClock, check_store
from triggers_core.testing.history import every_change, outcome_of
from triggers_redis import RedisStore, connection, writing
from triggers_redis.connection import Connection


class Proxy:
    """Hands requests and replies on, and cuts the connection at one of them.

    :param lose: the number of the request, from 1, that goes wrong; 0: none.
    :param reply: lose its reply, when it has been carried out; else the request itself.
    """

    def __init__(self, server: tuple[str, int], lose: int = 0, reply: bool = True) -> None:
        self._server, self._lose, self._reply = server, lose, reply
        self._lock = threading.Lock()
        self.requests = 0
        self.lost = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._server) as server:
            asked = loses = False  # a request has gone to the server, which has not answered yet
            try:
                while True:
                    for side in select.select([client, server], [], [])[0]:
                        data = side.recv(1 << 20)
                        if not data:
                            return
                        if side is client and not asked:
                            asked, loses = True, self._counts()
                            if loses and not self._reply:
                                return
                        elif side is server and asked:
                            asked = False
                            if loses:
                                return
                        (server if side is client else client).sendall(data)
            except OSError:
                return

    def _counts(self) -> bool:
        """Count a request; whether it is the one that goes wrong."""
        with self._lock:
            self.requests += 1
            loses = self.requests == self._lose
            self.lost += loses
            return loses

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def through(redis_url: str) -> Callable[..., Any]:
    url = urlsplit(redis_url)
    if url.scheme != "redis":
        pytest.skip("the proxy counts requests in plain TCP: REDIS_URL has TLS, or a Unix socket")
    server = (url.hostname or "localhost", url.port or 6379)
    login = url.netloc.rpartition("@")[0]

    @contextmanager
    def through(**options: Any) -> Iterator[tuple[Proxy, str]]:
        with closing(Proxy(server, **options)) as proxy:
            here = f"127.0.0.1:{proxy.port}"
            yield proxy, url._replace(netloc=f"{login}@{here}" if login else here).geturl()

    return through


def life(session: SessionDriver) -> list[Any]:
    """Everything that can happen to a session once; what each change said of itself."""
    said = every_change(session)
    said.append(session.fire("page", {"number": 2}, event_id="page:2").scheduled)
    session.fail(session.claim("t_page#1"), retry=Retry(cooldown=3600.0))
    session.commit(Close())
    return said


@pytest.mark.parametrize("size", [writing.PACKED_SIZE, 900, 0], ids=["packed", "growing", "spread"])
@pytest.mark.parametrize("reply", [True, False], ids=["reply", "request"])
def test_nothing_is_made_twice_or_lost(
    through: Callable[..., Any],
    make_redis_store: Callable[..., RedisStore],
    monkeypatch: pytest.MonkeyPatch,
    reply: bool,
    size: int,
) -> None:
    monkeypatch.setattr(writing, "PACKED_SIZE", size)
    with through() as (proxy, url), make_redis_store(VirtualClock(), url=url) as store:
        expected_said = life(SessionDriver(store))
        expected = outcome_of(store, "order:1")
        count = proxy.requests
    assert count > 30
    lost = 0
    for number in range(1, count + 1):
        with through(lose=number, reply=reply) as (proxy, url):
            store = make_redis_store(VirtualClock(), url=url)
            said = life(SessionDriver(store))
            found = outcome_of(store, "order:1")
            check_store(store)
            lost += proxy.lost
            store.close()
        assert found == expected, f"request {number}"
        assert said == expected_said, f"request {number}"
    assert lost == count
    print(f"\n{count} requests, each lost once: 0 double-applied, 0 lost changes")


@pytest.mark.parametrize("size", [writing.PACKED_SIZE, 0], ids=["packed", "spread"])
@pytest.mark.parametrize("change", ["fire", "finish", "fail", "replay"])
def test_changes_of_others_before_the_resend_hide_nothing(
    make_redis_store: Callable[..., RedisStore],
    monkeypatch: pytest.MonkeyPatch,
    change: str,
    size: int,
) -> None:
    monkeypatch.setattr(writing, "PACKED_SIZE", size)
    store = make_redis_store()
    mine = SessionDriver(store)
    others = SessionDriver(make_redis_store(namespace=store.namespace))  # another process
    mine.configure(t_x={"andEvery": "go"}, t_y={"andEvery": "t_x"})
    mine.fire("go")
    mine.fire("go")
    mine.fail_now("t_x#1")
    claimed = mine.claim("t_x#0")
    changes: dict[str, Callable[[], Any]] = {
        "fire": lambda: mine.fire("other").status,
        "finish": lambda: mine.finish(claimed).scheduled,
        "fail": lambda: mine.fail(claimed).instance.status,
        "replay": lambda: mine.replay("t_x#1").instance.status,
    }
    ask, version = Connection.ask, mine.header.version

    def lose_a_reply(connection: Connection, request: bytes) -> Any:
        answer = ask(connection, request)
        if answer != b"+":
            return answer
        monkeypatch.setattr(Connection, "ask", ask)
        others.fire("noise")
        others.fire("noise")
        raise ConnectionError("the reply to a commit was lost")

    monkeypatch.setattr(Connection, "ask", lose_a_reply)
    said = changes[change]()
    assert Connection.ask is ask, "a reply was lost"
    assert said == {
        "fire": "recorded",
        "finish": ["t_y#0"],
        "fail": "failed",
        "replay": "replayed",
    }.get(change)
    assert mine.header.version == version + 3
    assert mine.fired().count("other") == (change == "fire")


def test_a_delete_says_that_there_was_a_session(
    through: Callable[..., Any], make_redis_store: Callable[..., RedisStore]
) -> None:
    namespace = make_redis_store().namespace
    with through() as (proxy, url), make_redis_store(url=url, namespace=namespace) as store:
        SessionDriver(store).fire("go")
        store.delete("order:1")  # now the server knows the script
        SessionDriver(store).fire("go")
        before = proxy.requests
        assert store.delete("order:1")
        used = proxy.requests - before
    assert used == 2
    for number in (1, 2):
        with through() as (proxy, url), make_redis_store(url=url, namespace=namespace) as store:
            SessionDriver(store).fire("go")
            proxy._lose = proxy.requests + number
            assert store.delete("order:1")
            assert not store.delete("order:1")


def test_a_server_that_stays_away_is_an_error_that_names_it(
    through: Callable[..., Any],
    make_redis_store: Callable[..., RedisStore],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "RESEND_TIMEOUT", 0.1)
    with through() as (_proxy, url), make_redis_store(url=url) as store:
        session = SessionDriver(store)
        session.fire("go")
    with pytest.raises(
        StorageError, match=r"redis://.*127\.0\.0\.1.*did not answer for 0\.1 s"
    ) as e:
        session.fire("go")
    assert e.value.__cause__ is None, "an outage fills no log with tracebacks"
    assert e.value.__suppress_context__
