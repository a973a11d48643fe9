"""How the core calls hooks: what each gets, what each may answer, and what an error in it does."""

from __future__ import annotations

import inspect
import logging
import sys
import threading
import types
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import wraps
from textwrap import dedent
from typing import Any, cast

import pytest
from fake_plugins import fire, plugin

from triggers_core.application import Application
from triggers_core.engine.attempts import Retry
from triggers_core.engine.protocol import Plan
from triggers_core.engine.records import Event, Instance
from triggers_core.exceptions import FireVetoed, HookFailed, PluginError
from triggers_core.hookspecs import TriggersSpec, hookimpl
from triggers_core.plugins.checks import HOOKS
from triggers_core.plugins.hook_calls import Plugins
from triggers_core.plugins.pending_event import PendingEvent
from triggers_core.settings import Settings
from triggers_core.storages.memory import MemoryStorage
from triggers_core.tasks import TriggerTask

MANAGER = cast(Any, object())
CONTEXT = cast(Any, object())
EVENT = Event(id="e", trigger="go")
INSTANCE, REPLAY = Instance(task="t_x", number=0), Instance(task="t_x", number=1)


def test_every_hook_is_documented_with_an_example_that_loads() -> None:
    for hook in HOOKS:
        doc = inspect.getdoc(getattr(TriggersSpec, hook)) or ""
        text, _, example = doc.partition("**Example**::\n")
        for name in HOOKS[hook]:
            assert f":param {name}:" in text, f"{hook}: {name} is not described"
        assert "rror" in text, f"{hook}: what does an error do?"
        module = types.ModuleType("example")
        exec(dedent(example), vars(module))
        [info] = [i for i in Plugins([module]).infos() if i.status == "loaded"]
        assert info.hooks == (hook,)


# -- calling --------------------------------------------------------------------------------------


def test_implementations_take_what_they_want() -> None:
    seen: list[Any] = []

    def decorated(function: Any) -> Any:
        @wraps(function)
        def wrapper(*args: Any) -> Any:
            return function(*args)

        return wrapper

    @decorated
    def wrapped(scheduled: Any, manager: Any) -> None:
        seen.append((scheduled, manager))

    def with_defaults(event: Any, scheduled: Any = "default", own: str = "own") -> None:
        seen.append((event, scheduled, own))

    def with_gap(event: Any, own: str = "own", manager: Any = None) -> None:
        seen.append((event, own, manager))

    Plugins(
        [
            plugin("all", post_fire=lambda manager, event, scheduled: seen.append("all")),
            plugin("none", post_fire=lambda: seen.append("none")),
            plugin("order", post_fire=lambda scheduled, event: seen.append((scheduled, event))),
            plugin("wrapped", post_fire=wrapped),
            plugin("defaults", post_fire=with_defaults),
            plugin("gap", post_fire=with_gap),
        ]
    ).post_fire(MANAGER, EVENT, (INSTANCE,))
    assert seen == [
        "all",
        "none",
        ((INSTANCE,), EVENT),
        ((INSTANCE,), MANAGER),
        (EVENT, (INSTANCE,), "own"),
        (EVENT, "own", MANAGER),
    ]


def test_first_and_last_are_kept() -> None:
    seen: list[str] = []

    def module(name: str, **options: Any) -> types.ModuleType:
        made = types.ModuleType(name)
        vars(made)["post_fire"] = hookimpl(lambda: seen.append(name), **options)
        return made

    Plugins(
        [
            module("last", trylast=True),
            module("one"),
            module("first", tryfirst=True),
            module("two"),
        ]
    ).post_fire(MANAGER, EVENT, ())
    assert seen == ["first", "one", "two", "last"]


def test_flags_tell_whether_a_call_is_worth_its_preparation() -> None:
    plugins = Plugins([])
    flags = ("pre_fire", "post_fire", "post_replay", "post_skip", "post_commit")
    assert not any(getattr(plugins, f"has_{hook}") for hook in flags)
    plugins.register(plugin(post_commit=lambda changes: None))
    assert [hook for hook in flags if getattr(plugins, f"has_{hook}")] == ["post_commit"]
    plugins.unregister("acme")
    assert not plugins.has_post_commit


