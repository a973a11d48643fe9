"""Hooks that fire: what each may do, and an end to it."""

from __future__ import annotations

import contextvars
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from applications import STORAGES, application

from triggers_core import Application, TriggerManager, hookimpl
from triggers_core.engine.nesting import AfterCommit, BeforeCommit
from triggers_core.exceptions import (
    EventIdConflict,
    HookFailed,
    LimitExceeded,
    NestedCommit,
    WrongState,
)


@pytest.fixture(params=STORAGES)
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Application]:
    with application(request.param, tmp_path) as app:
        yield app


def fired(manager: TriggerManager) -> list[str]:
    return [event.trigger for event in manager.storage.events]


# -- before_commit ---------------------------------------------------------------------------------


def test_a_hook_that_swallows_the_refusal_spoils_nothing(app: Application) -> None:
    class Swallows:
        @hookimpl
        def before_commit(self, session: Any, plan: Any) -> None:
            if session.has_fired("inner"):
                return
            with pytest.raises(NestedCommit, match="before_commit hook of the plugin 'swallows'"):
                app.manager("order:2").fire("inner")
            plan.fire("inner")

    app.plugins.register(Swallows(), "swallows")
    manager = app.manager("order:1")
    manager.fire("outer")
    assert fired(manager) == ["outer", "inner"]
    assert not app.manager("order:2").storage.exists


def test_a_context_that_was_copied_in_a_hook_may_fire_later(app: Application) -> None:
    copied = []

    class Copies:
        @hookimpl
        def before_commit(self, session: Any, plan: Any) -> None:
            copied.append(contextvars.copy_context())

    app.plugins.register(Copies())
    manager = app.manager("order:1")
    manager.fire("one")
    copied[0].run(manager.fire, "two")
    assert fired(manager) == ["one", "two"]


def test_a_plan_is_over_when_its_hook_has_returned(app: Application) -> None:
    plans: list[Any] = []

    class Keeps:
        @hookimpl
        def before_commit(self, session: Any, plan: Any) -> None:
            plans.append(plan)

    app.plugins.register(Keeps(), "keeps")
    app.manager("order:1").fire("one")
    with pytest.raises(WrongState, match=r"plan.fire\('late'\) after before_commit has returned"):
        plans[0].fire("late")


def test_without_its_hook_an_error_is_gone(app: Application) -> None:
    class Fails:
        @hookimpl
        def before_commit(self, session: Any, plan: Any) -> None:
            raise ZeroDivisionError

    plugin = Fails()
    app.plugins.register(plugin)
    manager = app.manager("order:1")
    with pytest.raises(HookFailed):
        manager.fire("one")
    app.plugins.unregister(plugin)
    manager.fire("two")
    assert fired(manager) == ["two"]


# -- the others ------------------------------------------------------------------------------------


def test_a_hook_may_fire_after_a_commit(app: Application) -> None:
    class Echo:
        @hookimpl
        def post_fire(self, manager: TriggerManager, event: Any) -> None:
            if event.trigger.startswith("echo") and len(event.trigger) < 10:
                manager.fire(event.trigger + "o")

    app.plugins.register(Echo())
    manager = app.manager("order:1")
    manager.fire("echo")
    assert fired(manager) == ["echo" + "o" * times for times in range(7)]


@pytest.mark.parametrize("plugins", [1, 3])
def test_hooks_that_answer_each_other_have_an_end(
    app: Application, plugins: int, caplog: pytest.LogCaptureFixture
) -> None:
    class Answers:
        @hookimpl
        def post_fire(self, manager: TriggerManager, event: Any) -> None:
            manager.fire("again")

    for number in range(plugins):
        app.plugins.register(Answers(), f"answers{number}")
    manager = app.manager("order:1")
    with caplog.at_level(logging.ERROR):
        assert manager.fire("again").status == "recorded"
    assert len(fired(manager)) == 32
    assert f"{LimitExceeded.__name__}: hooks that follow a commit" in caplog.text
    assert manager.fire("again").status == "recorded", "the next one begins anew"


def test_a_pre_fire_hook_that_fires_without_end_stores_nothing(app: Application) -> None:
    class Fires:
        @hookimpl
        def pre_fire(self, manager: TriggerManager, event: Any) -> None:
            manager.fire("before")

    app.plugins.register(Fires())
    manager = app.manager("order:1")
    with pytest.raises(RecursionError):
        manager.fire("go")
    assert not manager.storage.exists


# -- event ids and pre_fire ------------------------------------------------------------------------


class Stamps:
    """What docs/plugins.md begins with: it notes which server received an event."""

    host = "web-1"

    @hookimpl
    def pre_fire(self, manager: TriggerManager, event: Any) -> None:
        event.kwargs = {**event.kwargs, "host": self.host}


