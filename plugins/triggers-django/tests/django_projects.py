"""Django projects in folders of their own, as `django-admin startproject` makes them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

LIMIT = 120.0  # seconds that a command may take; none should


class Project:
    """A project that uses Triggers, on SQLite, with one application ``shop``.

    Every command is a process of its own: what Django keeps in globals disturbs no other test.
    """

    limit = LIMIT

    def __init__(self, folder: Path, name: str = "mysite", app: str = "shop") -> None:
        self.folder, self.name, self.app = folder, name, app
        # What django-admin does, both in one process.
        make = f"call_command('startproject', {name!r}, '.'); call_command('startapp', {app!r})"
        head = "from django.conf import settings; settings.configure(); import django;"
        call = "django.setup(); from django.core.management import call_command;"
        self.run([sys.executable, "-c", f"{head} {call} {make}"])
        self.settings(f"INSTALLED_APPS += ['triggers_django', '{app}']")

    def write(self, path: str, text: str) -> None:
        """Write a file."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))

    def settings(self, text: str) -> None:
        """Add lines to the settings."""
        file = self.folder / self.name / "settings.py"
        file.write_text(file.read_text() + "\n" + textwrap.dedent(text))

    def manage(
        self, *arguments: str, code: int = 0, stdin: str = "", **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run ``manage.py``, and see that it ends with that exit code."""
        return self.run([sys.executable, "manage.py", *arguments], code, stdin, **environ)

    def python(self, text: str, code: int = 0, **environ: str) -> str:
        """Run a program in the project, set up; what it printed."""
        head = "import django; django.setup()\n"
        program = [sys.executable, "-c", head + textwrap.dedent(text)]
        environ = {"DJANGO_SETTINGS_MODULE": f"{self.name}.settings", **environ}
        return self.run(program, code, **environ).stdout

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        """Start ``manage.py`` and leave it running; whoever starts it ends it."""
        return subprocess.Popen(
            [sys.executable, "manage.py", *arguments],
            cwd=self.folder,
            env=self._environ(environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _environ(self, more: dict[str, str]) -> dict[str, str]:
        others = ("TRIGGER", "DJANGO", "NO_COLOR", "FORCE_COLOR")
        ours = {k: v for k, v in os.environ.items() if not k.startswith(others)}
        return {
            **ours,
            "PYTHONPATH": str(self.folder),
            "PYTHONUNBUFFERED": "1",
            **more,
        }

    def run(
        self, command: list[str], code: int = 0, stdin: str = "", **environ: str
    ) -> subprocess.CompletedProcess[str]:
        ended = subprocess.run(
            command,
            cwd=self.folder,
            env=self._environ(environ),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=self.limit,
        )
        told = f"{command}\n{ended.stdout}\n{ended.stderr}"
        assert ended.returncode == code, told
        return ended


TASKS = """
    from triggers_core import TriggerTask

    class Ship(TriggerTask):
        name = "shop.Ship"

        def _run(self, context):
            return {"shipped": sorted(context.trigger_kwargs)}
"""
CONFIGURATION = """
    TRIGGER_CONFIGURATION = {"t_ship": {"after": ["paid", "packed"], "run": "shop.Ship"}}
"""
