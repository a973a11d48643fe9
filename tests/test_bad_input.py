"""Bad input: a clear error that names the culprit, and nothing stored. On both storages."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from applications import STORAGES, application

from triggers_core import Application, TaskContext, TriggerManager, TriggersError, trigger_task
from triggers_core.exceptions import (
    InvalidConfiguration,
    InvalidEvent,
    InvalidName,
    InvalidPayload,
    InvalidSetting,
    LimitExceeded,
    TaskNameFired,
)

UID = "order:1"


@trigger_task(name="tests.bad_input.nothing")
def nothing(context: TaskContext) -> None:
    return None


RUN = nothing.name


@pytest.fixture(params=STORAGES)
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Application]:
    with application(request.param, tmp_path) as app:
        yield app


@pytest.fixture
def manager(app: Application) -> TriggerManager:
    return app.manager(UID)


def nested(levels: int) -> dict[str, Any]:
    kwargs: dict[str, Any] = {}
    for _ in range(levels):
        kwargs = {"a": kwargs}
    return kwargs


class Colour(Enum):
    RED = 1


BAD_KWARGS = [
    ({"tags": {1, 2}}, InvalidPayload, r"kwargs\['tags'\]"),
    ({"a": [0, {"b": lambda: 1}]}, InvalidPayload, r"kwargs\['a'\]\[1\]\['b'\]"),
    ({"x": float("nan")}, InvalidPayload, r"kwargs\['x'\].*nan"),
    ({"x": float("-inf")}, InvalidPayload, r"kwargs\['x'\].*inf"),
    ({1: "one"}, InvalidPayload, r"kwargs.*1"),
    ({"a": {None: 1}}, InvalidPayload, r"kwargs\['a'\].*None"),
    ({"a": "\ud800"}, InvalidPayload, r"kwargs\['a'\].*surrogate"),
    ({"a\udfff": 1}, InvalidPayload, "surrogate"),
    ({"a": 1 << 4096}, InvalidPayload, r"kwargs\['a'\].*4,?096"),
    ({"a": object()}, InvalidPayload, r"kwargs\['a'\].*object"),
    ({"a": Colour.RED}, InvalidPayload, r"kwargs\['a'\].*Colour"),
    (["a list"], InvalidPayload, "kwargs.*mapping"),
    ("text", InvalidPayload, "kwargs.*mapping"),
    ({"a": "x" * 10_000_000}, LimitExceeded, "kwargs_bytes"),
    (nested(1_000), LimitExceeded, "kwargs_depth"),
]


@pytest.mark.parametrize(("kwargs", "error", "message"), BAD_KWARGS, ids=range(len(BAD_KWARGS)))
def test_kwargs(manager: TriggerManager, kwargs: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        manager.fire("paid", kwargs)
    assert isinstance(caught.value, TriggersError | ValueError)
    assert len(str(caught.value)) < 1_000
    assert not manager.storage.exists


BAD_NAMES = ["", "x" * 300, "a\nb", "a\x00b", "\x7f", "a\u2028b", "\ud800", None, 7, b"paid"]


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_names(app: Application, manager: TriggerManager, name: Any) -> None:
    with pytest.raises(InvalidName, match="trigger"):
        manager.fire(name)
    with pytest.raises(InvalidName, match="uid"):
        app.manager(name)
    if name is not None:
        with pytest.raises(InvalidName, match="event id"):
            manager.fire("paid", event_id=name)
    with pytest.raises(InvalidConfiguration, match="task name"):
        manager.update_configuration({name: {"after": ["a"], "run": RUN}})
    with pytest.raises(InvalidConfiguration, match=r"t_x\.after"):
        manager.update_configuration({"t_x": {"after": ["a", name], "run": RUN}})
    assert not manager.storage.exists


def test_generated_event_ids_cannot_be_chosen(manager: TriggerManager) -> None:
    with pytest.raises(InvalidName, match="begins with ~"):
        manager.fire("paid", event_id="~3")
    assert not manager.storage.exists


OK = {"after": ["a"], "run": RUN}
BAD_CONFIGURATIONS = [
    ("t_x", r"expected a mapping of task name"),
    ([("t_x", OK)], r"expected a mapping of task name"),
    ({"t_x": ["after"]}, r"t_x: expected a mapping of directives"),
    ({"t_x": {**OK, "after": b"go"}}, r"t_x\.after: expected a list of trigger names, got b'go'"),
    ({"t_x": {**OK, "after": {"go": 1}}}, r"t_x\.after: expected a list"),
    ({"t_x": {**OK, "after": 3}}, r"t_x\.after: expected a list of trigger names, got 3"),
    ({"t_x": {**OK, "after": [3]}}, r"t_x\.after\[0\]"),
    ({"t_x": {"after": [], "run": RUN}}, r"t_x\.after: the task waits for nothing"),
    ({"t_x": {"run": RUN}}, r"t_x\.after: the task waits for nothing"),
    ({"t_x": {**OK, "unless": 3}}, r"t_x\.unless: expected a list of trigger names, got 3"),
    ({"t_x": {**OK, "andEvery": ["p"]}}, r"t_x\.andEvery: expected one trigger name, got \['p'\]"),
    ({"t_x": {**OK, "after": ["a", "t_x"]}}, r"t_x\.after: a task cannot wait for its own name"),
    ({"t_x": {**OK, "andEvery": "t_x"}}, r"t_x\.andEvery: a task cannot wait for its own name"),
    ({"t_x": {**OK, "and_every": "p"}}, r"t_x: unknown directive 'and_every'.*'andEvery'"),
    ({"t_x": {**OK, "unles": ["p"]}}, r"t_x: unknown directive 'unles': did you mean 'unless'\?"),
    ({"t_x": {**OK, 3: 4}}, r"t_x: unknown directive 3"),
    ({"t_x": {**OK, "withParams": {"page": 3}}}, r"t_x\.withParams\.page: expected a mapping"),
    ({"t_x": {**OK, "withParams": [1]}}, r"t_x\.withParams: expected a mapping"),
    ({"t_x": {**OK, "withParams": {"a": {"b": {1}}}}}, r"t_x\.withParams\['a'\]\['b'\]"),
    ({"t_x": {**OK, "extra": 3}}, r"t_x\.extra: expected a mapping"),
    ({"t_x": {"after": ["a"]}}, r"t_x\.run: missing"),
    ({"t_x": {"after": ["a"], "run": 3}}, r"t_x\.run: expected the name of a task"),
    ({"t_x": {**OK, "run": "tests.bad_input.nothin"}}, r"t_x\.run:.*'tests\.bad_input\.nothing'"),
    ({"t_x": {**OK, "using": "trheading"}}, r"t_x\.using:.*threading"),
    ({"t_x": {**OK, "using": 3}}, r"t_x\.using: expected the key of a runner"),
]


@pytest.mark.parametrize(("configuration", "message"), BAD_CONFIGURATIONS)
def test_configurations(manager: TriggerManager, configuration: Any, message: str) -> None:
    with pytest.raises(InvalidConfiguration, match=message) as caught:
        manager.update_configuration(configuration)
    assert isinstance(caught.value, ValueError)
    assert not manager.storage.exists


def test_one_bad_task_keeps_the_good_ones_out(manager: TriggerManager) -> None:
    with pytest.raises(InvalidConfiguration, match=r"t_bad\.after"):
        manager.update_configuration({"t_good": OK, "t_bad": {"after": 3, "run": RUN}})
    assert not manager.storage.exists


def test_a_task_name_fired_by_hand(manager: TriggerManager) -> None:
    manager.update_configuration({"t_x": OK})
    with pytest.raises(TaskNameFired, match="'t_x' is a task"):
        manager.fire("t_x")
    assert manager.storage.events == []


def test_limits(tmp_path: Path) -> None:
    limits = {"tasks": 2, "instances": 2, "cascade_depth": 3, "kwargs_bytes": 20}
    for storage in STORAGES:
        with application(storage, tmp_path, TRIGGER_LIMITS=limits) as app:
            manager = app.manager(UID)
            with pytest.raises(LimitExceeded, match="kwargs_bytes"):
                manager.fire("a", {"a": "more than twenty bytes"})
            with pytest.raises(LimitExceeded, match=r"3 tasks, the limit is 2 \(Limits.tasks\)"):
                manager.update_configuration({f"t_{n}": OK for n in range(3)})
            assert not manager.storage.exists
            manager.update_configuration({"t_x": {"after": ["a"], "andEvery": "b", "run": RUN}})
            manager.update_configuration({"t_y": OK})
            with pytest.raises(LimitExceeded, match=r"would have 3 tasks.*Limits.tasks"):
                manager.update_configuration({"t_z": OK})
            manager.fire("b")
            manager.fire("b")
            before = manager.storage.metadata
            with pytest.raises(LimitExceeded, match=r"t_x: it has 2 instances.*Limits.instances"):
                manager.fire("b")
            assert manager.storage.metadata == before


def test_a_cycle_ends_at_the_cascade_limit(tmp_path: Path) -> None:
    cycle = {
        "t_x": {"after": ["go"], "andEvery": "t_y", "run": RUN},
        "t_y": {"after": ["go"], "andEvery": "t_x", "run": RUN},
    }
    for storage in STORAGES:
        with application(storage, tmp_path, TRIGGER_LIMITS={"cascade_depth": 5}) as app:
            manager = app.manager("cycle")
            manager.update_configuration(cycle)
            manager.fire("go")
            manager.fire("t_x", force=True)
            assert manager.join(120)
            failed = [i for i in manager.storage.instances.values() if i.status == "failed"]
            assert len(failed) == 1
            error = failed[0].metadata["error"]
            assert error["type"].endswith("CascadeTooDeep")
            assert "look for a cycle" in error["message"]


def test_unknown_settings() -> None:
    app = Application("test")
    with pytest.raises(InvalidSetting, match="TRIGGER_STORAGE_TYPE"):
        app.configure(TRIGGER_STORAGE_TYP="memory")
    with pytest.raises(InvalidSetting, match="lease"):
        app.configure(TRIGGER_TIMING={"lease": "long"})


def test_a_log_line_is_named_by_its_position() -> None:
    from triggers_core.backtest import backtest

    good = {"session": "s", "trigger": "a"}
    for bad, message in (
        ({"trigger": "a"}, "event 1 of the log.*session"),
        ({**good, "kwargs": [1]}, "event 1 of the log.*kwargs"),
        ({**good, "trigger": "t_x"}, "event 1 of the log.*'t_x' is a task"),
        ({**good, "trigger": ""}, "event 1 of the log: trigger"),
    ):
        with pytest.raises(InvalidEvent, match=message):
            backtest({"t_x": {"after": ["a"], "run": "any"}}, [good, bad])
