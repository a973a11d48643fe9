"""The shop of ``triggers demo``: an application in forty lines, and its worker process."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from triggers_core import Application, TaskContext, TriggerTask
from triggers_core.settings import Settings

CONFIGURATION = {
    "t_ship": {"after": ["paid", "packed"], "unless": ["cancelled"], "run": "demo.Ship"},
    "t_mail": {"after": ["t_ship"], "run": "demo.Mail"},
}
IN_THE_MIDDLE = "shipping"
"""What a worker prints when it is in the middle of its first parcel."""


class Ship(TriggerTask):
    """Hands a parcel to the carrier, which recognises a repeated request by its key."""

    name = "demo.Ship"

    def _run(self, context: TaskContext) -> dict[str, str]:
        order = context.trigger_kwargs["packed"]["order"]
        with carrier_of(context.manager.app).open("a") as carrier:
            carrier.write(json.dumps({"key": context.idempotency_key}) + "\n")
        if context.attempt == 1:
            print(IN_THE_MIDDLE, flush=True)
            time.sleep(60)  # nobody waits for it: the worker is killed
        return {"parcel": f"parcel {order}"}


class Mail(TriggerTask):
    """Tells the customer."""

    name = "demo.Mail"

    def _run(self, context: TaskContext) -> None:
        """Write to the customer about ``context.trigger_kwargs["t_ship"]["parcel"]``."""


def shop(path: str, **more: object) -> Application:
    """The application, on a file."""
    values = {
        "TRIGGER_STORAGE_OPTIONS": {"path": path},
        # A short lease, so that nobody has to wait a minute to see a killed worker replaced.
        "TRIGGER_TIMING": {"lease": 1.0, "heartbeat": 0.25, "sweep": 0.2},
        "TRIGGER_PLUGINS": [],
        **more,
    }
    return Application("demo", Settings.isolated(**values))


def carrier_of(app: Application) -> Path:
    """The carrier's book: a line for each request."""
    return Path(f"{app.settings.TRIGGER_STORAGE_OPTIONS['path']}-carrier")


def work(path: str) -> None:
    """A worker: its sweep takes what is due, until its standard input is closed."""
    with shop(path):
        sys.stdin.read()


if __name__ == "__main__":
    work(sys.argv[1])
