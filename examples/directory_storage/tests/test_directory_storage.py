"""The contract of storages, and what is this storage's own."""

import fcntl
import os
from contextlib import closing
from functools import partial
from itertools import count
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from triggers_directory.files import erase, locked, replace
from triggers_directory.store import DirectoryStore

from triggers_core.backtest import backtest
from triggers_core.engine.protocol import Query
from triggers_core.exceptions import UnknownSchema
from triggers_core.storages import storage_backends
from triggers_core.testing import SessionDriver, StorageContract
from triggers_core.testing.model import compare_with_model
from triggers_core.testing.replays import SampleLog, check_totals, instances_of


class TestDirectory(StorageContract):
    lacks: ClassVar = {
        "transactions": "each session is a file of its own",
        "joined": "no application has a transaction in files",
        "awaited": "no application has a transaction in files",
    }

    @pytest.fixture
    def make_store(self, tmp_path):
        numbers = count()
        return lambda clock: DirectoryStore(tmp_path / str(next(numbers)), clock)

    @pytest.fixture
    def opener(self):
        return lambda store: partial(DirectoryStore, store.path)


def test_any_history(tmp_path):
    numbers = count()
    compare_with_model(
        lambda clock: closing(DirectoryStore(tmp_path / str(next(numbers)), clock)),
        settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck)),
    )


def test_a_log(tmp_path):
    log, store = SampleLog("orders", sessions=20), DirectoryStore(tmp_path)
    check_totals(backtest(log.config, log.events(), store), log)
    assert instances_of(store) == log.instances()


def test_its_key_opens_it(tmp_path):
    one, other = (storage_backends.get("directory", uid, path=tmp_path) for uid in "ab")
    assert one.store is other.store
    assert one.store.place == f"the directory {tmp_path}"


def test_it_exists_once_it_is_set_up(tmp_path):
    store = DirectoryStore(tmp_path / "of" / "orders")
    assert [store.exists, store.set_up(), store.exists, store.set_up()] == [
        False,
        True,
        True,
        False,
    ]


def test_a_damaged_file_hides_no_other(tmp_path, caplog):
    store = DirectoryStore(tmp_path)
    for uid in ("order:1", "order:2"):
        SessionDriver(store, uid).fire("paid")
    [damaged] = (each for each in tmp_path.glob("*/*.json") if b"order:1" in each.read_bytes())
    damaged.write_bytes(damaged.read_bytes()[:-1])

    assert [each.uid for each in store.sessions()] == ["order:2"]
    assert store.prune(-1, resolved_only=False) == 1
    assert damaged.name in caplog.text
    with pytest.raises(UnknownSchema) as refused:
        store.load("order:1", Query())
    assert refused.value.uid == "order:1"


def test_nothing_but_the_session_is_left_behind(tmp_path):
    store = DirectoryStore(tmp_path)
    SessionDriver(store, "order:1").fire("paid")
    store.delete("order:1")
    store.delete("order:2")
    SessionDriver(store, "order:3").recover()
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == []


def test_a_lock_that_was_erased_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    path, flock = tmp_path / "order.json", fcntl.flock

    def after_its_holder_erased_it(file, operation):
        monkeypatch.undo()
        erase(path)
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", after_its_holder_erased_it)
    with locked(path), open(tmp_path / "order.lock") as lock, pytest.raises(BlockingIOError):
        flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_content_is_on_the_disk_before_its_name(tmp_path, monkeypatch):
    done = []

    def noted(name, call, *arguments):
        done.append(name)
        return call(*arguments)

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, partial(noted, name, getattr(os, name)))
    replace(tmp_path / "order.json", b"{}")
    assert done == ["fsync", "replace", "fsync"]
