"""An application: its settings, plugins, store, runners and tasks. One by default, more at will."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar
from weakref import WeakSet

from triggers_core.application.parts import built
from triggers_core.application.runners import MakeRunner, Runners
from triggers_core.application.task_modules import TaskModules
from triggers_core.engine.configuration import Configuration, parse_configuration
from triggers_core.engine.protocol import Rules
from triggers_core.engine.recovery import Recovered
from triggers_core.exceptions import WrongState
from triggers_core.hookspecs import hookimpl
from triggers_core.plugins.hook_calls import Plugins
from triggers_core.registries import storage_backends, trigger_managers
from triggers_core.runners.base import TaskRunner
from triggers_core.running.logs import stdlib_logger_context
from triggers_core.running.messages import Message
from triggers_core.running.places import Place, Places
from triggers_core.settings import Settings
from triggers_core.settings.option_checks import path_by_default, with_options
from triggers_core.storages.base import Store
from triggers_core.storages.session import SessionStorage
from triggers_core.tasks import TriggerTask
from triggers_core.tasks.context import TaskContext

if TYPE_CHECKING:
    from triggers_core.manager import TriggerManager
    from triggers_core.running.calls import Calls

logger: logging.Logger = logging.getLogger(__name__)

T = TypeVar("T")

_MAX_CLOSE_ROUNDS: Final = 10
_SETTINGS_OF: Final = {
    "store": {"TRIGGER_STORAGE_TYPE", "TRIGGER_STORAGE_OPTIONS"},
    "storage_class": {"TRIGGER_STORAGE_TYPE", "TRIGGER_STORAGE_OPTIONS"},
    "plugins": {"TRIGGER_PLUGINS", "TRIGGER_AUTOLOAD"},
}
"""Part of an application → the settings that it is made from."""


_applications: WeakSet[Application] = WeakSet()


class Application:
    """Everything that one application needs, built from its settings on first use.

    :param name: travels in messages, so that a worker with several applications finds the right
        one.
    :param settings: where its values come from; by default code, environment, settings module and
        pyproject.toml, in this order.
    :param store: holds its sessions, in place of what the settings say. Closed along with the
        application, as every store that it uses: one that is used again reopens.
    :param plugins: loaded plugins, in place of what the settings say.
    :param rules: limits, timing and hooks of every change, in place of what settings and plugins
        say.
    :param runner: a runner's class, or whatever makes one of an application: it serves every key,
        in place of `TRIGGER_RUNNER` and whatever a task's `using` names.

    A setting that `configure` sets later wins over a part that was given.

    Example::

        app = Application("shop", Settings.isolated(TRIGGER_STORAGE_TYPE="memory"))
        app.manager("order:1").fire("paid")

        app = Application("shop", store=SqliteStore("orders.db"), runner=ManualRunner)
    """

    def __init__(
        self,
        name: str = "default",
        settings: Settings | None = None,
        *,
        store: Store | None = None,
        plugins: Plugins | None = None,
        rules: Rules | None = None,
        runner: MakeRunner | None = None,
    ) -> None:
        self.name = name
        self.settings: Settings = settings or Settings()
        given: dict[str, Any] = {"store": store, "plugins": plugins}
        self._given = {key: part for key, part in given.items() if part is not None}
        self._parts: dict[str, Any] = dict(self._given)
        """What has been made so far, or was given; see `parts.built`."""
        self._making: dict[str, int] = {}
        """Part → the thread that is about to make it."""
        self._given_rules = rules
        self._rules: tuple[Plugins, int, Rules] | None = None
        self._task_modules = TaskModules(self)
        self._runners = Runners(self, runner)
        self._places = Places(self)
        self._calls: Calls | None = None
        self._renew_locks()
        _applications.add(self)

    def _renew_locks(self) -> None:
        self._lock = threading.RLock()
        self._builder: int | None = None
        self._task_modules.renew_lock()
        self._places.renew_lock()

    def __repr__(self) -> str:
        return f"<Triggers application {self.name!r}>"

    def configure(self, **values: Any) -> None:
        """Set settings in code; they win over every other source.

        :raises InvalidSetting: an unknown name or an impossible value.
        :raises WrongState: called by a body, in a thread of the runner.
        """
        self._refuse_here("configure")
        self.settings.configure(**values)
        for part, settings in _SETTINGS_OF.items():
            if not settings.isdisjoint(values):
                self._given.pop(part, None)
        self._reset_for(values)

    def settings_changed(self, *names: str) -> None:
        """Read the settings again: a source says something else now.

        What was made from the settings is let go of, as `reset` does; what `configure` set, and
        plugins that a module has registered, stay.

        :param names: the settings that may have changed; all of them when not given.
        :raises WrongState: called by a body, in a thread of the runner.

        Example::

            add_source(DjangoSource())
            default_application.settings_changed()
        """
        self._refuse_here("settings_changed")
        self.settings.reload()
        self._reset_for(names or self.settings.names())

    def _reset_for(self, changed: Collection[str]) -> None:
        # What a module has registered stays, unless the list of plugins is another one.
        kept = _SETTINGS_OF["plugins"].isdisjoint(changed)
        plugins = self._parts.get("plugins") if kept else None
        self.reset()
        if plugins is not None:
            self._parts["plugins"] = plugins

    def reset(self) -> None:
        """Let go of everything built from the settings; the next use builds it again.

        Parts that were given stay.

        :raises WrongState: called by a body, in a thread of the runner.
        """
        self.close()
        with self._lock:
            self._parts.clear()
            self._parts.update(self._given)
            self._rules = None
            self._places.forget()
            self._task_modules.forget()

    def replace(
        self,
        *,
        name: str | None = None,
        settings: Settings | None = None,
        store: Store | None = None,
        plugins: Plugins | None = None,
        rules: Rules | None = None,
        runner: MakeRunner | None = None,
    ) -> Self:
        """Another application, with some parts exchanged; this one stays as it is.

        The two share store and plugins, unless one is exchanged here. With other settings they
        share what was given to this one, and nothing that was made from its settings. Each has
        runners of its own.

        Example::

            timing = msgspec.structs.replace(app.rules.timing, lease=600)
            patient = app.replace(rules=msgspec.structs.replace(app.rules, timing=timing))
            by_hand = app.replace(runner=ManualRunner)
        """
        own_class = None
        if store is None and settings is None:
            store, own_class = self.store, self.storage_class
        elif store is None:
            store = self._given.get("store")
        if plugins is None:
            plugins = self.plugins if settings is None else self._given.get("plugins")
        other = type(self)(
            self.name if name is None else name,
            self.settings if settings is None else settings,
            store=store,
            plugins=plugins,
            rules=self._given_rules if rules is None else rules,
            runner=self._runners.make if runner is None else runner,
        )
        if own_class is not None:
            other._given["storage_class"] = other._parts["storage_class"] = own_class
        return other

    def close(self) -> None:
        """Finish what runs in this process, then close the store.

        :raises WrongState: called by a body, in a thread of the runner: it would wait for itself.
        """
        self._refuse_here("close")
        for _ in range(_MAX_CLOSE_ROUNDS):  # who fires meanwhile makes another runner
            made = self._parts.get("store")
            if made is not None:
                made.follow_up()  # while there are runners to dispatch to
            calls = self._calls
            if calls is not None and calls.in_use:
                calls.shutdown()  # they may dispatch
            elif not self._runners.all():
                break
            self._runners.stop()
        with self._lock:
            store = self._parts.get("store")
            if "store" not in self._given:
                self._parts.pop("store", None)
        stores = self._places.take_seen()
        if store is not None:
            stores[id(store)] = store
        for each in stores.values():
            each.close()

    def _refuse_here(self, what: str) -> None:
        calls = self._calls
        if calls is not None and calls.is_own_thread():
            raise WrongState(
                f"{what} was called in a thread that an event loop awaits, by a hook: it would wait"
                " for itself for ever. Call it where the program begins or ends"
            )
        if any(runner.is_own_thread() for runner in self._runners.all()):
            raise WrongState(
                f"{what} was called in a thread of the runner, by a body or a hook: it would wait"
                " for itself for ever. Call it where the program begins or ends"
            )

    def start(self) -> Self:
        """Import the tasks and begin to look after what earlier processes left behind.

        Without it that begins with the first dispatch, which may be long in coming. A server calls
        it when it starts, and `stop` when it ends; again is no error.

        :returns: the application, so that it can be used by ``with``.

        Example::

            with app:
                serve()
        """
        self.import_tasks()
        self.runner().start()
        return self

    def stop(self) -> None:
        """Finish what runs in this process, end the sweep and close the store, as `close` does.

        The application may be used, and started, again.
        """
        self.close()

    async def astart(self) -> Self:
        """As `start`, without blocking the event loop.

        Example::

            async with app:
                await serve()
        """
        return await self.in_thread(self.start)

    async def astop(self) -> None:
        """As `stop`, without blocking the event loop."""
        from triggers_core.running.calls import in_new_thread  # asyncio: 19 ms; here it is loaded

        self._refuse_here("stop")
        await in_new_thread(self.close)  # in none of those that it waits for

    async def __aenter__(self) -> Self:
        return await self.astart()

    async def __aexit__(self, *exc_info: object) -> None:
        await self.astop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    # -- from coroutines --------------------------------------------------------------------------

    @property
    def calls(self) -> Calls:
        """The threads in which calls are made that an event loop awaits."""
        calls = self._calls
        if calls is None:
            from triggers_core.running.calls import Calls  # asyncio: 19 ms; here it is loaded

            with self._lock:
                calls = self._calls = self._calls or Calls()
        return calls

    async def in_thread(self, call: Callable[[], T], store: Store | None = None) -> T:
        """Make a call that may block in a thread, in a copy of this context; what it returns.

        Cancelled before the call begins, it is never made; afterwards it runs to its end, and an
        error of it is logged.

        :param store: what the call uses, if that wants to be called in certain threads
            (`Store.in_thread`).

        Example::

            manager = await app.in_thread(lambda: app.manager("order:42"))
        """
        return await self.calls.run(call, None if store is None else store.in_thread)

    # -- parts ------------------------------------------------------------------------------------

    @built
    def plugins(self) -> Plugins:
        """The plugins, loaded as `TRIGGER_PLUGINS` says."""
        return Plugins(self.settings.TRIGGER_PLUGINS, autoload=self.settings.TRIGGER_AUTOLOAD)

    @built
    def storage_class(self) -> type[SessionStorage]:
        """The class of a session: that of a given store, else what `TRIGGER_STORAGE_TYPE` names."""
        given = self._given.get("store")
        if given is not None and given.key not in list(storage_backends.keys()):
            return SessionStorage
        key = self.settings.TRIGGER_STORAGE_TYPE if given is None else given.key
        found: type[SessionStorage] = storage_backends.get_class(key)
        return found

    @built
    def store(self) -> Store:
        """The store of all its sessions."""
        settings, open_store = self.settings, self.storage_class.open_store
        options = settings.TRIGGER_STORAGE_OPTIONS
        default = None if "path" in options else path_by_default(open_store)
        if default is not None and settings.project is not None:
            # Else a process in a folder below would find the settings, and begin a store there.
            options = {**options, "path": os.path.join(settings.project, default)}
        return with_options(
            open_store,
            options=options,
            setting=f"TRIGGER_STORAGE_OPTIONS ({settings.origin('TRIGGER_STORAGE_OPTIONS')})",
            what=f"storage {settings.TRIGGER_STORAGE_TYPE!r}",
        )

    @property
    def has_store(self) -> bool:
        """Whether its own store was made, or given to it."""
        return "store" in self._parts

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
        return self._runners.get(key)

    def use_runner(self, runner: TaskRunner, key: str | None = None) -> None:
        """Let a runner that exists already serve a key; `TRIGGER_RUNNER` when no key is given."""
        self._runners.use(runner, key)

    def manager(self, uid: str) -> TriggerManager:
        """The manager of one session, of the class that `TRIGGER_MANAGER_TYPE` names."""
        self.import_tasks()
        return self.manager_on(self.storage(uid))

    def manager_on(self, storage: SessionStorage) -> TriggerManager:
        """The manager of a session in any store, of the type that the settings say."""
        manager_class = trigger_managers.get_class(self.settings.TRIGGER_MANAGER_TYPE)
        manager: TriggerManager = manager_class(storage, self)
        return manager

    def manager_for(self, message: Message) -> TriggerManager:
        """The manager for a message that a worker received."""
        return self.manager(message.uid)

    def plugin_options(self, plugin: str, kind: type[T], **given: Any) -> T:
        """A plugin's part of the setting `TRIGGER_PLUGIN_OPTIONS`, checked once.

        :param kind: a `msgspec.Struct` that forbids unknown fields.
        :param given: options that win over those of the setting.
        :raises InvalidSetting: names the plugin and what does not fit.

        Example::

            app.plugin_options("retry", RetryOptions).times
        """
        return self.settings.TRIGGER_PLUGIN_OPTIONS.read(plugin, kind, given)

    # -- rules ------------------------------------------------------------------------------------

    @property
    def rules(self) -> Rules:
        """Limits, timing and plugins, as every change of a session sees them."""
        if self._given_rules is not None:
            return self._given_rules
        cached, plugins = self._rules, self.plugins
        if cached is not None and cached[0] is plugins and cached[1] == plugins.version:
            return cached[2]
        settings = self.settings
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
        self._rules = (plugins, plugins.version, rules)
        return rules

    def parse(self, configuration: object) -> Configuration:
        """Check a configuration against the limits and the plugins' directives.

        :raises InvalidConfiguration: names the place and the fix.
        """
        return parse_configuration(configuration, self.settings.limits, self.plugins.directives())

    # -- tasks ------------------------------------------------------------------------------------

    def task_modules(self) -> list[str]:
        """The modules that define tasks: those of `TRIGGER_IMPORTS`, and those that the host names.

        In a Django project, the host names each application's ``trigger_tasks``.
        """
        return self._task_modules.names()

    def import_tasks(self) -> None:
        """Import the modules that define tasks (`task_modules`), once.

        Threads that come meanwhile wait, as Python's imports do. A module that failed is imported
        again by the next call.

        :raises Exception: what a module raised, with a note that names it.
        :raises ImportExited: a module called `sys.exit`.
        """
        self._task_modules.load()

    def resolve_task(self, run: str, using: str | None = None) -> type[TriggerTask]:
        """The task class for a configuration's `run`.

        :raises TaskNotFound: no plugin knows it and no class of that name has been defined here.
        """
        return self.plugins.resolve_task(run, using) or self._task_modules.task(run)

    def logger_context(
        self, context: TaskContext, logger: logging.Logger | None, extra: Mapping[str, Any]
    ) -> AbstractContextManager[Any]:
        """A plugin's answer to `get_logger_context`, else the standard library's logger."""
        answer = self.plugins.get_logger_context(context, logger, extra)
        return answer if answer is not None else stdlib_logger_context(context, logger, extra)

    # -- the fleet --------------------------------------------------------------------------------

    def saw(self, manager: TriggerManager) -> None:
        """Told about every manager: its store is looked after from now on."""
        self._places.saw(manager)

    def stores(self) -> list[Store]:
        """All stores that sweeps look after, each once.

        Its own, those that its managers use, and those that the hook `stores_to_sweep` names.
        """
        return [place.store for place in self.places().values()]

    def places(self, unused: bool = True) -> dict[object, Place]:
        """Those stores, with what makes a manager of a session in each; for sweeps.

        :param unused: its own store too, if nobody has used it yet: that makes its file.
        """
        return self._places.all(unused)

    def recover(self, limit: int = 1_000) -> list[Recovered]:
        """Sweep all stores: dispatch, retry or fail what is overdue, in every session.

        A store that fails is logged and does not keep the others from being looked after; its
        error is raised when there is no other.

        :param limit: instances to look after at most.
        """
        self.import_tasks()
        return self._places.recover(limit)

    def prune(self, older_than: float, resolved_only: bool = True) -> int:
        """Erase sessions without a change for `older_than` seconds, in all stores.

        See `Store.prune`. A store that fails is logged and does not keep the others from being
        pruned; its error is raised when there is no other.
        """
        return self._places.prune(older_than, resolved_only)


default_application: Application = Application()
"""The application of whoever does not make one: configured by `configure` and the environment."""


def _renew_locks_in_child() -> None:
    for app in list(_applications):
        app._renew_locks()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks_in_child)


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


async def aget_trigger_manager(uid: str, app: Application | None = None) -> TriggerManager:
    """As `get_trigger_manager`, without blocking the event loop.

    The first call of a process imports tasks and plugins, unless `Application.astart` has; and a
    `storage_load` hook may do anything.

    Example::

        manager = await aget_trigger_manager("applicant:42")
        await manager.afire("firstPageReceived", {"responses": {...}})
    """
    used = app or default_application
    return await used.in_thread(partial(used.manager, uid))


def prune(older_than: float, resolved_only: bool = True, app: Application | None = None) -> int:
    """Erase the sessions that nothing has changed for `older_than` seconds.

    :param resolved_only: keep those with unresolved instances.
    :returns: how many were erased.
    """
    return (app or default_application).prune(older_than, resolved_only)


__all__ = [
    "Application",
    "aget_trigger_manager",
    "configure",
    "default_application",
    "get_trigger_manager",
    "hookimpl",
    "prune",
]
