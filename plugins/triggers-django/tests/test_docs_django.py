"""What the documentation says about Django runs as it stands, in projects of their own."""

from __future__ import annotations

import sys
from pathlib import Path

import django
import pytest
from django_projects import Project
from doc_pages import DOCS, ROOT, Page

PAGE = Page(DOCS / "cookbook" / "django-views.md")


def test_the_views(project_folder: Path) -> None:
    project = Project(project_folder)
    [settings] = [each for each in PAGE.fences("python") if each.startswith("# mysite/settings")]
    if django.VERSION < (5, 1):
        settings = settings.replace('"transaction_mode": "IMMEDIATE", ', "")
    project.settings(settings.replace('INSTALLED_APPS += ["triggers_django", "shop"]', ""))
    PAGE.write_files(project_folder)
    for command in PAGE.commands:
        python, manage, *arguments = command.line.split()
        assert (python, manage) == ("python", "manage.py")
        printed = project.manage(*arguments)
    assert "Ran 2 tests" in printed.stderr


PAGE_OF_TESTING = Page(DOCS / "testing.md")
PROJECT = Page(DOCS / "django.md")
README = Page(ROOT / "plugins" / "triggers-django" / "README.md")
MODELS = """
from django.db import models


class Order(models.Model):
    customer = models.CharField(max_length=100, default="Ada")
    paid = models.BooleanField(default=False)
"""
VIEWS = "from django.http import HttpResponse\nfrom shop.models import Order\n"
URLS = """
from django.urls import path
from shop import views, views_of_readme

urlpatterns = [
    path("orders/<int:pk>/paid/", views.paid),
    path("readme/<int:pk>/paid/", views_of_readme.paid),
]
"""
HEAD = """
from django.test import TestCase
from shop.models import Order
from triggers_core import get_trigger_manager
"""
MORE = """
    def setUp(self):
        Order.objects.create(pk=1)

    def test_what_the_view_has_fired(self):
        self.client.post("/orders/1/paid/")
        kwargs = get_trigger_manager("order:1").storage.latest_kwargs
        self.assertEqual(kwargs["paid"], {"customer": "Ada"})
        self.assertTrue(Order.objects.get().paid)

    def test_the_view_of_the_readme(self):
        self.client.post("/readme/2/paid/")
        kwargs = get_trigger_manager("order:2").storage.latest_kwargs
        self.assertEqual(kwargs["paid"], {"customer": "Ada"})
"""
COMMAND = """
import threading
from django.core.management.base import BaseCommand

def consume():
    print("sweeps:", any("sweep" in each.name for each in threading.enumerate()))
"""


def test_the_pieces_of_code(tmp_path: Path) -> None:
    """Of the page about projects, and of the README: models, views, a command, and their tests."""
    project = Project(tmp_path)
    if django.VERSION >= (5, 1):
        project.settings(PROJECT.piece("DATABASES["))
    settings = PROJECT.piece("# mysite/settings.py, at its end")
    project.settings(settings.replace('INSTALLED_APPS += ["triggers_django", "shop"]', ""))
    assert README.piece("INSTALLED_APPS += ").strip() == 'INSTALLED_APPS += ["triggers_django"]'
    of_readme = "from triggers_core import get_trigger_manager\n" + README.piece("def paid(")
    command = PROJECT.piece("from triggers_core.application")
    for name, text in {
        "shop/models.py": MODELS,
        "shop/trigger_tasks.py": PROJECT.piece("# shop/trigger_tasks.py"),
        "shop/views.py": VIEWS + PROJECT.piece("from django.db import transaction"),
        "shop/views_of_readme.py": VIEWS + of_readme,
        "mysite/urls.py": URLS,
        "shop/tests.py": HEAD + PROJECT.piece("class OrderTests") + MORE,
        "shop/management/__init__.py": "",
        "shop/management/commands/__init__.py": "",
        "shop/management/commands/consume.py": COMMAND + command,
    }.items():
        project.write(name, text)
    [migrate] = [each.line for each in README.commands if "manage.py" in each.line]
    project.manage("makemigrations", "shop")
    project.manage(*migrate.split()[2:])
    project.manage("migrate")
    assert "Ran 4 tests" in project.manage("test", "shop").stderr
    assert project.manage("consume").stdout == "sweeps: True\n"


@pytest.mark.parametrize(
    "text",
    [
        PROJECT.piece("TRIGGER_STORAGE_TYPE"),
        Page(DOCS / "cookbook" / "from-the-2017-framework.md").piece("TRIGGER_STORAGE_TYPE"),
    ],
)
def test_the_storage_on_a_cache(tmp_path: Path, text: str) -> None:
    project = Project(tmp_path)
    project.settings(text)
    project.settings(
        "CACHES = {'default': {'BACKEND': 'django.core.cache.backends.redis.RedisCache',"
        " 'LOCATION': 'redis://redis.internal:6379/3'}}"
    )
    told = project.python(
        "from triggers_core.application import default_application\n"
        "print(default_application.store.place)"
    )
    assert "redis.internal:6379/3" in told


def test_the_settings_of_a_project(tmp_path: Path) -> None:
    project = Project(tmp_path)
    text = Page(DOCS / "settings.md").files["mysite/settings.py"]
    project.settings(text.replace('INSTALLED_APPS += ["triggers_django"]', ""))
    told = project.python(
        "from triggers_core.application import default_application as app\n"
        "print(app.settings.TRIGGER_RUNNER_OPTIONS, app.settings.TRIGGER_STORAGE_TYPE)"
    )
    assert told == "{'max_workers': 8} django\n"


def test_webhooks_under_pytest_django(tmp_path: Path) -> None:
    pytest.importorskip("pytest_django")
    project = Project(tmp_path)
    task = PROJECT.piece("# shop/trigger_tasks.py").replace("paid['customer']", "paid['cents']")
    project.settings(
        "TRIGGER_CONFIGURATION = {'t_ship': {'after': ['paid', 'stock'], 'run': 'shop.Ship'}}"
    )
    project.write("shop/trigger_tasks.py", task)
    project.write(
        "shop/views.py",
        """
        import json
        from django.http import HttpResponse
        from triggers_core import get_trigger_manager

        def fire(request, trigger):
            body = json.loads(request.body)
            get_trigger_manager(f"order:{body.pop('order')}").fire(trigger, body)
            return HttpResponse(status=202)
        """,
    )
    project.write(
        "mysite/urls.py",
        """
        from django.urls import path
        from shop.views import fire

        urlpatterns = [
            path("payments", fire, {"trigger": "paid"}),
            path("stock", fire, {"trigger": "stock"}),
        ]
        """,
    )
    project.write("test_webhooks.py", PAGE_OF_TESTING.piece("import pytest\n"))
    options = ["-q", "-p", "no:cacheprovider", "-o", "pythonpath=."]
    told = project.run(
        [sys.executable, "-m", "pytest", *options, "test_webhooks.py"],
        DJANGO_SETTINGS_MODULE="mysite.settings",
    )
    assert "1 passed" in told.stdout


def test_the_addresses_of_a_project(tmp_path: Path) -> None:
    pytest.importorskip("triggers_web")
    project = Project(tmp_path)
    project.write("mysite/urls.py", Page(DOCS / "web.md").files["urls.py"])
    told = project.python(
        "from django.test import Client\n"
        "print(Client().get('/triggers/', headers={'host': 'localhost'}).status_code)"
    )
    assert told == "302\n", "whoever is not logged in is sent to a login"
