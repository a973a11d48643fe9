"""Where settings come from besides code: environment, a settings module, pyproject.toml."""

from __future__ import annotations

import logging
import os
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from triggers_core.configuration import did_you_mean
from triggers_core.exceptions import InvalidSetting
from triggers_core.names import short_repr
from triggers_core.providers import error_text

logger = logging.getLogger(__name__)

PREFIX: Final = "TRIGGER_"
MODULE_VARIABLE: Final = "TRIGGERS_SETTINGS_MODULE"
"""The environment variable that names the settings module."""


class Found(NamedTuple):
    """A value as a source holds it, not checked yet."""

    value: Any
    origin: str
    """Where it stands, in words."""
    text: bool = False
    """Whether it is a text that may stand for something structured."""


class Source(Protocol):
    """A place that settings are read from."""

    def read(self, known: Collection[str]) -> Mapping[str, Found]:
        """The settings that stand there, by their full names.

        :param known: the names that there are.
        :raises InvalidSetting: the place cannot be read, or holds an unknown name.
        """
        ...


@dataclass(frozen=True)
class EnvironmentSource:
    """Environment variables of the settings' names. Unknown ones may belong to others: a warning.

    :param environ: in place of the process's own.
    """

    environ: Mapping[str, str] | None = None

    def read(self, known: Collection[str]) -> Mapping[str, Found]:
        environ = os.environ if self.environ is None else self.environ
        found = {}
        for name in sorted(environ):
            if name in known:
                found[name] = Found(environ[name], f"environment variable {name}", text=True)
            elif name.startswith(PREFIX):
                logger.warning("environment variable %s", unknown_setting(name, known))
        return found


@dataclass(frozen=True)
class ModuleSource:
    """The module that the environment variable `TRIGGERS_SETTINGS_MODULE` names.

    :param environ: in place of the process's own.
    """

    environ: Mapping[str, str] | None = None

    def read(self, known: Collection[str]) -> Mapping[str, Found]:
        environ = os.environ if self.environ is None else self.environ
        path = environ.get(MODULE_VARIABLE, "").strip()
        if not path:
            return {}
        origin = f"settings module {path}"
        try:
            module = import_module(path)
        except Exception as error:
            raise InvalidSetting(
                f"{origin} (environment variable {MODULE_VARIABLE}) cannot be imported:"
                f" {error_text(error)}"
            ) from error
        values = {name: each for name, each in vars(module).items() if name.startswith(PREFIX)}
        for name in values:
            if name not in known:
                raise InvalidSetting(f"{origin}: {unknown_setting(name, known)}")
        return {name: Found(value, origin) for name, value in values.items()}


@dataclass(frozen=True)
class PyprojectSource:
    """The table ``[tool.triggers]`` of the nearest pyproject.toml, upwards from a folder.

    Keys are the settings' names, or those in lower case without the prefix: ``storage_type``.

    :param start: the folder; the current one when not given.
    """

    start: str | os.PathLike[str] | None = None

    def read(self, known: Collection[str]) -> Mapping[str, Found]:
        file = self._nearest()
        if file is None:
            return {}
        origin = f"pyproject.toml [tool.triggers] in {file.parent}"
        try:
            with file.open("rb") as opened:
                tools = tomllib.load(opened).get("tool", {})
        except (OSError, ValueError) as error:
            raise InvalidSetting(f"{file} cannot be read: {error}") from error
        table = tools.get("triggers", {}) if isinstance(tools, dict) else {}
        if not isinstance(table, dict):
            raise InvalidSetting(f"{origin}: expected a table, got {short_repr(table)}")
        found: dict[str, Found] = {}
        for key, value in table.items():
            name = key if key.startswith(PREFIX) else PREFIX + key.upper().replace("-", "_")
            if name not in known:
                short = [each.removeprefix(PREFIX).lower() for each in known]
                raise InvalidSetting(
                    f"{origin}: {unknown_setting(key, known if key == name else short)}"
                )
            if name in found:
                raise InvalidSetting(f"{origin}: {name} is set twice, once as {key!r}: remove one")
            found[name] = Found(value, origin)
        return found

    def _nearest(self) -> Path | None:
        try:
            start = Path(self.start or ".").resolve()
        except OSError:  # the current folder has been deleted
            return None
        for folder in (start, *start.parents):
            file = folder / "pyproject.toml"
            if file.is_file():
                return file
        return None


def standard_sources() -> tuple[Source, ...]:
    """The sources of an application that is not isolated; the first one that has a value wins."""
    return EnvironmentSource(), ModuleSource(), PyprojectSource()


def unknown_setting(name: str, known: Collection[str]) -> str:
    """What to say about a setting that does not exist."""
    return f"{name}: there is no such setting{did_you_mean(name, known)}"
