"""Settings: what there is, what is accepted, and where each value came from."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any, Final, Generic, Self, TypeVar, overload
from uuid import UUID

import msgspec

from triggers_core.engine.configuration import Configuration
from triggers_core.exceptions import InvalidSetting
from triggers_core.limits import Limits, Timing
from triggers_core.redaction import mask, mask_url
from triggers_core.settings import checks
from triggers_core.settings.sources import Found, Source, standard_sources, unknown_setting
from triggers_core.texts import short_repr

logger: logging.Logger = logging.getLogger(__name__)

T = TypeVar("T")

CODE: Final = "configure()"


class SettingInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One setting as people may see it: secrets are masked."""

    name: str
    value: Any
    """Plain data; objects in a plugin list are shown as ``module:Type``."""
    origin: str
    """For example ``environment variable TRIGGER_RUNNER`` or ``default``."""


class Setting(Generic[T]):
    """One setting, as an attribute of `Settings`.

    :param default: its value when no source has one; goes through `check` as well.
    :param check: returns the value as it is used, or raises `ValueError` with what it expected.
    :param read_text: turns the text of an environment variable into a value.
    """

    def __init__(
        self,
        default: Any,
        check: Callable[[object], T],
        read_text: Callable[[str], Any] = checks.json_text,
    ) -> None:
        self.default: Found = Found(default, "default")
        self._check, self._read_text = check, read_text

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: Settings, owner: type) -> T: ...
    def __get__(self, instance: Settings | None, owner: type) -> T | Self:
        return self if instance is None else instance.value_of(self)

    def __set__(self, instance: Settings, value: object) -> None:
        raise AttributeError(f"settings are set with configure({self.name}=...)")

    def checked(self, found: Found) -> T:
        """The value as it is used.

        :raises InvalidSetting: names setting, source and value.
        """
        value, shown = found.value, True
        try:
            if found.text:
                # A text that cannot be read cannot be masked by key either: it is not shown.
                shown = self._read_text is not checks.json_text
                value, shown = self._read_text(value), True
            return self._check(value)
        except ValueError as error:
            got = f", got {short_repr(_plain(value))}" if shown else ""
            raise InvalidSetting(f"{self.name} ({found.origin}): {error}{got}") from None


