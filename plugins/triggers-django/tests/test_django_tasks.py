"""The runner `django`: attempts by a backend of Django's tasks, at once and by a worker."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import django
import pytest
from django_projects import CONFIGURATION, Project

if find_spec("django.tasks") is None and find_spec("django_tasks") is None:
    pytest.skip("neither Django 6.0 nor the backport django-tasks", allow_module_level=True)

WORKER = find_spec("django_tasks_db") is not None and django.VERSION >= (5, 1)
FRAMEWORK = "django.tasks" if find_spec("django.tasks") else "django_tasks"

TASKS = """
    import os
    from triggers_core import TriggerTask

    class Ship(TriggerTask):
        name = "shop.Ship"

        def _run(self, context):
            if context.trigger_kwargs["paid"].get("fails"):
                raise ValueError("no such parcel")
            return {"pid": os.getpid()}

    class Tell(TriggerTask):
        name = "shop.Tell"

        def _run(self, context):
            return {"told": context.trigger_kwargs["t_ship"]["pid"]}
"""


@pytest.fixture(scope="module")
def project(project_folder: Path) -> Project:
    project = Project(project_folder)
    project.write("shop/trigger_tasks.py", TASKS)
    project.settings(CONFIGURATION)
    project.settings(f"""
        import os
        TRIGGER_CONFIGURATION["t_tell"] = {{"after": ["t_ship"], "run": "shop.Tell"}}
        TRIGGER_STORAGE_TYPE = "sqlite"
        TRIGGER_STORAGE_OPTIONS = {{"path": BASE_DIR / "sessions.db"}}
        TRIGGER_RUNNER = "django"
        TRIGGER_RUNNER_OPTIONS = {{"backend": os.environ.get("BACKEND", "default")}}
        if {WORKER}:
            INSTALLED_APPS += ["django_tasks_db"]
        if "{FRAMEWORK}" == "django_tasks":
            INSTALLED_APPS += ["django_tasks"]
        TASKS = {{"default": {{"BACKEND": "{FRAMEWORK}.backends.immediate.ImmediateBackend"}}}}
        if {WORKER}:
            TASKS["db"] = {{"BACKEND": "django_tasks_db.DatabaseBackend"}}
    """)
    project.manage("migrate", "-v0")
    return project


def test_a_backend_that_runs_them_at_once(project: Project) -> None:
    printed = project.python("""
        import os, threading
        from triggers_core import get_trigger_manager
        manager = get_trigger_manager("order:1")
        manager.fire("paid"), manager.fire("packed")
        print(manager.storage["t_ship#0"].result == {"pid": os.getpid()})
        print(manager.storage["t_tell#0"].result == {"told": os.getpid()})
        print([each.name for each in threading.enumerate() if "sweep" in each.name])
    """)
    assert printed.splitlines() == ["True", "True", "[]"]


def test_a_failed_body_fails_its_task_too(project: Project) -> None:
    printed = project.python("""
        from triggers_core import get_trigger_manager
        manager = get_trigger_manager("order:2")
        manager.fire("paid", {"fails": True}), manager.fire("packed")
        print(manager.storage["t_ship#0"].status.value)
        print(manager.storage["t_ship#0"].metadata["error"]["message"])
    """)
    assert printed.splitlines() == ["failed", "no such parcel"]


@pytest.mark.skipif(not WORKER, reason="django-tasks-db is not there, or asks for Django 5.1")
def test_a_worker_makes_the_attempts(project: Project, tmp_path: Path) -> None:
    fire = """
        import os
        from triggers_core import get_trigger_manager
        manager = get_trigger_manager("order:3")
        manager.fire("paid"), manager.fire("packed")
        print(manager.storage["t_ship#0"].status.value, os.getpid())
    """
    status, pid = project.python(fire, BACKEND="db").split()
    assert status == "scheduled"
    project.manage("db_worker", "--batch", "--backend", "db", "--no-startup-delay", BACKEND="db")
    look = """
        from triggers_core import get_trigger_manager
        storage = get_trigger_manager("order:3").storage
        print(storage["t_ship#0"].result["pid"], storage["t_tell#0"].result["told"])
    """
    shipped, told = project.python(look, BACKEND="db").split()
    assert shipped == told != pid


def test_a_message_of_an_unknown_application_says_what_to_do(project: Project) -> None:
    printed = project.python("""
        from triggers_django.attempts import run_attempt
        try:
            run_attempt.call("other", "u", "g", "t#0", 1)
        except Exception as error:
            print(type(error).__name__, error)
    """)
    assert printed.startswith("InvalidSetting t#0 belongs to the application 'other'")
