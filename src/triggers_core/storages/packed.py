"""A compressed storage in memory, for backtests: very many sessions, of which few change at a time.

Each session that has not changed for a while is one value of bytes. A session in `MemoryStore` is a
hundred objects, which take four times the room, and which Python's garbage collector visits again
and again: with a hundred thousand sessions it would take more time than the work itself.

To compress takes longer than anything else that is done to a session, so it is done to those that
nobody has come back to for long: in a log, the events of one session lie among those of thousands.
"""

from __future__ import annotations

import marshal
import time
import zlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, MutableMapping
from itertools import islice
from typing import Any, Final

from triggers_core.storages.arguments import check_limit
from triggers_core.storages.base import Clock
from triggers_core.storages.memory import MemoryStore, _Session
from triggers_core.storages.summaries import SessionSummary, fleet_order, readable_header, summarise

_MAX_OPEN: Final = 1_000  # sessions that are kept as objects
_MAX_UNCOMPRESSED: Final = 8_000  # sessions that are packed and not compressed, 1 to 3 kB each
_PAGE: Final = 1_000  # summaries looked at in one go

_ATTRIBUTES: Final = tuple(vars(_Session()))


class PackedStore(MemoryStore):
    """`MemoryStore` with 1 to 2 kB a session; the same in all it does."""

    def __init__(self, clock: Clock = time.time) -> None:
        super().__init__(clock)
        self._packed = _Sessions()
        self._sessions = self._packed  # type: ignore[assignment]

    def sessions(
        self,
        *,
        failed: bool = False,
        waiting: bool = False,
        limit: int | None = None,
        after: str = "",
    ) -> list[SessionSummary]:
        limit = check_limit(limit)
        with self._lock:
            self._heal()
            uids = self._packed.after(after)
            found: list[SessionSummary] = []
            while some := list(islice(uids, _PAGE)):  # never all of them at once
                headers = ((uid, readable_header(uid, self._packed.header(uid))) for uid in some)
                found += [summarise(uid, header) for uid, header in headers if header is not None]
                if failed or waiting:
                    found = fleet_order(found, failed, waiting, limit)
                elif limit is not None and len(found) >= limit:
                    break
            return found[:limit]


class _Sessions(MutableMapping[str, _Session]):
    """Uid → session. Some are at hand, everything else is packed."""

    def __init__(self) -> None:
        # In these two, the one that was put in first comes first, and is found at once: a plain
        # dict looks through the places of all that were taken out.
        self._open: OrderedDict[str, _Session] = OrderedDict()
        self._plain: OrderedDict[str, None] = OrderedDict()
        self._packed: dict[str, bytes] = {}
        self._sorted: list[str] = []
        self._new: list[str] = []

    # An exception out of a signal handler may come between any two steps. At each of them,
    # `_packed` says which sessions there are; of those, what is open is what counts.

    def __getitem__(self, uid: str) -> _Session:
        packed = self._packed[uid]
        session = self._open.get(uid)
        if session is None:
            session = _unpack(packed)
            self._pack_oldest()
            self._open[uid] = session
            self._packed[uid] = b""
            self._plain.pop(uid, None)
        return session

    def __setitem__(self, uid: str, session: _Session) -> None:
        if uid not in self._open:
            self._pack_oldest()
            self._open[uid] = session
        if uid not in self._packed:
            self._packed[uid] = b""
            self._new.append(uid)
        self._open[uid] = session

    def __delitem__(self, uid: str) -> None:
        del self._packed[uid]
        self._open.pop(uid, None)
        self._plain.pop(uid, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)

    def after(self, uid: str) -> Iterator[str]:
        """The uids greater than one, in order."""
        if self._new:
            self._sorted = sorted({*self._sorted, *self._new} & self._packed.keys())
            self._new = []
        following = islice(self._sorted, bisect_right(self._sorted, uid), None)
        return (each for each in following if each in self._packed)

    def header(self, uid: str) -> bytes:
        """A session's header, without making the session one of those at hand."""
        session = self._open.get(uid)
        return session.header if session is not None else _unpack(self._packed[uid]).header

    def _pack_oldest(self) -> None:
        if len(self._open) >= _MAX_OPEN:
            uid = next(iter(self._open))
            if uid in self._packed:
                self._packed[uid] = _pack(self._open[uid])
                self._plain[uid] = None
            del self._open[uid]
        if len(self._plain) > _MAX_UNCOMPRESSED:
            uid = next(iter(self._plain))
            packed = self._packed.get(uid, b"")
            if packed and packed[0] != _COMPRESSED:
                self._packed[uid] = zlib.compress(packed, 1)
            self._plain.pop(uid, None)


_COMPRESSED: Final = zlib.compress(b"", 1)[0]
"""The first byte of what is compressed; what marshal makes of a list begins with another one."""


def _pack(session: _Session) -> bytes:
    return marshal.dumps([getattr(session, name) for name in _ATTRIBUTES])


def _unpack(packed: bytes) -> _Session:
    session = _Session()
    if packed[0] == _COMPRESSED:
        packed = zlib.decompress(packed)
    values: list[Any] = marshal.loads(packed)
    for name, value in zip(_ATTRIBUTES, values, strict=True):
        setattr(session, name, value)
    return session
