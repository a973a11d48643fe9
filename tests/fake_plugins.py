"""Small plugins for tests, and what they need to be called."""

from __future__ import annotations

import types
from typing import Any

from triggers_core.engine.commands import Fire
from triggers_core.engine.protocol import Plan, Rules
from triggers_core.hookspecs import hookimpl
from triggers_core.plugins.hook_calls import Plugins
from triggers_core.storages.memory import MemoryStore


def plugin(name: str = "acme", **functions: Any) -> types.ModuleType:
    """A plugin made of functions."""
    module = types.ModuleType(name)
    for hook, function in functions.items():
        setattr(module, hook, hookimpl(function))
    return module


class Local:
    """A plugin in an application's own code: tells its name whenever something has fired."""

    def __init__(self, name: str = "local") -> None:
        self.told = name

    def __repr__(self) -> str:  # part of the names of parametrized tests
        return f"Local({self.told!r})"

    @hookimpl
    def post_fire(self, scheduled: list[str]) -> None:
        scheduled.append(self.told)


def called(plugins: Plugins) -> list[str]:
    """Who is told about a fire, in order. Plugins that are really installed tell nothing here."""
    told: Any = []
    manager: Any = None
    event: Any = None
    plugins.post_fire(manager, event, told)
    return list(told)


def rules(plugins: Plugins) -> Rules:
    """The rules of a process that has these plugins."""
    return Rules(before_commit=plugins.before_commit_hooks(), plugins=plugins.names)


def fire(store: MemoryStore, plugins: Plugins, trigger: str) -> Plan[Any]:
    """Fire into the session ``s``."""
    return store.commit("s", Fire(trigger=trigger, payload=b"{}", event_id=trigger), rules(plugins))