# -- pre_fire -------------------------------------------------------------------------------------


def test_pre_fire_replaces_kwargs_one_after_the_other() -> None:
    def first(event: PendingEvent) -> None:
        assert (event.trigger, event.event_id, event.once, event.force) == ("go", "e1", True, False)
        event.kwargs = {**event.kwargs, "first": 1}

    def second(manager: Any, event: PendingEvent) -> None:
        assert manager is MANAGER
        event.kwargs["second"] = event.kwargs["first"] + 1

    given = {"own": 0}
    plugins = Plugins([plugin("a", pre_fire=first), plugin("b", pre_fire=second)])
    assert plugins.pre_fire(MANAGER, "go", given, "e1", once=True) == {
        "own": 0,
        "first": 1,
        "second": 2,
    }
    assert given == {"own": 0}


def test_pre_fire_without_implementations_hands_back_what_it_got() -> None:
    given = {"a": 1}
    assert Plugins([]).pre_fire(MANAGER, "go", given, "e") is given
    assert Plugins([]).pre_fire(MANAGER, "go", None, "e") is None


def test_pre_fire_sees_no_kwargs_as_empty_and_leaves_nonsense_to_the_check() -> None:
    seen = []
    plugins = Plugins([plugin(pre_fire=lambda event: seen.append(event.kwargs))])
    plugins.pre_fire(MANAGER, "go", None, "e")
    assert plugins.pre_fire(MANAGER, "go", cast(Any, ["no mapping"]), "e") == ["no mapping"]
    assert seen == [{}, ["no mapping"]]


@pytest.mark.parametrize("error", [FireVetoed("not today"), KeyError("amount")], ids=repr)
def test_pre_fire_errors_refuse_the_fire(error: Exception) -> None:
    seen: list[str] = []

    def refuse() -> None:
        raise error

    plugins = Plugins(
        [plugin("guard", pre_fire=refuse), plugin("b", pre_fire=lambda: seen.append("b"))]
    )
    with pytest.raises(type(error)) as caught:
        plugins.pre_fire(MANAGER, "go", {}, "e")
    assert caught.value is error
    assert caught.value.__notes__ == ["raised by pre_fire of the plugin 'guard'"]
    assert seen == []


def test_pre_fire_must_leave_a_mapping() -> None:
    def spoil(event: PendingEvent) -> None:
        event.kwargs = cast(Any, [1])

    with pytest.raises(PluginError, match=r"plugin 'acme': pre_fire set event\.kwargs to a list"):
        Plugins([plugin(pre_fire=spoil)]).pre_fire(MANAGER, "go", {}, "e")


@pytest.mark.parametrize("field", ["trigger", "event_id", "once", "force"])
def test_pending_events_can_only_change_their_kwargs(field: str) -> None:
    event = PendingEvent("go", "e", False, False, {})
    with pytest.raises(AttributeError, match=f"event.{field} is read-only"):
        setattr(event, field, "other")
    event.kwargs = {"a": 1}
    assert event.kwargs == {"a": 1}
    assert event != PendingEvent("go", "e", False, False, {"a": 1}), "one fire is not another"


# -- before_commit --------------------------------------------------------------------------------


def test_before_commit_adds_to_the_same_commit_in_order() -> None:
    def add(after: str, trigger: str) -> Any:
        def before_commit(plan: Any, session: Any) -> None:
            if session.has_fired(after) and not session.has_fired(trigger):
                plan.fire(trigger)

        return before_commit

    plugins = Plugins(
        [
            plugin("b", before_commit=add("go", "second")),
            plugin("a", before_commit=add("second", "third")),
        ]
    )
    assert [name for name, _ in plugins.before_commit_hooks()] == ["b", "a"]
    store = MemoryStorage.open_store()
    plan = fire(store, plugins, "go")
    assert [(event.trigger, event.cause) for event in plan.events] == [
        ("go", ""),
        ("second", "b"),
        ("third", "a"),
    ]


