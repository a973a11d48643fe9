"""Sessions in Django's admin: to look at, and to repair; nothing is edited by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.options import ModelAdmin
from django.contrib.admin.utils import unquote
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path, reverse
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_protect

from triggers_core.application import default_application
from triggers_core.engine.records import Header, Status
from triggers_core.exceptions import InstanceNotFound, SessionNotFound, TriggersError
from triggers_core.manager import TriggerManager
from triggers_core.storages.summaries import readable_header
from triggers_core.texts import clock, duration
from triggers_django.admin_filters import StuckFilter, TaskFilter, TriggerFilter
from triggers_django.admin_pages import instance_page, session_page
from triggers_django.checks import database_of
from triggers_django.models import Session

if TYPE_CHECKING:
    _Admin = ModelAdmin[Session]
else:
    _Admin = ModelAdmin  # generic for type checkers alone

Act = Callable[[TriggerManager, str], object]

_INSTANCE_ACTIONS: dict[str, Act] = {
    "replay": lambda manager, name: manager.replay_failed_instance(name),
    "skip": lambda manager, name: manager.skip_failed_instance(name),
    "fail": lambda manager, name: manager.fail_instance(name, "failed by hand, in the admin"),
}
"""What can be done to an instance; each has a permission ``triggers.<action>_instance``."""
_SESSION_ACTIONS: dict[str, Callable[[TriggerManager], object]] = {
    "close": lambda manager: manager.close_session(),
    "delete": lambda manager: manager.delete_session(),
}
"""What can be done to a session; each has a permission ``triggers.<action>_session``."""
_WARNINGS = {
    "fail": "Its worker is fenced off, and what it does is done all the same.",
    "close": "It accepts no more events, for good. What is under way runs to its end.",
    "delete": "All its events and instances are erased. This cannot be undone.",
}
_DONE = {
    "replay": "replayed",
    "skip": "skipped",
    "fail": "failed",
    "close": "closed",
    "delete": "deleted",
}


@admin.register(Session)
class SessionAdmin(_Admin):
    """The list of sessions, the page of each and of its instances, and what operators may do."""

    list_display = ("uid", "state", "failed_count", "under_way", "waiting", "events", "changed")
    list_filter = (StuckFilter, TaskFilter, TriggerFilter)
    search_fields = ("uid",)
    search_help_text = "A part of a session's uid."
    ordering = ("-failed", "-pk")
    list_per_page = 50
    show_full_result_count = False
    actions = ("replay_failed", "skip_failed")

    # -- permissions: nothing is added, changed or deleted as rows -------------------------------

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Session | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Session | None = None) -> bool:
        return False

    def has_replay_permission(self, request: HttpRequest) -> bool:
        """For the action of the list."""
        return may(request, "replay")

    def has_skip_permission(self, request: HttpRequest) -> bool:
        """For the action of the list."""
        return may(request, "skip")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Session]:
        return super().get_queryset(request).using(database_of(default_application))

    # -- the list ---------------------------------------------------------------------------------

    @admin.display(description="State")
    def state(self, session: Session) -> str:
        """Whether it is open, in words."""
        header = header_of(session)
        return "unreadable" if header is None else header.state.value

    @admin.display(description="Failed", ordering="failed")
    def failed_count(self, session: Session) -> int | str:
        """How many instances have failed."""
        return session.failed or ""

    @admin.display(description="Under way")
    def under_way(self, session: Session) -> int | str:
        """How many instances are scheduled or running."""
        header = header_of(session)
        amount = 0 if header is None else header.total(Status.SCHEDULED, Status.RUNNING)
        return amount or ""

    @admin.display(description="Waits for", ordering="waiting_since")
    def waiting(self, session: Session) -> str:
        """For how long nothing has been under way while something waits."""
        if session.waiting_since is None:
            return ""
        return duration(max(0.0, _now() - session.waiting_since))

    @admin.display(description="Events")
    def events(self, session: Session) -> int | str:
        """How many it has."""
        header = header_of(session)
        return "" if header is None else header.events

    @admin.display(description="Last change")
    def changed(self, session: Session) -> str:
        """When anything changed in it."""
        header = header_of(session)
        return "" if header is None else clock(header.updated_at, _now())

    @admin.action(description="Replay the failed instances", permissions=["replay"])
    def replay_failed(self, request: HttpRequest, queryset: QuerySet[Session]) -> None:
        """Replay every failed instance of the chosen sessions."""
        self._act_on_failed(request, queryset, "replay")

    @admin.action(description="Skip the failed instances", permissions=["skip"])
    def skip_failed(self, request: HttpRequest, queryset: QuerySet[Session]) -> None:
        """Skip every failed instance of the chosen sessions."""
        self._act_on_failed(request, queryset, "skip")

    def _act_on_failed(
        self, request: HttpRequest, queryset: QuerySet[Session], action: str
    ) -> None:
        done = 0
        for session in queryset:
            manager = manager_of(session)
            failed = manager.storage.store.instances(session.uid, statuses=(Status.FAILED,))
            for instance in failed:
                done += self._act(request, session, action, manager, instance.name)
        messages.info(request, f"{done} instances {_DONE[action]}.")

    # -- pages ------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLResolver | URLPattern]:  # type: ignore[override]
        wrap, info = self.admin_site.admin_view, "triggers_session"
        own = [
            path(
                "<path:pk>/instance/<path:name>/", wrap(self.instance_view), name=f"{info}_instance"
            ),
            path("<path:pk>/do/<str:action>/", wrap(self.action_view), name=f"{info}_action"),
        ]
        return [*own, *super().get_urls()]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The page of a session."""
        session = self._found(request, unquote(object_id))
        start = request.GET.get("events", "")
        try:
            page = session_page(
                default_application,
                manager_of(session).storage,
                int(start) if start.isdecimal() and len(start) < 18 else None,
            )
        except SessionNotFound:
            raise Http404 from None
        except TriggersError as error:
            page = {"problem": str(error)}
        allowed = [each for each in _SESSION_ACTIONS if may(request, each, "session")]
        return self._page(request, "session", session, session.uid, {**page, "allowed": allowed})

    def instance_view(self, request: HttpRequest, pk: str, name: str) -> HttpResponse:
        """The page of an instance."""
        session = self._found(request, unquote(pk))
        try:
            page = instance_page(manager_of(session).storage, name)
        except InstanceNotFound as error:
            raise Http404(str(error)) from None
        return self._page(request, "instance", session, name, page)

    @method_decorator(csrf_protect)
    def action_view(self, request: HttpRequest, pk: str, action: str) -> HttpResponse:
        """Ask, or do: an action on the session, or on the instance that the form names."""
        session = self._found(request, unquote(pk))
        name = request.POST.get("instance") or request.GET.get("instance", "")
        kind = "instance" if name else "session"
        if action not in (_INSTANCE_ACTIONS if name else _SESSION_ACTIONS):
            raise Http404
        if not may(request, action, kind):
            raise PermissionDenied
        here = reverse("admin:triggers_session_change", args=(session.pk,), current_app=self._site)
        if request.method != "POST":
            what = {"action": action, "name": name, "back": here, "warning": _WARNINGS.get(action)}
            return self._page(request, "confirm", session, f"{action.capitalize()}?", what)
        self._act(request, session, action, manager_of(session), name)
        if action == "delete":
            here = reverse("admin:triggers_session_changelist", current_app=self._site)
        return HttpResponseRedirect(here)

    def _found(self, request: HttpRequest, pk: str) -> Session:
        session = self.get_object(request, pk)
        if session is None:
            raise Http404
        if not self.has_view_permission(request, session):
            raise PermissionDenied
        return session

    def _act(
        self,
        request: HttpRequest,
        session: Session,
        action: str,
        manager: TriggerManager,
        name: str,
    ) -> bool:
        """Do it and tell; whether it could be done."""
        user: Any = request.user  # of whatever model
        manager = manager.by(user.get_username())
        try:
            if name:
                _INSTANCE_ACTIONS[action](manager, name)
            else:
                _SESSION_ACTIONS[action](manager)
        except TriggersError as error:
            messages.error(request, f"Not {_DONE[action]}: {error}")
            return False
        what = name or f"the session {session.uid}"
        told = f"{_DONE[action].capitalize()} {what}."  # Django capitalises the first letter
        messages.success(request, told)
        LogEntry.objects.create(
            user_id=request.user.pk,
            content_type_id=ContentType.objects.get_for_model(Session).pk,
            object_id=str(session.pk),
            object_repr=str(session)[:200],
            action_flag=CHANGE,
            change_message=told,
        )
        return True

    @property
    def _site(self) -> str:
        return self.admin_site.name

    def _page(
        self,
        request: HttpRequest,
        template: str,
        session: Session,
        title: str,
        context: dict[str, Any],
    ) -> HttpResponse:
        request.current_app = self._site
        may_do = {each for each in _INSTANCE_ACTIONS if may(request, each)}
        return TemplateResponse(
            request,
            f"admin/triggers/session/{template}.html",
            {
                **self.admin_site.each_context(request),
                "title": title,
                "opts": self.model._meta,
                "original": session,
                "may": may_do,
                **context,
            },
        )


def may(request: HttpRequest, action: str, kind: str = "instance") -> bool:
    """Whether the user has the permission for an action."""
    user: Any = request.user  # of whatever model
    return bool(user.has_perm(f"triggers.{action}_{kind}"))


def manager_of(session: Session) -> TriggerManager:
    """The manager of a session in the database that the list was read from."""
    from triggers_django.storage import DjangoStorage

    app = default_application
    if app.store.key == "django":
        return app.manager(session.uid)
    return app.manager_on(DjangoStorage(session.uid))


def header_of(session: Session) -> Header | None:
    """Its header; None when a newer version has written it. Decoded once for each row."""
    found: Header | None
    try:
        found = session.__dict__["_triggers_header"]
    except KeyError:
        found = session.__dict__["_triggers_header"] = readable_header(
            session.uid, bytes(session.header)
        )
    return found


def _now() -> float:
    return default_application.store.clock()
