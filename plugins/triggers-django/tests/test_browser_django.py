"""The pages of a Django project in a real browser: the cases are in `browser_cases`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from django_projects import Project
from test_django_web import URLS

WALKS = Path(__file__).parents[2] / "triggers-web" / "tests"
"""Where the ways through the pages are."""
SETTINGS = """
    from pathlib import Path

    TRIGGER_RUNNER = "manual"
    ALLOWED_HOSTS = ["localhost"]
    DATABASES["default"] |= {
        # A file, which each thread has a connection of its own to.
        "TEST": {"NAME": Path(__file__).with_name("test.sqlite3")},
        "OPTIONS": {"timeout": 20},
    }
    PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # which is fast
    LOGGING = {"version": 1, "disable_existing_loggers": False, "root": {"level": "CRITICAL"}}
"""

pytestmark = pytest.mark.browser


def test_in_chromium(project_folder: Path) -> None:
    spec = importlib.util.spec_from_file_location("real_browser", WALKS / "real_browser.py")
    assert spec is not None
    assert spec.loader is not None
    real_browser = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(real_browser)
    with real_browser.open_chromium():
        """Or the test is skipped, which the project's could not tell."""
    project = Project(project_folder)
    project.limit = 280.0  # five cases, each of which waits for many pages
    project.settings(SETTINGS)
    project.write("mysite/urls.py", URLS)
    cases = Path(__file__).with_name("browser_cases.py")
    project.write("shop/tests.py", cases.read_text())
    ended = project.manage(
        "test",
        "-v1",
        PYTHONPATH=f"{project.folder}:{WALKS}",
        DJANGO_ALLOW_ASYNC_UNSAFE="1",  # Playwright has an event loop in the thread of the tests
    )
    assert "Ran 5 tests" in ended.stderr
