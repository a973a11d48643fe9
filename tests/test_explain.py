"""What `explain` says: names nobody waits for, what a plugin's trigger waits for, one moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from applications import STORAGES, application

from triggers_core import Application, TriggerManager, hookimpl
from triggers_core.engine.attempts import Claim, PassOn
from triggers_core.engine.commands import Configure
from triggers_core.engine.configuration import parse_configuration
from triggers_core.engine.fire_rule import fire
from triggers_core.engine.machine import Draft
from triggers_core.engine.protocol import CommandSteps, Query, Rules
from triggers_core.engine.records import Event

TASKS = {
    "t_ship": {"after": ["paid", "packed"], "unless": ["cancelled"], "run": "x"},
    "t_mail": {"after": ["t_ship"], "run": "x"},
}


@pytest.fixture(params=STORAGES)
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Application]:
    with application(request.param, tmp_path, TRIGGER_RUNNER_OPTIONS={"sweep": False}) as app:
        app.runner().dispatch = lambda *_: None  # type: ignore[method-assign]
        yield app


@pytest.fixture
def manager(app: Application) -> TriggerManager:
    manager = app.manager("order:1")
    manager.commit(Configure(configuration=parse_configuration(TASKS)))
    return manager


def test_a_fire_says_whether_a_task_waits_for_it(app: Application) -> None:
    manager = app.manager("order:1")
    assert manager.fire("payed").waited_for, "the first configuration will look at it"
    manager.commit(Configure(configuration=parse_configuration(TASKS)))
    assert not manager.fire("payed").waited_for
    assert not manager.fire("payed", once=True).waited_for
    assert manager.fire("paid", event_id="e").waited_for
    assert manager.fire("paid", event_id="e").waited_for, "a duplicate, too"
    assert manager.fire("cancelled").waited_for, "unless counts"


class Many:
    """Ten thousand events in one commit."""

    def decide(self, uid: str, rules: Rules) -> CommandSteps[None]:
        draft = Draft((yield Query(triggers=("unheard", "cancelled"))), rules)
        for number in range(10_000):
            trigger = "cancelled" if number % 2 else "unheard"
            fire(draft, Event(id="", trigger=trigger, payload=msgspec.Raw(b"{}")))
        return draft.plan(None)


def test_it_reads_the_events_that_it_shows(
    app: Application, manager: TriggerManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager.fire("paid")
    app.store.commit(manager.uid, Many(), app.rules)
    manager.fire("packed")
    store, read = app.store, list[int]()
    by_number = store.events_by_number

    def counted(uid: str, numbers: Iterable[int]) -> dict[int, Event]:
        events = by_number(uid, numbers)
        read.extend(events)
        return events

    monkeypatch.setattr(store, "events_by_number", counted)
    monkeypatch.setattr(store, "events", lambda *_: pytest.fail("it reads all events"))
    assert "unheard fired " in str(manager.explain())
    assert 2 <= len(read) <= 10


def test_a_slip_of_the_pen_is_named(manager: TriggerManager) -> None:
    manager.fire("payed")
    manager.fire("unrelated")
    explained = manager.explain()
    text = str(explained)
    assert "payed fired " in text
    assert ", and no task waits for it: did you mean paid?" in text
    assert [(each.trigger, each.did_you_mean) for each in explained.unheard] == [
        ("payed", "paid"),
        ("unrelated", None),
    ]
    one = manager.explain("t_ship")
    assert [each["trigger"] for each in one.data["unheard"]] == ["payed"]
    assert manager.explain("t_mail").unheard == []


@pytest.mark.parametrize(
    ("fired", "meant"),
    [("paid\u200b", "paid"), ("cafe\u0301", "caf\u00e9"), ("\uff50aid", "paid"), ("paid ", "paid")],
)
def test_names_that_look_alike(app: Application, fired: str, meant: str) -> None:
    manager = app.manager("order:1")
    tasks = {"t_x": {"after": [meant], "run": "x"}}
    manager.commit(Configure(configuration=parse_configuration(tasks)))
    manager.fire(fired)
    explained = manager.explain("t_x")
    assert [(each.did_you_mean, each.looks_alike) for each in explained.unheard] == [(meant, True)]
    assert f"and is another name ({fired!a}, not {meant!a})" in str(explained)


def test_cascades_and_plugins_need_no_listener(app: Application, manager: TriggerManager) -> None:
    class Notes:
        @hookimpl
        def before_commit(self, session: Any, plan: Any) -> None:
            if not session.has_fired("noted"):
                plan.fire("noted")

    app.plugins.register(Notes())
    manager.fire("paid")
    manager.fire("t_mail", force=True)
    assert manager.explain().unheard == []


def test_a_plugin_says_what_its_trigger_waits_for(app: Application) -> None:
    class Third:
        @hookimpl
        def explain_trigger(self, session: Any, trigger: str) -> str | None:
            return f"comes with event 3 of {session.events}" if trigger == "third" else None

    app.plugins.register(Third())
    manager = app.manager("order:1")
    tasks = {"t_x": {"after": ["third", "else"], "run": "x"}}
    manager.commit(Configure(configuration=parse_configuration(tasks)))
    manager.fire("else")
    assert "waits for third (which comes with event 3 of 1)" in str(manager.explain("t_x"))


def test_it_says_who_runs_an_instance(manager: TriggerManager) -> None:
    manager.fire("paid")
    manager.fire("packed")
    header = manager.storage.header
    assert header is not None
    claim = Claim(instance="t_ship#0", attempt=1, generation=header.generation)
    claim.token += "@web-1:4711"
    manager.commit(claim)
    explained = manager.explain("t_ship")
    assert explained.tasks[0].instances[0].holder == "web-1:4711"
    assert "by web-1:4711, attempt 1" in str(explained)
    assert claim.token not in str(explained)
    assert "runs once" not in str(explained)


@pytest.mark.parametrize("part", ["load", "instances", "events_by_number"])
def test_it_is_of_one_moment(
    manager: TriggerManager, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """A fire between the reads of the header, of the instances and of the events."""
    manager.fire("paid")
    store, moved = manager.storage.store, []
    read = getattr(type(store), part)

    def slow(self: Any, uid: str, *arguments: Any, **options: Any) -> Any:
        answer = read(self, uid, *arguments, **options)
        if not moved and (part == "events_by_number" or arguments in ((), (Query(),))):
            moved.append(True)
            manager.fire("packed")
        return answer

    monkeypatch.setattr(type(store), part, slow)
    explained = manager.explain("t_ship")
    assert moved
    assert "2 events, 1 instance scheduled" in explained.state
    assert explained.tasks[0].instances[0].status == "scheduled"


def test_what_workers_leave_to_others_is_told(manager: TriggerManager) -> None:
    manager.fire("paid")
    (name,) = manager.fire("packed").scheduled
    header = manager.storage.header
    assert header is not None
    claim = Claim(instance=name, attempt=1, generation=header.generation)
    manager.commit(claim)
    manager.commit(PassOn(instance=name, token=claim.token, metadata={}, why="no task named 'x'"))
    (told,) = manager.explain("t_ship").tasks[0].instances
    assert told.why.endswith("; a worker left it to others: no task named 'x'.")
