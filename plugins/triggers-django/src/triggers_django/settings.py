"""Django's settings as a source of ours: every ``TRIGGER_*`` among them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Final

from django.conf import settings as django_settings
from django.core.signals import setting_changed

from triggers_core.application import default_application
from triggers_core.exceptions import InvalidSetting
from triggers_core.settings import Settings
from triggers_core.settings.sources import (
    PREFIX,
    Found,
    Source,
    add_source,
    nearly,
    unknown_setting,
)

_STORAGE: Final = "TRIGGER_STORAGE_TYPE"


class DjangoSource(Source):
    """`django.conf.settings`, as they are when they are read. Without a storage, `django` is it."""

    reads_django: ClassVar[bool] = True

    def read(self, known: Collection[str]) -> Mapping[str, Found]:
        names = [name for name in dir(django_settings) if name.startswith(PREFIX)]
        for name in names:
            if name not in known:
                raise InvalidSetting(f"{_origin()}: {unknown_setting(name, known)}")
        origin = _origin()
        return {name: Found(getattr(django_settings, name), origin) for name in names}

    def defaults(self) -> Mapping[str, Found]:
        return {_STORAGE: Found("django", "default in a Django project")}

    def problems(self, known: Collection[str], taken: Collection[str]) -> list[str]:
        return [
            f"{_origin()}: {unknown_setting(name, known)}"
            for name in dir(django_settings)
            if name not in known and not name.startswith(PREFIX) and nearly(name, known)
        ]


SOURCE: Final = DjangoSource()


def read_django_settings() -> None:
    """Let the default application read Django's settings, and again whenever they are overridden.

    What was made before Django was set up, by a module that is imported early, is let go of.
    """
    add_source(SOURCE)
    set_there = [name for name in Settings.names() if hasattr(django_settings, name)]
    default_application.settings_changed(_STORAGE, *set_there)
    setting_changed.connect(_overridden, dispatch_uid="triggers_django.settings")


def _overridden(sender: object, setting: str, **_: Any) -> None:
    if setting.startswith(PREFIX):
        default_application.settings_changed(setting)


def _origin() -> str:
    module = getattr(django_settings, "SETTINGS_MODULE", None)
    return f"Django's settings {module}" if module else "Django's settings"
