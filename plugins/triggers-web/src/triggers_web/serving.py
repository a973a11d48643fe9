"""What `triggers web` serves, and to whom."""

from __future__ import annotations

import copy
import getpass
import os
import socket
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from triggers_core.application import Application
from triggers_web.pages.access import Access
from triggers_web.pages.login import LOOPBACK, PATH, Login, is_loopback, no_pages
from triggers_web.starlette import HandlerApp, site

CONNECTIONS: Final = 500
"""Connections at a time, at most; each may hold a body of a megabyte while it is read."""

_LOGS: Final = copy.deepcopy(uvicorn.config.LOGGING_CONFIG)
# It would show an address of the pages that lets nobody in, just above the one that does.
_LOGS["loggers"]["uvicorn.error"]["level"] = "WARNING"

Tell = Callable[[str], object]
"""Shows whoever started the server a line."""


@dataclass(frozen=True)
class Offer:
    """The options of `triggers web`."""

    host: str
    port: int
    hostnames: Collection[str] = ()
    """Names under which pages may be asked for from elsewhere; empty: from this machine alone."""
    act: bool = False
    erase: bool = False

    @property
    def has_pages(self) -> bool:
        """Whether anything but webhooks is served."""
        return is_loopback(self.host) or bool(self.hostnames)

    @property
    def hosts(self) -> frozenset[str]:
        """The names that pages may be asked for by."""
        return LOOPBACK | {self.host, *(each.lower() for each in self.hostnames)}

    @property
    def access(self) -> Access:
        """What whoever is logged in may do, as the user that the process is of."""
        return Access(who=_user(), read=True, act=self.act or self.erase, erase=self.erase)

    def link(self, port: int, token: str) -> str:
        """The address that logs a browser in."""
        name = next(iter(self.hostnames), self.host)
        return f"http://{f'[{name}]' if ':' in name else name}:{port}{PATH}?token={token}"


class Server(uvicorn.Server):
    """uvicorn, which tells the port that it has come to listen at, and ends what watches pages."""

    def __init__(self, served: Starlette, offer: Offer, started: Callable[[int], object]) -> None:
        config = uvicorn.Config(
            served,
            host=offer.host,
            port=offer.port,
            limit_concurrency=CONNECTIONS,
            server_header=False,
            lifespan="on",
            log_config=_LOGS,
        )
        super().__init__(config)
        self._served = served
        self._told = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        if self.started:
            self._told(self.servers[0].sockets[0].getsockname()[1])

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop, upon a signal."""
        self._served.state.streams.end()  # it would wait for them
        super().handle_exit(sig, frame)


def serve(app: Application, offer: Offer, tell: Tell) -> bool:
    """Serve pages and webhooks until a signal comes.

    :param tell: is given each line for whoever started it: links, which are secrets, among them.
    :returns: whether the server could be started.
    :raises InvalidSetting: the settings say something impossible.
    """
    port = offer.port

    def announce(token: str) -> None:
        tell(f"For another browser (works once): {offer.link(port, token)}")

    login = Login(offer.access, offer.hosts, announce)
    served = site(app, access=login.access if offer.has_pages else no_pages, hosts=offer.hosts)
    if offer.has_pages:
        served.router.routes.insert(0, Route(PATH, HandlerApp(login, app)))

    def started(found: int) -> None:
        nonlocal port
        port = found
        if not offer.has_pages:
            tell(f"No pages: {offer.host} is no loopback address. --hostname NAME serves them.")
            tell(f"Webhooks: below http://{offer.host}:{found}/webhooks")
            return
        can = "erase too" if offer.erase else "act" if offer.act else "only look; see --act"
        tell(f"Pages (works once): {offer.link(port, login.token)}")
        tell(f"Whoever opens it is {offer.access.who} here, and can {can}.")
        if not is_loopback(offer.host):
            tell("Mind: this is no loopback address. Have TLS before it, or others read along.")

    server = Server(served, offer, started)
    with suppress(SystemExit):  # it has said why it cannot start
        server.run()
    if not server.started:
        tell("It cannot start. If the port is taken: --port names another, --port 0 any free one.")
    return server.started


def _user() -> str:
    """The name of the user that this process is of; in a container, there may be none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}" if hasattr(os, "getuid") else "somebody"
