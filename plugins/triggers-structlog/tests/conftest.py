"""Runs a body once with the plugin loaded, and keeps what it logs."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import structlog

import triggers_structlog.plugin
from triggers_core import Application, TaskContext, TriggerManager, trigger_task
from triggers_core.settings import Settings
from triggers_core.tasks import registry

Body = Callable[[TaskContext], Any]


class Lines(logging.Handler):
    """Keeps formatted records, tracebacks included."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.texts.append(self.format(record))

    def of(self, name: str = "structured.body") -> list[str]:
        """The lines of one logger."""
        return [
            text
            for text, record in zip(self.texts, self.records, strict=True)
            if record.name == name
        ]

    def json(self, name: str = "structured.body") -> list[dict[str, Any]]:
        """The lines of one logger, parsed."""
        return [json.loads(text) for text in self.of(name)]


@pytest.fixture
def lines() -> Iterator[Lines]:
    kept, level = Lines(), logging.root.level
    logging.root.addHandler(kept)
    logging.root.setLevel(logging.DEBUG)
    yield kept
    logging.root.removeHandler(kept)
    logging.root.setLevel(level)


@pytest.fixture(autouse=True)
def _structlog_as_it_was() -> Iterator[None]:
    logger_class = logging.getLoggerClass()  # structlog puts its own there
    yield
    logging.setLoggerClass(logger_class)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


Run = Callable[..., TriggerManager]


@pytest.fixture
def run(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs a body once, as `t#0` of the session `s`; returns the manager."""
    monkeypatch.setattr(registry, "declared", {})
    apps = []

    def run(
        body: Body,
        kwargs: Mapping[str, Any] | None = None,
        task: str = "structured.body",
        plugins: tuple[object, ...] = (),
        **options: Any,
    ) -> TriggerManager:
        trigger_task(name=task)(body)
        settings = Settings.isolated(
            TRIGGER_STORAGE_TYPE="memory",
            TRIGGER_PLUGINS=[triggers_structlog.plugin, *plugins],
            TRIGGER_PLUGIN_OPTIONS={"structlog": {"renderer": "json", **options}},
        )
        apps.append(Application("structured", settings))
        manager = apps[-1].manager("s")
        manager.update_configuration({"t": {"after": ["go"], "run": task}})
        manager.fire("go", kwargs)
        assert manager.join(120)
        return manager

    yield run
    for app in apps:
        app.close()
