"""What the README says is true."""

from __future__ import annotations

import json
from pathlib import Path

from doc_pages import ROOT, Page, configured, run_python

from triggers_core import Application
from triggers_core.settings import Settings

README = Page(ROOT / "plugins" / "triggers-structlog" / "README.md")
PROGRAM = """
import logging
import sys
from triggers_core import Application, TriggerTask
from triggers_core.settings import Settings
{setup}
logging.getLogger().handlers[0].setStream(sys.stdout)
{task}
    name = "app.tasks.ImportSubject"

settings = Settings.isolated(TRIGGER_STORAGE_TYPE="memory", TRIGGER_PLUGINS=["structlog"])
with Application("page", settings) as app:
    manager = app.manager("applicant:42")
    task = {{"after": ["first"], "run": "app.tasks.ImportSubject"}}
    manager.update_configuration({{"t_importSubject": task}})
    manager.fire("first")
    manager.join()
"""


def test_the_line_of_the_readme(tmp_path: Path) -> None:
    setup, task = README.piece("import triggers_structlog"), README.piece("class ImportSubject")
    (tmp_path / "page.py").write_text(PROGRAM.format(setup=setup, task=task))
    [shown] = map(json.loads, README.fences("json"))
    lines = [json.loads(line) for line in run_python(["page.py"], tmp_path).splitlines()]
    [printed] = [line for line in lines if line["event"] == shown["event"]]
    assert list(printed) == list(shown), "the fields are in another order"
    moment = {"timestamp": shown["timestamp"]}
    assert printed | moment == shown


def test_the_options() -> None:
    settings = Settings.isolated(
        **configured(README.piece("configure(")),
        TRIGGER_STORAGE_TYPE="memory",
        TRIGGER_PLUGINS=["structlog"],
    )
    with Application("page", settings) as app:
        assert "structlog" in app.plugins.names