def test_before_commit_errors_refuse_the_change() -> None:
    plugins = Plugins([plugin("guard", before_commit=lambda plan: 1 / 0)])
    store = MemoryStorage.open_store()
    with pytest.raises(HookFailed, match="plugin guard: before_commit raised ZeroDivisionError"):
        fire(store, plugins, "go")
    assert store.events("s") == []


# -- observers ------------------------------------------------------------------------------------

OBSERVERS: dict[str, tuple[Any, ...]] = {
    "post_fire": (MANAGER, EVENT, (INSTANCE,)),
    "post_replay": (MANAGER, INSTANCE, REPLAY),
    "post_skip": (MANAGER, INSTANCE, True),
    "post_commit": (MANAGER, Plan(outcome=None)),
}


@pytest.mark.parametrize("hook", OBSERVERS)
def test_observers_are_isolated(hook: str, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Any] = []

    def crash() -> None:
        raise RuntimeError("out of paper")

    class Observer:
        def __init__(self) -> None:
            names = ", ".join(HOOKS[hook])
            function = eval(f"lambda {names}: seen.append(({names}))", {"seen": seen})
            setattr(self, hook, hookimpl(function))

    plugins = Plugins([plugin("printer", **{hook: crash}), Observer()])
    getattr(plugins, hook)(*OBSERVERS[hook])
    assert seen == [OBSERVERS[hook]], "told, with everything, after another one crashed"
    [record] = caplog.records
    assert record.name == "triggers_core.plugins.hook_calls"
    assert record.levelno == logging.ERROR
    assert f"plugin 'printer': its {hook} failed" in record.getMessage()
    assert "RuntimeError: out of paper" in (record.exc_text or "")


class Panic(BaseException):
    """As pyo3, gevent and pytest raise."""


