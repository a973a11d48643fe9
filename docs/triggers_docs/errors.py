"""Every error: what it means, by its docstring; what to do, by `cures.toml`."""

from __future__ import annotations

import inspect
import pkgutil
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Final

from triggers_core.exceptions import BodyInterrupted, TriggersError
from triggers_docs.faces import directive, load, public_names

PACKAGES: Final = (
    "triggers_core",
    "triggers_celery",
    "triggers_cli",
    "triggers_django",
    "triggers_finalize",
    "triggers_otel",
    "triggers_postgres",
    "triggers_redis",
    "triggers_retry",
    "triggers_structlog",
    "triggers_web",
)


def cures() -> dict[str, str]:
    """Class → what its reader can do."""
    text = Path(__file__).with_name("cures.toml").read_text(encoding="utf-8")
    return {name: " ".join(cure.split()) for name, cure in tomllib.loads(text).items()}


def all_errors() -> dict[str, type[BaseException]]:
    """Every public error outside of the test tools, by its full name."""
    for name in PACKAGES:
        package = load(name)
        for each in pkgutil.walk_packages(package.__path__, f"{name}."):
            parts = each.name.split(".")
            if not {"testing", "testing_places", "__main__", "migrations"} & set(parts):
                import_module(each.name)
    found = {}
    roots = (TriggersError, BodyInterrupted)
    for kind in (each for root in roots for each in (root, *_derived(root))):
        home = kind.__module__.split(".")
        if home[0] in PACKAGES and "testing" not in home and not kind.__name__.startswith("_"):
            found[f"{kind.__module__}.{kind.__name__}"] = kind
    return found


def _derived(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    for each in kind.__subclasses__():
        yield each
        yield from _derived(each)


def markdown() -> str:
    """A section for each module, an entry for each error of it."""
    told = cures()
    parts: list[str] = []
    modules: dict[str, list[type[BaseException]]] = {}
    for kind in all_errors().values():
        modules.setdefault(kind.__module__, []).append(kind)
    for module in sorted(modules, key=lambda name: (name != "triggers_core.exceptions", name)):
        parts.append(f"## {module}")
        kinds = sorted(modules[module], key=_line)
        for kind in kinds:
            lines = [
                f".. autoexception:: {module}.{kind.__name__}",
                "   :show-inheritance:",
                "",
                f"   **What to do:** {told[kind.__name__]}",
            ]
            parts.append("\n".join(["```{eval-rst}", *lines, "```"]))
        if module == "triggers_core.exceptions":
            functions = [
                directive(module, name)
                for name in public_names(load(module))
                if inspect.isfunction(getattr(load(module), name))
            ]
            parts += ["### Functions about errors", *functions]
    return "\n\n".join(parts)


def _line(kind: type[BaseException]) -> int:
    return inspect.getsourcelines(kind)[1]
