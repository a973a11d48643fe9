"""Django's framework for tasks: its own since 6.0, the distribution django-tasks before."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from triggers_core.exceptions import InvalidSetting

if TYPE_CHECKING:
    from triggers_core.application import Application

RUNNER: Final = "django"
"""The key of the runner that hands attempts to the framework."""

applications: WeakValueDictionary[str, Application] = WeakValueDictionary()
"""The applications of this process that have such a runner, by name."""


def framework() -> Any:
    """The module ``django.tasks``, or its backport ``django_tasks``.

    :raises InvalidSetting: there is neither.
    """
    for name in ("django.tasks", "django_tasks"):
        if find_spec(name) is not None:
            return import_module(name)
    raise InvalidSetting(
        "the runner 'django' hands instances to Django's tasks, which came with Django 6.0: with an"
        " older one, pip install 'triggers-django[tasks]', or take another TRIGGER_RUNNER"
    )
