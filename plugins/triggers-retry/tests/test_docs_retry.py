"""What the Guide and the README say of the directive is accepted, and true."""

from __future__ import annotations

import ast
import json
import tomllib

from doc_pages import DOCS, ROOT, Page, configured

from triggers_core import Application
from triggers_core.runners import ManualRunner
from triggers_core.settings import Settings
from triggers_core.testing import Triggers

README = Page(ROOT / "plugins" / "triggers-retry" / "README.md")


def test_the_configuration_on_the_page() -> None:
    [text] = Page(DOCS / "guide" / "writing-tasks.md").section("Without writing it").fences("toml")
    settings = Settings.isolated(TRIGGER_STORAGE_TYPE="memory", TRIGGER_PLUGINS=["retry"])
    with Application("page", settings, runner=ManualRunner) as app:
        manager = app.manager("order:42")
        manager.update_configuration(tomllib.loads(text))
        assert manager.storage.tasks["t_pay"].directives["retry"]["times"] == 5


def test_the_waits_of_the_readme_and_what_the_last_failure_says() -> None:
    [configuration] = map(json.loads, README.fences("json"))
    asked = README.piece("manager.storage[")
    with Triggers() as triggers:
        triggers.configure(TRIGGER_PLUGINS=["retry"])
        s = triggers.session(configuration)
        s.fails("t_importSubject", ConnectionError("no network"))
        s.fire("firstPageReceived")
        for retries, wait in enumerate((10, 20, 40, 80, 160), start=1):
            s.advance(wait - 1)
            assert s.ran("t_importSubject") == retries
            s.advance(1)
            assert s.ran("t_importSubject") == retries + 1
        said = eval(asked, {"manager": s.manager})
    assert said == ast.literal_eval(asked.splitlines()[1].removeprefix("# "))


def test_the_options_of_the_readme() -> None:
    settings = Settings.isolated(
        **configured(README.piece("configure(")),
        TRIGGER_STORAGE_TYPE="memory",
        TRIGGER_PLUGINS=["retry"],
    )
    with Application("page", settings, runner=ManualRunner) as app:
        assert "retry" in app.plugins.names
