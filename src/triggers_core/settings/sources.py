"""Where settings come from besides code: environment, a settings module, pyproject.toml."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Collection, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

from triggers_core.exceptions import InvalidSetting
from triggers_core.redaction import error_text, mask_url
from triggers_core.texts import did_you_mean, short_repr

PREFIX: Final = "TRIGGER_"
MODULE_VARIABLE: Final = "TRIGGERS_SETTINGS_MODULE"
"""The environment variable that names the settings module."""
VARIABLES: Final = (MODULE_VARIABLE, "TRIGGERS_APP")
"""Environment variables of the project that are no settings."""
PROJECT: Final = "pyproject.toml [tool.triggers] in "
"""What the origin of a setting of a pyproject.toml begins with; its folder follows."""

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
    folder: Path | None = None
    """What relative paths in it are relative to; None: the current folder, whichever that is."""


class Source:
    """A place that settings are read from."""

    reads_django: ClassVar[bool] = False
    """Whether it reads Django's settings, so that nobody has to be warned that nobody does."""

    def read(self, known: Collection[str]) -> Mapping[str, Found]:
        """The settings that stand there, by their full names.

        :param known: the names that there are.
        :raises InvalidSetting: the place cannot be read, or holds an unknown name.
        """
        raise NotImplementedError

    def defaults(self) -> Mapping[str, Found]:
        """Values for settings that stand in no source at all, in place of the project's own ones.

        Example::

            {"TRIGGER_STORAGE_TYPE": Found("django", "default in a Django project")}
        """
        return {}

    def project(self) -> Path | None:
        """The folder of the project whose settings these are; None when the source knows of none.

        A storage's own default path is relative to it.

        :raises InvalidSetting: the place cannot be read.
        """
        return None

    def problems(self, known: Collection[str], taken: Collection[str]) -> list[str]:
        """What stands there and is read by nobody, though it looks like a setting: warnings.

        :param taken: the names that have a value in any source.
        """
        return []


@dataclass(frozen=True)
class EnvironmentSource(Source):
    """Environment variables of the settings' names. Unknown ones are no error: they may be others'.

    :param environ: in place of the process's own.
    """

    environ: Mapping[str, str] | None = None

    @property
    def _environ(self) -> Mapping[str, str]:
        return os.environ if self.environ is None else self.environ

    def read(self, known: Collection[str]) -> Mapping[str, Found]:
        return {
            name: Found(self._environ[name], f"environment variable {name}", text=True)
            for name in sorted(self._environ)
            if name in known
        }

    def problems(self, known: Collection[str], taken: Collection[str]) -> list[str]:
        meant = (*known, *VARIABLES)
        return [
            f"environment variable {unknown_setting(name, meant)}"
            for name in sorted(self._environ)
            if name not in meant and (name.startswith(PREFIX) or nearly(name, meant))
        ]


@dataclass(frozen=True)
class ModuleSource(EnvironmentSource):
    """The module that the environment variable `TRIGGERS_SETTINGS_MODULE` names."""

    @property
    def _path(self) -> str:
        return self._environ.get(MODULE_VARIABLE, "").strip()

    def read(self, known: Collection[str]) -> Mapping[str, Found]:
        if not self._path:
            return {}
        origin = f"settings module {self._path}"
        try:
            module = import_module(self._path)
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
        if not self._path:
            if any(each.reads_django for each in _added):
                return []
            return _unread_in_django(self._environ, known, taken)
        return [
            f"settings module {self._path}: {unknown_setting(name, known)}"
            for name in sorted(dir(sys.modules.get(self._path)))
            if name not in known and not name.startswith(PREFIX) and nearly(name, known)
        ]


