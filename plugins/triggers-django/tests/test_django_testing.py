"""Tests of applications: `manage.py test` and pytest-django, on a project of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from django_projects import CONFIGURATION, Project

TASKS = """
    import threading
    from django.db import connection
    from triggers_core import TriggerTask
    from shop.models import Parcel

    class Ship(TriggerTask):
        name = "shop.Ship"

        def _run(self, context):
            order = context.trigger_kwargs["paid"].get("order")
            parcel = Parcel.objects.create(order=order)
            if order == "twice":
                Parcel.objects.create(pk=parcel.pk)  # an IntegrityError
            return {"parcel": parcel.pk, "thread": threading.current_thread().name}

    class Tell(TriggerTask):
        name = "shop.Tell"

        def _run(self, context):
            parcel = Parcel.objects.get(pk=context.trigger_kwargs["t_ship"]["parcel"])
            return {"order": parcel.order, "thread": threading.current_thread().name}
"""
MODELS = """
    from django.db import models

    class Parcel(models.Model):
        order = models.CharField(max_length=100)
"""
VIEWS = """
    from django.http import HttpResponse
    from triggers_core import get_trigger_manager

    def paid(request):
        get_trigger_manager("order:view").fire("paid", {"order": "view"})
        get_trigger_manager("order:view").fire("packed")
        return HttpResponse("thanks")
"""
URLS = """
    from django.urls import path
    from shop.views import paid
    urlpatterns = [path("paid/", paid)]
"""
TESTS = """
    import threading
    from asgiref.sync import sync_to_async
    from django.db import transaction
    from django.test import TestCase, TransactionTestCase
    from triggers_core import get_trigger_manager
    from triggers_django.models import Session
    from shop.models import Parcel

    def join(uid, order="1"):
        manager = get_trigger_manager(uid)
        manager.fire("paid", {"order": order})
        manager.fire("packed")
        return manager

    class Wrapped(TestCase):
        def test_everything_runs_in_this_thread(self):
            before = threading.active_count()
            manager = join("order:1")
            for name in ("t_ship#0", "t_tell#0"):
                self.assertEqual(manager.storage[name].result["thread"], "MainThread", name)
            self.assertEqual(Parcel.objects.count(), 1)
            self.assertEqual(threading.active_count(), before)

        def test_nothing_is_left_of_another_test(self):
            self.assertEqual(Parcel.objects.count(), 0)
            self.assertEqual(Session.objects.count(), 0)

        test_and_once_more = test_everything_runs_in_this_thread

        def test_an_atomic_block_waits_for_its_callbacks(self):
            with transaction.atomic():
                manager = join("order:2")
            self.assertEqual(manager.storage["t_ship#0"].status, "scheduled")

        def test_callbacks_that_are_captured(self):
            with self.captureOnCommitCallbacks(execute=True) as callbacks:
                with transaction.atomic():
                    manager = join("order:3")
                    self.assertEqual(manager.storage["t_ship#0"].status, "scheduled")
            self.assertTrue(callbacks)
            self.assertEqual(manager.storage["t_tell#0"].result["thread"], "MainThread")

        def test_a_view_under_atomic_requests(self):
            with self.captureOnCommitCallbacks(execute=True):
                self.client.post("/paid/")
            self.assertEqual(Parcel.objects.get().order, "view")

        async def test_a_coroutine(self):
            manager = get_trigger_manager("order:7")
            await manager.afire("paid", {"order": "7"})
            await manager.afire("packed")
            told = await sync_to_async(lambda: manager.storage["t_tell#0"].result)()
            self.assertEqual(told["order"], "7")
            self.assertEqual(await Parcel.objects.acount(), 1)

        def test_a_body_that_breaks_a_constraint(self):
            manager = join("order:4", "twice")
            failed = manager.storage["t_ship#0"]
            self.assertEqual(failed.status, "failed")
            self.assertIn("IntegrityError", failed.metadata["error"]["type"])
            self.assertEqual(Parcel.objects.count(), 0)

        def test_a_replay(self):
            manager = join("order:5", "twice")
            manager.replay_failed_instance("t_ship#0", {"paid": {"order": "once"}})
            self.assertEqual(manager.storage["t_tell#0"].result["order"], "once")

    class Committed(TransactionTestCase):
        def test_threads_as_in_production(self):
            manager = join("order:6")
            self.assertTrue(manager.join(30))
            thread = manager.storage["t_tell#0"].result["thread"]
            self.assertTrue(thread.startswith("triggers-worker"), thread)
            self.assertFalse([t for t in threading.enumerate() if t.name == "triggers-sweep"])
"""
PYTEST = """
    import threading
    import pytest
    from django.db import transaction
    from triggers_core import get_trigger_manager
    from triggers_django.models import Session
    from shop.models import Parcel

    def join(uid):
        manager = get_trigger_manager(uid)
        manager.fire("paid", {"order": "1"})
        manager.fire("packed")
        return manager

    @pytest.mark.django_db
    @pytest.mark.parametrize("turn", [1, 2])
    def test_wrapped(turn):
        assert Session.objects.count() == 0
        manager = join("order:1")
        assert manager.storage["t_tell#0"].result["thread"] == "MainThread"

    def test_callbacks(db, django_capture_on_commit_callbacks):
        with django_capture_on_commit_callbacks(execute=True):
            with transaction.atomic():
                manager = join("order:2")
                assert manager.storage["t_ship#0"].status == "scheduled"
        assert manager.storage["t_tell#0"].status == "finished"

    def test_threads(transactional_db):
        manager = join("order:3")
        assert manager.join(30)
        assert manager.storage["t_tell#0"].result["thread"].startswith("triggers-worker")

    def test_without_a_database():
        with pytest.raises(Exception, match="Database access not allowed"):
            join("order:4")
"""


@pytest.fixture(scope="module")
def project(project_folder: Path) -> Project:
    project = Project(project_folder)
    files = {"trigger_tasks": TASKS, "models": MODELS, "views": VIEWS, "tests": TESTS}
    for name, text in files.items():
        project.write(f"shop/{name}.py", text)
    project.write("mysite/urls.py", URLS)
    project.settings(CONFIGURATION)
    project.settings(
        """
        TRIGGER_CONFIGURATION["t_tell"] = {"after": ["t_ship"], "run": "shop.Tell"}
        DATABASES["default"]["ATOMIC_REQUESTS"] = True
        DATABASES["default"]["TEST"] = {"NAME": BASE_DIR / "test.sqlite3"}
        DATABASES["default"]["OPTIONS"] = {"timeout": 20}
        """
    )
    project.manage("makemigrations", "-v0", "shop")
    project.manage("migrate", "-v0")
    project.python("""
        from triggers_core import get_trigger_manager
        get_trigger_manager("real").fire("paid", {"order": "real"})
    """)
    return project


def real_sessions(project: Project) -> str:
    return project.python("""
        from triggers_django.models import Session
        print(*Session.objects.values_list("uid", flat=True))
    """)


def test_unittest(project: Project) -> None:
    ended = project.manage("test", "-v1")
    assert "Ran 10 tests" in ended.stderr
    assert real_sessions(project) == "real\n"


def test_pytest_django(project: Project, tmp_path: Path) -> None:
    pytest.importorskip("pytest_django")
    project.write("shop/test_pytest.py", PYTEST)
    project.write("pytest.ini", "[pytest]\nDJANGO_SETTINGS_MODULE = mysite.settings\n")
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "shop/test_pytest.py")
    ended = project.run([sys.executable, "-m", "pytest", *options])
    assert "5 passed" in ended.stdout
    assert real_sessions(project) == "real\n"
