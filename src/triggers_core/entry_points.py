"""What installed distributions offer through entry points, found without importing any of it."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import (
    EntryPoint,
    PackageNotFoundError,
    distributions,
    entry_points,
    version,
)
from typing import Any, Final

from triggers_core.redaction import error_text

logger: logging.Logger = logging.getLogger(__name__)

KNOWN_DISTRIBUTIONS: Final = {
    "triggers.plugins": {
        "django": "triggers-django",
        "finalize": "triggers-finalize",
        "otel": "triggers-otel",
        "retry": "triggers-retry",
        "structlog": "triggers-structlog",
    },
    "triggers.storages": {
        "cache": "triggers-django",
        "django": "triggers-django",
        "postgres": "triggers-postgres",
        "redis": "triggers-redis",
    },
    "triggers.runners": {"celery": "triggers-celery", "django": "triggers-django"},
    "triggers.test_places": {
        "celery": "triggers-celery",
        "postgres": "triggers-postgres",
        "redis": "triggers-redis",
    },
    "triggers.commands": {"web": "triggers-web", "webhook": "triggers-web"},
}
"""Group → name of an entry point → distribution to install, for the plugins of the project.
Those of their directives: `configuration.PLUGIN_DIRECTIVES`."""

_REGISTRY: Final = "phx-class-registry"
_SAME_IMPORT_NAME: Final = "class-registry"


@dataclass(frozen=True, order=True)
class Provider:
    """One entry point: a name, where its object is, and which distribution says so."""

    name: str
    path: str
    """``module`` or ``module:attribute``."""
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}".strip()

    def load(self) -> Any:
        """Import the object; raises whatever its modules raise."""
        return load_path(self.path)


def find_providers(group: str) -> list[Provider]:
    """The entry points of a group, sorted.

    Reads the metadata of every installed distribution, some milliseconds in all; imports nothing.

    Example::

        find_providers("triggers.storages")
    """
    return sorted({_provider(point) for point in _entry_points(group)})


def load_path(path: str) -> Any:
    """Import ``module`` or ``module:attribute``; raises whatever its modules raise."""
    module, _, attribute = path.partition(":")
    loaded: Any = import_module(module)
    for part in attribute.split(".") if attribute else ():
        loaded = getattr(loaded, part)
    return loaded


def loads_badly(error: BaseException) -> bool:
    """Whether an exception says that foreign code cannot be imported or asked: all but Ctrl-C."""
    return not isinstance(error, KeyboardInterrupt)


def class_registry_error(error: ImportError) -> ImportError:
    """What to raise when class-registry cannot be imported: two distributions own its name."""
    try:
        other = f"{_SAME_IMPORT_NAME} {version(_SAME_IMPORT_NAME)} is installed, too, and has"
    except PackageNotFoundError:
        other = f"the distribution {_SAME_IMPORT_NAME}, if it was installed or removed here, has"
    return ImportError(
        f"the package class_registry of the distribution {_REGISTRY} cannot be used ({error})."
        f" {other} the same import name, and each overwrites the other's files: python -m pip"
        f" uninstall -y {_SAME_IMPORT_NAME} {_REGISTRY} && python -m pip install {_REGISTRY}",
        name=error.name,
        path=error.path,
    )


def _entry_points(group: str) -> list[EntryPoint]:
    try:
        return list(entry_points(group=group))
    except Exception:  # in the metadata of any distribution: the others must not suffer from it
        pass
    found: list[EntryPoint] = []
    seen: set[str] = set()
    for distribution in distributions():
        name = "an unnamed distribution"
        try:
            name = distribution.metadata["Name"] or name
            if name not in seen:
                found += [each for each in distribution.entry_points if each.group == group]
            seen.add(name)
        except Exception as error:
            logger.warning(
                "the metadata of %s cannot be read, so that what it offers is left out: %s."
                " Install it again, or remove it",
                name,
                error_text(error),
            )
    return found


def _provider(point: EntryPoint) -> Provider:
    # What follows the attribute, in brackets, are extras: obsolete, and never part of the path.
    path = re.sub(r"\s", "", point.value.partition("[")[0]).rstrip(":")
    name = _metadata(point, "Name") or "an unnamed distribution"
    return Provider(point.name, path, name, _metadata(point, "Version"))


def _metadata(point: EntryPoint, field: str) -> str:
    try:
        values = point.dist.metadata.get_all(field, []) if point.dist else []
    except Exception:  # no metadata file: a half-removed installation must not stop the others
        values = []
    return str(values[0]) if values else ""
