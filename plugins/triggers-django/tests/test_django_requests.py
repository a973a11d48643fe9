"""`ATOMIC_REQUESTS`: what a view fires is stored if its request succeeds, and never otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import path

from triggers_core import Application
from triggers_core.exceptions import TriggersError
from triggers_core.runners.manual import ManualRunner
from triggers_core.settings import Settings
from triggers_core.testing.invariants import check_store

TASKS = {"t_ship": {"andEvery": "paid", "run": "shop.Ship"}}


class Site:
    """Views over a store, and what became of their requests."""

    def __init__(self, store: Any) -> None:
        self.store, self.alias = store, store.alias
        settings = Settings.isolated(TRIGGER_PLUGINS=[], TRIGGER_CONFIGURATION=TASKS)
        self.app = Application("site", settings, store=store, runner=ManualRunner)
        self.client = Client(raise_request_exception=False)
        self.before_commit: list[list[str]] = []
        """What was dispatched when each view was through."""

    @property
    def urls(self) -> tuple[Any, ...]:
        @transaction.non_atomic_requests(using=self.alias)
        def aside(request: HttpRequest) -> HttpResponse:
            return self.fail(request)

        pages = (self.pay, self.refuse, self.fail, self.recover, aside)
        return tuple(path(page.__name__, page) for page in pages)

    def fire(self, *triggers: str) -> None:
        with connections[self.alias].cursor() as cursor:
            cursor.execute("INSERT INTO request_order (uid) VALUES ('order:1')")
        for trigger in triggers:
            self.app.manager("order:1").fire(trigger)
        self.before_commit.append(self.dispatched)

    def pay(self, request: HttpRequest) -> HttpResponse:
        self.fire("paid", "packed", "paid")
        return HttpResponse("thanks")

    def refuse(self, request: HttpRequest) -> HttpResponse:
        """An answer is one, whatever its status: Django commits."""
        self.fire("paid")
        return HttpResponse("no", status=402)

    def fail(self, request: HttpRequest) -> HttpResponse:
        self.fire("paid")
        raise ZeroDivisionError

    def recover(self, request: HttpRequest) -> HttpResponse:
        """A part of the request is rolled back; what is around it is not."""
        self.fire("packed")
        try:
            with transaction.atomic(using=self.alias):
                self.fire("paid")
                self.app.manager("order:1").fire("t_ship")  # refused
        except TriggersError:
            pass
        self.app.manager("order:1").fire("sent")
        return HttpResponse("well")

    @property
    def dispatched(self) -> list[str]:
        runner = self.app.runner()
        assert isinstance(runner, ManualRunner)
        return [each.instance for each in runner.messages]

    @property
    def stored(self) -> tuple[int, list[str]]:
        """How many orders there are, and the events of their session."""
        with connections[self.alias].cursor() as cursor:
            cursor.execute("SELECT uid FROM request_order")
            orders = len(cursor.fetchall())
        return orders, [each.trigger for each in self.store.events("order:1")]


@pytest.fixture
def site(
    databases_of_each_kind: Any,
    make_django_store: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Site]:
    site = Site(make_django_store(databases_of_each_kind)())
    monkeypatch.setitem(connections[site.alias].settings_dict, "ATOMIC_REQUESTS", True)
    with connections[site.alias].cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS request_order")
        cursor.execute("CREATE TABLE request_order (uid varchar(200) NOT NULL)")
    with override_settings(ROOT_URLCONF=site.urls, ALLOWED_HOSTS=["*"]):
        yield site
    check_store(site.store)
    site.app.close()
    with connections[site.alias].cursor() as cursor:
        cursor.execute("DROP TABLE request_order")


def test_a_request_that_succeeds_stores_all_and_dispatches_then(site: Site) -> None:
    assert site.client.post("/pay").status_code == 200
    assert site.before_commit == [[]]
    assert site.stored == (1, ["paid", "packed", "paid"])
    assert site.dispatched == ["t_ship#0", "t_ship#1"]


def test_an_answer_that_says_no_is_stored_all_the_same(site: Site) -> None:
    assert site.client.post("/refuse").status_code == 402
    assert site.stored == (1, ["paid"])
    assert site.dispatched == ["t_ship#0"]


def test_a_view_that_raises_stores_and_dispatches_nothing(site: Site) -> None:
    assert site.client.post("/fail").status_code == 500
    assert site.before_commit == [[]], "it got as far as that"
    assert site.stored == (0, [])
    assert site.dispatched == []
    assert site.client.post("/pay").status_code == 200
    assert site.dispatched == ["t_ship#0", "t_ship#1"]


def test_a_part_that_is_rolled_back(site: Site) -> None:
    assert site.client.post("/recover").status_code == 200
    assert site.stored == (1, ["packed", "sent"])
    assert site.dispatched == []


def test_a_view_that_is_taken_out_of_it_has_stored_what_it_fired(site: Site) -> None:
    assert site.client.post("/aside").status_code == 500
    assert site.before_commit == [["t_ship#0"]]
    assert site.stored == (1, ["paid"])
