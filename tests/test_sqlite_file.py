"""SQLite and its file: interrupted, replaced, linked, shared; its turnstile and its schema."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from processes.spawn import Child

from triggers_core.engine.protocol import Rules
from triggers_core.exceptions import (
    HookFailed,
    InvalidSetting,
    SoftTimeLimitExceeded,
    StorageError,
    UnknownSchema,
)
from triggers_core.storages.sqlite import SqliteStore
from triggers_core.storages.sqlite import file as sqlite_file
from triggers_core.storages.sqlite import open_files as sqlite_open_files
from triggers_core.storages.sqlite import place as sqlite_place
from triggers_core.storages.sqlite.schema import APPLICATION_ID
from triggers_core.storages.sqlite.turnstile import Turnstile, TurnstileBusy
from triggers_core.testing import SessionDriver, check_store
from triggers_core.testing.driver import rules_with
from triggers_core.testing.interruptions import at_random, survey

VERSION_1 = """
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    header BLOB NOT NULL,
    failed INTEGER NOT NULL DEFAULT 0,
    waiting_since REAL
);
CREATE INDEX sessions_failed ON sessions (failed) WHERE failed > 0;
CREATE INDEX sessions_waiting ON sessions (waiting_since) WHERE waiting_since IS NOT NULL;
CREATE TABLE configurations (hash TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE events (key INTEGER PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE event_ids (
    session INTEGER NOT NULL,
    id TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (session, id)
) WITHOUT ROWID;
CREATE TABLE instances (
    session INTEGER NOT NULL,
    task TEXT NOT NULL,
    number INTEGER NOT NULL,
    status TEXT NOT NULL,
    logs INTEGER NOT NULL,
    due_at REAL,
    record BLOB NOT NULL,
    PRIMARY KEY (session, task, number)
) WITHOUT ROWID;
CREATE INDEX instances_due ON instances (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX instances_failed ON instances (session, task, number) WHERE status = 'failed';
CREATE INDEX instances_logs ON instances (session, task, number) WHERE logs = 1;
CREATE TABLE waits (
    session INTEGER NOT NULL,
    trigger TEXT NOT NULL,
    task TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (session, trigger, task, number)
) WITHOUT ROWID;
CREATE TABLE leases (name TEXT PRIMARY KEY, owner TEXT NOT NULL, until REAL NOT NULL) WITHOUT ROWID;
"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="open-file-description locks")


@pytest.fixture
def path(fast_dir: Path) -> Path:
    return fast_dir / "triggers.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(path) as store:
        yield store


def beside(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir() if each != path)


def triggers(path: Path, uid: str = "order:1") -> list[str]:
    with SqliteStore(path) as other:
        return [event.trigger for event in other.events(uid)]


# -- exceptions out of signal handlers -------------------------------------------------------------


@pytest.mark.traces
# What comes while a finaliser runs, Python reports and drops.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("step", [37, pytest.param(1, marks=pytest.mark.slow)])
def test_an_exception_at_any_moment_leaves_nothing_behind(store: SqliteStore, step: int) -> None:
    def another_process_can_write() -> None:
        with SqliteStore(store.file.path) as other:
            SessionDriver(other, "other").fire("go")

    report = survey(store, step=step, also=another_process_can_write)
    assert not report.problems, report
    assert report.interrupted["fires"]
    assert report.interrupted["connects"]
    check_store(store)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.traces
def test_a_soft_time_limit_comes_out_of_every_operation(store: SqliteStore) -> None:
    """It is an error of ours, and none of the network's or the file system's."""
    report = survey(store, step=17, error=SoftTimeLimitExceeded)
    assert not report.problems, report


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_at_any_time_leaves_nothing_behind(store: SqliteStore) -> None:
    report = at_random(store, 40)
    assert not report.problems, report
    check_store(store)


def test_a_signal_handler_may_change_a_session_while_its_thread_reads(store: SqliteStore) -> None:
    """As Celery's does at a cold shutdown: what it stores must not wait for a lease to run out."""
    session = SessionDriver(store)
    session.fire("a")

    def handler() -> None:
        session.fire("b")

    def read(connection: sqlite3.Connection) -> list[int]:
        counts = []
        for work in (handler, lambda: None):
            counts += [n for (n,) in connection.execute("SELECT count(*) FROM events").fetchall()]
            work()
        return counts

    assert store.file.read(read) == [1, 1], "the read itself is of one moment"
    assert [event.trigger for event in store.events(session.uid)] == ["a", "b"]


def test_a_transaction_and_a_turn_that_were_left_open_are_given_back(store: SqliteStore) -> None:
    SessionDriver(store).fire("a")
    opened = store.file.opened
    assert opened is not None
    assert opened.turnstile is not None
    opened.turnstile.enter(1)
    opened.connection.execute("BEGIN IMMEDIATE")
    store.file.mutex.acquire()
    SessionDriver(store).fire("b")
    assert not store.file.mutex._is_owned()  # type: ignore[attr-defined]
    done = threading.Thread(target=SessionDriver(store).fire, args=("c",))
    done.start()
    done.join()
    assert triggers(Path(store.file.path)) == ["a", "b", "c"]


def test_a_mutex_that_nobody_holds_any_more_is_replaced(store: SqliteStore) -> None:
    SessionDriver(store).fire("a")
    lost = threading.Thread(target=store.file.mutex.acquire)
    lost.start()
    lost.join()
    SessionDriver(store).fire("b")
    assert triggers(Path(store.file.path)) == ["a", "b"]


# -- another file under the same name --------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["*", "", "-wal", "-shm"])
def test_no_fire_is_recorded_into_a_file_that_is_gone(
    store: SqliteStore, path: Path, suffix: str
) -> None:
    SessionDriver(store).fire("before")
    for each in path.parent.glob(f"{path.name}{suffix}"):
        each.unlink()
    SessionDriver(store).fire("after")
    assert "after" in triggers(path)


def test_a_restored_backup_is_what_is_used_from_then_on(store: SqliteStore, path: Path) -> None:
    session = SessionDriver(store)
    session.fire("before")
    store.close()
    backup = path.with_suffix(".bak")
    shutil.copy(path, backup)
    session.fire("lost by the restore")
    for each in path.parent.glob(f"{path.name}-*"):
        each.unlink()
    os.replace(backup, path)
    assert session.fired() == ["before"], "reads see it, too"
    session.fire("after")
    assert triggers(path) == session.fired() == ["before", "after"]


def test_a_file_that_is_replaced_during_a_commit_has_it_all_the_same(
    store: SqliteStore, path: Path
) -> None:
    SessionDriver(store).fire("before")
    runs: list[int] = []

    def replaces(session: object, plan: object) -> None:
        runs.append(1)
        if len(runs) == 1:
            for each in path.parent.glob(f"{path.name}*"):
                each.unlink()

    SessionDriver(store, rules=rules_with("test", replaces)).fire("during")
    assert (triggers(path), len(runs)) == (["during"], 2)


def test_a_fire_with_an_id_is_no_duplicate_in_a_file_that_does_not_know_it(
    store: SqliteStore, path: Path
) -> None:
    """What needs no commit is not answered out of a file that is gone, either."""
    SessionDriver(store).fire("go", event_id="1")
    for each in path.parent.glob(f"{path.name}*"):
        each.unlink()
    assert SessionDriver(store).fire("go", event_id="1").status == "recorded"
    assert triggers(path) == ["go"]


def test_no_fire_is_recorded_into_a_folder_that_is_gone(fast_dir: Path) -> None:
    folder = fast_dir / "shop"
    folder.mkdir()
    with SqliteStore(folder / "triggers.db") as store:
        SessionDriver(store).fire("before")
        shutil.rmtree(folder)
        with pytest.raises(StorageError, match="there is no folder"):
            SessionDriver(store).fire("after")
        folder.mkdir()
        SessionDriver(store).fire("after")
        assert triggers(folder / "triggers.db") == ["after"]


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders count as unchanged from the first look on, not only after a second."""
    monkeypatch.setattr(sqlite_file, "_TIMESTAMP_GRAIN", -1)


def let_the_clock_of_files_move(folder: Path) -> None:
    probe = folder.with_name("probe")
    while True:
        probe.touch()
        if probe.stat().st_ctime_ns > folder.stat().st_ctime_ns:
            return


def test_a_copy_of_the_folder_in_its_place_is_what_is_used(fast_dir: Path, settled: None) -> None:
    folder, backup = fast_dir / "shop", fast_dir / "backup"
    folder.mkdir()
    with SqliteStore(folder / "triggers.db") as store:
        SessionDriver(store).fire("before")
        shutil.copytree(folder, backup)  # its files
        let_the_clock_of_files_move(folder)
        SessionDriver(store).fire("lost by the restore")
        folder.rename(fast_dir / "old")
        backup.rename(folder)
        kept = (fast_dir / "old").stat()
        os.utime(folder, ns=(kept.st_atime_ns, kept.st_mtime_ns))  # as `cp -a` leaves it
        SessionDriver(store).fire("after")
        assert triggers(folder / "triggers.db") == ["before", "after"]


def test_a_symbolic_link_that_leads_elsewhere_is_followed(fast_dir: Path, settled: None) -> None:
    one, two, link = fast_dir / "one", fast_dir / "two", fast_dir / "link.db"
    for each in (one, two):
        each.mkdir()
    link.symlink_to(one / "triggers.db")
    with SqliteStore(link) as store:
        for number in range(2):
            SessionDriver(store).fire(f"{number}")
        link.unlink()
        link.symlink_to(two / "triggers.db")
        SessionDriver(store).fire("after")
        assert triggers(two / "triggers.db") == ["after"]
        assert triggers(one / "triggers.db") == ["0", "1"]


def test_a_file_with_two_names_is_refused(path: Path) -> None:
    with SqliteStore(path) as store:
        SessionDriver(store).fire("a")
    os.link(path, path.with_suffix(".link"))
    for name in (path, path.with_suffix(".link")):
        with SqliteStore(name) as store, pytest.raises(StorageError, match=r"2 names .hard links"):
            SessionDriver(store).fire("b")


def test_two_symbolic_links_lead_to_one_store_and_one_turnstile(path: Path) -> None:
    link = path.with_name("link.db")
    link.symlink_to(path)
    with SqliteStore(path) as store, SqliteStore(link) as linked:
        SessionDriver(store).fire("a")
        SessionDriver(linked).fire("b")
        assert SqliteStore.shared(link) is SqliteStore.shared(path)
    assert beside(path) == ["link.db", "triggers.db-turnstile"]
    assert triggers(path) == ["a", "b"]


def test_network_drives_are_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sqlite_place, "file_system", lambda device: "nfs4")
    with SqliteStore(path) as store, pytest.raises(StorageError, match=r"network drive .nfs4"):
        SessionDriver(store).fire("a")
    assert beside(path) == []
    monkeypatch.setattr(sqlite_place, "file_system", lambda device: "9p")
    with SqliteStore(path) as store:
        SessionDriver(store).fire("a")
    assert "safe as long as all processes that use it run on this machine" in caplog.text


@linux
def test_the_type_of_a_file_system_is_known() -> None:
    assert sqlite_place.file_system(os.stat("/proc").st_dev) == "proc"


class PathOfBytes:
    """As an entry of ``os.scandir(b".")`` is one."""

    def __fspath__(self) -> bytes:
        return b"x.db"


@pytest.mark.parametrize("path", [None, 5, "", b"x.db", PathOfBytes(), "a\0b", ":memory:"])
def test_what_cannot_be_a_path_is_refused(path: object) -> None:
    for make in (SqliteStore, SqliteStore.shared):
        with pytest.raises(InvalidSetting, match="sqlite:"):
            make(path)  # type: ignore[arg-type]


def test_a_folder_is_no_file_and_nothing_is_left_beside_it(path: Path) -> None:
    path.mkdir()
    with SqliteStore(path) as store, pytest.raises(StorageError, match="it is a folder"):
        SessionDriver(store).fire("a")
    assert beside(path) == []


@pytest.mark.parametrize("synchronous", [None, 1, "OFF"])
def test_options_are_checked_at_once(path: Path, synchronous: object) -> None:
    with pytest.raises(InvalidSetting, match="synchronous must be FULL or NORMAL"):
        SqliteStore(path, synchronous)  # type: ignore[arg-type]


# -- the turnstile ---------------------------------------------------------------------------------


def test_a_reader_makes_no_turnstile(path: Path) -> None:
    with SqliteStore(path) as store:
        SessionDriver(store).fire("a")
    path.with_name(f"{path.name}-turnstile").unlink()
    assert triggers(path) == ["a"]
    assert beside(path) == []


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
@pytest.mark.parametrize("mode", [0o600, 0o660])
def test_the_turnstile_has_the_mode_and_owner_of_the_database(path: Path, mode: int) -> None:
    path.touch()
    path.chmod(mode)
    owner = 65534 if os.geteuid() == 0 else os.geteuid()
    os.chown(path, owner, -1)
    with SqliteStore(path) as store:
        SessionDriver(store).fire("a")
    found = path.with_name(f"{path.name}-turnstile").stat()
    assert (found.st_mode & 0o777, found.st_uid) == (mode, owner)


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_a_turnstile_of_somebody_else_keeps_nobody_from_writing(path: Path) -> None:
    with SqliteStore(path) as store:
        SessionDriver(store).fire("a")
    path.with_name(f"{path.name}-turnstile").chmod(0)
    path.chmod(0o666)
    path.parent.chmod(0o777)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        with SqliteStore(path) as store:
            SessionDriver(store).fire("b")
    finally:
        if root:
            os.seteuid(0)
    assert triggers(path) == ["a", "b"]


@linux
def test_who_waits_too_long_is_told_for_whom(path: Path) -> None:
    path.touch()
    first, second, third = (Turnstile(f"{path}-turnstile", str(path)) for _ in range(3))
    first.enter(1)
    with pytest.raises(TurnstileBusy, match=f"process {os.getpid()} has been writing"):
        second.enter(0.01)
    second.leave()  # its place in the queue, too
    first.leave()
    third.enter(0.01)
    third.leave()
    second.enter(0.01)
    for each in (first, second, third):
        each.close()


@linux
def test_a_suspended_writer_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SqliteStore(path) as store, Child("hold_turnstile", path, "order:1") as holder:
        holder.await_line("in the middle of a commit")
        holder.process.send_signal(signal.SIGSTOP)
        monkeypatch.setattr(sqlite_file, "_TIMEOUT", 0.1)
        with pytest.raises(StorageError, match=f"process {holder.process.pid} has been writing"):
            SessionDriver(store).fire("a")


# -- many stores, forks, changes within changes ----------------------------------------------------


def test_many_stores_keep_few_files_open(fast_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_open_files, "most_open", lambda: 8)
    stores = [SqliteStore(fast_dir / f"{number}.db") for number in range(20)]
    for turn in range(2):
        for store in stores:
            SessionDriver(store).fire(f"turn {turn}")
        assert sum(store.file.opened is not None for store in stores) <= 8
    for store in stores:
        assert SessionDriver(store).fired() == ["turn 0", "turn 1"]
        store.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_files_may_be_opened_while_another_thread_forks(fast_dir: Path) -> None:
    code = """
import os, signal, sys, threading
from triggers_core.storages.sqlite import SqliteStore
from triggers_core.testing import SessionDriver
enough, stores = threading.Event(), []
def tenants():
    while not enough.is_set():
        stores.append(SqliteStore(f"{sys.argv[1]}/{len(stores)}.db", "NORMAL"))
        SessionDriver(stores[-1]).fire("paid")
thread = threading.Thread(target=tenants)
thread.start()
for _ in range(20):
    child = os.fork()
    if not child:
        signal.alarm(250)
        session = SessionDriver(SqliteStore(f"{sys.argv[1]}/child.db"))
        inside = threading.Thread(target=session.fire, args=("x",))
        inside.start()
        inside.join()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
enough.set()
thread.join()
for store in stores:
    SessionDriver(store).fire("packed")
    store.close()
"""
    command = [sys.executable, "-W", "ignore", "-c", code, str(fast_dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(triggers(fast_dir / "child.db")) == 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_shared_stores_may_be_had_after_a_fork_at_any_moment(fast_dir: Path) -> None:
    code = """
import os, signal, sys, threading
from triggers_core.storages.sqlite import SqliteStore
with SqliteStore._opening:  # as a thread has it that is just making a store
    child = os.fork()
    if not child:
        signal.alarm(250)
        thread = threading.Thread(target=SqliteStore.shared, args=(sys.argv[1],))
        thread.start()
        thread.join()
        os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    command = [sys.executable, "-c", code, str(fast_dir / "child.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_file_that_is_just_changed_is_not_closed_to_make_room(
    store: SqliteStore, fast_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_open_files, "most_open", lambda: 1)

    def reads_others(session: object, plan: object) -> None:
        for number in range(3):
            with SqliteStore(fast_dir / f"{number}.db") as other:
                SessionDriver(other).fire("seen")

    SessionDriver(store, rules=rules_with("test", reads_others)).fire("go")
    assert SessionDriver(store).fired() == ["go"]


@pytest.mark.parametrize("together", [False, True])
def test_a_change_within_a_change_is_refused(store: SqliteStore, together: bool) -> None:
    def fires_by_a_manager(session: object, plan: object) -> None:
        SessionDriver(store).fire("inner")

    def fires() -> None:
        SessionDriver(store, rules=rules_with("test", fires_by_a_manager)).fire("outer")

    change = partial(store.together, fires) if together else fires
    with pytest.raises(HookFailed, match=r"plan\.fire"):
        change()
    assert not SessionDriver(store).exists
    assert SessionDriver(store).fire("later").status == "recorded"


def test_a_store_is_not_closed_within_a_change(store: SqliteStore) -> None:
    def closes(session: object, plan: object) -> None:
        store.close()

    with pytest.raises(HookFailed, match="cannot be closed while it is changed"):
        SessionDriver(store, rules=rules_with("test", closes)).fire("outer")
    assert not SessionDriver(store).exists
    assert SessionDriver(store).fire("later").status == "recorded"


def test_many_commits_in_one_go_are_not_made_again_in_another_file(
    store: SqliteStore, path: Path
) -> None:
    SessionDriver(store).fire("before")
    made: list[int] = []

    def fires() -> None:
        made.append(1)
        SessionDriver(store).fire("during")
        for each in path.parent.glob(f"{path.name}*"):
            each.unlink()

    with pytest.raises(StorageError, match="the last commits are not stored"):
        store.together(fires)
    assert made == [1]
    assert SessionDriver(store).fire("after").status == "recorded"


# -- configurations, records, versions -------------------------------------------------------------


def configurations(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        ((found,),) = connection.execute("SELECT count(*) FROM configurations").fetchall()
    connection.close()
    return int(found)


def test_a_configuration_goes_with_the_last_session_that_uses_it(
    store: SqliteStore, path: Path
) -> None:
    for uid in ("a", "b", "c"):
        SessionDriver(store, uid).configure(t_x={"after": ["go"]})
    SessionDriver(store, "c").configure(t_y={"after": ["other"]})
    assert configurations(path) == 2
    store.delete("c")
    store.delete("a")
    assert configurations(path) == 1
    SessionDriver(store, "b").configure(t_z={"after": ["more"]})
    assert configurations(path) == 1
    store.prune(-1, resolved_only=False)
    assert configurations(path) == 0


def damage(path: Path, uid: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE sessions SET header = '{\"g\": 1' WHERE uid = ?", (uid,))
    connection.close()


def test_a_damaged_session_harms_itself_alone(
    store: SqliteStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for uid in ("a", "b", "c"):
        SessionDriver(store, uid).configure(t_x={"after": ["more"]})
        SessionDriver(store, uid).fire("go")
    damage(path, "b")
    assert [each.uid for each in store.sessions()] == ["a", "c"]
    assert [each.uid for each in store.sessions(limit=2)] == ["a", "c"]
    assert [each.uid for each in store.waiting_for((), limit=2)] == ["a", "c"]
    assert "b" in caplog.text
    with pytest.raises(UnknownSchema, match="b"):
        SessionDriver(store, "b").fire("more")
    assert store.prune(0, resolved_only=False) == 2
    assert store.delete("b")
    assert store.sessions() == []


def as_of_version_1(path: Path) -> sqlite3.Connection:
    """Make the file one of version 1; a process of that version has it open."""
    tables = ("sessions", "configurations", "events", "event_ids", "instances", "waits")
    now = path.with_suffix(".v2")
    os.replace(path, now)
    old = sqlite3.connect(path)
    old.execute("PRAGMA journal_mode = WAL")
    old.executescript(VERSION_1)
    old.execute("ATTACH ? AS new", (str(now),))
    for table in tables:
        columns = ", ".join(row[1] for row in old.execute(f"PRAGMA main.table_info({table})"))
        old.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM new.{table}")
    old.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    old.execute("PRAGMA user_version = 1")
    old.commit()
    return old


def test_a_file_of_version_1_is_read_and_goes_on(path: Path) -> None:
    with SqliteStore(path) as store:
        session = SessionDriver(store)
        session.configure(t_x={"after": ["a", "b"]})
        session.fire("a")
    old = as_of_version_1(path)
    with SqliteStore(path) as store, SqliteStore(path) as another:
        session = SessionDriver(store)
        assert session.fired() == ["a"]
        assert session.fire("b").scheduled == ["t_x#0"]
        SessionDriver(another).run("t_x#0")
        check_store(store)
        insert = "INSERT OR IGNORE INTO configurations (hash, body) VALUES ('x', 'y')"
        with pytest.raises(sqlite3.DatabaseError, match="restart this process"):
            old.execute(insert)
        old.close()
        store.delete("order:1")
    assert configurations(path) == 0


def test_what_a_session_needs_that_cannot_be_read_survives_the_upgrade(path: Path) -> None:
    with SqliteStore(path) as store:
        for uid in ("a", "b"):
            SessionDriver(store, uid).configure(t_x={"after": ["go"]})
    as_of_version_1(path).close()
    damage(path, "b")
    with SqliteStore(path) as store:
        SessionDriver(store, "a").fire("go")
        store.delete("a")
    assert configurations(path) == 1


def test_a_newer_file_is_refused(path: Path) -> None:
    with SqliteStore(path) as store:
        SessionDriver(store).fire("a")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with SqliteStore(path) as store, pytest.raises(UnknownSchema, match="schema 99"):
        store.commit("a", None, Rules())  # type: ignore[arg-type]
