"""Fires every other session of a log, again from the start whenever it is started.

`python fleet_fire.py REMAINDER`. The log is the fleet's `events.jsonl`. A session's next event
waits until nothing of the session is under way, as the oracle's answers ask for; the other sessions
go on meanwhile.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from contextlib import suppress
from itertools import islice

from fleet_app import CONFIGURATION, PLACE, app, note

from triggers_celery import BrokerUnavailable
from triggers_core import TriggerManager, get_trigger_manager
from triggers_core.engine.protocol import Query
from triggers_core.engine.records import Status
from triggers_core.exceptions import StorageError

AT_ONCE = 50
"""Sessions that are under way together: enough to keep the workers busy, and the queue short."""


def sessions_of(remainder: int) -> dict[str, deque[tuple[int, dict]]]:
    """Session → its events with their positions in the log; half of the sessions."""
    found: dict[str, deque[tuple[int, dict]]] = {}
    lines = (PLACE / "events.jsonl").read_text().splitlines()
    for position, event in enumerate(map(json.loads, lines)):
        found.setdefault(event["session"], deque()).append((position, event))
    return {uid: found[uid] for uid in sorted(found)[remainder::2]}


def acknowledged(remainder: str) -> set[int]:
    """The events that this process knew to be stored when it was killed."""
    file = PLACE / f"fired-{remainder}"
    return {int(line[1:-1]) for line in file.read_text().splitlines()} if file.exists() else set()


def persistently(do):
    """Do something that asks the storage, until it answers."""
    while True:
        try:
            return do()
        except (StorageError, BrokerUnavailable):
            time.sleep(0.02)


def is_quiet(session: TriggerManager) -> bool:
    header = session.storage.store.load(session.uid, Query()).header
    return header is None or not header.total(Status.SCHEDULED, Status.RUNNING)


def send_plain(position: int) -> None:
    """Send a task of Celery's own, for comparison; only what Celery has accepted counts."""
    with suppress(Exception):  # the broker is down, or was just emptied
        app.send_task("fleet.plain", (position,), retry=False)
        note("plain-sent", position)


def main(remainder: str) -> None:
    app.conf.broker_transport_options = {"socket_timeout": 1.0}  # Celery's own would wait for ever
    waiting = sessions_of(int(remainder))
    stored = acknowledged(remainder)
    managers = {uid: get_trigger_manager(uid) for uid in waiting}
    for each in managers.values():
        persistently(lambda each=each: each.update_configuration(CONFIGURATION))
    while waiting:
        moved = False
        for uid, events in list(islice(waiting.items(), AT_ONCE)):
            session = managers[uid]
            if not persistently(lambda session=session: is_quiet(session)):
                continue
            moved = True
            if not events:
                del waiting[uid]
                continue
            position, event = events.popleft()
            result = persistently(
                lambda session=session, position=position, event=event: session.fire(
                    event["trigger"], event["kwargs"], event_id=str(position)
                )
            )
            if position not in stored:
                note(f"fired-{remainder}", position)
                send_plain(position)
            elif result.status != "duplicate":
                note("lost", position)
        if not moved:
            time.sleep(0.005)


if __name__ == "__main__":
    main(*sys.argv[1:])
