"""Moving many open sessions to another configuration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from triggers_core import Application, trigger_task
from triggers_core.engine.commands import Close
from triggers_core.exceptions import InvalidArgument, InvalidConfiguration, StorageError
from triggers_core.methods import moving
from triggers_core.methods.moving import Sessions
from triggers_core.runners.manual import ManualRunner
from triggers_core.settings import Settings
from triggers_core.storages.memory import MemoryStore
from triggers_core.storages.prefixes import sessions_by_prefix
from triggers_core.testing import SessionDriver
from triggers_core.testing.invariants import check_store


@trigger_task(name="moving.body")
def body(context: Any) -> None:
    """Does nothing."""


OLD = {"t_ship": {"after": ["paid", "packed"], "run": "moving.body"}}
NEW = {
    "t_ship": {"after": ["paid"], "run": "moving.body"},
    "t_late": {"after": ["paid", "rated"], "run": "moving.body"},
}


class Goes(MemoryStore):
    """A store that goes away after so many commits, and may know no configurations."""

    left = 1_000_000
    knows = True

    def commit(self, *arguments: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise StorageError("the server is away")
        return super().commit(*arguments)

    def sessions_with(self, *asked: Any, **named: Any) -> Any:
        return super().sessions_with(*asked, **named) if self.knows else None


@pytest.fixture
def store() -> Goes:
    return Goes()


@pytest.fixture
def app(store: Goes) -> Iterator[Application]:
    """Ten orders with the old tasks, every second one paid; one is closed; an invoice."""
    app = Application(
        "moving", Settings.isolated(TRIGGER_PLUGINS=[]), store=store, runner=ManualRunner
    )
    for number in range(10):
        manager = app.manager(f"order:{number}")
        manager.update_configuration(OLD)
        if number % 2:
            manager.fire("paid")
    app.manager("invoice:1").update_configuration(OLD)
    SessionDriver(store, "order:9").commit(Close())
    yield app
    app.close()


@pytest.fixture
def old(app: Application) -> str:
    return app.parse(OLD).hash


ORDERS = Sessions(prefix="order:")


def last_of(going: Iterator[moving.Progress]) -> moving.Progress:
    *_, last = [moving.Progress(), *going]
    return last


def test_a_dry_run_tells_what_it_would_lead_to(app: Application, store: Goes, old: str) -> None:
    for sessions in (ORDERS, Sessions(configuration=old, prefix="order:")):
        seen = moving.preview(app, sessions, NEW)
        assert (seen.sessions, seen.change, seen.closed, seen.more) == (9, 9, 1, False)
        # Of the four that are paid and open, each ships at once; the new task needs the past.
        assert seen.instances == {"moved": 4, "scheduled": 4}
        assert [each.uid for each in seen.examples] == [f"order:{each}" for each in range(5)]
        assert seen.examples[1].configured.scheduled == ["t_ship#0"]
    assert moving.preview(app, ORDERS, NEW, past=True).instances["began"] == 4
    assert store.configurations_in_use() is not None
    assert [each.sessions for each in store.configurations_in_use()] == [11], "nothing has changed"
    assert moving.preview(app, Sessions(configuration=old), NEW).sessions == 10


def test_a_dry_run_looks_at_no_more_than_it_is_told_to(app: Application) -> None:
    seen = moving.preview(app, ORDERS, NEW, most=3)
    assert (seen.sessions, seen.more) == (3, True)
    assert moving.preview(app, ORDERS, NEW, most=10).more is False


def test_open_sessions_are_moved_once(app: Application, store: Goes, old: str) -> None:
    last = last_of(moving.move(app, Sessions(configuration=old, prefix="order:"), NEW))
    assert (last.done, last.closed, last.refused, last.uid) == (9, 1, 0, "order:9")
    assert last.instances == {"moved": 4, "scheduled": 4}
    assert app.parse(NEW).hash == app.storage("order:1").configuration.hash
    assert [each.uid for each in store.sessions_with(old)] == ["invoice:1", "order:9"]
    again = last_of(moving.move(app, ORDERS, NEW))
    assert (again.done, again.unchanged, again.closed) == (0, 9, 1)
    check_store(store)


def test_it_is_stopped_and_goes_on(app: Application, store: Goes, old: str) -> None:
    for sessions in (ORDERS, Sessions(configuration=old)):
        going = moving.move(app, sessions, NEW)
        assert [next(going).done for _ in range(2)][-1] == 2
        going.close()
    assert last_of(moving.move(app, ORDERS, NEW)).unchanged >= 3
    assert all(each.uid in ("invoice:1", "order:9") for each in store.sessions_with(old))


def test_the_storage_goes_away_and_comes_back(app: Application, store: Goes) -> None:
    store.left = 3
    going = moving.move(app, ORDERS, NEW)
    progress = [next(going) for _ in range(3)][-1]
    with pytest.raises(StorageError, match="the server is away"):
        next(going)
    assert (progress.done, progress.refused) == (3, 0)
    store.left = 1_000_000
    last = last_of(moving.move(app, ORDERS, NEW))
    assert (last.done, last.unchanged) == (6, 3)


def test_a_damaged_session_is_told_of(app: Application, store: Goes) -> None:
    going = moving.move(app, ORDERS, NEW)
    next(going)
    store._sessions["order:4"].header = b"damaged"
    *_, last = going
    assert (last.done, last.refused) == (8, 1)
    assert last.problems[0].startswith("order:4: ")


def test_a_wrong_configuration_is_refused_at_once(app: Application, store: Goes) -> None:
    wrong = {"t_ship": {"after": [], "run": "moving.body", "unles": []}}
    with pytest.raises(InvalidConfiguration):
        moving.preview(app, ORDERS, wrong)
    with pytest.raises(InvalidConfiguration):
        last_of(moving.move(app, ORDERS, wrong))


def test_a_storage_without_an_index_takes_a_prefix(app: Application, store: Goes, old: str) -> None:
    store.knows = False
    with pytest.raises(InvalidArgument, match="name a prefix"):
        moving.preview(app, Sessions(configuration=old), NEW)
    assert moving.preview(app, ORDERS, NEW).change == 9


def test_not_all_sessions_are_meant_by_saying_nothing() -> None:
    with pytest.raises(InvalidArgument, match="name a configuration or a prefix"):
        Sessions()


def test_more_than_a_page(app: Application, monkeypatch: pytest.MonkeyPatch, old: str) -> None:
    monkeypatch.setattr(moving, "_PAGE", 3)
    assert moving.preview(app, Sessions(configuration=old), NEW).sessions == 10
    assert last_of(moving.move(app, Sessions(configuration=old), NEW)).done == 10


def test_sessions_by_prefix(app: Application, store: Goes) -> None:
    SessionDriver(store, "order:").fire("go")
    SessionDriver(store, "order").fire("go")
    SessionDriver(store, "orders").fire("go")

    def uids(prefix: str, limit: int | None = 100, after: str = "") -> list[str]:
        return [each.uid for each in sessions_by_prefix(store, prefix, limit, after)]

    assert uids("order:") == ["order:", *(f"order:{each}" for each in range(10))]
    assert uids("order:", 2) == ["order:", "order:0"]
    assert uids("order:", 2, "order:") == ["order:0", "order:1"]
    assert uids("order:", after="order:9") == []
    assert uids("order:9") == ["order:9"]
    assert uids("x") == uids("order:", 0) == []
    assert len(uids("")) == 14
    store._sessions["order:"].header = b"damaged"
    assert uids("order:", 1) == ["order:0"]
