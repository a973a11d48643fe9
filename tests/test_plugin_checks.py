"""What counts as a hook, and the mistakes that are refused before they can do harm."""

from __future__ import annotations

import types
from dataclasses import dataclass
from typing import Any

import pytest
from fake_plugins import Local, called

from triggers_core.exceptions import PluginError
from triggers_core.hookspecs import hookimpl
from triggers_core.plugins.plugins import Plugins


def test_equal_plugins_both_work() -> None:
    @dataclass
    class Equal:
        log: list[str]

        @hookimpl
        def post_fire(self) -> None:
            self.log.append("told")

    first, second = Equal([]), Equal([])
    assert first == second
    plugins = Plugins([first, second])
    names = [info.name for info in plugins.infos() if info.status == "loaded"]
    assert names[1] == f"{names[0]}#2"
    called(plugins)
    assert (first.log, second.log) == (["told"], ["told"])
    second.log.clear()
    first.log.clear()
    plugins.unregister(first)
    called(plugins)
    assert (first.log, second.log) == ([], ["told"])


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
        "@hookimpl(hookwrapper=True)\ndef resolve_task():\n    yield",
        "resolve_task is a hook wrapper.*tryfirst=True",
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