def test_a_repetition_is_one_whatever_a_hook_has_stamped(app: Application) -> None:
    plugin = Stamps()
    app.plugins.register(plugin)
    manager = app.manager("order:1")
    order = {"amount": 1, "lines": [{"sku": 7}]}
    assert manager.fire("paid", order, event_id="evt_1").status == "recorded"
    for plugin.host in ("web-1", "web-2"):
        assert manager.fire("paid", order, event_id="evt_1").status == "duplicate"
        assert (
            manager.fire("paid", dict(reversed(order.items())), event_id="evt_1").status
            == "duplicate"
        )
        with pytest.raises(EventIdConflict, match="with another payload"):
            manager.fire("paid", {"amount": 2, "lines": [{"sku": 7}]}, event_id="evt_1")
        with pytest.raises(EventIdConflict):
            manager.fire("refunded", order, event_id="evt_1")
    app.plugins.unregister(plugin)
    assert manager.fire("paid", order, event_id="evt_1").status == "duplicate", "no hook here"
    assert manager.storage.latest_kwargs == {"paid": {**order, "host": "web-1"}}


def test_a_repetition_where_a_hook_came_later(app: Application) -> None:
    manager = app.manager("order:1")
    manager.fire("paid", {"amount": 1}, event_id="evt_1")
    app.plugins.register(Stamps())
    assert manager.fire("paid", {"amount": 1}, event_id="evt_1").status == "duplicate"


def test_only_what_hooks_change_is_noted(app: Application) -> None:
    class Looks:
        @hookimpl
        def pre_fire(self, manager: TriggerManager, event: Any) -> None:
            event.kwargs = dict(event.kwargs)

    manager = app.manager("order:1")
    app.plugins.register(Looks())
    manager.fire("paid", {"amount": 1}, event_id="evt_1")
    app.plugins.register(Stamps())
    manager.fire("paid", {"amount": 1})
    manager.fire("paid", {"amount": 1}, event_id="evt_2")
    assert [bool(event.extra) for event in manager.storage.events] == [False, False, True]


def test_a_hook_that_makes_data_of_objects(app: Application) -> None:
    class Order:
        number = 7

    class Converts:
        @hookimpl
        def pre_fire(self, manager: TriggerManager, event: Any) -> None:
            event.kwargs = {"order": event.kwargs["order"].number}

    app.plugins.register(Converts())
    manager = app.manager("order:1")
    assert manager.fire("paid", {"order": Order()}, event_id="evt_1").status == "recorded"
    assert manager.fire("paid", {"order": Order()}, event_id="evt_1").status == "duplicate"


# -- interrupted -----------------------------------------------------------------------------------


class Alarm(Exception):
    """What a signal handler raises."""


def interrupted(call: Callable[[], object], code: Any) -> None:
    """Make a call; raise in it where a function of this code begins, as signal handlers do."""

    def trace(frame: FrameType, event: str, argument: object) -> None:
        if frame.f_code is code:
            sys.settrace(None)
            raise Alarm

    sys.settrace(trace)
    try:
        with pytest.raises(Alarm):
            call()
    finally:
        sys.settrace(None)


def test_an_interruption_at_the_end_of_before_commit_forbids_nothing(app: Application) -> None:
    class Looks:
        @hookimpl
        def before_commit(self, session: Any, plan: Any) -> None: ...

    app.plugins.register(Looks(), "looks")
    manager = app.manager("order:1")
    interrupted(lambda: manager.fire("a"), BeforeCommit.__exit__.__code__)
    manager.fire("b")
    assert fired(manager) == ["b"]
    assert manager.delete_session()


def test_an_interruption_at_the_end_of_post_fire_uses_up_nothing(app: Application) -> None:
    class Answers:
        @hookimpl
        def post_fire(self, manager: TriggerManager, event: Any) -> None:
            if event.trigger == "asked":
                manager.fire("answered")

    app.plugins.register(Answers(), "answers")
    manager = app.manager("order:1")
    for _ in range(40):  # Limits.additions is 32
        interrupted(lambda: manager.fire("a"), AfterCommit.__exit__.__code__)
    manager.fire("asked")
    assert fired(manager) == [*("a",) * 40, "asked", "answered"]


def test_an_interruption_inside_of_answers_uses_up_nothing(app: Application) -> None:
    class Answers:
        @hookimpl
        def post_fire(self, manager: TriggerManager, event: Any) -> None:
            if event.trigger != "asked":
                return
            for _ in range(40):
                interrupted(lambda: manager.fire("a"), AfterCommit.__exit__.__code__)
            manager.fire("answered")

    app.plugins.register(Answers(), "answers")
    manager = app.manager("order:1")
    manager.fire("asked")
    assert fired(manager) == ["asked", *("a",) * 40, "answered"]


def test_a_hook_may_not_fire_through_a_thread_of_its_own(app: Application) -> None:
    raised: list[BaseException] = []

    class Asks:
        @hookimpl
        def before_commit(self, session: Any, plan: Any) -> None:
            def fires() -> None:
                try:
                    app.manager("order:2").fire("inner")
                except BaseException as error:
                    raised.append(error)

            thread = threading.Thread(target=contextvars.copy_context().run, args=(fires,))
            thread.start()
            thread.join(120)

    app.plugins.register(Asks(), "asks")
    app.manager("order:1").fire("outer")
    assert [type(error) for error in raised] == [NestedCommit]
