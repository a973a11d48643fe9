"""`TriggerManager` through its public methods, with real threads, on both storages."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from applications import STORAGES, application

from triggers_core import (
    Application,
    TaskContext,
    TriggerManager,
    TriggerTask,
    get_trigger_manager,
    trigger_task,
    with_context,
)
from triggers_core.engine.configuration import Task
from triggers_core.exceptions import (
    EventIdConflict,
    InstanceNotFound,
    LimitExceeded,
    SessionClosed,
    SessionNotFound,
    StorageError,
    TaskNameFired,
    TaskNotFound,
    WrongState,
)
from triggers_core.runners.base import TaskRunner
from triggers_core.running.messages import Message
from triggers_core.storages.session import SessionStorage, TaskInstance

UID = "order:1"


@trigger_task(name="tests.echo")
def echo(context: TaskContext) -> dict[str, object]:
    return {"got": context.trigger_kwargs}


@trigger_task(name="tests.nothing")
def nothing(context: TaskContext) -> None:
    return None


@trigger_task(name="tests.fail", max_retries=None)
def fail(context: TaskContext) -> None:
    raise with_context(ValueError("no such subject"), {"subject": 42, "password": "hunter2"})


@pytest.fixture(params=STORAGES)
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Application]:
    with application(request.param, tmp_path) as app:
        yield app


@pytest.fixture
def manager(app: Application) -> TriggerManager:
    return app.manager(UID)


SHIP = {"t_ship": {"after": ["paid", "packed"], "run": "tests.echo"}}


def finished(manager: TriggerManager) -> list[str]:
    assert manager.join(120)
    return [i.name for i in manager.storage.instances.values() if i.status == "finished"]


def test_the_last_missing_trigger_runs_the_task(manager: TriggerManager) -> None:
    manager.update_configuration(SHIP)
    first = manager.fire("paid", {"amount": 3})
    assert (first.status, first.scheduled) == ("recorded", ())
    assert manager.fire("packed").scheduled == ("t_ship#0",)
    assert finished(manager) == ["t_ship#0"]
    instance = manager.storage["t_ship#0"]
    assert instance.kwargs == {"paid": {"amount": 3}, "packed": {}}
    assert instance.result == {"got": {"paid": {"amount": 3}, "packed": {}}}
    assert manager.storage.latest_kwargs["t_ship"] == instance.result


def test_events_may_overtake_the_configuration(manager: TriggerManager) -> None:
    manager.fire("packed")
    manager.fire("paid")
    assert manager.update_configuration(SHIP).scheduled == ["t_ship#0"]
    assert finished(manager) == ["t_ship#0"]


def test_join_waits_for_cascades(manager: TriggerManager) -> None:
    chain = {f"t_{n + 1}": {"after": [f"t_{n}"], "run": "tests.nothing"} for n in range(20)}
    manager.update_configuration({"t_0": {"after": ["go"], "run": "tests.nothing"}, **chain})
    manager.fire("go")
    assert len(finished(manager)) == 21


def test_a_body_gets_with_params_under_the_recorded_kwargs(manager: TriggerManager) -> None:
    params = {"paid": {"currency": "EUR", "tax": {"rate": 19, "name": "VAT"}}, "more": {"a": 1}}
    manager.update_configuration({"t_ship": {**SHIP["t_ship"], "withParams": params}})
    manager.fire("paid", {"tax": {"rate": 7}})
    manager.fire("packed")
    finished(manager)
    assert manager.storage["t_ship#0"].result == {
        "got": {
            "paid": {"currency": "EUR", "tax": {"rate": 7, "name": "VAT"}},
            "packed": {},
            "more": {"a": 1},
        }
    }


def test_a_failure_is_recorded_with_its_context_and_without_locals(manager: TriggerManager) -> None:
    manager.update_configuration({"t_x": {"after": ["go"], "run": "tests.fail"}})
    manager.fire("go", {"secret": "the payload"})
    finished(manager)
    instance = manager.storage["t_x#0"]
    assert instance.status == "failed"
    error = instance.metadata["error"]
    assert (error["type"], error["message"]) == ("ValueError", "no such subject")
    assert error["context"]["subject"] == 42
    assert "the payload" not in str(error)
    assert "raise with_context" in error["traceback"]
    assert [i.name for i in manager.get_instances_with_unresolved_logs()] == ["t_x#0"]
    manager.mark_instance_logs_resolved("t_x#0")
    assert manager.get_instances_with_unresolved_logs() == []


def test_replay_and_skip(manager: TriggerManager) -> None:
    manager.update_configuration({"t_x": {"after": ["go"], "run": "tests.fail"}})
    manager.fire("go", {"n": 1})
    finished(manager)
    manager.update_configuration({"t_x": {"after": ["go"], "run": "tests.echo"}})
    replay = manager.replay_failed_instance("t_x#0")
    assert (replay.name, replay.parent, replay.depth) == ("t_x#1", "t_x#0", 1)
    assert replay.idempotency_key == manager.storage["t_x#0"].idempotency_key
    assert finished(manager) == ["t_x#1"]
    assert manager.storage["t_x#0"].status == "replayed"
    with pytest.raises(WrongState, match="t_x#1 is finished: only a failed instance"):
        manager.skip_failed_instance("t_x#1")


def test_replay_with_replacement_kwargs(manager: TriggerManager) -> None:
    manager.update_configuration({"t_x": {"after": ["go"], "run": "tests.fail"}})
    manager.fire("go", {"n": 1})
    finished(manager)
    manager.update_configuration({"t_x": {"after": ["go"], "run": "tests.echo"}})
    replay = manager.replay_failed_instance(manager.storage["t_x#0"], {})
    finished(manager)
    assert manager.storage[replay.name].result == {"got": {}}
    assert replay.idempotency_key != manager.storage["t_x#0"].idempotency_key


def test_skip_with_a_cascade(manager: TriggerManager) -> None:
    manager.update_configuration(
        {
            "t_x": {"after": ["go"], "run": "tests.fail"},
            "t_y": {"after": ["t_x"], "run": "tests.echo"},
        }
    )
    manager.fire("go")
    finished(manager)
    skipped = manager.skip_failed_instance("t_x#0", cascade=True, result={"by": "hand"})
    assert skipped.status == "skipped"
    assert finished(manager) == ["t_y#0"]
    assert manager.storage["t_y#0"].kwargs == {"t_x": {"by": "hand"}}


def test_retries_are_replays_until_the_limit(manager: TriggerManager) -> None:
    class Flaky(TriggerTask):
        name = "tests.flaky"
        max_retries = 2

        def _run(self, context: TaskContext) -> None:
            try:
                raise ConnectionError("down")
            except ConnectionError as error:
                raise self.retry(exc=error) from error

    manager.update_configuration({"t_x": {"after": ["go"], "run": Flaky}})
    manager.fire("go")
    assert finished(manager) == []
    instances = manager.storage.instances
    assert [i.status for i in instances.values()] == ["replayed", "replayed", "failed"]
    assert [i.retries for i in instances.values()] == [0, 1, 2]
    last = manager.storage["t_x#2"].metadata["error"]
    assert last["type"].endswith("MaxRetriesExceeded")
    assert "gave up after 2 retries; the last error: down" in last["message"]
    assert "ConnectionError" in last["traceback"]


def test_a_cooldown_holds_the_replay(manager: TriggerManager) -> None:
    class Later(TriggerTask):
        name = "tests.later"

        def _run(self, context: TaskContext) -> None:
            raise self.retry(cooldown=timedelta(hours=1), replacement_kwargs={"go": {"n": 2}})

    manager.update_configuration({"t_x": {"after": ["go"], "run": Later}})
    manager.fire("go", {"n": 1})
    finished(manager)
    held = manager.storage["t_x#1"]
    assert held.status == "unstarted"
    assert 3500 < held.not_before - manager.storage["t_x#0"].ended_at < 3700
    assert held.kwargs == {"go": {"n": 2}}
    assert "held back for a retry" in str(manager.explain("t_x"))


def test_a_body_may_skip_itself(manager: TriggerManager) -> None:
    class Skip(TriggerTask):
        name = "tests.skip"

        def _run(self, context: TaskContext) -> None:
            context.fire("never")
            raise self.skip({"reason": "not needed"})

    manager.update_configuration({"t_x": {"after": ["go"], "run": Skip}})
    manager.fire("go")
    finished(manager)
    instance = manager.storage["t_x#0"]
    assert (instance.status, instance.metadata) == ("skipped", {"reason": "not needed"})
    assert [event.trigger for event in manager.storage.events] == ["go"]


def test_what_a_body_fires_joins_the_commit_of_its_success(manager: TriggerManager) -> None:
    class Fires(TriggerTask):
        name = "tests.fires"

        def _run(self, context: TaskContext) -> dict[str, int]:
            context.fire("a", {"n": 1})
            context.fire("b", event_id="b1")
            context.fire("b", event_id="b1")
            context.fire("a", once=True)
            assert [e.trigger for e in context.manager.storage.events] == ["go"]
            return {"n": 2}

    manager.update_configuration({"t_x": {"after": ["go"], "run": Fires}})
    manager.fire("go")
    finished(manager)
    events = manager.storage.events
    assert [event.trigger for event in events] == ["go", "a", "b", "t_x"]
    assert {event.cause for event in events[1:]} == {"t_x#0"}


@pytest.mark.parametrize(
    ("returned", "problem"),
    [
        ([1], "must return a mapping"),
        ("text", "must return a mapping"),
        ({"a": {1}}, "result['a']"),
        ({1: 2}, "result"),
    ],
)
def test_a_wrong_result_fails_the_instance(
    manager: TriggerManager, returned: object, problem: str
) -> None:
    task = trigger_task(name="tests.wrong")(lambda context: returned)
    manager.update_configuration({"t_x": {"after": ["go"], "run": task}})
    manager.fire("go")
    finished(manager)
    error = manager.storage["t_x#0"].metadata["error"]
    assert error["type"].endswith("InvalidResult")
    assert problem in error["message"]


def test_an_async_body_runs_in_its_own_loop(manager: TriggerManager) -> None:
    class Async(TriggerTask):
        name = "tests.async"

        async def _run(self, context: TaskContext) -> dict[str, bool]:
            await asyncio.sleep(0)
            return {"loop": asyncio.get_running_loop().is_running()}

    manager.update_configuration({"t_x": {"after": ["go"], "run": Async}})
    manager.fire("go")
    finished(manager)
    assert manager.storage["t_x#0"].result == {"loop": True}


class Answers(msgspec.Struct):
    name: str
    age: int


class Form(msgspec.Struct):
    page: Answers


@dataclass
class FormData:
    page: dict[str, int | str]


@pytest.mark.parametrize(
    ("model", "kwargs", "problem"),
    [
        (Form, {"name": "Ann", "age": 7}, None),
        (Form, {"name": "Ann", "age": "seven"}, "`trigger_kwargs.page.age`"),
        (FormData, {"name": "Ann"}, None),
        (FormData, {"name": [1]}, "`trigger_kwargs.page[...]`"),
    ],
)
def test_kwargs_must_fit_the_model_that_the_task_states(
    manager: TriggerManager, model: type, kwargs: dict[str, object], problem: str | None
) -> None:
    @trigger_task(name="tests.typed", kwargs_model=model)
    def typed(context: TaskContext) -> dict[str, str]:
        assert isinstance(context.kwargs, model)
        return {"model": type(context.kwargs).__name__}

    manager.update_configuration({"t_x": {"after": ["page"], "run": typed}})
    manager.fire("page", kwargs)
    finished(manager)
    instance = manager.storage["t_x#0"]
    if problem is None:
        assert instance.result == {"model": model.__name__}
    else:
        error = instance.metadata["error"]
        assert error["type"].endswith("KwargsMismatch")
        assert problem in error["message"]


def test_kwargs_of_a_task_that_states_no_model(manager: TriggerManager) -> None:
    @trigger_task(name="tests.untyped")
    def untyped(context: TaskContext) -> None:
        print(context.kwargs)

    manager.update_configuration({"t_x": {"after": ["page"], "run": untyped}})
    manager.fire("page")
    finished(manager)
    error = manager.storage["t_x#0"].metadata["error"]
    assert error["type"].endswith("InvalidConfiguration")
    assert "tests.untyped has no kwargs_model" in error["message"]


def test_event_ids_and_once(manager: TriggerManager) -> None:
    first = manager.fire("paid", {"a": 1, "b": 2}, event_id="stripe:evt_1")
    again = manager.fire("paid", {"b": 2, "a": 1}, event_id="stripe:evt_1")
    assert (again.status, again.number) == ("duplicate", first.number)
    with pytest.raises(EventIdConflict, match="was used for 'paid'"):
        manager.fire("packed", {"a": 1}, event_id="stripe:evt_1")
    with pytest.raises(EventIdConflict, match="another payload"):
        manager.fire("paid", {"a": 2}, event_id="stripe:evt_1")
    generated = manager.fire("packed")
    assert manager.fire("packed", event_id=generated.event_id).status == "duplicate"
    assert manager.fire("packed", once=True).status == "already fired"
    assert len(manager.storage.events) == 2


def test_a_task_name_is_not_fired_by_hand(manager: TriggerManager) -> None:
    manager.update_configuration({"t_x": {"after": ["go"], "run": "tests.echo"}})
    with pytest.raises(TaskNameFired, match="its name fires by itself"):
        manager.fire("t_x")
    assert manager.storage.events == []
    assert manager.fire("t_x", force=True).status == "recorded"


def test_closing_and_deleting(manager: TriggerManager) -> None:
    with pytest.raises(SessionNotFound):
        manager.close_session()
    manager.fire("go")
    manager.close_session()
    manager.close_session()
    with pytest.raises(SessionClosed, match="order:1: the session is closed"):
        manager.fire("go")
    assert manager.delete_session() is True
    assert manager.delete_session() is False
    assert not manager.storage.exists
    assert manager.fire("go").number == 0


def test_metadata_of_an_instance(manager: TriggerManager) -> None:
    manager.update_configuration(SHIP)
    manager.fire("paid")
    manager.update_instance_metadata("t_ship#0", {"note": "call back"})
    changed = manager.update_instance_metadata("t_ship#0", {"by": "Ann"})
    assert changed.metadata == {"note": "call back", "by": "Ann"}
    with pytest.raises(LimitExceeded, match="metadata would take"):
        manager.update_instance_metadata("t_ship#0", {"note": "x" * 20_000})
    assert manager.storage["t_ship#0"].metadata == {"note": "call back", "by": "Ann"}
    assert manager.fire("packed").scheduled == ("t_ship#0",)


def test_unresolved_tasks_and_instances(manager: TriggerManager) -> None:
    manager.update_configuration(
        {
            **SHIP,
            "t_bill": {"after": ["paid"], "run": "tests.echo"},
            "t_z": {"after": ["z"], "run": "tests.echo"},
        }
    )
    manager.fire("paid")
    finished(manager)
    assert [task.name for task in manager.get_unresolved_tasks()] == ["t_ship", "t_z"]
    assert [i.name for i in manager.get_unresolved_instances()] == ["t_ship#0"]


def test_fail_by_hand_fences_the_worker_off(manager: TriggerManager) -> None:
    entered, leave = threading.Event(), threading.Event()

    @trigger_task(name="tests.stuck")
    def stuck(context: TaskContext) -> None:
        entered.set()
        leave.wait(120)

    manager.update_configuration({"t_x": {"after": ["go"], "run": stuck}})
    manager.fire("go")
    assert entered.wait(120)
    manager.fail_instance("t_x#0", "hangs since noon")
    leave.set()
    assert finished(manager) == []
    instance = manager.storage["t_x#0"]
    assert instance.status == "failed"
    assert instance.metadata["error"]["message"] == "hangs since noon"
    assert [event.trigger for event in manager.storage.events] == ["go"]


def test_a_missing_instance_or_task_is_named(manager: TriggerManager) -> None:
    with pytest.raises(SessionNotFound):
        manager.explain()
    manager.update_configuration(SHIP)
    with pytest.raises(InstanceNotFound, match="no instance t_ship#3"):
        manager.storage["t_ship#3"]
    with pytest.raises(InstanceNotFound, match="no instance t_ship#3"):
        manager.replay_failed_instance("t_ship#3")
    with pytest.raises(TaskNotFound, match="did you mean 't_ship'"):
        manager.explain("t_shop")


def test_a_subclass_hears_of_every_fire_cascades_included(app: Application) -> None:
    heard = []

    class Listening(TriggerManager):
        def _post_fire(self, trigger_name: str, tasks_scheduled: list[TaskInstance]) -> None:
            heard.append((trigger_name, [str(task) for task in tasks_scheduled]))
            if trigger_name == "t_y":
                raise RuntimeError("must not hide the fire")

    storage: SessionStorage = app.storage(UID)
    manager = Listening(storage, app)
    manager.update_configuration(
        {
            "t_x": {"after": ["go"], "run": "tests.echo"},
            "t_y": {"after": ["t_x"], "run": "tests.echo"},
        }
    )
    manager.fire("go")
    assert finished(manager) == ["t_x#0", "t_y#0"]
    assert heard == [("go", ["t_x#0"]), ("t_x", ["t_y#0"]), ("t_y", [])]


def test_the_default_configuration_is_pinned_by_the_first_commit(tmp_path: Path) -> None:
    for storage in STORAGES:
        with application(storage, tmp_path, TRIGGER_CONFIGURATION=SHIP) as app:
            manager = get_trigger_manager(UID, app)
            manager.fire("paid")
            app.configure(TRIGGER_CONFIGURATION={})
            assert list(manager.storage.tasks) == ["t_ship"]
            assert manager.fire("packed").scheduled == ("t_ship#0",)
            finished(manager)


class NoBroker(TaskRunner):
    """A runner whose messages go nowhere."""

    key = "no broker"
    executes_here = False

    def dispatch(self, manager: TriggerManager, message: Message, task: Task | None) -> None:
        raise StorageError("the broker cannot be reached")


def test_a_broker_that_is_down_costs_a_line_and_the_explanation_says_what_follows(
    app: Application, caplog: pytest.LogCaptureFixture
) -> None:
    app.use_runner(NoBroker(app))
    manager = app.manager(UID)
    manager.update_configuration(SHIP)
    manager.fire("paid")
    assert manager.fire("packed").scheduled == ("t_ship#0",)
    [record] = [each for each in caplog.records if "could not be dispatched" in each.message]
    assert record.message.endswith("the sweep will try again: the broker cannot be reached")
    assert record.exc_info is None
    said = str(manager.explain("t_ship"))
    assert "no worker has claimed it yet. Should its message be lost, another is sent in" in said