@dataclass(frozen=True)
class PyprojectSource(Source):
    """The table ``[tool.triggers]`` of the nearest pyproject.toml, upwards from a folder.

    Keys are the settings' names, or those in lower case without the prefix: ``storage_type``.
    Relative paths are relative to the file's folder: whoever finds it from a folder below means
    the same files as those who are beside it. The option `path` of the storage is made absolute
    here; of other options only those who take them know which are paths.

    :param start: the folder; the current one when not given.
    """

    start: str | os.PathLike[str] | None = None

    def read(self, known: Collection[str]) -> Mapping[str, Found]:
        folder, _, tools = self._document()
        origin = f"{PROJECT}{folder}"
        table = deepcopy(tools.get("triggers", {}))
        if not isinstance(table, dict):
            raise InvalidSetting(f"{origin}: expected a table, got {short_repr(table)}")
        found: dict[str, Found] = {}
        for key, value in table.items():
            name = _full_name(key)
            if name not in known:
                short = [each.removeprefix(PREFIX).lower() for each in known]
                names = known if key == name or nearly(key, known) else short
                raise InvalidSetting(f"{origin}: {unknown_setting(key, names)}")
            if name in found:
                raise InvalidSetting(f"{origin}: {name} is set twice, once as {key!r}: remove one")
            if name == "TRIGGER_STORAGE_OPTIONS":
                value = _with_absolute_path(value, folder)
            found[name] = Found(value, origin, folder=folder)
        return found

    def project(self) -> Path | None:
        folder, _, tools = self._document()
        return folder if "triggers" in tools else None

    def problems(self, known: Collection[str], taken: Collection[str]) -> list[str]:
        folder, document, tools = self._document()
        tables = {f"tool.{name}": tools.get(name) for name in _TABLES}
        tables["triggers"] = document.get("triggers")
        return [
            f"pyproject.toml [{name}] in {folder}: nobody reads this table: did you mean"
            " [tool.triggers]?"
            for name, table in tables.items()
            if isinstance(table, dict) and any(_full_name(key) in known for key in table)
        ]

    def _document(self) -> tuple[Path, dict[str, Any], dict[str, Any]]:
        """The folder of the nearest file, what it holds, and its table ``[tool]``."""
        try:
            start = Path(self.start or ".").resolve()
        except OSError:  # the current folder has been deleted
            return Path(), {}, {}
        for folder in (start, *start.parents):
            file = folder / "pyproject.toml"
            if not file.is_file():
                continue
            try:
                document = _parsed(file.read_text("utf-8"))
            except (OSError, ValueError, RecursionError) as error:
                problem = mask_url(str(error), size=500)
                raise InvalidSetting(f"{file} cannot be read: {problem}") from error
            tools = document.get("tool")
            return folder, document, tools if isinstance(tools, dict) else {}
        return start, {}, {}


_added: list[Source] = []


def standard_sources() -> tuple[Source, ...]:
    """The sources of an application that is not isolated; the first one that has a value wins.

    The environment comes first, then what plugins have added (the last addition first), then the
    settings module and pyproject.toml.
    """
    return EnvironmentSource(), *reversed(_added), ModuleSource(), PyprojectSource()


def add_source(source: Source) -> None:
    """Let every application that is not isolated read a further source, from now on.

    For a framework that has settings of its own: its plugin adds a source as soon as these can be
    read, then calls `Application.settings_changed` of the default application, for whatever had
    been read before. The same source again is no error.

    Example::

        add_source(DjangoSource())
        default_application.settings_changed()
    """
    if source not in _added:
        _added.append(source)


def remove_source(source: Source) -> None:
    """Take back what `add_source` has added, if it has."""
    if source in _added:
        _added.remove(source)


def unknown_setting(name: str, known: Collection[str]) -> str:
    """What to say about a setting that does not exist."""
    meant = nearly(name, known)
    hint = f": did you mean {meant!r}?" if meant else did_you_mean(name, known)
    return f"{name}: there is no such setting{hint}"


@lru_cache(maxsize=4)
def _parsed(text: str) -> dict[str, Any]:
    """What a TOML file holds, to be read and not changed. Each source is asked several things."""
    return tomllib.loads(text)  # 5 ms for a pyproject.toml of 300 lines


def _with_absolute_path(options: Any, folder: Path) -> Any:
    """Options of a storage, their `path` taken as relative to a folder."""
    path = options.get("path") if isinstance(options, dict) else None
    if not isinstance(path, str) or path in ("", ":memory:"):  # the storage says what is wrong
        return options
    return {**options, "path": str(folder / path)}


def _full_name(key: str) -> str:
    return key if key.startswith(PREFIX) else PREFIX + key.upper().replace("-", "_")


def nearly(name: str, known: Iterable[str]) -> str | None:
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
        settings: Any = conf.settings if conf and conf.settings.configured else None
        names = dir(settings if settings is not None else sys.modules.get(module))
        unread = [each for each in names if nearly(each, known) or each in known]
    except Exception:  # of whoever's settings they are
        return []
    listed = ", ".join(sorted(each for each in unread if each not in taken))
    return [
        f"{listed} in Django's settings: nobody reads them there: install triggers-django and add"
        f" 'triggers_django' to INSTALLED_APPS, set the environment variable"
        f" {MODULE_VARIABLE}={module or 'the module'}, or hand them to triggers_core.configure()"
    ] * bool(listed)
