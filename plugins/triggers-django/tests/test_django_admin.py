"""The admin, in a project of its own: its cases are in `admin_cases`."""

from __future__ import annotations

from pathlib import Path

from django_projects import Project

TASKS = """
    from triggers_core import TriggerTask

    class Ship(TriggerTask):
        name = "shop.Ship"

        def _run(self, context):
            for kwargs in context.trigger_kwargs.values():
                if kwargs.get("fails"):
                    raise ValueError("no such parcel")
"""
SETTINGS = """
    TRIGGER_CONFIGURATION = {
        "t_ship": {"after": ["paid", "packed"], "run": "shop.Ship"},
    }
    LOGGING = {"version": 1, "disable_existing_loggers": False, "root": {"level": "CRITICAL"}}
"""


def test_the_admin(project_folder: Path) -> None:
    project = Project(project_folder)
    project.write("shop/trigger_tasks.py", TASKS)
    project.settings(SETTINGS)
    project.write("shop/tests.py", Path(__file__).with_name("admin_cases.py").read_text())
    ended = project.manage("test", "-v1")
    assert "Ran 19 tests" in ended.stderr
