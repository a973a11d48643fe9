"""The awaitable methods of a manager on Redis: while the server is away, the event loop goes on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from triggers_core import Application
from triggers_core.exceptions import StorageError
from triggers_core.settings import Settings
from triggers_redis import RedisStore, connection
from triggers_redis.testing import RedisServer

TICKS = 50


def application(store: RedisStore) -> Application:
    settings = Settings.isolated(
        TRIGGER_PLUGINS=[], TRIGGER_RUNNER="manual", TRIGGER_RUNNER_OPTIONS={}
    )
    return Application("awaitable", settings, store=store)


@contextmanager
def black_hole() -> Iterator[str]:
    """The URL of a port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets for how long a server that is away is asked: until the loop has come round often."""

    def patience(seconds: float) -> None:
        monkeypatch.setattr(connection, "RESEND_TIMEOUT", seconds)

    return patience


async def ticks_of(call: Any, patience: Callable[[float], None]) -> tuple[int, BaseException]:
    """How often the loop comes round while it awaits a call, and what that raises."""
    patience(60.0)
    waiting, ticks = asyncio.ensure_future(call), 0
    while not waiting.done():
        await asyncio.sleep(0.002)
        ticks += 1
        if ticks == TICKS:
            patience(0.0)
    error = waiting.exception()
    assert error is not None
    return ticks, error


def test_the_loop_goes_on_while_the_server_is_stopped(
    tmp_path: Path, namespace: str, patience: Callable[[float], None]
) -> None:
    with RedisServer(tmp_path) as server:
        store = RedisStore(server.url, namespace=namespace)
        app = application(store)
        app.manager("order:1").fire("before")

    async def main() -> None:
        manager = app.manager("order:1")
        for call in (manager.afire("paid"), manager.aexplain()):
            ticks, error = await ticks_of(call, patience)
            assert isinstance(error, StorageError)
            assert ticks >= TICKS
        await app.astop()

    with socket.socket() as held:  # else another server may get its port
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", server.port))
        asyncio.run(main())


def test_the_loop_goes_on_while_the_server_says_nothing(
    namespace: str, patience: Callable[[float], None]
) -> None:
    async def main(url: str) -> None:
        store = RedisStore(url, namespace=namespace, socket_timeout=0.2, socket_connect_timeout=0.2)
        app = application(store)
        ticks, error = await ticks_of(app.manager("order:1").afire("paid"), patience)
        assert isinstance(error, StorageError)
        assert ticks >= TICKS
        await app.astop()

    with black_hole() as url:
        asyncio.run(main(url))


@pytest.mark.parametrize("steps", range(12))
def test_cancelled_after_some_steps_it_is_stored_or_not(
    make_redis_store: Callable[..., RedisStore], steps: int
) -> None:
    app = application(make_redis_store())

    async def main() -> None:
        manager = app.manager("order:1")
        await manager.aupdate_configuration({"t_x": {"after": ["paid"], "run": "x"}})
        fire = asyncio.ensure_future(manager.afire("paid", event_id="e"))
        for _ in range(steps):
            await asyncio.sleep(0)
        fire.cancel()
        await asyncio.gather(fire, return_exceptions=True)
        app.calls.shutdown()  # whatever was begun has ended
        recorded = [event.trigger for event in manager.storage.events]
        messages = app.runner().messages  # type: ignore[attr-defined]
        assert [each.instance for each in messages] == ["t_x#0"] * len(recorded)
        again = await manager.afire("paid", event_id="e")
        assert again.status == ("duplicate" if recorded else "recorded")
        await app.astop()

    asyncio.run(main())
