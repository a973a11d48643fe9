"""Who acts on a session by hand is recorded; what an event would do is told without doing it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from applications import STORAGES, application

from triggers_core import Application, TaskContext, hookimpl, trigger_task
from triggers_core.exceptions import InvalidName, InvalidPayload, TaskNameFired
from triggers_core.runners.manual import ManualRunner
from triggers_core.views.session import event_data, instance_data

CONFIGURATION = {
    "t_ship": {"after": ["paid", "packed"], "run": "byHand.Fails"},
    "t_mail": {"after": ["paid"], "run": "byHand.Fails"},
}


@trigger_task(name="byHand.Fails")
def fails(context: TaskContext) -> None:
    raise OSError("no post today")


class Noting:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    @hookimpl
    def pre_fire(self, manager: Any, event: Any) -> None:
        self.asked.append(f"pre_fire {event.trigger}")

    @hookimpl
    def post_fire(self, manager: Any, event: Any, scheduled: Any) -> None:
        self.asked.append(f"post_fire {event.trigger}")


@pytest.fixture(params=STORAGES)
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Application]:
    with application(request.param, tmp_path) as app:
        yield app


def failed(app: Application) -> Any:
    manager = app.manager("order:1")
    manager.update_configuration(CONFIGURATION)
    manager.fire("paid")
    assert manager.join(30)
    return manager


def test_who_replays_skips_and_fails_is_recorded(app: Application) -> None:
    manager = failed(app)
    alice = manager.by("alice")
    assert alice.replay_failed_instance("t_mail#0").acted_by is None, "nobody has done that to it"
    assert manager.join(30)
    alice.by("bob").skip_failed_instance("t_mail#1")
    told = str(manager.explain("t_mail"))
    assert "replayed by alice as t_mail#1" in told
    assert "skipped by bob" in told
    assert manager.storage["t_mail#0"].acted_by == "alice"
    assert instance_data(manager.storage["t_mail#1"])["acted_by"] == "bob"


def test_a_failure_by_hand_says_whose(app: Application) -> None:
    manager = app.replace(runner=ManualRunner).manager("order:1")
    manager.update_configuration(CONFIGURATION)
    manager.fire("paid")
    manager.by("carol").fail_instance("t_mail#0", "its server is gone")
    told = str(manager.explain("t_mail"))
    assert "failed by carol" in told
    assert "its server is gone" in told


def test_an_event_by_hand_says_whose(app: Application) -> None:
    manager = app.manager("order:1")
    manager.by("alice").sibling("order:2").fire("paid")
    manager.fire("paid")
    events = [app.manager(uid).storage.events[0] for uid in ("order:1", "order:2")]
    assert [event_data(each)["by"] for each in events] == [None, "alice"]


@pytest.mark.parametrize("who", ["", "a\nb", "x" * 201, 7])
def test_a_name_is_a_name(app: Application, who: Any) -> None:
    with pytest.raises(InvalidName, match="actor"):
        app.manager("order:1").by(who)


def test_a_dry_run_tells_and_does_nothing(app: Application) -> None:
    noting = Noting()
    app.plugins.manager.register(noting)
    manager = app.manager("order:1")
    manager.update_configuration(CONFIGURATION)
    manager.fire("packed")
    before, noting.asked = list(manager.storage.events), []
    would = manager.fire("paid", {"amount": 1}, event_id="evt:1", dry_run=True)
    assert would.scheduled == ("t_ship#0", "t_mail#0")
    assert would.status == "recorded"
    assert manager.fire("paidd", dry_run=True).waited_for is False
    assert list(manager.storage.events) == before
    assert noting.asked == []
    assert manager.fire("paid", {"amount": 1}, event_id="evt:1").scheduled == would.scheduled
    assert manager.fire("paid", {"amount": 1}, event_id="evt:1", dry_run=True).status == "duplicate"
    assert manager.join(30)


def test_a_dry_run_refuses_what_a_fire_refuses(app: Application) -> None:
    manager = app.manager("order:1")
    manager.update_configuration(CONFIGURATION)
    with pytest.raises(TaskNameFired):
        manager.fire("t_ship", dry_run=True)
    with pytest.raises(InvalidPayload):
        manager.fire("paid", {"amount": float("nan")}, dry_run=True)


def test_a_dry_run_in_a_new_session_makes_none(app: Application) -> None:
    manager = app.manager("order:1")
    assert manager.fire("paid", dry_run=True).number == 0
    assert not manager.storage.exists


def test_a_dry_run_can_be_awaited(app: Application) -> None:
    manager = app.manager("order:1")
    manager.update_configuration(CONFIGURATION)
    would = asyncio.run(manager.afire("paid", dry_run=True))
    assert would.scheduled == ("t_mail#0",)
    assert not list(manager.storage.events)
