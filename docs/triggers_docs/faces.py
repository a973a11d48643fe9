"""The public API, by who uses it: `docs/reference/api.md` says what is public."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Final

from triggers_core.exceptions import BodyInterrupted, TriggersError

FACES: Final[dict[str, tuple[str, ...]]] = {
    "application": (
        "triggers_core",
        "triggers_core.application",
        "triggers_core.manager",
        "triggers_core.methods.awaitable",
        "triggers_core.methods.bulk",
        "triggers_core.methods.moving",
        "triggers_core.tasks",
        "triggers_core.tasks.context",
        "triggers_core.storages",
        "triggers_core.storages.session",
        "triggers_core.settings",
        "triggers_core.limits",
        "triggers_core.explain",
        "triggers_core.backtest",
        "triggers_core.views.session",
        "triggers_core.views.stuck",
        "triggers_core.views.overview",
        "triggers_core.views.graph",
        "triggers_core.views.linter",
        "triggers_core.views.schema",
        "triggers_core.views.schema_words",
        "triggers_core.views.spelling",
        "triggers_core.views.wording",
        "triggers_core.redaction",
    ),
    "plugin": (
        "triggers_core.hookspecs",
        "triggers_core.engine.additions",
        "triggers_core.engine.carriers",
        "triggers_core.engine.configuration",
        "triggers_core.engine.plugin_options",
        "triggers_core.plugins.fire_contexts",
        "triggers_core.plugins.pending_event",
        "triggers_core.plugins.hook_calls",
        "triggers_core.plugins.infos",
        "triggers_core.running.logs",
        "triggers_core.settings.sources",
        "triggers_core.entry_points",
        "triggers_core.registries",
    ),
    "storage": (
        "triggers_core.storages.base",
        "triggers_core.storages.driving",
        "triggers_core.storages.summaries",
        "triggers_core.storages.arguments",
        "triggers_core.storages.memory",
        "triggers_core.storages.configuration_cache",
        "triggers_core.storages.sqlite.transaction",
        "triggers_core.runners",
        "triggers_core.running.messages",
        "triggers_core.running.worker",
        "triggers_core.running.heartbeats",
        "triggers_core.running.rounds",
        "triggers_core.engine.records",
        "triggers_core.engine.names",
        "triggers_core.engine.protocol",
        "triggers_core.engine.commands",
        "triggers_core.engine.attempts",
        "triggers_core.engine.recovery",
        "triggers_core.engine.waits",
        "triggers_core.engine.due_times",
        "triggers_core.payloads",
    ),
    "testing": (
        "triggers_core.testing",
        "triggers_core.testing.kit",
        "triggers_core.testing.kit.providers",
        "triggers_core.testing.faults",
        "triggers_core.testing.simulation",
        "triggers_core.testing.simulation.sabotage",
        "triggers_core.testing.model",
        "triggers_core.testing.replays",
        "triggers_core.testing.sample_log",
        "triggers_core.testing.oracle",
        "triggers_core.testing.crash_scenario",
        "triggers_core.testing.bodies",
        "triggers_core.testing.interruptions",
        "triggers_core.testing.fake_distributions",
    ),
    "plugins": (
        "triggers_celery",
        "triggers_cli",
        "triggers_django",
        "triggers_django.models",
        "triggers_otel",
        "triggers_postgres",
        "triggers_postgres.testing",
        "triggers_redis",
        "triggers_redis.testing",
        "triggers_structlog",
        "triggers_web.http",
        "triggers_web.intake",
        "triggers_web.pages",
        "triggers_web.starlette",
        "triggers_web.trying",
    ),
}
"""Page → the modules that it lists, in this order; what several offer is listed at the first."""


def load(name: str) -> ModuleType:
    """Import a module; those of Django's kind after Django is set up."""
    if name.startswith("triggers_django"):
        import django
        from django.conf import settings

        if not settings.configured:
            parts = ("contenttypes", "auth", "sessions", "messages", "admin")
            apps = [*(f"django.contrib.{each}" for each in parts), "triggers_django"]
            settings.configure(INSTALLED_APPS=apps)
            django.setup()
    return import_module(name)


def public_names(module: ModuleType) -> Iterator[str]:
    """What is public in a module: its ``__all__``, else its own classes and functions.

    Own are those that it defines; names with an underscore before them are private.
    """
    if hasattr(module, "__all__"):
        yield from (name for name in module.__all__ if name != "__version__")
        return
    for name, value in vars(module).items():
        kind = inspect.isclass(value) or inspect.isroutine(value)
        own = getattr(value, "__module__", None) == module.__name__
        if kind and own and not name.startswith("_"):
            yield name


def identity(module: str, name: str) -> str:
    """The full name under which something is defined, wherever it is imported from."""
    value = getattr(load(module), name)
    if inspect.isclass(value) or inspect.isroutine(value):
        return f"{value.__module__}.{value.__qualname__}"
    return f"{module}.{name}"


def homes() -> dict[str, tuple[str, str, str]]:
    """Identity → where it is listed: page, module and name."""
    found: dict[str, tuple[str, str, str]] = {}
    for face, modules in FACES.items():
        for module in modules:
            for name in public_names(load(module)):
                if not on_page_of_errors(getattr(load(module), name)):
                    found.setdefault(identity(module, name), (face, module, name))
    return found


def on_page_of_errors(value: object) -> bool:
    """Whether something is an error, or a function about errors, and so listed by `errors`."""
    home = getattr(value, "__module__", "")
    if home == "triggers_core.exceptions":
        return True
    kinds = (TriggersError, BodyInterrupted)
    return inspect.isclass(value) and issubclass(value, kinds) and "testing" not in home.split(".")


def markdown(face: str) -> str:
    """All of a page: a section for each module."""
    listed = [place for place in homes().values() if place[0] == face]
    parts: list[str] = []
    for module in FACES[face]:
        names = [name for _, home, name in listed if home == module]
        if not names:
            continue
        doc = (inspect.getdoc(load(module)) or "").split("\n\n")[0].replace("\n", " ")
        parts += [f"## {module}", doc]
        parts += [directive(module, name) for name in names]
    return "\n\n".join(parts)


def directive(module: str, name: str, options: str = "") -> str:
    """What makes autodoc document something."""
    value = getattr(load(module), name)
    kind = "class" if inspect.isclass(value) else "function" if inspect.isroutine(value) else "data"
    if inspect.isclass(value) and issubclass(value, BaseException):
        kind = "exception"
    lines = [f".. auto{kind}:: {module}.{name}"]
    if inspect.isclass(value):
        lines += ["   :members:", "   :undoc-members:"]
        if value.__bases__ != (object,):
            lines.append("   :show-inheritance:")
    if kind == "data":
        lines.append("   :no-value:")
    return "\n".join(["```{eval-rst}", *lines, "```"])
