"""What storages tell those who know none by name: what a text means, whether anything is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from triggers_core.exceptions import InvalidSetting
from triggers_core.storages.base import Store
from triggers_core.storages.memory import MemoryStorage, MemoryStore
from triggers_core.storages.session import SessionStorage
from triggers_core.storages.sqlite import SqliteStorage, SqliteStore
from triggers_core.testing import SessionDriver


class Bucket(SessionStorage):
    @classmethod
    def open_store(cls, region: str = "eu", url: str = "") -> Store:
        raise NotImplementedError


class Shelf(SessionStorage):
    @classmethod
    def open_store(cls, board: str = "a", *, depth: int = 1) -> Store:
        raise NotImplementedError


class Anything(SessionStorage):
    @classmethod
    def open_store(cls, **options: Any) -> Store:
        raise NotImplementedError


class Plain(SessionStorage):
    @classmethod
    def open_store(cls) -> Store:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("storage", "text", "options"),
    [
        (SqliteStorage, "sqlite:a b.db", {"path": "a b.db"}),
        (SqliteStorage, "sqlite:C:/x.db", {"path": "C:/x.db"}),
        (MemoryStorage, "memory", {}),
        (Bucket, "bucket", {}),
        (Bucket, "s3://host/it", {"url": "s3://host/it"}),
        (Bucket, "bucket:s3://host/it", {"url": "s3://host/it"}),
        (Shelf, "shelf:b", {"board": "b"}),
        (Shelf, "shelf://b", {"board": "//b"}),
        (Anything, "any:x", {"url": "x"}),
        (Plain, "plain", {}),
    ],
)
def test_options(storage: type[SessionStorage], text: str, options: dict[str, str]) -> None:
    assert storage.options_from_text(text) == options


@pytest.mark.parametrize(
    ("storage", "text", "told"),
    [
        (SqliteStorage, "sqlite", "expected TYPE:VALUE"),
        (SqliteStorage, "sqlite:", "expected TYPE:VALUE"),
        (MemoryStorage, "memory:x", "the storage 'memory' takes no value"),
        (Plain, "plain:x", "the storage 'plain' takes no options"),
    ],
)
def test_texts_that_mean_nothing(storage: type[SessionStorage], text: str, told: str) -> None:
    with pytest.raises(InvalidSetting, match=told):
        storage.options_from_text(text)


def test_a_file_exists_once_something_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with SqliteStore(path) as store:
        assert not store.exists
        assert not path.exists(), "asking creates nothing"
        path.touch()
        assert not store.exists, "sqlite3 leaves such files behind"
        SessionDriver(store).fire("a")
        assert store.exists


def test_only_this_process_sees_what_is_in_memory() -> None:
    assert MemoryStore.in_this_process
    assert not SqliteStore.in_this_process


def test_a_scratch_file_is_written_faster(tmp_path: Path) -> None:
    path = str(tmp_path / "scratch.db")
    with SqliteStorage.open_scratch(path=path) as scratch:
        assert scratch is SqliteStorage.open_store(path, "NORMAL")
    with SqliteStorage.open_scratch(path=path, synchronous="FULL") as safe:
        assert safe is not scratch
