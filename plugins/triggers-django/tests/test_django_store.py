"""What only this store keeps: configurations that sessions share, names on every collation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import DataError, connections
from django.test.utils import CaptureQueriesContext

from triggers_core.exceptions import StorageError
from triggers_core.testing.clock import VirtualClock
from triggers_core.testing.driver import SessionDriver
from triggers_django import DjangoStore, models, writing

DAY = 86_400.0


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def store(
    databases_of_each_kind: Any, make_django_store: Callable[..., Any], clock: VirtualClock
) -> DjangoStore:
    store: DjangoStore = make_django_store(databases_of_each_kind)(clock)
    return store


def test_prune_erases_configurations_a_day_after_their_last_use(
    store: DjangoStore, clock: VirtualClock
) -> None:
    """Not at once: a transaction that has adopted one may still be open."""

    def stored() -> set[str]:
        return set(models.Configuration.objects.using(store.alias).values_list("hash", flat=True))

    one, two = SessionDriver(store, "one"), SessionDriver(store, "two")
    one.configure(t_x={"after": ["a"]})
    two.configure(t_y={"after": ["b"]})
    kept, dropped = (each.header.config for each in (two, one))
    store.delete("one")
    store.prune(10 * DAY)
    assert stored() == {kept, dropped}
    clock.advance(DAY - 60)
    SessionDriver(store, "three").configure(t_x={"after": ["a"]})
    store.delete("three")
    clock.advance(120)
    store.prune(10 * DAY)
    assert stored() == {kept, dropped}, "used again less than a day ago"
    clock.advance(DAY)
    store.prune(10 * DAY)
    assert stored() == {kept}
    two.fire("b")
    assert two.statuses() == {"t_y#0": "scheduled"}


def test_the_last_days_of_a_configuration_cost_a_write_an_hour(
    store: DjangoStore, clock: VirtualClock
) -> None:
    def used_at() -> float:
        return models.Configuration.objects.using(store.alias).get().used_at

    SessionDriver(store, "one").configure(t_x={"after": ["a"]})
    first = used_at()
    clock.advance(1800)
    SessionDriver(store, "two").configure(t_x={"after": ["a"]})
    assert used_at() == first
    clock.advance(1801)
    SessionDriver(store, "three").configure(t_x={"after": ["a"]})
    assert used_at() > first


def test_names_are_looked_for_as_they_are_written(store: DjangoStore) -> None:
    """By Django's lookups too, which the admin uses."""
    for uid in ("Order:1", "order:1", "order:1 ", "ördér:1", "order:😀", "order:%_"):
        SessionDriver(store, uid).fire("paid")
    found = models.Session.objects.using(store.alias)
    assert found.get(uid="order:1").uid == "order:1"
    assert found.get(uid="order:1 ").uid == "order:1 "
    assert [each.uid for each in found.filter(uid__startswith="order:%")] == ["order:%_"]
    assert [each.uid for each in found.filter(uid__contains="😀")] == ["order:😀"]
    assert "order:1" in {each.uid for each in found.filter(uid__icontains="order:1")}
    uids = [each.uid for each in store.sessions()]
    assert uids == sorted(uids)


@pytest.mark.parametrize("recorded", [0, 300])
def test_a_fire_takes_as_many_statements_whatever_is_stored(
    store: DjangoStore, recorded: int
) -> None:
    session = SessionDriver(store)
    session.configure(t_x={"andEvery": "go", "after": ["begin"]}, t_y={"after": ["never"]})
    with store.transaction():
        for _ in range(recorded):
            session.fire("go")
    session.fire("noise")
    with CaptureQueriesContext(connections[store.alias]) as asked:
        session.fire("noise")
    # BEGIN and SQLite's turn, the session's row, the event, the header, COMMIT.
    assert len(asked) <= 6, [each["sql"][:60] for each in asked]
    with CaptureQueriesContext(connections[store.alias]) as asked:
        session.fire("go")
    assert len(asked) <= 9, [each["sql"][:60] for each in asked]


def test_of_a_change_that_the_database_refuses_in_the_middle_nothing_is_stored(
    store: DjangoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = SessionDriver(store)
    session.configure(t_x={"andEvery": "go"})
    before = session.image()

    def refuse(*_: object) -> None:
        raise DataError("not that one")

    monkeypatch.setattr(writing, "_save_instances", refuse)
    with pytest.raises(StorageError, match="not that one"):
        session.fire("go")
    monkeypatch.undo()
    assert session.image() == before
    assert session.fire("go").scheduled == ["t_x#0"]
