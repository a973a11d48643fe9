"""When the trigger fires, with what, and that it fires once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import triggers_finalize.plugin
from triggers_core import Application, TaskContext, TriggerManager, trigger_task
from triggers_core.engine.configuration import parse_configuration
from triggers_core.exceptions import HookFailed, InvalidConfiguration, PluginMissing
from triggers_core.settings import Settings
from triggers_core.storages.session import TaskInstance
from triggers_finalize.waiting import exceptions, may_keep_open, tasks_waiting_for

Make = Callable[..., TriggerManager]


@trigger_task(name="finalize.ok")
def ok(context: TaskContext) -> None:
    return None


@trigger_task(name="finalize.broken")
def broken(context: TaskContext) -> None:
    raise ValueError("broken")


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    apps = []

    def make(**options: Any) -> TriggerManager:
        path = {"path": str(tmp_path / "triggers.db"), "synchronous": "NORMAL"}
        settings = Settings.isolated(
            TRIGGER_STORAGE_TYPE=request.param,
            TRIGGER_STORAGE_OPTIONS=path if request.param == "sqlite" else {},
            TRIGGER_PLUGINS=[triggers_finalize.plugin],
            TRIGGER_PLUGIN_OPTIONS={"finalize": options},
        )
        apps.append(Application("finalize", settings))
        return apps[-1].manager("s")

    yield make
    for app in apps:
        app.close()


def fired(manager: TriggerManager, trigger: str = "sessionFinalized") -> int:
    assert manager.join(120)
    return sum(event.trigger == trigger for event in manager.storage.events)


CONFIGURATION = {
    "t_a": {"after": ["a"], "run": "finalize.ok"},
    "t_b": {"after": ["b"], "run": "finalize.ok"},
    "t_report": {"after": ["sessionFinalized"], "run": "finalize.ok"},
    "t_archive": {"after": ["t_report"], "run": "finalize.ok"},
}


def test_fires_once_everything_is_resolved(make: Make) -> None:
    manager = make()
    manager.update_configuration(CONFIGURATION)
    manager.fire("a")
    assert fired(manager) == 0
    manager.fire("b")
    assert fired(manager) == 1
    assert manager.storage["t_archive#0"].status == "finished"
    assert manager.storage["t_report#0"].kwargs["sessionFinalized"] == {
        "events": 4,
        "tasks": {"t_a": {"finished": 1}, "t_b": {"finished": 1}},
    }
    manager.fire("a")
    assert fired(manager) == 1


def test_it_is_in_the_commit_of_the_last_finish(make: Make) -> None:
    manager = make()
    manager.update_configuration({"t_a": {"after": ["a"], "run": "finalize.ok"}})
    manager.fire("a")
    assert fired(manager) == 1
    cascade, finalized = manager.storage.events[-2:]
    assert (cascade.trigger, finalized.trigger) == ("t_a", "sessionFinalized")
    assert cascade.at == finalized.at
    assert (finalized.source, finalized.cause) == ("plugin", "triggers_finalize.plugin") or (
        finalized.cause == "finalize"
    )


def test_a_failed_instance_is_unresolved_until_it_is_skipped_or_replayed(make: Make) -> None:
    manager = make()
    manager.update_configuration(
        {**CONFIGURATION, "t_b": {"after": ["b"], "run": "finalize.broken"}}
    )
    manager.fire("a")
    manager.fire("b")
    assert fired(manager) == 0
    manager.skip_failed_instance("t_b#0")
    assert fired(manager) == 1


def test_abandoning_the_last_one_finalizes(make: Make) -> None:
    manager = make()
    manager.update_configuration(
        {"t_a": {"after": ["a", "never"], "unless": ["stop"], "run": "finalize.ok"}}
    )
    manager.fire("a")
    assert fired(manager) == 0
    manager.fire("stop")
    assert fired(manager) == 1


def test_a_configuration_that_applies_early_events_can_finalize(make: Make) -> None:
    manager = make()
    manager.fire("a")
    manager.fire("stop")
    manager.update_configuration(
        {"t_a": {"after": ["a", "b"], "unless": ["stop"], "run": "finalize.ok"}}
    )
    assert fired(manager) == 1


def test_options(make: Make) -> None:
    manager = make(trigger="allDone", resolved=["finished", "failed"])
    manager.update_configuration(
        {
            "t_a": {"after": ["a"], "run": "finalize.broken"},
            "t_last": {"after": ["allDone"], "run": "finalize.ok"},
        }
    )
    manager.fire("a")
    assert fired(manager) == 0
    assert fired(manager, "allDone") == 1
    assert manager.storage["t_last#0"].kwargs["allDone"]["tasks"] == {"t_a": {"failed": 1}}


def test_unresolved_logs_can_hold_it_back(make: Make) -> None:
    manager = make(resolved=["finished", "failed"], unless_logged="ERROR")
    manager.update_configuration({"t_a": {"after": ["a"], "run": "finalize.broken"}})
    manager.fire("a")
    assert fired(manager) == 0
    manager.mark_instance_logs_resolved("t_a#0")
    assert fired(manager) == 1


def test_a_wrong_option_is_named(make: Make) -> None:
    manager = make(resolvd=["finished"])
    with pytest.raises(HookFailed, match=r"TRIGGER_PLUGIN_OPTIONS.*resolvd|resolvd"):
        manager.fire("a")
    assert not manager.storage.exists


def test_a_process_without_the_plugin_refuses_to_commit(tmp_path: Path, make: Make) -> None:
    manager = make()
    manager.update_configuration(CONFIGURATION)
    bare = Application("bare", Settings.isolated(TRIGGER_STORAGE_TYPE="memory", TRIGGER_PLUGINS=[]))
    stranger = TriggerManager(manager.storage, bare)
    with pytest.raises(PluginMissing, match="finalize"):
        stranger.fire("a")
    bare.close()


def test_waiting_through_others() -> None:
    tasks = parse_configuration(
        {
            "t_1": {"after": ["a"], "run": "x"},
            "t_2": {"after": ["done", "a"], "run": "x"},
            "t_3": {"after": ["t_1"], "andEvery": "t_2", "run": "x"},
            "t_4": {"after": ["a"], "unless": ["done"], "run": "x"},
        }
    ).tasks
    assert tasks_waiting_for("done", tasks) == {"t_2", "t_3"}


class FinalizingManager(TriggerManager):
    """The same by hand, as the README has it."""

    def _post_fire(self, trigger_name: str, tasks_scheduled: list[TaskInstance]) -> None:
        if all(task.name == "t_report" for task in self.get_unresolved_tasks()):
            self.fire("sessionFinalized", once=True)


def test_by_hand(tmp_path: Path) -> None:
    settings = Settings.isolated(TRIGGER_STORAGE_TYPE="memory", TRIGGER_PLUGINS=[])
    app = Application("by hand", settings)
    manager = FinalizingManager(app.storage("s"), app)
    manager.update_configuration({name: CONFIGURATION[name] for name in ("t_a", "t_b", "t_report")})
    manager.fire("a")
    manager.fire("b")
    assert fired(manager) == 1
    assert manager.storage["t_report#0"].status == "finished"
    app.close()


# -- tasks that may never begin --------------------------------------------------------------------

WITH_MAIL = {
    "t_ship": {"after": ["paid"], "run": "finalize.ok"},
    "t_mail": {"andEvery": "statusChanged", "run": "finalize.ok"},
    "t_report": {"after": ["sessionFinalized"], "run": "finalize.ok"},
}


def test_explain_says_what_keeps_a_session_open(make: Make) -> None:
    manager = make()
    manager.update_configuration(WITH_MAIL)
    manager.fire("paid")
    assert fired(manager) == 0
    explained = "sessionFinalized (which comes once t_mail has begun and ended)"
    assert explained in str(manager.explain("t_report"))
    manager.fire("statusChanged")
    assert fired(manager) == 1
    assert "which comes" not in str(manager.explain("t_report"))


def test_explain_says_who_has_to_end(make: Make) -> None:
    manager = make(unless_logged="ERROR")
    manager.update_configuration(
        {**WITH_MAIL, "t_broken": {"after": ["paid"], "run": "finalize.broken"}}
    )
    manager.fire("paid")
    manager.join(120)
    why = manager.explain("t_report").tasks[0].why
    assert "comes once t_mail has begun and ended" in why
    assert "t_broken has ended" in why


def test_an_optional_task_need_not_begin(make: Make) -> None:
    manager = make()
    optional = {**WITH_MAIL, "t_mail": {**WITH_MAIL["t_mail"], "optional": True}}
    manager.update_configuration(optional)
    assert fired(manager) == 0, "nothing has begun"
    manager.fire("paid")
    assert fired(manager) == 1
    assert manager.storage["t_report#0"].status == "finished"


def test_an_optional_task_that_has_begun_must_end(make: Make) -> None:
    manager = make()
    mail = {"after": ["mailKnown"], "andEvery": "statusChanged", "run": "finalize.ok"}
    manager.update_configuration({**WITH_MAIL, "t_mail": {**mail, "optional": True}})
    manager.fire("statusChanged")
    manager.fire("paid")
    assert fired(manager) == 0
    assert "which comes once t_mail has ended" in str(manager.explain("t_report"))
    manager.fire("mailKnown")
    assert fired(manager) == 1


def test_optional_is_true_or_false(make: Make) -> None:
    manager = make()
    with pytest.raises(InvalidConfiguration, match=r"t_mail\.optional"):
        manager.update_configuration(
            {**WITH_MAIL, "t_mail": {**WITH_MAIL["t_mail"], "optional": "yes"}}
        )


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, {"t_mail": "statusChanged"}),
        ({"t_mail": {"andEvery": "paid", "run": "x"}}, {}),
        ({"t_mail": {"andEvery": "statusChanged", "unless": ["closed"], "run": "x"}}, {}),
        ({"t_more": {"after": ["t_mail"], "run": "x"}}, {}),
        ({"t_report": {"after": ["paid"], "run": "x"}}, {}),
    ],
)
def test_tasks_that_may_keep_a_session_open(changes: Any, found: dict[str, str]) -> None:
    tasks = parse_configuration({**WITH_MAIL, **changes}).tasks
    assert may_keep_open("sessionFinalized", tasks) == found


def test_what_a_replay_or_a_retry_dealt_with_keeps_nothing_open(make: Make) -> None:
    manager = make(unless_logged="ERROR")
    manager.update_configuration(
        {
            "t_x": {"after": ["go"], "run": "finalize.logs"},
            "t_report": {"after": ["sessionFinalized"], "run": "finalize.ok"},
        }
    )
    manager.fire("go")
    assert fired(manager) == 1
    assert manager.storage["t_x#0"].status == "replayed"
    assert manager.get_instances_with_unresolved_logs() == []


@trigger_task(name="finalize.logs")
def logs(context: TaskContext) -> None:
    context.log_level = logging.ERROR
    if not context.retries:
        raise context.retry(OSError("no connection"))
    context.log_level = 0


# -- the language of conditions --------------------------------------------------------------------

REPORT = {"after": ["sessionFinalized"], "run": "finalize.ok"}


@pytest.mark.parametrize(
    ("after", "waits"),
    [
        ({"anyOf": ["done", "a"]}, False),
        ({"anyOf": ["done", ["done", "a"]]}, True),
        ({"atLeast": 2, "of": ["a", "b", "done"]}, False),
        ({"atLeast": 2, "of": ["a", "done", "t_1"]}, True),
        ({"atLeast": 2, "of": "done"}, True),
        ({"trigger": "done", "where": {"tasks.t_a.failed": {"given": True}}}, True),
        (["a", {"atLeast": "a.times", "of": "done"}], False),
        ("t_failed", True),
        ("t_late", False),
    ],
)
def test_a_task_waits_if_it_cannot_run_without_the_trigger(after: Any, waits: bool) -> None:
    otherwise = {"failed": "t_failed", "skipped": "t_failed", "late": "t_late"}
    tasks = parse_configuration(
        {
            "t_1": {"after": "done", "within": 60, "otherwise": otherwise, "run": "x"},
            "t_x": {"after": after, "run": "x"},
        }
    ).tasks
    assert ("t_x" in tasks_waiting_for("done", tasks)) is waits


def test_a_task_that_may_run_without_the_trigger_is_waited_for(make: Make) -> None:
    manager = make()
    either = {"after": {"anyOf": ["sessionFinalized", "early"]}, "run": "finalize.ok"}
    manager.update_configuration({"t_a": {"after": ["a"], "run": "finalize.ok"}, "t_x": either})
    manager.fire("a")
    assert fired(manager) == 0
    manager.fire("early")
    assert fired(manager) == 1


def test_what_waits_for_the_next_time_keeps_no_session_open(make: Make) -> None:
    manager = make()
    manager.update_configuration(
        {
            "t_a": {"after": ["a"], "run": "finalize.ok"},
            "t_save": {"after": ["edited", "saved"], "everyTime": True, "run": "finalize.ok"},
            "t_report": REPORT,
        }
    )
    manager.fire("edited")
    manager.fire("a")
    assert fired(manager) == 0, "the first time counts"
    assert "which comes once t_save has ended" in str(manager.explain("t_report"))
    for trigger in ("saved", "edited"):
        manager.fire(trigger)
        manager.join(120)
    assert manager.storage["t_save#1"].status == "unstarted"
    assert fired(manager) == 1


def test_a_round_that_is_waiting_when_all_else_ends_keeps_no_session_open(make: Make) -> None:
    manager = make()
    manager.update_configuration(
        {
            "t_a": {"after": ["a"], "run": "finalize.ok"},
            "t_save": {"after": ["edited", "saved"], "everyTime": True, "run": "finalize.ok"},
        }
    )
    for trigger in ("edited", "saved", "edited"):
        manager.fire(trigger)
        manager.join(120)
    assert fired(manager) == 0
    manager.fire("a")
    assert fired(manager) == 1


def test_what_is_held_back_keeps_a_session_open(make: Make) -> None:
    manager = make()
    manager.update_configuration(
        {
            "t_remind": {
                "after": ["placed"],
                "unless": ["paid"],
                "waiting": "2 days",
                "run": "finalize.ok",
            }
        }
    )
    manager.fire("placed")
    assert fired(manager) == 0
    manager.fire("paid")
    assert fired(manager) == 1


ESCALATE = {
    "t_ship": {
        "after": ["placed", "packed"],
        "unless": ["cancelled"],
        "otherwise": {"calledOff": "notShipped"},
        "run": "finalize.ok",
    },
    "t_refund": {"after": ["placed", "notShipped"], "run": "finalize.ok"},
    "t_excuse": {"after": ["t_refund"], "run": "finalize.ok"},
    "t_report": REPORT,
}


def test_which_tasks_run_only_if_another_comes_to_no_success() -> None:
    tasks = parse_configuration(ESCALATE).tasks
    assert exceptions(tasks) == {"t_refund": {"notShipped"}, "t_excuse": {"t_refund"}}


def test_what_runs_only_otherwise_need_not_begin_nor_end(make: Make) -> None:
    manager = make()
    manager.update_configuration(ESCALATE)
    manager.fire("placed")
    assert "which comes once t_ship has ended)" in str(manager.explain("t_report"))
    manager.fire("packed")
    assert fired(manager) == 1
    assert manager.storage["t_refund#0"].status == "unstarted"


def test_what_runs_otherwise_has_to_end_once_it_is_needed(make: Make) -> None:
    manager = make()
    broken = {**ESCALATE, "t_refund": {**ESCALATE["t_refund"], "run": "finalize.broken"}}
    manager.update_configuration(broken)
    manager.fire("placed")
    manager.fire("cancelled")
    assert fired(manager) == 0
    assert "which comes once t_refund has ended)" in str(manager.explain("t_report"))
    manager.skip_failed_instance("t_refund#0", cascade=True)
    assert fired(manager) == 1
    assert manager.storage["t_excuse#0"].status == "finished"


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"t_mail": {"andEvery": {"anyOf": ["x", "y"]}, "run": "x"}}, {"t_mail": "x or y"}),
        ({"t_mail": {"andEvery": {"anyOf": ["x", "paid"]}, "run": "x"}}, {}),
        (
            {
                "t_mail": {"andEvery": "statusChanged", "otherwise": "noMail", "run": "x"},
                "t_more": {"after": ["noMail"], "run": "x"},
            },
            {},
        ),
    ],
)
def test_conditions_that_may_keep_a_session_open(changes: Any, found: dict[str, str]) -> None:
    tasks = parse_configuration({**WITH_MAIL, **changes}).tasks
    assert may_keep_open("sessionFinalized", tasks) == found