class Settings:
    """The settings of one application, read on first use.

    The first source that has a value wins: `configure` in code, environment variables of the same
    names, what plugins have added (`sources.add_source`: Django's settings), the settings module
    that `TRIGGERS_SETTINGS_MODULE` names, ``[tool.triggers]`` in the nearest pyproject.toml, the
    defaults. In the environment, lists are JSON or have commas between
    their values, and everything else that is no plain text is JSON. Relative paths of a
    pyproject.toml are relative to its folder, all others to the current one.

    :param sources: in place of all of these but code and defaults; an empty one reads nothing.

    Example::

        settings = Settings()
        settings.configure(TRIGGER_STORAGE_OPTIONS={"path": "shop.db"})
        settings.TRIGGER_RUNNER, settings.origin("TRIGGER_RUNNER")  # 'threading', 'default'
    """

    TRIGGER_MANAGER_TYPE = Setting("default", checks.key, str)
    """Key of the manager's class in `trigger_managers`."""
    TRIGGER_STORAGE_TYPE = Setting("sqlite", checks.key, str)
    """Key of the storage in `storage_backends`."""
    TRIGGER_STORAGE_OPTIONS = Setting({}, checks.options)
    """Options of the storage, such as ``{"path": "shop.db"}``."""
    TRIGGER_RUNNER = Setting("threading", checks.key, str)
    """Key of the default runner in `task_runners`."""
    TRIGGER_RUNNER_OPTIONS = Setting({}, checks.options)
    """Options of that runner."""
    TRIGGER_PLUGINS = Setting(None, checks.plugins, checks.list_text)
    """The plugin list; None: every installed plugin."""
    TRIGGER_AUTOLOAD = Setting(True, checks.boolean, checks.boolean_text)
    """Whether plugins that are not listed by name may load."""
    TRIGGER_IMPORTS = Setting((), checks.modules, checks.list_text)
    """Modules that define tasks."""
    TRIGGER_CONFIGURATION = Setting(None, checks.configuration)
    """The tasks of a session that has none of its own."""
    TRIGGER_LIMITS = Setting({}, checks.struct(Limits))
    """Fields of `triggers_core.limits.Limits`."""
    TRIGGER_TIMING = Setting({}, checks.struct(Timing))
    """Fields of `triggers_core.limits.Timing`."""
    TRIGGER_PLUGIN_OPTIONS = Setting({}, checks.options_by_plugin)
    """Plugin → its options, such as ``{"retry": {"times": 5}}``."""

    def __init__(self, sources: Sequence[Source] | None = None) -> None:
        self._own_sources = None if sources is None else tuple(sources)
        self._code: dict[str, Found] = {}
        self._read: dict[str, Found] | None = None
        self._project: Path | None = None
        self._values: dict[str, Any] = {}
        self._problems: tuple[str, ...] = ()
        self._lock = threading.RLock()

    @classmethod
    def isolated(cls, **values: Any) -> Self:
        """Settings that read nothing from outside: for tests, and for several tenants.

        :raises InvalidSetting: an unknown name or an impossible value.

        Example::

            Settings.isolated(TRIGGER_STORAGE_TYPE="memory", TRIGGER_PLUGINS=[])
        """
        settings = cls(sources=())
        settings.configure(**values)
        return settings

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names of all settings."""
        return tuple(name for name, each in vars(Settings).items() if isinstance(each, Setting))

    def configure(self, **values: Any) -> None:
        """Set settings in code: they win over every other source, and later calls over earlier.

        :raises InvalidSetting: an unknown name or an impossible value. Nothing has been set then.
        """
        given = {}
        for name, value in values.items():
            if name not in self.names():
                raise InvalidSetting(f"{CODE}: {unknown_setting(name, self.names())}")
            given[name] = Found(getattr(Settings, name).checked(Found(value, CODE)), CODE)
        with self._lock:
            self._code.update(given)
            self._values = {}

    def reload(self) -> None:
        """Read the other sources anew, on next use; what `configure` set stays."""
        with self._lock:
            self._read = None
            self._values = {}

    def origin(self, name: str) -> str:
        """Where a setting's value comes from, in words.

        :raises InvalidSetting: there is no such setting.
        """
        return self._named(name).origin

    def folder_of(self, name: str) -> Path | None:
        """What relative paths in a setting are relative to; None: the current folder.

        For those who take a path among their options. The option `path` of the storage is absolute
        already, if it comes from a pyproject.toml.

        :raises InvalidSetting: there is no such setting, or a source cannot be read.

        Example::

            folder = app.settings.folder_of("TRIGGER_PLUGIN_OPTIONS") or Path()
            rates = (folder / options.rates).read_text()
        """
        return self._named(name).folder

    @property
    def project(self) -> Path | None:
        """The folder of the pyproject.toml with ``[tool.triggers]``; None when there is none.

        A storage's own default path is relative to it, else to the current folder.

        :raises InvalidSetting: a source cannot be read.
        """
        self._all_read()
        return self._project

    def _named(self, name: str) -> Found:
        if name not in self.names():
            raise InvalidSetting(unknown_setting(name, self.names()))
        return self._found(getattr(Settings, name))

    def describe(self) -> list[SettingInfo]:
        """Every setting with its value and origin, secrets masked.

        :raises InvalidSetting: a source cannot be read, or holds something impossible.
        """
        return [
            SettingInfo(name=name, value=_plain(getattr(self, name)), origin=self.origin(name))
            for name in self.names()
        ]

    def problems(self) -> tuple[str, ...]:
        """What stands in a source and is read by nobody, though it looks like a setting.

        Each has been logged as a warning, once.

        :raises InvalidSetting: a source cannot be read.
        """
        self._all_read()
        return self._problems

    @property
    def limits(self) -> Limits:
        """`TRIGGER_LIMITS`, for short."""
        return self.TRIGGER_LIMITS

    @property
    def timing(self) -> Timing:
        """`TRIGGER_TIMING`, for short."""
        return self.TRIGGER_TIMING

    def value_of(self, setting: Setting[T]) -> T:
        """The checked value of a setting; the attributes are made of it."""
        try:
            value: T = self._values[setting.name]
        except KeyError:
            with self._lock:
                value = self._values[setting.name] = setting.checked(self._found(setting))
        return value

    def _found(self, setting: Setting[Any]) -> Found:
        in_code = self._code.get(setting.name)
        return in_code or self._all_read().get(setting.name, setting.default)

    def _all_read(self) -> dict[str, Found]:
        with self._lock:
            if self._read is None:
                sources = standard_sources() if self._own_sources is None else self._own_sources
                read: dict[str, Found] = {}
                problems: dict[str, None] = {}
                for source in reversed(sources):
                    read.update(source.defaults())
                for source in reversed(sources):
                    read.update(source.read(self.names()))
                for source in sources:
                    found = source.problems(self.names(), read.keys() | self._code.keys())
                    problems.update(dict.fromkeys(found))
                for problem in problems:
                    if problem not in self._problems:  # else it was logged before a `reload`
                        logger.warning("%s", problem)
                folders = (source.project() for source in sources)
                self._project = next((each for each in folders if each is not None), None)
                self._read, self._problems = read, tuple(problems)
            return self._read


def _plain(value: object) -> Any:
    """A value as plain data, secrets masked."""
    if isinstance(value, msgspec.Struct):
        value = msgspec.to_builtins(value)
    elif isinstance(value, Configuration):
        value = value.as_dict()
    return _named(mask(value))


def _named(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _named(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_named(each) for each in value]
    if isinstance(value, Enum):
        return _named(value.value)
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, PurePath | date | timedelta | Decimal | UUID):  # as in options
        return mask_url(str(value))
    if isinstance(value, ModuleType):
        return value.__name__
    kind = value if isinstance(value, type) or hasattr(value, "__qualname__") else type(value)
    return f"{kind.__module__}:{kind.__qualname__}"
