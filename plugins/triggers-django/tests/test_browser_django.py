"""The pages of a Django project in a real browser: the cases are in `browser_cases`."""

from __future__ import annotations

import importlib.util
import re
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

CASES = Path(__file__).with_name("browser_cases.py").read_text()

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def project(project_folder: Path) -> Project:
    spec = importlib.util.spec_from_file_location("real_browser", WALKS / "real_browser.py")
    assert spec is not None
    assert spec.loader is not None
    real_browser = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(real_browser)
    with real_browser.open_chromium():
        """Or the tests are skipped, which the project's could not tell."""
    project = Project(project_folder)
    project.limit = 280.0  # each waits for many pages
    project.settings(SETTINGS)
    project.write("mysite/urls.py", URLS)
    project.write("shop/tests.py", CASES)
    return project


@pytest.mark.parametrize("case", re.findall(r"def (test_\w+)", CASES))
def test_in_chromium(project: Project, case: str) -> None:
    ended = project.manage(
        "test",
        f"shop.tests.InChromium.{case}",
        "--keepdb",
        PYTHONPATH=f"{project.folder}:{WALKS}",
        DJANGO_ALLOW_ASYNC_UNSAFE="1",  # Playwright has an event loop in the thread of the tests
    )
    assert "Ran 1 test" in ended.stderr
