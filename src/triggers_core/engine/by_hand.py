"""Who did by hand what no field of a record tells: who configured, closed, dealt with logs.

It stands in the record's `extra`, which processes that do not know of it write back as it is.
"""

from __future__ import annotations

from typing import Final

import msgspec

from triggers_core.engine.records import Header, Instance

CONFIGURED: Final = "configured"
"""Of a header: the last change of its configuration by hand…"""
CLOSED: Final = "closed"
"""…and its end."""
LOGS: Final = "logs"
"""Of an instance: its logs were marked as dealt with."""


class ByHand(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """Who did something by hand, and when: seconds since 1970, of the storage's clock."""

    by: str
    at: float
    version: int = 0
    """Of `CONFIGURED`: which version of the session's configuration it made."""


_decoder = msgspec.json.Decoder(ByHand)


def note(record: Header | Instance, what: str, hand: ByHand) -> None:
    """Note that somebody did it, if it is known who: the last one is kept."""
    if hand.by:
        record.extra = {**record.extra, what: msgspec.Raw(msgspec.json.encode(hand))}


def noted(record: Header | Instance, what: str) -> ByHand | None:
    """Who did it, as far as is known."""
    written = record.extra.get(what)
    if written is None:
        return None
    try:
        return _decoder.decode(written)
    except msgspec.MsgspecError:  # what a newer version keeps there
        return None
