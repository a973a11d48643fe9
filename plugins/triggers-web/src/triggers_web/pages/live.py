"""Which pages change by themselves, and how one learns that they have."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from triggers_core.application import Application
from triggers_web.pages.errors import PageError
from triggers_web.pages.page import Asked

_FRESH: Final = 60.0
"""Seconds after which a page is another although nothing changed: it says how long ago things
were."""
_KEPT: Final = 1.0
"""Seconds for which a version serves everybody who asks for it."""
_MOST: Final = 1_000  # versions that are kept


class Versions:
    """The versions of the pages that change: short texts, another one once the page is another.

    The part before the dot tells of what is stored; what follows changes each minute.

    :param versions: path of a page → what differs once what it shows does.
    """

    def __init__(self, versions: Mapping[str, Callable[[Asked], str]], app: Application) -> None:
        self._versions, self._app = versions, app
        self._known: dict[tuple[str, str], tuple[float, str]] = {}
        self._lock = threading.Lock()

    def of(self, asked: Asked) -> str:
        """The version of a page; empty for one that changes with nothing but what one does."""
        version_of = self._versions.get(asked.request.path)
        if version_of is None:
            return ""
        key = asked.request.path, asked.request.query_string
        now = time.monotonic()
        with self._lock:
            at, version = self._known.get(key, (0.0, ""))
        if not version or now - at > _KEPT:
            version = hashlib.sha256(version_of(asked).encode()).hexdigest()[:16]
            with self._lock:
                if len(self._known) >= _MOST:
                    self._known.clear()
                self._known[key] = now, version
        access = asked.access
        rights = f"{access.who}/{access.act}/{access.erase}/{access.secrets}"
        seen = hashlib.sha256(f"{version}/{rights}".encode()).hexdigest()[:16]
        return f"{seen}.{int(self._app.store.now() // _FRESH)}"


def watched(asked: Asked) -> Asked:
    """The page that `/live?of=/session?uid=…` asks about.

    :raises PageError: none is named.
    """
    path, _, query = asked.request.query.get("of", "").partition("?")
    if not path.startswith("/") or path.startswith("//"):
        raise PageError(400, "The address names no page to watch.")
    return asked._replace(request=replace(asked.request, path=path, query_string=query))
