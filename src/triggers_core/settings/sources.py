"""Where settings come from besides code: environment, a settings module, pyproject.toml."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple, Protocol

from triggers_core.exceptions import InvalidSetting
from triggers_core.redaction import error_text, mask_url
from triggers_core.texts import did_you_mean, short_repr

PREFIX: Final = "TRIGGER_"
MODULE_VARIABLE: Final = "TRIGGERS_SETTINGS_MODULE"
"""The environment variable that names the settings module."""
VARIABLES: Final = (MODULE_VARIABLE, "TRIGGERS_APP")
"""Environment variables of the project that are no settings."""

_NEARLY: Final = re.compile(r"TRIGGERS?_+(\w+)", re.IGNORECASE)
"""What looks like a setting's name."""
_TABLES: Final = ("trigger", "triggers-core", "triggers_core", "Triggers", "Trigger")


class Found(NamedTuple):
    """A value as a source holds it, not checked yet."""

    value: Any
    origin: str
    """Where it stands, in words."""
    text: bool = False
    """Whether it is a text that may stand for something structured."""


class Source(Protocol):
    """A place that settings are read from.

    One with a method ``problems(known, taken)`` is asked, too, for what stands there and is read
    by nobody, though it looks like a setting: texts, each of which is a warning. `taken` holds the
    names that have a value in any source.
    """

    def read(self, known: Collection[str]) -> Mapping[str, Found]:
        """The settings that stand there, by their full names.

        :param known: the names that there are.
        :raises InvalidSetting: the place cannot be read, or holds an unknown name.
        """
        ...


@dataclass(frozen=True)
class EnvironmentSource:
    """Environment variables of the settings' names. Unknown ones are no error: they may be others'.

    :param environ: in place of the process's own.
    """

    environ: Mapping[str, str] | None = None

    def read(self, known: Collection[str]) -> Mapping[str, Found]:
        environ = os.environ if self.environ is None else self.environ
        found = {}
        for name in sorted(environ):
            if name in known:
                found[name] = Found(environ[name], f"environment variable {name}", text=True)
        return found

    def problems(self, known: Collection[str], taken: Collection[str]) -> list[str]:
        environ = os.environ if self.environ is None else self.environ
        meant = (*known, *VARIABLES)
        return [
            f"environment variable {unknown_setting(name, meant)}"
            for name in sorted(environ)
            if name not in meant and (name.startswith(PREFIX) or _nearly(name, meant))
        ]


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
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # sys.exit() too: a script was taken for a module
            raise InvalidSetting(
                f"{origin} (environment variable {MODULE_VARIABLE}) cannot be imported:"
                f" {error_text(error)}"
            ) from error
        values = {name: each for name, each in vars(module).items() if name.startswith(PREFIX)}
        for name in values:
            if name not in known:
                raise InvalidSetting(f"{origin}: {unknown_setting(name, known)}")
        return {name: Found(value, origin) for name, value in values.items()}

    def problems(self, known: Collection[str], taken: Collection[str]) -> list[str]:
        environ = os.environ if self.environ is None else self.environ
        path = environ.get(MODULE_VARIABLE, "").strip()
        if not path:
            return _unread_in_django(environ, known, taken)
        return [
            f"settings module {path}: {unknown_setting(name, known)}"
            for name in sorted(vars(sys.modules.get(path, ModuleType(path))))
            if name not in known and not name.startswith(PREFIX) and _nearly(name, known)
        ]


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
        tools = self._document(file).get("tool", {})
        table = tools.get("triggers", {}) if isinstance(tools, dict) else {}
        if not isinstance(table, dict):
            raise InvalidSetting(f"{origin}: expected a table, got {short_repr(table)}")
        found: dict[str, Found] = {}
        for key, value in table.items():
            name = _full_name(key)
            if name not in known:
                short = [each.removeprefix(PREFIX).lower() for each in known]
                names = known if key == name or _nearly(key, known) else short
                raise InvalidSetting(f"{origin}: {unknown_setting(key, names)}")
            if name in found:
                raise InvalidSetting(f"{origin}: {name} is set twice, once as {key!r}: remove one")
            found[name] = Found(value, origin)
        return found

    def problems(self, known: Collection[str], taken: Collection[str]) -> list[str]:
        file = self._nearest()
        if file is None:
            return []
        document = self._document(file)
        tools = document.get("tool")
        tools = tools if isinstance(tools, dict) else {}
        tables = {f"tool.{name}": tools.get(name) for name in _TABLES}
        tables["triggers"] = document.get("triggers")
        return [
            f"pyproject.toml [{name}] in {file.parent}: nobody reads this table: did you mean"
            " [tool.triggers]?"
            for name, table in tables.items()
            if isinstance(table, dict) and any(_full_name(key) in known for key in table)
        ]

    @staticmethod
    def _document(file: Path) -> dict[str, Any]:
        try:
            with file.open("rb") as opened:
                return tomllib.load(opened)
        except (OSError, ValueError, RecursionError) as error:
            problem = mask_url(str(error), size=500)
            raise InvalidSetting(f"{file} cannot be read: {problem}") from error

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
    meant = _nearly(name, known)
    hint = f": did you mean {meant!r}?" if meant else did_you_mean(name, known)
    return f"{name}: there is no such setting{hint}"


def _full_name(key: str) -> str:
    return key if key.startswith(PREFIX) else PREFIX + key.upper().replace("-", "_")


def _nearly(name: str, known: Iterable[str]) -> str | None:
    """The name that was meant by one that begins like a setting's; None when none is near."""
    found = _NEARLY.fullmatch(name)
    if not found:
        return None
    rests = {each.partition("_")[2]: each for each in known}
    near = get_close_matches(found[1].upper(), rests, n=1, cutoff=0.8)
    return rests[near[0]] if near else None


def _unread_in_django(
    environ: Mapping[str, str], known: Collection[str], taken: Collection[str]
) -> list[str]:
    """Settings among Django's, which nobody reads. Looks only at what has been loaded already."""
    conf = sys.modules.get("django.conf")
    module = environ.get("DJANGO_SETTINGS_MODULE", "").strip()
    try:
        settings: Any = sys.modules.get(module)
        if conf and conf.settings.configured:
            settings = conf.settings
        names = [name for name in dir(settings) if _nearly(name, known) or name in known]
        unread = [name for name in names if name not in taken]
    except Exception:  # of whoever's settings they are
        return []
    if settings is None or not unread:
        return []
    return [
        f"{', '.join(sorted(unread))} in Django's settings: nobody reads them there: set the"
        f" environment variable {MODULE_VARIABLE}={module or 'the module'}, or hand them to"
        " triggers_core.configure()"
    ]
