"""Server-sent events for the ASGI adapter: a page says that it has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from starlette.types import Receive, Send

from triggers_core.application import Application
from triggers_web.http import Response

EVERY: Final = 2.0
"""Seconds between two looks."""
LASTS: Final = 25.0
"""Seconds that one stream lasts; browsers then ask for another. So a server that shuts down waits
no longer for those that nobody ends."""
AT_ONCE: Final = 100
"""Streams at the same time, at most; more are told to ask again instead."""
_ALIVE: Final = 7  # looks without news until a comment shows that somebody is there


class Streams:
    """The streams of one server.

    :param app: in whose threads they look.
    """

    def __init__(
        self,
        app: Application,
        *,
        every: float = EVERY,
        lasts: float = LASTS,
        at_once: int = AT_ONCE,
    ) -> None:
        self._app, self._every, self._lasts = app, every, lasts
        self._left = at_once
        self._ended = False

    def end(self) -> None:
        """End all streams, soon, and begin none any more: the server is about to stop.

        Safe to call in a signal handler.
        """
        self._ended = True

    @property
    def has_room(self) -> bool:
        """Whether another one may begin."""
        return self._left > 0 and not self._ended

    async def serve(self, answer: Response, receive: Receive, send: Send) -> None:
        """Serve a stream until its client leaves, its time is over, or it cannot be watched."""
        assert answer.watch is not None
        self._left -= 1
        gone = asyncio.ensure_future(_gone(receive))
        try:
            await self._serve(answer, answer.watch, gone, send)
        finally:
            gone.cancel()
            self._left += 1

    async def _serve(
        self, answer: Response, watch: Callable[[], str], gone: asyncio.Future[None], send: Send
    ) -> None:
        headers = {**dict(answer.all_headers), "content-type": "text/event-stream"}
        headers["x-accel-buffering"] = "no"  # of nginx, which would wait for more
        encoded = [
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()
        ]
        await send({"type": "http.response.start", "status": 200, "headers": encoded})
        await _write(send, "retry: 3000\n\n")
        loop = asyncio.get_running_loop()
        end, known, quiet = loop.time() + self._lasts, "", 0
        while not (gone.done() or self._ended) and loop.time() < end:
            try:
                found = await self._app.in_thread(watch)
            except Exception:
                break  # the page says why, once it is asked for
            quiet += 1
            if found != known:
                await _write(send, f"event: version\ndata: {found}\n\n")
                known, quiet = found, 0
            elif quiet >= _ALIVE:
                await _write(send, ": \n\n")
                quiet = 0
            until = min(end, loop.time() + self._every)
            while not self._ended and (left := until - loop.time()) > 0:
                done, _ = await asyncio.wait([gone], timeout=min(left, 0.5))
                if done:
                    break
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _write(send: Send, text: str) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
