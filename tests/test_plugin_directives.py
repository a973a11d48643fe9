"""Directives that plugins own, and the plugins that a configuration requires."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from fake_plugins import fire, plugin, rules

from triggers_core.engine.commands import Configure
from triggers_core.engine.configuration import Directive, parse_configuration
from triggers_core.exceptions import PluginError, PluginMissing
from triggers_core.plugins.hook_calls import Plugins
from triggers_core.storages.memory import MemoryStorage


class Alarm(msgspec.Struct, forbid_unknown_fields=True):
    to: str


def test_declare_directives_makes_configurations_possible() -> None:
    asked = []

    def declare() -> dict[str, Any]:
        asked.append(1)
        return {"alarm": Alarm, "priority": int}

    plugins = Plugins(
        [
            plugin("acme", declare_directives=declare),
            plugin("other", declare_directives=lambda: [Directive("colour", str, "ignored")]),
            plugin("none", declare_directives=lambda: None),
        ]
    )
    assert plugins.directives() == {
        "alarm": Directive("alarm", Alarm, "acme"),
        "priority": Directive("priority", int, "acme"),
        "colour": Directive("colour", str, "other"),
    }
    assert plugins.directives() is plugins.directives()
    assert asked == [1]
    parsed = parse_configuration(
        {"t": {"after": ["go"], "run": "r", "alarm": {"to": "me"}}}, None, plugins.directives()
    )
    assert parsed.tasks["t"].directives == {"alarm": {"to": "me"}}
    plugins.unregister("other")
    assert "colour" not in plugins.directives()


DECLARED: dict[str, tuple[Any, str]] = {
    "core's": ({"after": str}, "declares the directive 'after', which the core owns"),
    "twice": ({"taken": int}, "declares the directive 'taken', which the plugin 'first' owns"),
    "nonsense": ("retry", "has to answer a mapping of name to type"),
    "mixed list": ([Directive("a", int, "x"), "b"], "has to answer a mapping of name to type"),
    "no name": ({"": int}, "a directive cannot be called ''"),
    "number": ({1: int}, "a directive cannot be called 1"),
    "spaces": ({"not before": int}, "a directive cannot be called 'not before'"),
    "no type": ({"alarm": 5}, "values of its directive 'alarm' cannot be checked against 5"),
}


@pytest.mark.parametrize(("declared", "message"), DECLARED.values(), ids=DECLARED)
def test_declare_directives_is_checked(declared: Any, message: str) -> None:
    plugins = Plugins(
        [
            plugin("first", declare_directives=lambda: {"taken": str}),
            plugin("acme", declare_directives=lambda: declared),
        ]
    )
    with pytest.raises(PluginError, match=f"plugin 'acme'.*{message}"):
        plugins.directives()


def test_declare_directives_errors_name_the_plugin() -> None:
    plugins = Plugins([plugin(declare_directives=lambda: {}["x"])])
    with pytest.raises(PluginError, match="plugin 'acme': declare_directives failed: KeyError"):
        plugins.directives()


def test_requires_are_the_plugins_that_a_configuration_cannot_do_without() -> None:
    plugins = Plugins(
        [
            plugin("finalize", before_commit=lambda: None),
            plugin("alarms", declare_directives=lambda: {"alarm": str}),
            plugin("colours", declare_directives=lambda: {"colour": str}),
            plugin("metrics", post_commit=lambda: None),
        ]
    )

    def required(**directives: Any) -> tuple[str, ...]:
        raw = {"t": {"after": ["go"], "run": "r", **directives}}
        return plugins.requires_for(parse_configuration(raw, None, plugins.directives()))

    assert required() == ("finalize",)
    assert required(alarm="me") == ("alarms", "finalize")
    assert required(alarm="me", colour="red") == ("alarms", "colours", "finalize")
    assert Plugins([]).requires_for(parse_configuration({})) == ()


def test_requires_are_enforced() -> None:
    plugins = Plugins([plugin("finalize", before_commit=lambda: None)])
    configuration = parse_configuration({"t": {"after": ["go"], "run": "r"}})
    store = MemoryStorage.open_store()
    command = Configure(configuration=configuration, requires=plugins.requires_for(configuration))
    store.commit("s", command, rules(plugins))
    with pytest.raises(PluginMissing, match="finalize"):
        fire(store, Plugins([]), "go")
    assert [each.name for each in fire(store, plugins, "go").scheduled] == ["t#0"]
