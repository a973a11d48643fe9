"""The runner's options, and the Celery app that an application uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from celery import Celery, _state

from triggers_core.entry_points import load_path
from triggers_core.exceptions import InvalidSetting, PluginError
from triggers_core.texts import convert, did_you_mean

if TYPE_CHECKING:
    from triggers_core.application import Application

KEY = "celery"
"""The runner's key, and its name in `TRIGGER_PLUGIN_OPTIONS`."""


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `TRIGGER_RUNNER_OPTIONS`, or ``TRIGGER_PLUGIN_OPTIONS["celery"]``, may hold."""

    app: str = ""
    """Where the Celery app is, as ``module:attribute``; not needed where `setup` was called."""
    publish_timeout: float = 2.0
    """Seconds that one fire may spend on a broker that does not answer."""
    sweep: bool = True
    """Whether workers look after what is overdue."""
    beat: bool = True
    """Whether Celery beat, if one runs, makes them do so too."""

    def __post_init__(self) -> None:
        if not 0 < self.publish_timeout <= 60:
            raise ValueError(
                "publish_timeout must be above 0 and at most 60 seconds, got"
                f" {self.publish_timeout:g}"
            )


def read_options(application: Application, given: dict[str, Any]) -> Options:
    """The options of an application's runner.

    :param given: those handed to the runner; they win over ``TRIGGER_PLUGIN_OPTIONS["celery"]``.
    :raises InvalidSetting: names the option and what was expected.
    """
    options = {**application.settings.TRIGGER_PLUGIN_OPTIONS.get(KEY, {}), **given}
    for name in options:
        if name not in Options.__struct_fields__:
            raise InvalidSetting(
                f"runner celery: there is no option {name!r}"
                f"{did_you_mean(name, Options.__struct_fields__)}"
            )
    try:
        read: Options = convert(options, Options)
    except ValueError as error:
        raise InvalidSetting(f"runner celery: {error}") from None
    return read


def import_celery_app(path: str) -> Any:
    """The Celery app at a ``module:attribute``.

    :raises InvalidSetting: there is none; names the path and the cause.
    """
    try:
        found = load_path(path)
    except (PluginError, ImportError, AttributeError, ValueError) as error:
        raise InvalidSetting(f"runner celery: app={path!r} cannot be imported: {error}") from error
    if not isinstance(found, Celery):
        raise InvalidSetting(
            f"runner celery: app={path!r} is a {type(found).__name__}, expected a Celery app"
        )
    return found


def current_celery_app() -> Any:
    """The Celery app of a process that has made just one.

    Celery's own `current_app` would make an app of its own where there is none, and in every
    thread but the one that made the application's.

    :raises InvalidSetting: there is none, or no telling which.
    """
    current = _state._tls.current_app
    if current is not None:
        return current
    apps = [app for app in _state._get_active_apps() if app is not _state.default_app]
    if len(apps) == 1:
        return apps[0]
    found = "there are several Celery apps" if apps else "there is no Celery app in this process"
    raise InvalidSetting(
        f"runner celery: {found}. Set TRIGGER_PLUGIN_OPTIONS ="
        " {'celery': {'app': 'module:attribute'}}, or call triggers_celery.setup(celery_app)"
    )
