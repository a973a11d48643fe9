"""The plugins of one application: loaded, ordered, and called by the core through typed methods."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from triggers_core.engine.attempts import Retry
from triggers_core.engine.configuration import Configuration, Directive, Task
from triggers_core.engine.protocol import BeforeCommit, Plan
from triggers_core.engine.records import Event, Instance
from triggers_core.entry_points import Provider
from triggers_core.exceptions import PluginError, from_outside, in_main_thread
from triggers_core.failures import log_exception
from triggers_core.plugins.body_contexts import BodyContexts
from triggers_core.plugins.checks import HOOKS, find_implementations
from triggers_core.plugins.directives import collect_directives
from triggers_core.plugins.infos import PluginInfo, infos_of, not_loaded
from triggers_core.plugins.loading import Installed, Wanted, label, read_list
from triggers_core.plugins.order import Loaded, noted, ordered_calls
from triggers_core.plugins.pending_event import PendingEvent
from triggers_core.redaction import error_text
from triggers_core.texts import did_you_mean

if TYPE_CHECKING:
    from triggers_core.engine.additions import CommitSession
    from triggers_core.manager import TriggerManager
    from triggers_core.storages.base import Store
    from triggers_core.storages.session import SessionStorage
    from triggers_core.tasks import TaskContext, TriggerTask

logger = logging.getLogger(__name__)

_STORES: Final = 100_000  # that one plugin may name for the sweep


class Plugins:
    """The plugins of one application. Several can live in one process; nothing is shared.

    :param listed: the setting `TRIGGER_PLUGINS`: names of entry points, dotted paths of modules,
        ``"module:attribute"``, objects, ``"*"`` (the rest), ``"no:name"``. First listed runs first.
        None: every installed plugin, by name. A list of nothing but ``"no:name"``: all but these.
    :param autoload: the setting `TRIGGER_AUTOLOAD`; False keeps out whatever is not listed itself.
    :raises PluginError: a listed plugin cannot be loaded; names it, its distribution and the cause.
        One that ``"*"`` or an unset list brought in is left out, logged, and shown by `infos`.

    Example::

        plugins = Plugins(["retry", my_app.plugins, "*", "no:structlog"])
    """

    has_pre_fire: bool
    has_post_fire: bool
    has_post_replay: bool
    has_post_skip: bool
    has_post_commit: bool
    has_body_context: bool
    """Whether any plugin implements the hook: for callers that would have to prepare its call."""

    def __init__(self, listed: Sequence[object] | None = None, *, autoload: bool = True) -> None:
        self.version = 0
        """Grows when a plugin is registered or unregistered: what was built from it is stale."""
        self._lock = threading.RLock()
        self._installed = Installed()
        self._loaded: list[Loaded] = []
        self._failed: dict[str, PluginInfo] = {}
        wanted = read_list(listed, autoload, self._installed)
        self._blocked = wanted.blocked
        self._load(wanted)
        self._rebuild()

    # -- which plugins ----------------------------------------------------------------------------

    @property
    def names(self) -> frozenset[str]:
        """The canonical names of the loaded plugins."""
        return self._names

    def register(self, plugin: object, name: str | None = None) -> str | None:
        """Add a plugin at run time; it runs after those that are there.

        :param name: in place of its canonical name (entry point, module, or the object's type).
        :returns: the name; None when the name is blocked: the plugin is left out, with a warning.
        :raises PluginError: it is registered already, or breaks a rule of the hooks. Nothing has
            changed then.
        """
        with self._lock:
            if name is None:
                taken = {each.name: each.plugin for each in self._loaded}
                name = self._installed.name_of(plugin, taken)
            if name in self._blocked:
                logger.warning("%s is left out: %s", label(name), self._blocked[name])
                return None
            self._add(name, plugin, name, self._installed.one(name))
            self._failed.pop(name, None)
            self._rebuild()
            return name

    def unregister(self, plugin: object) -> object:
        """Remove a plugin.

        :param plugin: its canonical name, or the object.
        :returns: the object.
        :raises PluginError: there is no such plugin.
        """
        with self._lock:
            for loaded in self._loaded:
                if loaded.plugin is plugin or loaded.name == plugin:
                    self._loaded.remove(loaded)
                    self._rebuild()
                    return loaded.plugin
        shown = plugin if isinstance(plugin, str) else self._installed.name_of(plugin, {})
        raise PluginError(f"plugin {shown!r} is not registered{did_you_mean(shown, self.names)}")

    def infos(self) -> list[PluginInfo]:
        """The loaded plugins, first to run first; then those that are not loaded, and why."""
        return infos_of(self._loaded, self._failed, self._blocked, self._installed)

    def _load(self, wanted: Wanted) -> None:
        for problem in wanted.unmatched:
            logger.warning("TRIGGER_PLUGINS: %s", problem)
        for candidate in wanted.candidates:
            provider = candidate.providers[0] if len(candidate.providers) == 1 else None
            try:
                self._add(candidate.name, candidate.load(), candidate.path, provider)
            except PluginError as error:
                if candidate.listed:
                    raise
                name = candidate.name
                logger.warning(
                    "%s. It is left out: mend it, or block it with 'no:%s' in TRIGGER_PLUGINS",
                    error,
                    name,
                )
                self._failed[name] = not_loaded(name, "failed", provider, str(error))

    def _add(self, name: str, plugin: object, path: str, provider: Provider | None) -> None:
        shown = label(name, provider)
        for loaded in self._loaded:
            if loaded.plugin is plugin:
                raise PluginError(f"{shown} is registered already, as {loaded.name!r}")
            if loaded.name == name:
                raise PluginError(
                    f"{shown}: another plugin is registered under this name; unregister that first,"
                    " or give this one another name"
                )
        try:
            found = find_implementations(plugin, shown)
        except PluginError:
            raise
        except BaseException as error:  # of an object with methods of its own
            if from_outside(error):
                raise
            raise PluginError(f"{shown} cannot be looked at: {error_text(error)}") from error
        self._loaded.append(Loaded(name, plugin, path, provider, found))

    def _rebuild(self) -> None:
        self._calls = ordered_calls(self._loaded)
        self._names = frozenset(each.name for each in self._loaded)
        self._directives: dict[str, Directive] | None = None
        for hook in HOOKS:
            setattr(self, f"has_{hook}", bool(self._calls[hook]))
        self.version += 1

    # -- what the core asks and tells --------------------------------------------------------------

    def pre_fire(
        self,
        manager: TriggerManager,
        trigger: str,
        kwargs: Mapping[str, Any] | None,
        event_id: str,
        *,
        once: bool = False,
        force: bool = False,
    ) -> Mapping[str, Any] | None:
        """Let plugins change or refuse a fire.

        :returns: the kwargs to go on with.
        :raises Exception: whatever an implementation raised, with a note that names the plugin.
        """
        calls = self._calls["pre_fire"]
        if not calls:
            return kwargs
        # What is no mapping is refused later, by the one place that checks payloads.
        given: Any = dict(kwargs or {}) if kwargs is None or isinstance(kwargs, Mapping) else kwargs
        event = PendingEvent(trigger, event_id, once, force, given)
        for plugin, call in calls:
            before = event.kwargs
            noted(plugin, "pre_fire", call, manager, event)
            if event.kwargs is not before and not isinstance(event.kwargs, Mapping):
                raise PluginError(
                    f"plugin {plugin!r}: pre_fire set event.kwargs to a"
                    f" {type(event.kwargs).__name__}: set it to a mapping, {{}} for none"
                )
        return event.kwargs

    def before_commit_hooks(self) -> tuple[tuple[str, BeforeCommit], ...]:
        """The `before_commit` implementations: (plugin, callable of session and plan), in order."""
        return self._calls["before_commit"]

    def explain_trigger(self, session: CommitSession, trigger: str) -> str | None:
        """Ask what a trigger that a plugin fires waits for. Errors are logged, and no answer."""
        if not self._calls["explain_trigger"]:
            return None
        answer = self._ask("explain_trigger", str, session, trigger)
        return answer if isinstance(answer, str) else None

    def lint_configuration(
        self, tasks: Mapping[str, Task], options: Mapping[str, Any]
    ) -> list[tuple[str, str, str]]:
        """Ask for likely mistakes. Errors are logged, and count as none.

        :returns: (plugin, task, what is wrong with it), in order.
        """
        found: list[tuple[str, str, str]] = []
        for plugin, call in self._calls["lint_configuration"]:
            try:
                said = dict(call(tasks, options) or {})
                found += [(plugin, name, str(text)) for name, text in said.items() if name in tasks]
            except Exception as error:
                problem = "plugin %r: its lint_configuration failed; counts as no warning"
                log_exception(logger, problem, error, plugin)
        return found

    def post_fire(
        self, manager: TriggerManager, event: Event, scheduled: Sequence[Instance]
    ) -> None:
        """Tell that an event has happened. Errors are logged."""
        if self.has_post_fire:
            self._tell("post_fire", manager, event, scheduled)

    def post_replay(self, manager: TriggerManager, instance: Instance, replay: Instance) -> None:
        """Tell that a failed instance was replayed by hand. Errors are logged."""
        if self.has_post_replay:
            self._tell("post_replay", manager, instance, replay)

    def post_skip(self, manager: TriggerManager, instance: Instance, cascade: bool) -> None:
        """Tell that a failed instance was skipped by hand. Errors are logged."""
        if self.has_post_skip:
            self._tell("post_skip", manager, instance, cascade)

    def post_commit(self, manager: TriggerManager, changes: Plan[Any]) -> None:
        """Tell what a commit did. Errors are logged."""
        if self.has_post_commit:
            self._tell("post_commit", manager, changes)

    def _tell(self, hook: str, *arguments: Any) -> None:
        leaving: SystemExit | None = None
        for plugin, call in self._calls[hook]:
            try:
                call(*arguments)
            except BaseException as error:
                if from_outside(error):
                    raise
                if isinstance(error, SystemExit) and in_main_thread():
                    leaving = error  # as a signal handler raises it: once the others know
                log_exception(
                    logger,
                    "plugin %r: its %s failed; what it was told about has happened and stays",
                    error,
                    plugin,
                    hook,
                )
        if leaving is not None:
            raise leaving

    def resolve_task(self, run: str, using: str | None = None) -> type[TriggerTask] | None:
        """Ask for the task class of a `run` name.

        :raises Exception: whatever an implementation raised, with a note that names the plugin.
        :raises PluginError: an answer is not a class.
        """
        for plugin, call in self._calls["resolve_task"]:
            found = noted(plugin, "resolve_task", call, run, using)
            if isinstance(found, type):
                return found
            if found is not None:
                raise PluginError(
                    f"plugin {plugin!r}: resolve_task({run!r}) answered a {type(found).__name__}:"
                    " it has to answer a subclass of TriggerTask, or None"
                )
        return None

    def storage_load(
        self, backend: str, uid: str, options: Mapping[str, Any]
    ) -> SessionStorage | None:
        """Ask for the storage of a session.

        :raises Exception: whatever an implementation raised, with a note that names the plugin.
        """
        for plugin, call in self._calls["storage_load"]:
            found: SessionStorage | None = noted(
                plugin, "storage_load", call, backend, uid, options
            )
            if found is not None:
                return found
        return None

    def stores_to_sweep(
        self, backend: str, options: Mapping[str, Any]
    ) -> list[tuple[str, SessionStorage | Store]]:
        """Ask for the stores that `storage_load` answers with. Errors are logged.

        :returns: (plugin, store or one of its sessions), in order.
        """
        found: list[tuple[str, SessionStorage | Store]] = []
        for plugin, call in self._calls["stores_to_sweep"]:
            try:
                found += [(plugin, each) for each in islice(call(backend, options) or (), _STORES)]
            except Exception as error:
                log_exception(
                    logger,
                    "plugin %r: its stores_to_sweep failed; what it has named is swept",
                    error,
                    plugin,
                )
        return found

    def task_failed(self, context: TaskContext, error: BaseException) -> Retry | None:
        """Ask whether a failed attempt is made again. Errors are logged, and no answer."""
        answer = self._ask("task_failed", Retry, context, error)
        return answer if isinstance(answer, Retry) else None

    def get_logger_context(
        self, context: TaskContext, logger: logging.Logger | None, extra: Mapping[str, Any]
    ) -> AbstractContextManager[Any] | None:
        """Ask for the logger of a body. Errors are logged, and no answer."""
        answer: AbstractContextManager[Any] | None = self._ask(
            "get_logger_context", AbstractContextManager, context, logger, extra
        )
        return answer

    def body_contexts(self, context: TaskContext) -> BodyContexts:
        """What plugins put around a body, as one context manager; see `has_body_context`."""
        return BodyContexts(self._calls["body_context"], context)

    def _ask(self, hook: str, expected: type, *arguments: Any) -> Any:
        """The first answer of the expected type; whatever else happens is logged."""
        for plugin, call in self._calls[hook]:
            try:
                answer = call(*arguments)
                fits = isinstance(answer, expected)
            except BaseException as error:
                if from_outside(error):
                    raise
                problem = "plugin %r: its %s failed; counts as no answer"
                log_exception(logger, problem, error, plugin, hook)
                continue
            if fits:
                return answer
            if answer is not None:
                logger.error(
                    "plugin %r: its %s answered a %s, which counts as no answer: it has to be a %s"
                    " or None",
                    plugin,
                    hook,
                    type(answer).__name__,
                    expected.__name__,
                )
        return None

    # -- configurations ---------------------------------------------------------------------------

    def directives(self) -> dict[str, Directive]:
        """The directives that plugins own, by name. Asked for once.

        :raises PluginError: two plugins own one, a plugin claims one of the core's, or an
            implementation failed; names them.
        """
        if self._directives is None:
            self._directives = collect_directives(self._calls["declare_directives"])
        return self._directives

    def requires_for(self, configuration: Configuration) -> tuple[str, ...]:
        """The plugins without which a process must not change a session of this configuration.

        Those that implement `before_commit` or own a directive in use: a process without them
        would silently leave out a part of every change.
        """
        used = {name for task in configuration.tasks.values() for name in task.directives}
        owners = {each.owner for name, each in self.directives().items() if name in used}
        return tuple(sorted(owners.union(plugin for plugin, _ in self._calls["before_commit"])))
