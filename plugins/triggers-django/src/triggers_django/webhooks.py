"""Webhooks of triggers-web in a project: ``path("hooks/", include("triggers_django.webhooks"))``.

They are those of ``TRIGGER_PLUGIN_OPTIONS["web"]["webhooks"]``, and take no login: each says in its
configuration how its signature is checked. Bodies are bounded in size; how long one may take to
arrive is the server's business.
"""

from __future__ import annotations

from typing import Final

from django.urls import re_path

from triggers_core.application import default_application
from triggers_django.web_adapter import PATTERN, as_view
from triggers_web.intake import Intake

app_name = "triggers_webhooks"

intake: Final = Intake.from_settings(default_application)
"""What answers. A mistake in the settings is found when this is imported: by `manage.py check`."""

_view = as_view(intake)
_view.login_required = False  # for LoginRequiredMiddleware, of Django 5.1

urlpatterns = [re_path(PATTERN, _view, name="webhooks")]