@pytest.mark.parametrize("error", [Panic, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("hook", OBSERVERS)
def test_observers_survive_whatever_another_one_raises_in_a_worker(
    hook: str, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []

    def crash() -> None:
        raise error("token=CANARY")

    plugins = Plugins(
        [plugin("a", **{hook: crash}), plugin("b", **{hook: lambda: seen.append("b")})]
    )
    worker = threading.Thread(target=getattr(plugins, hook), args=OBSERVERS[hook])
    worker.start()
    worker.join()
    assert seen == ["b"]
    [record] = caplog.records
    assert f"plugin 'a': its {hook} failed" in record.getMessage()
    assert "token=***" in (record.exc_text or "")
    assert record.exc_info is None, "a handler would format it anew, unmasked"


@pytest.mark.parametrize("hook", OBSERVERS)
def test_an_exit_in_the_main_thread_comes_after_the_other_observers(hook: str) -> None:
    """A signal handler may have raised it: it ends the process, and hides nothing."""
    seen: list[str] = []
    plugins = Plugins(
        [
            plugin("a", **{hook: lambda: sys.exit(3)}),
            plugin("b", **{hook: lambda: seen.append("b")}),
        ]
    )
    with pytest.raises(SystemExit, match="3"):
        getattr(plugins, hook)(*OBSERVERS[hook])
    assert seen == ["b"]


def test_questions_survive_whatever_is_raised(caplog: pytest.LogCaptureFixture) -> None:
    class Odd:
        @property
        def __class__(self) -> Any:
            raise Panic

    def crash() -> None:
        raise Panic

    for answer in (crash, lambda: Odd()):
        plugins = Plugins([plugin("a", task_failed=answer)])
        assert plugins.task_failed(CONTEXT, ValueError()) is None
    assert len(caplog.records) == 2


def test_errors_that_refuse_notes_pass_as_they_are() -> None:
    @dataclass(frozen=True)
    class Frozen(Exception):
        why: str

    def crash() -> None:
        raise Frozen("x")

    with pytest.raises(Frozen):
        Plugins([plugin("a", resolve_task=crash)]).resolve_task("ship")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("hook", OBSERVERS)
def test_observers_do_not_swallow_the_end_of_the_process(
    hook: str, error: type[BaseException]
) -> None:
    def stop() -> None:
        raise error

    with pytest.raises(error):
        getattr(Plugins([plugin(**{hook: stop})]), hook)(*OBSERVERS[hook])


# -- questions ------------------------------------------------------------------------------------


class Ship(TriggerTask):
    name = "test_plugin_hooks.ship"


def test_resolve_task_takes_the_first_answer() -> None:
    asked = []

    def never(run: str) -> None:
        asked.append(run)

    plugins = Plugins(
        [
            plugin("a", resolve_task=never),
            plugin("b", resolve_task=lambda run, using: Ship if using == "threading" else None),
            plugin("c", resolve_task=lambda: TriggerTask),
        ]
    )
    assert plugins.resolve_task("ship", "threading") is Ship
    assert plugins.resolve_task("ship") is TriggerTask
    assert asked == ["ship", "ship"]
    assert Plugins([plugin(resolve_task=never)]).resolve_task("ship") is None


def test_resolve_task_has_to_answer_a_class() -> None:
    with pytest.raises(PluginError, match=r"plugin 'acme': resolve_task\('ship'\) answered a str"):
        Plugins([plugin(resolve_task=lambda: "Ship")]).resolve_task("ship")


def test_stores_to_sweep_takes_all_answers(caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> None:
        raise OSError("no such folder")

    stores = [MemoryStorage.open_store(), MemoryStorage.open_store()]
    plugins = Plugins(
        [
            plugin("a", stores_to_sweep=lambda: stores[:1]),
            plugin("b", stores_to_sweep=fails),
            plugin("c", stores_to_sweep=lambda: None),
            plugin("d", stores_to_sweep=lambda backend: iter(stores[1:])),
        ]
    )
    assert plugins.stores_to_sweep("memory", {}) == [("a", stores[0]), ("d", stores[1])]
    assert "stores_to_sweep failed" in caplog.text


def test_explain_trigger_takes_the_first_answer(caplog: pytest.LogCaptureFixture) -> None:
    session: Any = object()
    plugins = Plugins(
        [
            plugin("a", explain_trigger=lambda trigger: None),
            plugin("b", explain_trigger=lambda trigger: 5),
            plugin("c", explain_trigger=lambda trigger: 1 / 0),
            plugin("d", explain_trigger=lambda session, trigger: f"comes after {trigger}"),
        ]
    )
    assert plugins.explain_trigger(session, "a") == "comes after a"
    assert "its explain_trigger answered a int" in caplog.text
    assert "its explain_trigger failed; counts as no answer" in caplog.text
    assert Plugins([]).explain_trigger(session, "a") is None


def test_lint_configuration_collects_what_all_answer(caplog: pytest.LogCaptureFixture) -> None:
    tasks: Any = {"t_a": object(), "t_b": object()}

    def leaves(tasks: Any) -> Any:
        raise ValueError("no mood")

    plugins = Plugins(
        [
            plugin("a", lint_configuration=lambda tasks: None),
            plugin("b", lint_configuration=lambda tasks, options: {"t_b": options["b"]}),
            plugin("c", lint_configuration=leaves),
            plugin("d", lint_configuration=lambda: {"t_a": "is odd", "t_gone": "is not there"}),
        ]
    )
    found = plugins.lint_configuration(tasks, {"b": "is even"})
    assert found == [("b", "t_b", "is even"), ("d", "t_a", "is odd")]
    assert "plugin 'c': its lint_configuration failed; counts as no warning" in caplog.text


def test_storage_load_takes_the_first_answer() -> None:
    storage = MemoryStorage("s")

    def load(backend: str, uid: str, options: Any) -> MemoryStorage | None:
        assert (uid, options) == ("s", {"path": "x"})
        return storage if backend == "memory" else None

    plugins = Plugins([plugin("a", storage_load=lambda: None), plugin("b", storage_load=load)])
    assert plugins.storage_load("memory", "s", {"path": "x"}) is storage
    assert plugins.storage_load("sqlite", "s", {"path": "x"}) is None


@pytest.mark.parametrize(
    ("hook", "arguments"), [("resolve_task", ("ship",)), ("storage_load", ("memory", "s", {}))]
)
def test_errors_of_resolve_task_and_storage_load_pass(hook: str, arguments: Any) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        getattr(Plugins([plugin(**{hook: lambda: 1 / 0})]), hook)(*arguments)
    assert caught.value.__notes__ == [f"raised by {hook} of the plugin 'acme'"]


def test_task_failed_takes_the_first_retry(caplog: pytest.LogCaptureFixture) -> None:
    error = ConnectionError("gone")

    def retry(context: Any, error: BaseException) -> Retry | None:
        assert context is CONTEXT
        return Retry(cooldown=5) if isinstance(error, ConnectionError) else None

    plugins = Plugins(
        [
            plugin("crash", task_failed=lambda: 1 / 0),
            plugin("nonsense", task_failed=lambda: 5.0),
            plugin("none", task_failed=lambda: None),
            plugin("retry", task_failed=retry),
            plugin("late", task_failed=lambda: Retry()),
        ]
    )
    assert plugins.task_failed(CONTEXT, error) == Retry(cooldown=5)
    assert plugins.task_failed(CONTEXT, ValueError()) == Retry()
    assert "plugin 'crash': its task_failed failed; counts as no answer" in caplog.text
    assert "plugin 'nonsense': its task_failed answered a float" in caplog.text
    assert Plugins([]).task_failed(CONTEXT, error) is None


def test_get_logger_context_takes_the_first_context(caplog: pytest.LogCaptureFixture) -> None:
    @contextmanager
    def own(context: Any, logger: Any, extra: Any) -> Any:
        yield context, logger, extra

    logger = logging.getLogger("x")
    plugins = Plugins(
        [
            plugin("crash", get_logger_context=lambda: 1 / 0),
            plugin("nonsense", get_logger_context=lambda logger: logger),
            plugin("own", get_logger_context=own),
            plugin("late", get_logger_context=lambda: nullcontext()),
        ]
    )
    answer = plugins.get_logger_context(CONTEXT, logger, {"a": 1})
    assert answer is not None
    with answer as entered:
        assert entered == (CONTEXT, logger, {"a": 1})
    assert "plugin 'crash': its get_logger_context failed" in caplog.text
    assert "plugin 'nonsense': its get_logger_context answered a Logger" in caplog.text
    assert Plugins([]).get_logger_context(CONTEXT, None, {}) is None


# -- an application's own -------------------------------------------------------------------------


def test_an_application_calls_its_plugins() -> None:
    told: list[str] = []

    def refuse(event: PendingEvent) -> None:
        if event.kwargs.get("forged"):
            raise FireVetoed("forged")
        event.kwargs = {**event.kwargs, "checked": True}

    acme = plugin(
        pre_fire=refuse,
        post_commit=lambda manager, changes: told.append(f"{manager.uid} {len(changes.events)}"),
        post_fire=lambda event: told.append(event.trigger),
    )
    settings = Settings.isolated(
        TRIGGER_STORAGE_TYPE="memory", TRIGGER_PLUGINS=[acme], TRIGGER_AUTOLOAD=False
    )
    app = Application("test", settings)
    manager = app.manager("s")
    try:
        with pytest.raises(FireVetoed):
            manager.fire("go", {"forged": True})
        assert not manager.storage.exists
        manager.fire("go", {"n": 1})
        assert manager.storage.latest_kwargs == {"go": {"n": 1, "checked": True}}
        assert told == ["s 1", "go"]
    finally:
        app.close()
