"""Who may see pages, and who may act: what the host of the pages says of a request."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from triggers_web.http import Request


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """What whoever sent a request may do."""

    who: str = ""
    """Their name, which is recorded with each act: `TriggerManager.by`."""
    read: bool = False
    """See pages."""
    act: bool = False
    """Replay, skip, fail, fire, mark logs as resolved."""
    erase: bool = False
    """Close and delete sessions, and give them other configurations."""
    secrets: bool = False
    """See what is masked for everybody else."""
    logout: str = ""
    """Where a button of each page is sent to that logs them out, below the place of the pages;
    empty: there is none. It is sent by POST, with the token that forms of these pages carry."""


AccessOf = Callable[[Request], Access]
"""Says what a request may do, by its `Request.user` or headers. Called in a thread: it may look
into a database."""


def nobody(request: Request) -> Access:
    """Lets nobody in: what pages are mounted with, unless their host says who may see them."""
    return Access()


def everybody(who: str = "", *, act: bool = False, erase: bool = False) -> AccessOf:
    """Lets everybody in whom the host lets through: for a host that authenticates by itself.

    Example::

        Pages(app, access=everybody("on call", act=True))
    """
    access = Access(who=who, read=True, act=act, erase=erase)
    return lambda request: access
