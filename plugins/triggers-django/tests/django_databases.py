"""Databases of one kind for the tests. Django has to be set up before this is imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core.management import call_command
from django.db import connections

from triggers_django import DjangoStore, models

MakeDjangoStore = Callable[..., DjangoStore]


class Databases:
    """The databases of one kind, made and migrated on first use."""

    def __init__(self, kind: str, make: Callable[[str], dict[str, Any]]) -> None:
        self.kind, self._make = kind, make
        self.ready: list[str] = []

    def alias(self, number: int) -> str:
        """The alias of a database without a session."""
        alias = f"{self.kind}{number}"
        if alias in self.ready:
            empty(alias)
        else:
            connections.settings[alias].update(self._make(alias))
            if alias in connections:
                connections[alias].close()
                del connections[alias]
            call_command("migrate", "triggers", database=alias, verbosity=0)
            self.ready.append(alias)
        return alias


def empty(alias: str) -> None:
    tables = [each._meta.db_table for each in (*MODELS, models.Lease)]
    with connections[alias].cursor() as cursor:
        for table in tables:
            cursor.execute(f"DELETE FROM {table}")


MODELS = (
    *(models.Session, models.Configuration, models.Event, models.EventId, models.Instance),
    models.Wait,
)
