"""What other processes import, for the contract of all storages: a Django with one database."""

from __future__ import annotations

import time
from typing import Any

from triggers_core.storages.base import Clock, Store


def opened(alias: str, database: dict[str, Any], clock: Clock = time.time) -> Store:
    """A store in that database; sets Django up, where that has not been done."""
    import django
    import pymysql
    from django.conf import settings

    if not settings.configured:
        pymysql.version_info = (2, 2, 7, "final", 0)  # which one of mysqlclient it stands in for
        pymysql.install_as_MySQLdb()
        settings.configure(
            SECRET_KEY="for tests",
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
            INSTALLED_APPS=["triggers_django"],
            USE_TZ=True,
            DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        )
        django.setup()
    from django.db import connections

    from triggers_django import DjangoStore

    if connections.settings.get(alias) != database:
        connections.settings[alias] = database
        if alias in connections:
            connections[alias].close()
            del connections[alias]
    return DjangoStore(alias, clock)
