"""What counts as a hook, and the mistakes that are refused before they can do harm."""

from __future__ import annotations

import types
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import pytest
from fake_plugins import Local, called, plugin
from pluggy import PluginManager

from triggers_core.exceptions import PluginError
from triggers_core.hookspecs import hookimpl
from triggers_core.plugins.hook_calls import Plugins
from triggers_core.plugins.pending_event import PendingEvent
from triggers_core.tasks import TriggerTask


def test_two_plugins_of_a_type_both_work() -> None:
    first, second = Local("first"), Local("second")
    plugins = Plugins([first, second])
    names = [info.name for info in plugins.infos() if info.status == "loaded"]
    assert names[1] == f"{names[0]}#2"
    assert called(plugins) == ["first", "second"]
    plugins.unregister(first)
    assert called(plugins) == ["second"]


def test_equal_plugins_are_one() -> None:
    """As pluggy sees it: it compares plugins."""

    @dataclass
    class Equal:
        n: int = 0

        @hookimpl
        def post_fire(self) -> None: ...

    with pytest.raises(PluginError, match=r"Equal' is registered already, as '.*Equal#2'"):
        Plugins([Equal(), Equal()])


def test_properties_are_not_evaluated() -> None:
    class Costly(Local):
        @property
        def connection(self) -> object:
            raise AssertionError("a property was evaluated")

    assert called(Plugins([Costly("costly")])) == ["costly"]


def test_every_kind_of_function_is_found() -> None:
    class Kinds:
        @staticmethod
        @hookimpl
        def post_fire(scheduled: list[str]) -> None:
            scheduled.append("static, marked below")

        def pre_fire(self) -> None:
            """Not marked: not a hook."""

    assert called(Plugins([Kinds()])) == ["static, marked below"]
    assert not Plugins([Kinds()]).has_pre_fire

    class Above:
        @hookimpl(specname="post_fire")
        @staticmethod
        def one(scheduled: list[str]) -> None:
            scheduled.append("static, marked above")

        @hookimpl(specname="post_fire")
        @classmethod
        def two(cls, scheduled: list[str]) -> None:
            scheduled.append(f"class method of {cls.__name__}")

    assert sorted(called(Plugins([Above()]))) == [
        "class method of Above",
        "static, marked above",
    ]

    bare: Any = types.SimpleNamespace(post_fire=hookimpl(lambda scheduled: scheduled.append("λ")))
    assert called(Plugins([bare])) == ["λ"]


REFUSED: dict[str, tuple[str, str]] = {
    "async": (
        "@hookimpl\nasync def post_fire(event): ...",
        "post_fire is an `async def`, but hooks are called from plain code",
    ),
    "keyword-only": (
        "@hookimpl\ndef post_fire(event, *, scheduled): ...",
        "post_fire has the keyword-only parameter 'scheduled', .* remove the `\\*` before it",
    ),
    "unknown parameter": (
        "@hookimpl\ndef post_fire(manager, evnt): ...",
        "takes the parameter 'evnt', which the hook post_fire does not offer: did you mean"
        " 'event'\\? \\(it offers manager, event, scheduled\\)",
    ),
    "kwargs": (
        "@hookimpl\ndef post_fire(**kwargs): ...",
        "post_fire takes '\\*\\*kwargs', which would stay empty",
    ),
    "args": ("@hookimpl\ndef post_fire(*args): ...", "post_fire takes '\\*args'"),
    "generator": (
        "@hookimpl\ndef get_logger_context(logger):\n    yield logger",
        "get_logger_context is a generator function: calling it runs nothing",
    ),
    "wrapper": (
        "@hookimpl(wrapper=True)\ndef post_fire():\n    return (yield)",
        "post_fire is a hook wrapper",
    ),
    "old wrapper": (
        "@hookimpl(hookwrapper=True)\ndef post_commit():\n    yield",
        "post_commit is a hook wrapper.*tryfirst=True",
    ),
    "no generator": (
        "@hookimpl(wrapper=True)\ndef resolve_task():\n    return None",
        "Declared as wrapper=True or hookwrapper=True but function is not a generator",
    ),
    "misspelt": ("@hookimpl\ndef before_comit(plan): ...", "did you mean 'before_commit'"),
    "misspelt specname": (
        "@hookimpl(specname='post_fier')\ndef told(event): ...",
        "told is marked with @hookimpl, but there is no hook 'post_fier'",
    ),
    "unmarked": ("def post_fire(event): ...", "put @hookimpl .* above post_fire"),
}


