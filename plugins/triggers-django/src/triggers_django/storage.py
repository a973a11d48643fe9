"""The storage `django`: one session in a database of a Django project."""

from __future__ import annotations

from typing import TYPE_CHECKING

from triggers_core.exceptions import InvalidSetting
from triggers_core.storages.session import SessionStorage

if TYPE_CHECKING:
    from triggers_django.store import DjangoStore


class DjangoStorage(SessionStorage):
    """One session in a database of the project.

    Example::

        storage = storage_backends.get("django", "order:1")
        TriggerManager(storage).fire("paid")
    """

    def __init__(self, uid: str, using: str | None = None) -> None:
        """Open a session; the database is asked for nothing yet.

        :param uid: the session's uid.
        :param using: the alias of a database; without one, Django's routers decide.
        :raises InvalidSetting: Django is not set up, or has no such database.
        """
        super().__init__(uid, self.open_store(using=using))

    @classmethod
    def open_store(cls, using: str | None = None) -> DjangoStore:
        """The process's store for a database."""
        return _store_class().shared(using)


def _store_class() -> type[DjangoStore]:
    # Not above: models cannot be imported before Django is set up, and whoever lists the storages
    # of a process may have no use for Django.
    from django.apps import apps
    from django.core.exceptions import ImproperlyConfigured

    try:
        if not apps.ready:
            raise InvalidSetting(
                "the storage 'django' needs Django to be set up: call django.setup() with"
                " DJANGO_SETTINGS_MODULE set, or run this by manage.py"
            )
        if not apps.is_installed("triggers_django"):
            raise InvalidSetting(
                "the storage 'django' needs its tables: add 'triggers_django' to INSTALLED_APPS"
            )
        from triggers_django.store import DjangoStore
    except ImproperlyConfigured as error:
        raise InvalidSetting(f"the storage 'django': {error}") from error
    return DjangoStore
