"""What `manage.py check` says: settings, tasks, migrations, runners."""

from __future__ import annotations

from pathlib import Path

import django
import pytest
from django_projects import CONFIGURATION, TASKS, Project


@pytest.fixture(scope="module")
def project(project_folder: Path) -> Project:
    project = Project(project_folder)
    project.write("shop/trigger_tasks.py", TASKS)
    project.write("mysite/base.py", (project_folder / "mysite/settings.py").read_text())
    return project


def check(project: Project, settings: str, *options: str, code: int = 1) -> str:
    """Check the project with these settings more; what was said."""
    project.write("mysite/settings.py", f"from mysite.base import *\n{settings}")
    return project.manage("check", *options, code=code).stderr


def test_all_is_well(project: Project) -> None:
    settings = CONFIGURATION.strip()
    assert "no issues" in project.manage("check").stdout
    check(project, settings, code=0)


def test_every_wrong_setting_is_told_at_once(project: Project) -> None:
    told = check(project, 'TRIGGER_RUNNER = 7\nTRIGGER_LIMITS = {"tusks": 1}\n')
    assert "triggers.E001" in told
    assert "TRIGGER_RUNNER" in told
    assert "tusks" in told
    assert "2 issues" in told


def test_an_unknown_setting(project: Project) -> None:
    told = check(project, 'TRIGGER_STORAGE_TIPE = "django"\n')
    assert "did you mean 'TRIGGER_STORAGE_TYPE'?" in told


def test_a_storage_that_cannot_be(project: Project) -> None:
    told = check(project, 'TRIGGER_STORAGE_TYPE = "cache"\n')
    assert "triggers.E002" in told
    assert "LocMemCache" in told


def test_an_unknown_task(project: Project) -> None:
    settings = CONFIGURATION.strip().replace("shop.Ship", "shop.Shop")
    told = check(project, settings)
    assert "triggers.E007" in told
    assert "t_ship.run: no task named 'shop.Shop' is defined" in told
    assert "trigger_tasks" in told


def test_a_module_of_tasks_that_cannot_be_imported(project: Project) -> None:
    told = check(project, 'TRIGGER_IMPORTS = ["shop.taks"]\n')
    assert "triggers.E005" in told
    assert "No module named 'shop.taks'" in told


def test_a_wrong_configuration(project: Project) -> None:
    told = check(project, 'TRIGGER_CONFIGURATION = {"t_ship": {"run": "shop.Ship"}}\n')
    assert "triggers.E006" in told
    assert "t_ship" in told
    assert "1 issue" in told, "the runner reads the configuration, too: that is no error of its own"


def test_a_missing_migration(project: Project) -> None:
    told = check(project, "", "--database", "default")
    assert "triggers.E009" in told
    assert "lacks triggers.0001_initial" in told
    assert "manage.py migrate triggers" in told
    project.manage("migrate", "-v0", "triggers")
    check(project, "", "--database", "default", code=0)


def test_sqlite_under_atomic_requests(project: Project) -> None:
    atomic = 'DATABASES["default"]["ATOMIC_REQUESTS"] = True\n'
    told = check(project, atomic, code=0)
    assert "triggers.W004" in told
    assert "'transaction_mode': 'IMMEDIATE'" in told
    if django.VERSION >= (5, 1):
        options = 'DATABASES["default"]["OPTIONS"] = {"transaction_mode": "IMMEDIATE"}\n'
        assert "triggers.W004" not in check(project, atomic + options, code=0)


def test_celery_that_is_eager(project: Project) -> None:
    pytest.importorskip("triggers_celery")
    project.write(
        "mysite/celery.py",
        """
        from celery import Celery
        app = Celery("mysite", broker="memory://")
        app.config_from_object("django.conf:settings", namespace="CELERY")
        """,
    )
    celery = 'TRIGGER_RUNNER = "celery"\nTRIGGER_RUNNER_OPTIONS = {"app": "mysite.celery:app"}\n'
    told = check(project, f"{celery}CELERY_TASK_ALWAYS_EAGER = True\n", code=0)
    assert "triggers.W002" in told
    assert "CELERY_TASK_ALWAYS_EAGER" in told
    assert "W002" not in check(project, celery, code=0)


def test_sessions_in_the_memory_of_one_process(project: Project) -> None:
    assert "triggers.W003" in check(project, 'TRIGGER_STORAGE_TYPE = "memory"\n', code=0)