@pytest.mark.parametrize(("source", "message"), REFUSED.values(), ids=REFUSED)
def test_what_could_not_work_is_refused(source: str, message: str) -> None:
    module = types.ModuleType("acme")
    exec(source, vars(module) | {"hookimpl": hookimpl}, vars(module))
    with pytest.raises(PluginError, match=f"plugin 'acme'.*{message}"):
        Plugins([module])


def test_hooks_of_another_version_may_be_optional() -> None:
    class Ahead(Local):
        @hookimpl(optionalhook=True)
        def post_everything(self, universe: object) -> None: ...

    plugins = Plugins([Ahead("ahead")])
    assert called(plugins) == ["ahead"]
    assert plugins.infos()[0].hooks == ("post_fire",)


# -- pluggy as pluggy -----------------------------------------------------------------------------


def test_the_manager_holds_the_plugins_themselves() -> None:
    local, other = Local("local"), Local("other")
    plugins = Plugins([local, other])
    manager = plugins.manager
    assert isinstance(manager, PluginManager)
    assert [plugin for _, plugin in manager.list_name_plugin()][-2:] == [other, local]
    name = manager.get_name(local)
    assert name is not None
    assert manager.get_plugin(name) is local
    assert [each.plugin for each in manager.hook.post_fire.get_hookimpls()][-2:] == [other, local]


def test_what_is_done_to_the_manager_counts() -> None:
    plugins = Plugins([Local("local")])
    seen = [plugins.version]
    assert plugins.manager.register(Local("late"), "late") == "late"
    assert called(plugins) == ["late", "local"], "pluggy calls first what was registered last"
    seen.append(plugins.version)
    plugins.manager.set_blocked("late")
    assert called(plugins) == ["local"]
    seen.append(plugins.version)
    assert plugins.register(Local("again"), "late") is None
    assert {info.name: info.status for info in plugins.infos()}["late"] == "blocked"
    assert seen == sorted(set(seen))
    plugins.manager.unblock("late")
    assert plugins.register(Local("again"), "late") == "late"
    assert called(plugins) == ["local", "again"]


def test_a_wrapper_spans_the_others_where_pluggy_calls_them() -> None:
    class Ship(TriggerTask):
        name = "test_plugin_checks.ship"

    class Wraps:
        @hookimpl(wrapper=True)
        def resolve_task(self, run: str) -> Generator[None, Any, Any]:
            found = yield
            return found or (Ship if run == "ship" else None)

        @hookimpl(wrapper=True)
        def pre_fire(self, event: PendingEvent) -> Generator[None, Any, Any]:
            before = event.kwargs
            answers = yield
            event.kwargs = {"before": before, "after": event.kwargs}
            return answers

    def stamp(event: PendingEvent) -> None:
        event.kwargs = {"stamped": True}

    plugins = Plugins([Wraps(), plugin("stamps", pre_fire=stamp, resolve_task=lambda run: None)])
    assert plugins.resolve_task("ship") is Ship
    assert plugins.resolve_task("plane") is None
    manager: Any = None
    kwargs = plugins.pre_fire(manager, "go", {"n": 1}, "e")
    assert kwargs == {"before": {"n": 1}, "after": {"stamped": True}}


def test_errors_of_wrapped_implementations_name_the_plugins() -> None:
    @hookimpl(wrapper=True)
    def resolve_task() -> Generator[None, Any, Any]:
        return (yield)

    wraps = types.ModuleType("wraps")
    vars(wraps)["resolve_task"] = resolve_task
    plugins = Plugins([wraps, plugin("fails", resolve_task=lambda: 1 / 0)])
    with pytest.raises(ZeroDivisionError) as caught:
        plugins.resolve_task("ship")
    assert caught.value.__notes__ == ["raised by resolve_task of the plugin 'wraps, fails'"]


def test_calls_can_be_traced() -> None:
    @dataclass
    class NoHash:
        @hookimpl
        def pre_fire(self) -> None: ...

    plugins = Plugins([Local("one"), plugin("two", resolve_task=lambda run: None), NoHash()])
    seen: list[Any] = []
    undo = plugins.manager.add_hookcall_monitoring(
        lambda hook, implementations, kwargs: seen.append(
            (hook, [each.plugin_name for each in implementations], sorted(kwargs))
        ),
        lambda outcome, hook, implementations, kwargs: seen.append(outcome.get_result()),
    )
    assert called(plugins) == ["one"]
    assert plugins.resolve_task("ship") is None
    assert seen == [
        ("post_fire", ["fake_plugins:Local"], ["event", "manager", "scheduled"]),
        [],
        ("resolve_task", ["two"], ["run", "using"]),
        None,
    ]
    undo()
    assert called(plugins) == ["one"]
    assert len(seen) == 4
