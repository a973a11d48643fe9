"""Pages and webhooks in a Django project: the cases are in `web_cases`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django_projects import Project
from test_django_admin import TASKS

SETTINGS = """
    TRIGGER_CONFIGURATION = {
        "t_ship": {"after": ["paid", "packed"], "run": "shop.Ship"},
    }
    TRIGGER_PLUGIN_OPTIONS = {
        "web": {
            "webhooks": {
                "/warehouse": {
                    "verify": "hmac",
                    "secret": "env:WAREHOUSE",
                    "header": "X-Signature",
                    "uid": "order:{body.order}",
                    "trigger": "packed",
                    "event_id": "packed:{body.order}",
                },
            },
        },
    }
    DATABASES["default"]["ATOMIC_REQUESTS"] = True
    ALLOWED_HOSTS = ["testserver"]
    LOGGING = {"version": 1, "disable_existing_loggers": False, "root": {"level": "CRITICAL"}}
"""
URLS = """
    from django.contrib import admin
    from django.urls import include, path

    urlpatterns = [
        path("admin/", admin.site.urls),
        path("ops/triggers/", include("triggers_django.web")),
        path("hooks/", include("triggers_django.webhooks")),
    ]
"""


def test_pages_and_webhooks(project_folder: Path) -> None:
    project = Project(project_folder)
    project.write("shop/trigger_tasks.py", TASKS)
    project.settings(SETTINGS)
    project.write("mysite/urls.py", URLS)
    project.write("shop/tests.py", Path(__file__).with_name("web_cases.py").read_text())
    ended = project.manage("test", "-v1", WAREHOUSE="of the warehouse")
    assert "Ran 12 tests" in ended.stderr


def test_without_triggers_web(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is said where the project includes it."""
    for name in [each for each in sys.modules if each.startswith("triggers_web")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "triggers_web", None)
    for name in ("triggers_django.web", "triggers_django.webhooks", "triggers_django.web_adapter"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        with pytest.raises(ImproperlyConfigured, match=r"pip install 'triggers-django\[web\]'"):
            importlib.import_module(name)
