"""What installed distributions offer through entry points, found without importing any of it."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

logger = logging.getLogger(__name__)

FORMER: Final = "triggers"
"""The distribution of the framework of 2017. It used the same entry-point groups, with classes that
do not fit here; an environment that has both keeps working."""


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


def find_providers(group: str) -> tuple[list[Provider], list[Provider]]:
    """The entry points of a group, sorted, and those that are ignored.

    Reads the metadata of every installed distribution, some milliseconds in all; imports nothing.
    Those of the 2017 distribution are ignored, with a warning in the log.

    Example::

        found, ignored = find_providers("triggers.storages")
    """
    providers = sorted({_provider(point) for point in entry_points(group=group)})
    ignored = [each for each in providers if _normal(each.distribution) == FORMER]
    for each in ignored:
        logger.warning(
            "%s %r is ignored: it belongs to the distribution %s, the framework of 2017, which"
            " does not fit this one. To silence this: python -m pip uninstall %s",
            group,
            each.name,
            each,
            FORMER,
        )
    return [each for each in providers if each not in ignored], ignored


def load_path(path: str) -> Any:
    """Import ``module`` or ``module:attribute``; raises whatever its modules raise."""
    module, _, attribute = path.partition(":")
    loaded: Any = import_module(module)
    for part in attribute.split(".") if attribute else ():
        loaded = getattr(loaded, part)
    return loaded


def error_text(error: BaseException) -> str:
    """An error in one line, for messages: its type and text."""
    return f"{type(error).__name__}: {error}".rstrip(": ")


def _provider(point: EntryPoint) -> Provider:
    # What follows the attribute, in brackets, are extras: obsolete, and never part of the path.
    path = re.sub(r"\s", "", point.value.partition("[")[0]).rstrip(":")
    return Provider(
        point.name,
        path,
        _metadata(point, "Name") or "an unnamed distribution",
        _metadata(point, "Version"),
    )


def _metadata(point: EntryPoint, field: str) -> str:
    try:
        values = point.dist.metadata.get_all(field, []) if point.dist else []
    except Exception:  # no metadata file: a half-removed installation must not stop the others
        values = []
    return str(values[0]) if values else ""


def _normal(distribution: str) -> str:
    """As the packaging specification compares names."""
    return re.sub(r"[-_.]+", "-", distribution).lower()
