"""The plugin in a real application, on a clock that moves only when it is told to."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from triggers_core import Application, TaskContext, TriggerManager, trigger_task
from triggers_core.exceptions import InvalidConfiguration
from triggers_core.plugins.hook_calls import Plugins
from triggers_core.settings import Settings
from triggers_core.testing import VirtualClock

import triggers_example.plugin

Make = Callable[..., TriggerManager]

clock = VirtualClock()


@trigger_task(name="example.works")
def works(context: TaskContext) -> None:
    clock.advance(context.trigger_kwargs["go"]["seconds"])


@trigger_task(name="example.breaks")
def breaks(context: TaskContext) -> None:
    clock.advance(context.trigger_kwargs["go"]["seconds"])
    raise ValueError("broken")


@pytest.fixture
def make(caplog: pytest.LogCaptureFixture) -> Iterator[Make]:
    """Makes a session of an application that has the plugin, with the options given."""
    apps = []
    caplog.set_level(logging.DEBUG, "triggers_example")

    def make(**options: Any) -> TriggerManager:
        settings = Settings.isolated(
            TRIGGER_STORAGE_TYPE="memory",
            TRIGGER_STORAGE_OPTIONS={"clock": clock},
            # One body at a time, and no sweep: nobody else moves the clock or looks at it.
            TRIGGER_RUNNER_OPTIONS={"max_workers": 1, "sweep": False},
            TRIGGER_PLUGINS=[triggers_example.plugin],
            TRIGGER_PLUGIN_OPTIONS={"example": options},
        )
        apps.append(Application("example", settings))
        return apps[-1].manager("order:42")

    yield make
    for app in apps:
        app.close()


def work(manager: TriggerManager, *seconds: float) -> None:
    """Fire once for each number: every task that waits for it takes so long."""
    for number in seconds:
        manager.fire("go", {"seconds": number})
        assert manager.join(30)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the plugin has logged."""
    return [
        each.getMessage()
        for each in caplog.records
        if each.name == "triggers_example.plugin"
    ]


def test_slow_tasks_are_named(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    manager = make()
    manager.update_configuration(
        {
            "t_ship": {"andEvery": "go", "run": "example.works", "slowAfter": 30},
            "t_idle": {"andEvery": "go", "run": "example.works"},
        }
    )
    work(manager, 30, 45)
    assert lines(caplog) == [
        "order:42: t_ship#1 took 45.0 s (attempt 1), it should take 30 s at most"
    ]
    assert caplog.records[-1].levelno == logging.WARNING


def test_tasks_that_fail_slowly_too(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    manager = make()
    manager.update_configuration(
        {"t_ship": {"after": ["go"], "run": "example.breaks", "slowAfter": 1}}
    )
    work(manager, 2)
    assert manager.storage["t_ship#0"].status == "failed"
    assert lines(caplog) == [
        "order:42: t_ship#0 took 2.0 s (attempt 1), it should take 1 s at most"
    ]


def test_only_the_time_in_which_it_ran_counts(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    manager = make()
    manager.update_configuration(
        {"t_ship": {"after": ["go"], "run": "example.breaks", "slowAfter": 30}}
    )
    clock.advance(1_000)
    work(manager, 20)
    clock.advance(1_000)
    manager.replay_failed_instance("t_ship#0")
    assert manager.join(30)
    assert manager.storage["t_ship#1"].status == "failed"
    assert lines(caplog) == []


def test_options(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    manager = make(slow_after=60, level="ERROR")
    manager.update_configuration(
        {
            "t_ship": {"andEvery": "go", "run": "example.works"},
            "t_long": {"andEvery": "go", "run": "example.works", "slowAfter": 3_600},
        }
    )
    work(manager, 60, 61)
    assert lines(caplog) == [
        "order:42: t_ship#1 took 61.0 s (attempt 1), it should take 60 s at most"
    ]
    assert caplog.records[-1].levelno == logging.ERROR


def test_a_wrong_option_is_named(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    manager = make(slow_afer=60)
    manager.update_configuration({"t_ship": {"after": ["go"], "run": "example.works"}})
    work(manager, 1)
    assert "plugin 'example': its post_commit failed" in caplog.text
    assert "slow_afer" in caplog.text
    assert manager.storage["t_ship#0"].status == "finished", (
        "an observer undoes nothing"
    )


@pytest.mark.parametrize("value", [0, -1, "30 s", None])
def test_a_wrong_directive_is_refused(make: Make, value: object) -> None:
    manager = make()
    with pytest.raises(InvalidConfiguration, match=r"t_ship\.slowAfter"):
        manager.update_configuration(
            {"t_ship": {"after": ["go"], "run": "example.works", "slowAfter": value}}
        )


def test_installed_is_enabled() -> None:
    [info] = [each for each in Plugins().infos() if each.name == "example"]
    assert (info.status, info.distribution) == ("loaded", "triggers-example")
    assert info.hooks == ("declare_directives", "post_commit")
