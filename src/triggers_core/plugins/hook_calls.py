"""The plugins of one application: loaded, ordered, and called by the core through typed methods."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from triggers_core.engine.attempts import Retry
from triggers_core.engine.configuration import Configuration, Directive, Task
from triggers_core.engine.plugin_options import PluginOptions
from triggers_core.engine.protocol import BeforeCommit, Plan
from triggers_core.engine.records import Event, Instance
from triggers_core.exceptions import PluginError, from_outside, in_main_thread, is_time_limit
from triggers_core.failures import log_exception
from triggers_core.plugins.body_contexts import BodyContexts
from triggers_core.plugins.checks import HOOKS
from triggers_core.plugins.directives import collect_directives
from triggers_core.plugins.fire_contexts import Act, ActContexts, FireContexts, Firing
from triggers_core.plugins.infos import PluginInfo, PluginStatus
from triggers_core.plugins.loading import Installed, Wanted, read_list
from triggers_core.plugins.pending_event import PendingEvent
from triggers_core.plugins.pluggy_manager import HookManager, noted
from triggers_core.texts import did_you_mean

if TYPE_CHECKING:
    from triggers_core.engine.additions import CommitSession
    from triggers_core.manager import TriggerManager
    from triggers_core.storages.base import Store
    from triggers_core.storages.session import SessionStorage
    from triggers_core.tasks import TriggerTask
    from triggers_core.tasks.context import TaskContext

logger: logging.Logger = logging.getLogger(__name__)

T = TypeVar("T")

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
        plugins.manager.get_plugin("retry")
    """

    has_fire_context: bool
    has_act_context: bool
    has_pre_fire: bool
    has_post_fire: bool
    has_post_commit: bool
    has_body_context: bool
    """Whether any plugin implements the hook: for callers that would have to prepare its call."""

    def __init__(self, listed: Sequence[object] | None = None, *, autoload: bool = True) -> None:
        self.version: int = 0
        """Grows when a plugin is registered or unregistered: what was built from it is stale."""
        self._lock = threading.RLock()
        self._installed = Installed()
        self._failed: dict[str, str] = {}
        self._busy = True
        self.manager: HookManager = HookManager(self._installed, self._changed)
        """pluggy's manager, with the plugins' own objects: to list, block and trace them."""
        wanted = read_list(listed, autoload, self._installed)
        self._blocked = wanted.blocked
        self._load(wanted)
        self._busy = False
        self._changed()

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
            name = name or self.manager.get_canonical_name(plugin)
            there = self.manager.list_name_plugin()
            self._busy = True
            try:
                if self.manager.register(plugin, name) is None:
                    reason = self._blocked.get(name, "it is blocked")
                    logger.warning("plugin %r is left out: %s", name, reason)
                    return None
                for other, each in there:  # pluggy calls first what was registered last
                    if each is not None:
                        self.manager.unregister(name=other)
                        self.manager.register(each, other)
            finally:
                self._busy = False
            self._changed()
            return name

    def unregister(self, plugin: object) -> object:
        """Remove a plugin.

        :param plugin: its canonical name, or the object.
        :returns: the object.
        :raises PluginError: there is no such plugin.
        """
        with self._lock:
            name = plugin if isinstance(plugin, str) else self.manager.get_name(plugin)
            if name in self.names:
                return self.manager.unregister(name=name)
        shown = plugin if isinstance(plugin, str) else self._installed.name_of(plugin, {})
        raise PluginError(f"plugin {shown!r} is not registered{did_you_mean(shown, self.names)}")

    def infos(self) -> list[PluginInfo]:
        """The loaded plugins, first to run first; then, by name, those that are not, and why."""
        infos: list[PluginInfo] = []
        unlisted: tuple[PluginStatus, str] = ("unlisted", "TRIGGER_PLUGINS does not mention it")
        others = dict.fromkeys(self._installed.by_name, unlisted)
        others |= {name: ("failed", error) for name, error in self._failed.items()}
        for name, plugin in reversed(self.manager.list_name_plugin()):
            if plugin is None:
                others[name] = ("blocked", self._blocked.get(name, "blocked in code"))
                continue
            callers = self.manager.get_hookcallers(plugin) or ()
            hooks = tuple(sorted(each.name for each in callers if each.name in HOOKS))
            infos.append(self._info(name, "loaded", hooks=hooks, order=len(infos) + 1))
        infos += [
            self._info(name, status, error=error)
            for name, (status, error) in sorted(others.items())
            if name not in self.names
        ]
        return infos

    def _info(self, name: str, status: PluginStatus, **known: Any) -> PluginInfo:
        providers = self._installed.by_name.get(name, [])
        one = providers[0] if len(providers) == 1 or (providers and status == "unlisted") else None
        return PluginInfo(
            name=name,
            status=status,
            path=one.path if one else name,
            distribution=one.distribution if one else None,
            version=one.version if one else None,
            **known,
        )

    def _load(self, wanted: Wanted) -> None:
        for problem in wanted.unmatched:
            logger.warning("TRIGGER_PLUGINS: %s", problem)
        for name in wanted.blocked:
            self.manager.set_blocked(name)
        loaded: dict[str, object] = {}
        for name in wanted.order:
            with self._left_out_if_it_fails(name, name in wanted.named):
                plugin = wanted.named.get(name)
                loaded[name] = self._installed.load(name) if plugin is None else plugin
        for name in reversed(loaded):  # pluggy calls first what was registered last
            with self._left_out_if_it_fails(name, name in wanted.named):
                self.manager.register(loaded[name], name)

    @contextmanager
    def _left_out_if_it_fails(self, name: str, listed: bool) -> Iterator[None]:
        try:
            yield
        except PluginError as error:
            if listed:
                raise
            hint = f"repair it, or block it with 'no:{name}' in TRIGGER_PLUGINS"
            logger.warning("%s. It is left out: %s", error, hint)
            self._failed[name] = str(error)

    def _changed(self) -> None:
        if self._busy:
            return
        with self._lock:
            self._calls = {hook: self.manager.calls(hook) for hook in HOOKS}
            names = [name for name, plugin in self.manager.list_name_plugin() if plugin is not None]
            self._names = frozenset(names)
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

    def fire_contexts(self, manager: TriggerManager, firing: Firing) -> FireContexts:
        """What plugins put around a fire, as one context manager; see `has_fire_context`."""
        return FireContexts(self._calls["fire_context"], manager, firing)

    def act_contexts(self, manager: TriggerManager, act: Act) -> ActContexts:
        """What plugins put around an act, as one context manager; see `has_act_context`."""
        return ActContexts(self._calls["act_context"], manager, act)

    def before_commit_hooks(self) -> tuple[tuple[str, BeforeCommit], ...]:
        """The `before_commit` implementations: (plugin, callable of session and plan), in order."""
        return self._calls["before_commit"]

    def explain_trigger(self, session: CommitSession, trigger: str) -> str | None:
        """Ask what a trigger that a plugin fires waits for. Errors are logged, and no answer."""
        return self._ask("explain_trigger", str, session, trigger)

    def lint_configuration(
        self, tasks: Mapping[str, Task], options: Mapping[str, Any]
    ) -> list[tuple[str, str, str]]:
        """Ask for likely mistakes. Errors are logged, and count as none.

        :returns: (plugin, task, what is wrong with it), in order.
        """
        found: list[tuple[str, str, str]] = []
        given = options if isinstance(options, PluginOptions) else PluginOptions(options)
        for plugin, call in self._calls["lint_configuration"]:
            try:
                said = dict(call(tasks, given) or {})
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
        self._tell("post_replay", manager, instance, replay)

    def post_skip(self, manager: TriggerManager, instance: Instance, cascade: bool) -> None:
        """Tell that a failed instance was skipped by hand. Errors are logged."""
        self._tell("post_skip", manager, instance, cascade)

    def post_commit(self, manager: TriggerManager, changes: Plan[Any]) -> None:
        """Tell what a commit did. Errors are logged."""
        if self.has_post_commit:
            self._tell("post_commit", manager, changes)

    def _tell(self, hook: str, *arguments: Any) -> None:
        leaving: BaseException | None = None
        for plugin, call in self._calls[hook]:
            try:
                call(*arguments)
            except BaseException as error:
                if from_outside(error):
                    raise
                if is_time_limit(error):
                    leaving = error  # of the body that did it: once the others know
                    continue
                if isinstance(error, SystemExit) and in_main_thread():
                    leaving = error  # as a signal handler raises it, likewise
                problem = "plugin %r: its %s failed; what it was told about has happened and stays"
                log_exception(logger, problem, error, plugin, hook)
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
        found: SessionStorage | None = None
        for plugin, call in self._calls["storage_load"]:
            found = noted(plugin, "storage_load", call, backend, uid, options)
            if found is not None:
                break
        return found

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
                problem = "plugin %r: its stores_to_sweep failed; what it has named is swept"
                log_exception(logger, problem, error, plugin)
        return found

    def task_failed(self, context: TaskContext, error: BaseException) -> Retry | None:
        """Ask whether a failed attempt is made again. Errors are logged, and no answer."""
        return self._ask("task_failed", Retry, context, error)

    def get_logger_context(
        self, context: TaskContext, logger: logging.Logger | None, extra: Mapping[str, Any]
    ) -> AbstractContextManager[Any] | None:
        """Ask for the logger of a body. Errors are logged, and no answer."""
        expected: Any = AbstractContextManager
        found: AbstractContextManager[Any] | None
        found = self._ask("get_logger_context", expected, context, logger, extra)
        return found

    def body_contexts(self, context: TaskContext) -> BodyContexts:
        """What plugins put around a body, as one context manager; see `has_body_context`."""
        return BodyContexts(self._calls["body_context"], context)

    def _ask(self, hook: str, expected: type[T], *arguments: Any) -> T | None:
        """The first answer of the expected type; whatever else happens is logged."""
        for plugin, call in self._calls[hook]:
            try:
                answer = call(*arguments)
                if isinstance(answer, expected):
                    return answer
            except BaseException as error:
                if from_outside(error):
                    raise
                problem = "plugin %r: its %s failed; counts as no answer"
                log_exception(logger, problem, error, plugin, hook)
                continue
            if answer is not None:
                logger.error(
                    "plugin %r: its %s answered a %s, which counts as no answer: it has to be a %s"
                    " or None",
                    *(plugin, hook, type(answer).__name__, expected.__name__),
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
