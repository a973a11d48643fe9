"""What the Guide says of the directive is accepted."""

from __future__ import annotations

import tomllib

from doc_pages import DOCS, Page

from triggers_core import Application
from triggers_core.runners import ManualRunner
from triggers_core.settings import Settings


def test_the_configuration_on_the_page() -> None:
    [text] = Page(DOCS / "guide" / "writing-tasks.md").section("Without writing it").fences("toml")
    settings = Settings.isolated(TRIGGER_STORAGE_TYPE="memory", TRIGGER_PLUGINS=["retry"])
    with Application("page", settings, runner=ManualRunner) as app:
        manager = app.manager("order:42")
        manager.update_configuration(tomllib.loads(text))
        assert manager.storage.tasks["t_pay"].directives["retry"]["times"] == 5
