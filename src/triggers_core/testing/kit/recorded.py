"""Recorded events, fired again into sessions of a test."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triggers_core.backtest.log import LoggedEvent, logged_event, read_time
from triggers_core.exceptions import InvalidEvent, InvalidInput
from triggers_core.testing.kit.told import Count

if TYPE_CHECKING:
    from triggers_core.engine.configuration import Configuration
    from triggers_core.testing.kit.session import SessionUnderTest
    from triggers_core.testing.kit.workbench import Triggers

Log = str | os.PathLike[str] | Iterable[Mapping[str, Any] | LoggedEvent]


class Replayed(Mapping[str, "SessionUnderTest"]):
    """The sessions of a log, by uid.

    Example::

        log = triggers.replay_log("events.jsonl", CONFIG)
        assert log.ran("t_ship") == 1_212
        assert log["order:42"].ran("t_ship") == 1
    """

    def __init__(self, sessions: Mapping[str, SessionUnderTest]) -> None:
        self._sessions = sessions

    def __getitem__(self, uid: str) -> SessionUnderTest:
        return self._sessions[uid]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sessions)

    def __len__(self) -> int:
        return len(self._sessions)

    def ran(self, task: str) -> Count:
        """How often a task has run, in all sessions."""
        ran = sum(session.ran(task) for session in self.values())
        return Count.of(ran, f"{task} ran in {len(self):,} sessions", lambda: "")


def replay(
    triggers: Triggers, log: Log, configuration: Mapping[str, Any] | Configuration | None
) -> Replayed:
    """Fire the events of a log; see `Triggers.replay_log`."""
    parsed = None if configuration is None else triggers.app.parse(configuration)
    sessions: dict[str, SessionUnderTest] = {}
    for number, line in enumerate(_lines(log)):
        try:
            event = logged_event(line)
            if event.ts is not None:
                triggers.advance_to(read_time(event.ts))
            session = sessions.get(event.session)
            if session is None:
                session = sessions[event.session] = triggers.session(parsed, event.session)
            session.fire(event.trigger, event.kwargs, event.id)
        except InvalidInput as error:
            raise InvalidEvent(f"event {number} of the log: {error}") from error
    return Replayed(sessions)


def _lines(log: Log) -> Iterator[Mapping[str, Any] | LoggedEvent]:
    if not isinstance(log, str | os.PathLike):
        yield from log
        return
    file = Path(log)
    opened = gzip.open if file.suffix == ".gz" else open
    with opened(file, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            if not line.strip():
                continue
            try:
                yield json.loads(line)
            except ValueError as error:
                raise InvalidEvent(f"{file}, line {number + 1}: {error}") from None
