"""Managers, storages and runners by key, from code, from this distribution and from any other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, overload

import msgspec

from triggers_core.entry_points import (
    KNOWN_DISTRIBUTIONS,
    Provider,
    class_registry_error,
    find_providers,
    load_path,
    loads_badly,
)
from triggers_core.exceptions import DuplicateKey, PluginError, UnknownKey
from triggers_core.redaction import error_text, mask
from triggers_core.texts import did_you_mean, short_repr

try:
    from class_registry import ClassRegistry, RegistryKeyError
except ImportError as error:
    raise class_registry_error(error) from error

if TYPE_CHECKING:
    from triggers_core.manager import TriggerManager
    from triggers_core.runners.base import TaskRunner
    from triggers_core.storages.session import SessionStorage

T = TypeVar("T")
C = TypeVar("C", bound=type)

CORE: Final = "triggers-core"


class RegistryItem(msgspec.Struct, frozen=True, kw_only=True):
    """One provider of one key; `error` says why it cannot be used, as far as that is known."""

    key: str
    path: str
    distribution: str
    """Empty for a class that was registered in code."""
    version: str = ""
    error: str = ""


class Registry(Generic[T]):
    """Classes by key, in front of a class-registry: they are imported one by one, when used.

    Making one costs nothing; the installed distributions are looked at on first use, once (until
    `refresh`). A provider that fails to import fails for its key alone, each time it is asked for.

    :param group: the entry-point group in which distributions name their classes.
    :param built_in: key → ``module:attribute`` of the core's own classes; they are there even when
        the core runs from a source tree, without metadata.
    :param base: ``module:attribute`` of the class from which every class has to derive.

    Example::

        storage_backends.get("sqlite", "order:1", path="shop.db")

        @storage_backends.register("s3")
        class S3Storage(SessionStorage): ...
    """

    def __init__(self, group: str, built_in: Mapping[str, str], base: str | None = None) -> None:
        self.group = group
        self.kind: str = group.rpartition(".")[2].removesuffix("s")
        """For messages: manager, storage or runner."""
        self._base = base
        self._built_in = {key: Provider(key, path, CORE, "") for key, path in built_in.items()}
        self._registered: ClassRegistry[T] = ClassRegistry()
        self.refresh()

    def __repr__(self) -> str:
        return f"<registry of {self.kind}s, {self.group!r}>"

    def __contains__(self, key: object) -> bool:
        return key in set(self)

    def __iter__(self) -> Iterator[str]:
        """Every key, sorted; nothing is imported."""
        return iter(sorted({*map(str, self._registered), *self._found()}))

    keys = __iter__

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def get(self, key: str, *arguments: Any, **options: Any) -> T:
        """An instance of the class of a key, made with the arguments; raises as `get_class`."""
        return self.get_class(key)(*arguments, **options)

    def get_class(self, key: str) -> type[T]:
        """The class of a key.

        :raises UnknownKey: there is none; the message says what to install, or what is there.
        :raises DuplicateKey: several distributions claim the key; names them.
        :raises PluginError: its provider cannot be imported, or is no fitting class.
        """
        for known in (self._registered, self._imported):
            if key in known:
                return known.get_class(key)
        imported = self._import(key)
        self._imported.register(key)(imported)
        return imported

    @overload
    def register(self, key: str) -> Callable[[C], C]: ...
    @overload
    def register(self, key: str, cls: C) -> C: ...
    def register(self, key: str, cls: C | None = None) -> C | Callable[[C], C]:
        """Register a class in code, also as a decorator; it wins over installed ones of its key.

        :returns: the class.
        :raises DuplicateKey: another class has been registered under the key; `unregister` it.
        :raises PluginError: `cls` is not a class, or `key` not a non-empty str.
        """
        if not isinstance(key, str) or not key:
            raise PluginError(
                f"{self.kind}s are registered under a key: register('key') or"
                f" register('key', Class), got {short_repr(key)}"
            )
        if cls is None:
            return lambda decorated: self.register(key, decorated)
        if not isinstance(cls, type):
            raise PluginError(f"{self.kind} {key!r}: expected a class, got {short_repr(cls)}")
        other = self._registered.get_class(key) if key in self._registered else cls
        if _path(other) != _path(cls):
            raise DuplicateKey(
                f"{self.kind} {key!r}: registered for {_path(other)} and now for {_path(cls)};"
                f" choose another key, or unregister({key!r}) first"
            )
        self._registered.register(key)(cls)
        return cls

    def unregister(self, key: str) -> type[T]:
        """Undo `register`; an installed class of the key comes back into sight.

        :returns: the class.
        :raises UnknownKey: nothing was registered in code under the key.
        """
        try:
            return self._registered.unregister(key)
        except RegistryKeyError:
            raise UnknownKey(
                f"{self.kind} {key!r} was not registered in code, so it cannot be unregistered"
            ) from None

    def items(self) -> list[RegistryItem]:
        """Every provider of every key, by key; nothing is imported."""
        items = [
            RegistryItem(key=str(key), path=_path(self._registered.get_class(key)), distribution="")
            for key in self._registered
        ]
        for key, providers in self._found().items():
            for each in providers:
                others = " and by ".join(str(other) for other in providers if other is not each)
                error = f"also provided by {others}" if others else ""
                if key in self._registered:
                    error = "a class registered in code has this key"
                item = {"distribution": each.distribution, "version": each.version, "error": error}
                items.append(RegistryItem(key=key, path=each.path, **item))
        return sorted(items, key=lambda item: (item.key, item.distribution))

    def refresh(self) -> None:
        """Look at the installed distributions anew, on next use; what code registered stays."""
        self._providers: dict[str, list[Provider]] | None = None
        self._imported: ClassRegistry[T] = ClassRegistry()

    def _found(self) -> dict[str, list[Provider]]:
        if self._providers is None:
            found = {key: [provider] for key, provider in self._built_in.items()}
            for provider in find_providers(self.group):
                # The core's own metadata repeats what is built in.
                if not (provider.name in self._built_in and provider.distribution == CORE):
                    found.setdefault(provider.name, []).append(provider)
            self._providers = found
        return self._providers

    def _import(self, key: str) -> type[T]:
        providers = self._found().get(key, [])
        if len(providers) > 1:
            raise DuplicateKey(
                f"{self.kind} {key!r} is provided by {' and by '.join(map(str, providers))}:"
                " uninstall one of them, or register the class that you mean in code"
            )
        for provider in providers:
            place = f"{self.kind} {key!r} ({provider}, {provider.path})"
            try:
                loaded = provider.load()
            except BaseException as error:
                if not loads_badly(error):
                    raise
                raise PluginError(f"{place} cannot be loaded: {error_text(error)}") from error
            base: Any = load_path(self._base) if self._base else object
            if not isinstance(loaded, type):
                raise PluginError(f"{place} is not a class but {short_repr(loaded)}")
            if not issubclass(loaded, base):
                raise PluginError(f"{place} does not derive from {_path(base)}")
            fitting: type[T] = loaded
            return fitting
        raise self._unknown(key)

    def _unknown(self, key: object) -> UnknownKey:
        installable = KNOWN_DISTRIBUTIONS.get(self.group, {})
        if key in installable:
            install = f"python -m pip install {installable[str(key)]}"
            return UnknownKey(f"{self.kind} {key!r} is not installed: {install}")
        hint = did_you_mean(key, {*self, *installable})
        return UnknownKey(
            f"there is no {self.kind} {short_repr(mask(key))}{hint}"
            f"{'' if hint.endswith('?') else '.'} Install the distribution that provides it,"
            " or register its class in code"
        )


def _path(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


_DEFAULT_APPLICATION: Final = "triggers_core.application:default_application"


class StorageRegistry(Registry["SessionStorage"]):
    """Storages by key. One without options is made with those of the settings.

    ``storage_backends.get(key, uid)`` opens what the default application opens, if `key` is its
    `TRIGGER_STORAGE_TYPE`: two ways to one session must not lead to two stores.
    """

    def get(self, key: str, *arguments: Any, **options: Any) -> SessionStorage:
        """A session's storage.

        :param arguments: the uid; whatever else the class takes.
        :param options: the storage's options. When there are none, and `key` is the setting
            `TRIGGER_STORAGE_TYPE` of the default application, its `TRIGGER_STORAGE_OPTIONS`.
        """
        if len(arguments) == 1 and not options:
            app = load_path(_DEFAULT_APPLICATION)  # found like the classes: it is built on them
            if key == app.settings.TRIGGER_STORAGE_TYPE:
                return self.get_class(key).on(app.store, arguments[0])
        return super().get(key, *arguments, **options)


trigger_managers: Registry[TriggerManager] = Registry(
    "triggers.managers",
    {"default": "triggers_core.manager:TriggerManager"},
    base="triggers_core.manager:TriggerManager",
)
"""Classes of managers; the setting `TRIGGER_MANAGER_TYPE` is a key of it."""

storage_backends: StorageRegistry = StorageRegistry(
    "triggers.storages",
    {
        "memory": "triggers_core.storages.memory:MemoryStorage",
        "sqlite": "triggers_core.storages.sqlite:SqliteStorage",
    },
    base="triggers_core.storages.session:SessionStorage",
)
"""Classes of storages; the setting `TRIGGER_STORAGE_TYPE` is a key of it."""

task_runners: Registry[TaskRunner] = Registry(
    "triggers.runners",
    {
        "threading": "triggers_core.runners.threads:ThreadingTaskRunner",
        "manual": "triggers_core.runners.manual:ManualRunner",
    },
    base="triggers_core.runners.base:TaskRunner",
)
"""Classes of runners; the setting `TRIGGER_RUNNER` and the directive `using` are keys of it."""
