"""The pages of triggers-web in a project: ``path("triggers/", include("triggers_django.web"))``.

Django's users see and do there what their permissions say; see `access`.
"""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpResponse
from django.urls import NoReverseMatch, re_path, reverse

from triggers_core.application import default_application
from triggers_django.web_adapter import PATTERN, as_view
from triggers_web.http import Request
from triggers_web.pages import Access, Pages

READ: Final = "triggers.view_session"
"""The permission that seeing pages takes."""
ACT: Final = ("triggers.replay_instance", "triggers.skip_instance", "triggers.fail_instance")
"""Those that acting takes, firing and acting on many sessions included: all of them."""
ERASE: Final = ("triggers.close_session", "triggers.delete_session")
"""Those that closing, deleting and reconfiguring sessions take: both."""

app_name = "triggers"


def access(request: Request) -> Access:
    """What Django's user may see and do. What is masked stays so, for everybody."""
    user: Any = request.user  # of whatever model
    if user is None or not user.is_authenticated:
        return Access()
    return Access(
        who=user.get_username(),
        read=user.has_perm(READ),
        act=user.has_perms(ACT),
        erase=user.has_perms(ERASE),
    )


def to_login(request: Request) -> HttpResponse | None:
    """Send whoever is not logged in to do so: to the admin's page for it, else to ``LOGIN_URL``.

    Only browsers that are to show a page: a form, or a page that keeps itself up to date, is
    refused instead.
    """
    user: Any = request.user
    is_known = user is not None and user.is_authenticated
    is_shown = request.method == "GET" and not request.path.startswith("/static/")
    if is_known or not is_shown or request.headers.get("sec-fetch-mode", "navigate") != "navigate":
        return None
    query = f"?{request.query_string}" if request.query_string else ""
    try:
        login = reverse("admin:login")
    except NoReverseMatch:
        login = settings.LOGIN_URL
    return redirect_to_login(f"{request.root}{request.path}{query}", login)


pages: Final = Pages(default_application, access=access)
"""What answers."""

urlpatterns = [re_path(PATTERN, as_view(pages, to_login), name="pages")]
