"""An application on a test's storage and runner, for a while; afterwards it is as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final, NoReturn

from triggers_core.application import Application
from triggers_core.application.runners import MakeRunner, Runners
from triggers_core.exceptions import WrongState
from triggers_core.running.places import Places
from triggers_core.settings import Settings
from triggers_core.storages.base import Store
from triggers_core.storages.session import SessionStorage
from triggers_core.tasks import TriggerTask

Resolve = Callable[[str, str | None], type[TriggerTask]]
"""A `run` name and its `using` → the task."""

_PLUGIN_SETTINGS: Final = {"TRIGGER_PLUGINS", "TRIGGER_AUTOLOAD"}
_RULE_SETTINGS: Final = {"TRIGGER_LIMITS", "TRIGGER_TIMING", "TRIGGER_CONFIGURATION"}


@contextmanager
def exchanged(
    app: Application,
    store: Store,
    runner: MakeRunner,
    resolve: Resolve,
    settings: Mapping[str, Any] | None,
    guard: bool = True,
) -> Iterator[Application]:
    """Let an application use other parts within the block.

    Its tasks, plugins and settings stay its own. Whatever it was before, it is again afterwards:
    its store, its runners, its settings, the plugins that are registered. Its own store is refused
    to managers that were made before, so that no session of it is changed by mistake.

    :param settings: settings that win over its own within the block; None: it keeps its own, and
        what is configured within the block stays.
    :param guard: whether its own store is refused.

    Example::

        with exchanged(default_application, MemoryStore(), ManualRunner, find, {}):
            get_trigger_manager("order:1").fire("paid")
    """
    _stop_runners(app)
    shared, settings = settings is None, settings or {}
    plugins = None if not _PLUGIN_SETTINGS.isdisjoint(settings) else app.plugins
    registered = set() if plugins is None else set(plugins.names)
    former = [app._parts.get("store"), *_seen(app)]
    before = dict(vars(app))
    given: dict[str, Any] = {"store": store}
    if plugins is not None:
        given["plugins"] = plugins
    with ExitStack() as stack:
        stack.callback(_put_back, app, before)
        if plugins is not None:
            stack.callback(_unregister_new, plugins, registered)
        stack.callback(_stop_runners, app)
        for each in former:
            if guard and each is not None and each is not store:
                stack.enter_context(_refused(each, app))
        vars(app).update(
            settings=app.settings if shared else _overlaid(app.settings, settings),
            _given=given,
            _parts=dict(given),
            _making={},
            _given_rules=before["_given_rules"] if _RULE_SETTINGS.isdisjoint(settings) else None,
            _rules=app._rules if shared else None,
            _task_modules=copy.copy(app._task_modules),
            _runners=Runners(app, runner),
            _places=Places(app),
            _calls=None,
        )
        _pin(app, store, resolve)
        yield app


def _pin(app: Application, store: Store, resolve: Resolve) -> None:
    """Let neither settings nor plugins lead to another storage, whatever the code under test does.

    An application's factory may call `configure`, a plugin may answer `storage_load`.
    """

    def storage(uid: str) -> SessionStorage:
        return app.storage_class.on(store, uid)

    def configure(**values: Any) -> None:
        type(app).configure(app, **values)
        app._given["store"] = app._parts["store"] = store
        app._parts.pop("storage_class", None)

    vars(app).update(storage=storage, configure=configure, resolve_task=resolve)


def _overlaid(settings: Settings, values: Mapping[str, Any]) -> Settings:
    overlay = copy.copy(settings)
    overlay._code, overlay._values = dict(settings._code), {}
    overlay.configure(**values)
    return overlay


def _seen(app: Application) -> list[Store]:
    return [manager.storage.store for manager in app._places._seen.values()]


def _stop_runners(app: Application) -> None:
    app._runners.stop()
    calls = app._calls
    if calls is not None and calls.in_use:
        calls.shutdown()


def _put_back(app: Application, before: Mapping[str, Any]) -> None:
    vars(app).clear()
    vars(app).update(before)


def _unregister_new(plugins: Any, before: set[str]) -> None:
    for name in sorted(plugins.names - before):
        plugins.manager.unregister(name=name)


@contextmanager
def _refused(store: Store, app: Application) -> Iterator[None]:
    """Refuse commits to a store."""

    def commit(*arguments: Any) -> NoReturn:
        raise WrongState(
            f"{store.place} is the storage that {app!r} has outside of tests: nothing is stored"
            " there while a test uses the application. This manager was made before"
            " `triggers.use(app)`; make one where it is needed, with get_trigger_manager"
        )

    if not hasattr(store, "__dict__") or "commit" in vars(store):
        yield
        return
    vars(store).update(commit=commit, acommit=commit)
    try:
        yield
    finally:
        for each in ("commit", "acommit"):
            vars(store).pop(each, None)
