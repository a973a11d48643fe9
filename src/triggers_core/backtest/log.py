"""Logs of events: what a backtest reads, and how an application's own sessions become one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from triggers_core import payloads
from triggers_core.application import Application, default_application
from triggers_core.engine.names import is_generated_id
from triggers_core.engine.records import Event, Source
from triggers_core.exceptions import InvalidEvent
from triggers_core.storages.base import all_sessions
from triggers_core.texts import short_repr

_NUMBER = re.compile(r"-?[0-9]{1,20}(?:\.[0-9]{0,20})?")
_YEAR_10000 = 253_402_300_800  # seconds since 1970


class LoggedEvent(msgspec.Struct, kw_only=True, frozen=True):
    """One line of a log. Other keys (`n`) are ignored."""

    session: str
    trigger: str
    kwargs: dict[str, Any] | None = None
    id: str | None = None
    """The application's own event id, if the log has it; else the position in the log is used."""
    ts: Any = None
    """When it happened: seconds since 1970, or ISO 8601 text, which means UTC where it names no
    offset. Needed, and read, if the configuration tells time (`waiting`, `within`)."""


_PAGE = 500  # events read at a time


def recorded_events(app: Application | None = None) -> Iterator[LoggedEvent]:
    """What has been fired into an application's sessions, as a log that a backtest can replay.

    Session by session, by uid; in each, in order. Left out is what comes again by itself: the
    cascades of tasks, what bodies and `otherwise` fired, and what plugins added.

    :param app: whose sessions; the default application when not given.
    :raises InvalidPayload: a stored payload cannot be read.

    Example::

        result = backtest(new_configuration, recorded_events())
        lines = map(msgspec.json.encode, recorded_events())  # for a file, if the kwargs are JSON
    """
    store = (app or default_application).store
    for session in all_sessions(store):
        start = 0
        while page := store.events(session.uid, start, _PAGE):
            start = page[-1].number + 1
            for event in page:
                if event.source is Source.APPLICATION:
                    yield _logged(session.uid, event)


def _logged(uid: str, event: Event) -> LoggedEvent:
    return LoggedEvent(
        session=uid,
        trigger=event.trigger,
        kwargs=payloads.decode(bytes(event.payload)),
        # A generated id names no event of another session; its position in the log does.
        id=None if is_generated_id(event.id) else event.id,
        ts=event.at,
    )


def logged_event(event: Mapping[str, Any] | LoggedEvent) -> LoggedEvent:
    """One line of a log.

    :raises InvalidEvent: says what is wrong with it.
    """
    if isinstance(event, LoggedEvent):
        return event
    try:
        return msgspec.convert(event, LoggedEvent)
    except msgspec.ValidationError as error:
        raise InvalidEvent(str(error)) from None


def read_time(value: object, name: str = "ts") -> float:
    """A time as logs have it, in seconds since 1970.

    :param value: a number or a text of that, ISO 8601 text, or a datetime; UTC where no offset is
        named. Eight digits are a date.
    :param name: what it is, for the message.
    :raises InvalidEvent: it is none; says what to write.

    Example::

        read_time("1970-01-01T00:00:05Z")  # 5.0
    """
    found = value
    if isinstance(found, str):
        found = _read_text(found)
    if isinstance(found, datetime):
        found = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    if not isinstance(found, int | float) or isinstance(found, bool):
        raise InvalidEvent(
            f"{name}: expected seconds since 1970, or ISO 8601 text such as"
            f" '2026-01-31T09:30:00Z', got {short_repr(value)}"
        )
    if not 0 <= found < _YEAR_10000:
        cure = ""
        if 0 <= found < 1_000 * _YEAR_10000:
            cure = ": it looks like milliseconds, divide it by 1,000"
        raise InvalidEvent(
            f"{name}: {short_repr(value)} does not lie between the years 1970 and 9999{cure}"
        )
    return round(float(found), 6)


def _read_text(text: str) -> object:
    if _NUMBER.fullmatch(text) and not (len(text) == 8 and text.isdecimal()):
        return float(text)
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
