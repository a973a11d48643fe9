"""A replay of a real log, killed again and again, ends as if nothing had happened."""

from __future__ import annotations

import random
import sqlite3
import subprocess
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from processes.spawn import Child
from recorded_logs import recorded_log

from triggers_core.engine.records import Source
from triggers_core.storages.base import Store
from triggers_core.storages.sqlite import SqliteStore
from triggers_core.testing import check_store
from triggers_core.testing.replays import RecordedLog, instances_of

KILLS = 20


@pytest.mark.slow
def test_a_replay_killed_twenty_times_loses_and_doubles_nothing(
    fast_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, file, chance = recorded_log("receipt"), fast_dir / "triggers.db", random.Random(20)
    total = len(log.events())
    # The first in the moments in which the file is created, the others all over the log.
    moments = [0, *sorted(chance.sample(range(1, total), KILLS - 1))]
    kills = 0
    for moment in moments:
        kills += kill_replay(log, file, moment, chance)
    while kills < KILLS:  # some replay was through before it could be killed
        kills += kill_replay(log, file, chance.randrange(total), chance)
    with Child("replay_log", log.folder, file) as last:
        assert last.result()[-1] == str(total)

    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with SqliteStore(file) as store:
        check_store(store)
        assert instances_of(store) == log.instances()
        lost, doubled = compare(store, log)
    line = f"{kills} kills, {total} events: {lost} lost, {doubled} double commits"
    with capsys.disabled():
        print(f"\n{line}")
    assert line == "20 kills, 8577 events: 0 lost, 0 double commits"


def kill_replay(log: RecordedLog, file: Path, moment: int, chance: random.Random) -> bool:
    """Start the replay and kill it a little after it has done so many events; whether it was."""
    with Child("replay_log", log.folder, file) as replay:
        while (line := replay.line()) and int(line) < moment:
            pass
        try:
            # Of an instant's length, so that the kill hits any point of a commit; not a wait for
            # anything to happen.
            replay.process.wait(timeout=chance.uniform(0, 0.02))
        except subprocess.TimeoutExpired:
            return replay.kill()
        return False


def compare(store: Store, log: RecordedLog) -> tuple[int, int]:
    """How many events and outcomes of the log are missing, and how many were committed twice."""
    expected = {(line["session"], str(at)) for at, line in enumerate(log.events())}
    expected |= {key for key, each in log.instances().items() if each["status"] == "finished"}
    found = Counter(
        (summary.uid, event.cause if event.source is Source.INSTANCE else event.id)
        for summary in store.sessions()
        for event in store.events(summary.uid)
    )
    return len(expected - found.keys()), found.total() - len(found)
