"""What the cookbook says about Django's views runs as it stands, in a project of its own."""

from __future__ import annotations

from pathlib import Path

import django
from django_projects import Project
from doc_pages import DOCS, Page

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
