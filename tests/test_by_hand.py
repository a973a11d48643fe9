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
from triggers_core.views.session import event_data, instance_data, session_data
from triggers_core.views.timeline import timeline

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
    assert manager.join(120)
    return manager


def test_who_replays_skips_and_fails_is_recorded(app: Application) -> None:
    manager = failed(app)
    alice = manager.by("alice")
    assert alice.replay_failed_instance("t_mail#0").acted_by is None, "nobody has done that to it"
    assert manager.join(120)
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


def test_who_configures_and_closes_is_recorded(app: Application) -> None:
    manager = app.manager("order:1")
    manager.by("ada").update_configuration({"t_mail": CONFIGURATION["t_mail"]})
    assert "ada" not in manager.explain().state, "it is the first one"
    alice = manager.by("alice")
    assert not alice.update_configuration({"t_mail": CONFIGURATION["t_mail"]}).changed
    assert manager.storage.metadata.configured_by == "ada"
    alice.update_configuration(CONFIGURATION, dry_run=True)
    alice.update_configuration(CONFIGURATION)
    assert "configuration changed by alice " in manager.explain().state
    manager.update_configuration({"t_late": CONFIGURATION["t_mail"]})
    assert "and again since" in manager.explain().state
    manager.by("bob").close_session()
    alice.close_session()
    found = manager.storage.metadata
    assert (found.configured_by, found.closed_by) == ("alice", "bob")
    assert "closed to further events by bob " in manager.explain().state
    data = session_data(manager.storage)
    assert (data["configured_by"], data["closed_by"]) == ("alice", "bob")
    assert data["configured_at"] <= data["closed_at"]
    acts = timeline(manager.storage)["acts"]
    assert [(each["what"], each["by"]) for each in acts] == [
        ("closed", "bob"),
        ("configured", "alice"),
    ]


def test_who_deals_with_logs_is_recorded(app: Application) -> None:
    manager = failed(app)
    manager.by("alice").mark_instance_logs_resolved("t_mail#0")
    manager.by("bob").mark_instance_logs_resolved("t_mail#0")  # too late
    instance = manager.storage["t_mail#0"]
    assert instance.logs_resolved_by == "alice"
    assert instance_data(instance)["logs_resolved_at"] is not None
    assert "Its logs were dealt with by alice " in str(manager.explain("t_mail"))
    manager.skip_failed_instance("t_mail#0")
    assert manager.storage["t_mail#0"].logs_resolved_by == "alice"
    [act] = timeline(manager.storage)["acts"]
    assert (act["what"], act["instance"], act["by"], act["above"]) == (
        "logs",
        "t_mail#0",
        "alice",
        0,
    )


def test_the_log_says_who_deletes(app: Application, caplog: pytest.LogCaptureFixture) -> None:
    for uid in ("order:1", "order:2", "order:3"):
        app.manager(uid).fire("paid")
    app.manager("order:1").by("alice").delete_session()
    app.manager("order:1").by("alice").delete_session()  # there is none
    asyncio.run(app.manager("order:2").by("bob").adelete_session())
    app.manager("order:3").delete_session()
    assert [each.getMessage() for each in caplog.records] == [
        "order:1: deleted by alice",
        "order:2: deleted by bob",
    ]


def test_nobody_in_particular(app: Application) -> None:
    manager = failed(app)
    manager.mark_instance_logs_resolved("t_mail#0")
    manager.close_session()
    assert manager.storage["t_mail#0"].logs_resolved_by is None
    assert manager.storage.metadata.closed_by is None
    assert manager.storage.header.extra == {}
    assert timeline(manager.storage)["acts"] == []


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
    assert manager.join(120)


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
