"""Filters of the list of sessions: what is stuck, and by names that are typed in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from django.contrib.admin import ModelAdmin, SimpleListFilter
from django.contrib.admin.views.main import ChangeList
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest

from triggers_core.engine.records import Status
from triggers_django.models import Instance, Session, Wait

STUCK = "stuck"
_STATUS_OF = {"failed": Status.FAILED.value, "waiting": Status.UNSTARTED.value}


class StuckFilter(SimpleListFilter):
    """Sessions with failed instances, that wait, or in which something is overdue."""

    title = "what is stuck"
    parameter_name = STUCK

    def lookups(
        self, request: HttpRequest, model_admin: ModelAdmin[Session]
    ) -> list[tuple[str, str]]:
        return [("failed", "Failed"), ("waiting", "Waiting"), ("overdue", "Overdue")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Session]) -> QuerySet[Session]:
        value = self.value()
        if value == "failed":
            return queryset.filter(failed__gt=0)
        if value == "waiting":
            return queryset.filter(waiting_since__isnull=False)
        if value == "overdue":
            due = Instance.objects.filter(session=OuterRef("pk"), due_at__lt=time.time())
            return queryset.filter(Exists(due))
        return queryset


class NameFilter(SimpleListFilter):
    """A filter whose value is typed in: there may be any number of names."""

    template = "admin/triggers/name_filter.html"
    placeholder = ""

    def lookups(
        self, request: HttpRequest, model_admin: ModelAdmin[Session]
    ) -> list[tuple[str, str]]:
        return [("", "")]  # without any, Django leaves the filter out

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        """One: what is typed in, and what else the form has to keep."""
        others = [
            (name, value)
            for name, values in changelist.get_filters_params().items()
            if name != self.parameter_name
            for value in (values if isinstance(values, list) else [values])
        ]
        yield {
            "parameter": self.parameter_name,
            "value": self.value() or "",
            "placeholder": self.placeholder,
            "others": others,
            "query_string": changelist.get_query_string(remove=[self.parameter_name or ""]),
            "selected": bool(self.value()),
        }


class TaskFilter(NameFilter):
    """Sessions that have an instance of a task; a failed one, or one that waits, with the other."""

    title = "task"
    parameter_name = "task"
    placeholder = "t_ship"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Session]) -> QuerySet[Session]:
        if not self.value():
            return queryset
        instances = Instance.objects.filter(session=OuterRef("pk"), task=self.value())
        status = _STATUS_OF.get(request.GET.get(STUCK, ""))
        if status is not None:
            instances = instances.filter(status=status)
        return queryset.filter(Exists(instances))


class TriggerFilter(NameFilter):
    """Sessions in which an instance waits for a trigger."""

    title = "trigger that is waited for"
    parameter_name = "trigger"
    placeholder = "paid"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Session]) -> QuerySet[Session]:
        if not self.value():
            return queryset
        waits = Wait.objects.filter(session=OuterRef("pk"), trigger=self.value())
        return queryset.filter(Exists(waits))
