"""An application: its settings, plugins, store, runners and tasks. One by default, more at will."""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from triggers_core import tasks as task_module
from triggers_core.attempts import Recovered
from triggers_core.configuration import Configuration, did_you_mean, parse_configuration
from triggers_core.exceptions import TaskNotFound
from triggers_core.hookspecs import hookimpl
from triggers_core.logs import stdlib_logger_context
from triggers_core.messages import Message
from triggers_core.option_checks import with_options
from triggers_core.plugins import Plugins
from triggers_core.protocol import Rules
from triggers_core.registries import storage_backends, task_runners, trigger_managers
from triggers_core.runners.base import TaskRunner
from triggers_core.settings import Settings
from triggers_core.storages.base import Store
from triggers_core.storages.session import SessionStorage
from triggers_core.sweep import recover
from triggers_core.tasks import TaskContext, TriggerTask

if TYPE_CHECKING:
    from triggers_core.manager import TriggerManager

logger = logging.getLogger(__name__)


class Application:
    """Everything that one application needs, built from its settings on first use.

    :param name: travels in messages, so that a worker with several applications finds the right
        one.
    :param settings: where its values come from; by default code, environment, settings module and
        pyproject.toml, in this order.

    Example::

        app = Application("shop", Settings.isolated(TRIGGER_STORAGE_TYPE="memory"))
        app.manager("order:1").fire("paid")
    """

    def __init__(self, name: str = "default", settings: Settings | None = None) -> None:
        self.name = name
        self.settings = settings or Settings()
        self._lock = threading.RLock()
        self._runners: dict[str, TaskRunner] = {}

    def __repr__(self) -> str:
        return f"<Triggers application {self.name!r}>"

    def configure(self, **values: Any) -> None:
        """Set settings in code; they win over every other source.

        :raises InvalidSetting: an unknown name or an impossible value.
        """
        self.settings.configure(**values)
        self.reset()

    def reset(self) -> None:
        """Let go of everything built from the settings; the next use builds it again."""
        with self._lock:
            self.close()
            for built in ("plugins", "store", "storage_class", "_rules", "_imported"):
                self.__dict__.pop(built, None)

    def close(self) -> None:
        """Finish what runs in this process, then close the store."""
        with self._lock:
            runners, self._runners = list(self._runners.values()), {}
        for runner in runners:
            runner.shutdown()
        store = self.__dict__.pop("store", None)
        if store is not None:
            store.close()

    # -- parts ------------------------------------------------------------------------------------

    @cached_property
    def plugins(self) -> Plugins:
        """The plugins, loaded as `TRIGGER_PLUGINS` says."""
        return Plugins(self.settings.TRIGGER_PLUGINS, autoload=self.settings.TRIGGER_AUTOLOAD)

    @cached_property
    def storage_class(self) -> type[SessionStorage]:
        """The class that `TRIGGER_STORAGE_TYPE` names."""
        found: type[SessionStorage] = storage_backends.get_class(self.settings.TRIGGER_STORAGE_TYPE)
        return found

    @cached_property
    def store(self) -> Store:
        """The store of all its sessions."""
        settings = self.settings
        return with_options(
            self.storage_class.open_store,
            options=settings.TRIGGER_STORAGE_OPTIONS,
            setting=f"TRIGGER_STORAGE_OPTIONS ({settings.origin('TRIGGER_STORAGE_OPTIONS')})",
            what=f"storage {settings.TRIGGER_STORAGE_TYPE!r}",
        )

    def storage(self, uid: str) -> SessionStorage:
        """The storage of one session; a `storage_load` hook may answer with another."""
        settings = self.settings
        options = settings.TRIGGER_STORAGE_OPTIONS
        loaded = self.plugins.storage_load(settings.TRIGGER_STORAGE_TYPE, uid, options)
        if loaded is not None:
            return loaded
        return self.storage_class.on(self.store, uid)

    def runner(self, key: str | None = None) -> TaskRunner:
        """The runner of a key, one per application; `TRIGGER_RUNNER` when no key is given."""
        key = key or self.settings.TRIGGER_RUNNER
        with self._lock:
            runner = self._runners.get(key)
            if runner is None:
                options = (
                    self.settings.TRIGGER_RUNNER_OPTIONS
                    if key == self.settings.TRIGGER_RUNNER
                    else {}
                )
                origin = self.settings.origin("TRIGGER_RUNNER_OPTIONS")
                runner = self._runners[key] = with_options(
                    task_runners.get_class(key),
                    self,
                    options=options,
                    setting=f"TRIGGER_RUNNER_OPTIONS ({origin})",
                    what=f"runner {key!r}",
                )
            return runner

    def use_runner(self, runner: TaskRunner, key: str | None = None) -> None:
        """Let a runner that exists already serve a key; `TRIGGER_RUNNER` when no key is given."""
        with self._lock:
            self._runners[key or self.settings.TRIGGER_RUNNER] = runner

    def manager(self, uid: str) -> TriggerManager:
        """The manager of one session, of the class that `TRIGGER_MANAGER_TYPE` names."""
        self.import_tasks()
        manager_class = trigger_managers.get_class(self.settings.TRIGGER_MANAGER_TYPE)
        manager: TriggerManager = manager_class(self.storage(uid), self)
        return manager

    def manager_for(self, message: Message) -> TriggerManager:
        """The manager for a message that a worker received."""
        return self.manager(message.uid)

    # -- rules ------------------------------------------------------------------------------------

    @property
    def rules(self) -> Rules:
        """Limits, timing and plugins, as every change of a session sees them."""
        cached: tuple[int, Rules] | None = self.__dict__.get("_rules")
        if cached is not None and cached[0] == self.plugins.version:
            return cached[1]
        settings, plugins = self.settings, self.plugins
        default = None
        if settings.TRIGGER_CONFIGURATION is not None:
            default = self.parse(settings.TRIGGER_CONFIGURATION)
        rules = Rules(
            limits=settings.limits,
            timing=settings.timing,
            before_commit=plugins.before_commit_hooks(),
            plugins=plugins.names,
            default_configuration=default,
            default_requires=() if default is None else plugins.requires_for(default),
            plugin_options=settings.TRIGGER_PLUGIN_OPTIONS,
        )
        self.__dict__["_rules"] = (plugins.version, rules)
        return rules

    def parse(self, configuration: object) -> Configuration:
        """Check a configuration against the limits and the plugins' directives.

        :raises InvalidConfiguration: names the place and the fix.
        """
        return parse_configuration(configuration, self.settings.limits, self.plugins.directives())

    # -- tasks ------------------------------------------------------------------------------------

    def import_tasks(self) -> None:
        """Import the modules of `TRIGGER_IMPORTS`, once."""
        if self.__dict__.get("_imported"):
            return
        self.__dict__["_imported"] = True
        for module in self.settings.TRIGGER_IMPORTS:
            importlib.import_module(module)

    def resolve_task(self, run: str, using: str | None = None) -> type[TriggerTask]:
        """The task class for a configuration's `run`.

        :raises TaskNotFound: no plugin knows it and no class of that name has been defined here.
        """
        found = self.plugins.resolve_task(run, using)
        if found is None:
            found = task_module.declared.get(run)
        if found is None:
            self.import_tasks()
            found = task_module.declared.get(run)
        if found is None:
            hint = did_you_mean(run, task_module.declared)
            raise TaskNotFound(
                f"no task named {run!r} is defined in this process"
                f"{hint}{'' if hint.endswith('?') else '.'} Import its module, or list the module"
                " in TRIGGER_IMPORTS"
            )
        return found

    def logger_context(
        self, context: TaskContext, logger: logging.Logger | None, extra: Mapping[str, Any]
    ) -> AbstractContextManager[Any]:
        """A plugin's answer to `get_logger_context`, else the standard library's logger."""
        answer = self.plugins.get_logger_context(context, logger, extra)
        return answer if answer is not None else stdlib_logger_context(context, logger, extra)

    # -- the fleet --------------------------------------------------------------------------------

    def recover(self, limit: int = 1_000) -> list[Recovered]:
        """Sweep the store: dispatch, retry or fail what is overdue, in every session."""
        return recover(self.store, self.manager, limit)

    def prune(self, older_than: float, resolved_only: bool = True) -> int:
        """Erase sessions without a change for `older_than` seconds; see `Store.prune`."""
        return self.store.prune(older_than, resolved_only)


default_application = Application()
"""The application of whoever does not make one: configured by `configure` and the environment."""


def configure(**values: Any) -> None:
    """Set settings of the default application in code.

    Example::

        configure(TRIGGER_STORAGE_OPTIONS={"path": "shop.db"}, TRIGGER_IMPORTS=["shop.tasks"])
    """
    default_application.configure(**values)


def get_trigger_manager(uid: str, app: Application | None = None) -> TriggerManager:
    """The manager of a session, built from the settings.

    :param uid: the session's uid, the application's own string.
    :raises InvalidName: the uid is not 1 to 200 printable characters.

    Example::

        get_trigger_manager("applicant:42").fire("firstPageReceived", {"responses": {...}})
    """
    return (app or default_application).manager(uid)


def prune(older_than: float, resolved_only: bool = True, app: Application | None = None) -> int:
    """Erase the sessions that nothing has changed for `older_than` seconds.

    :param resolved_only: keep those with unresolved instances.
    :returns: how many were erased.
    """
    return (app or default_application).prune(older_than, resolved_only)


__all__ = [
    "Application",
    "configure",
    "default_application",
    "get_trigger_manager",
    "hookimpl",
    "prune",
]
