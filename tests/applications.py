"""Applications for tests: isolated from the environment, on either storage; waiting for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from triggers_core import Application
from triggers_core.settings import Settings

STORAGES = ("memory", "sqlite")


@contextmanager
def application(storage: str, folder: Path, **settings: Any) -> Iterator[Application]:
    """An application that reads nothing from outside; closed at the end."""
    options = {"path": str(folder / "triggers.db"), "synchronous": "NORMAL"}
    app = Application(
        "test",
        Settings.isolated(
            TRIGGER_STORAGE_TYPE=storage,
            TRIGGER_STORAGE_OPTIONS=options if storage == "sqlite" else {},
            **{"TRIGGER_PLUGINS": [], **settings},
        ),
    )
    try:
        yield app
    finally:
        app.close()


def eventually(true: Callable[[], object]) -> None:
    """Wait until something holds; fails after four minutes."""
    pause = threading.Event()
    for _ in range(12_000):
        if true():
            return
        pause.wait(0.02)
    raise AssertionError("it did not come to that")
