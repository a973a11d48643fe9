"""What the scripts share: waiting for a signal, and firing into a file."""

from __future__ import annotations

import sys

from triggers_core import Application
from triggers_core.engine.commands import Fire
from triggers_core.engine.configuration import Task
from triggers_core.engine.names import new_id
from triggers_core.engine.protocol import Plan, Rules
from triggers_core.limits import Limits
from triggers_core.manager import TriggerManager
from triggers_core.runners.base import TaskRunner
from triggers_core.running.messages import Message
from triggers_core.settings import Settings
from triggers_core.storages.base import Store


def wait_for_go(ready: str = "ready") -> None:
    """Say that this process has come so far, and wait until the test lets it go on."""
    print(ready, flush=True)
    if not sys.stdin.readline():
        sys.exit("the test has gone away")


def fire(store: Store, uid: str, trigger: str) -> Plan:
    rules = Rules(limits=Limits(trigger_names=1_000_000))
    return store.commit(uid, Fire(trigger=trigger, payload=b"{}", event_id=new_id()), rules)


class Collects(TaskRunner):
    """A runner that only remembers what it was to run."""

    executes_here = False

    def __init__(self, app: Application) -> None:
        super().__init__(app)
        self.messages: list[Message] = []

    def dispatch(self, manager: TriggerManager, message: Message, task: Task | None) -> None:
        self.messages.append(message)


def collecting_manager(path: str, uid: str) -> tuple[TriggerManager, list[Message]]:
    """The manager of a session in a SQLite file, and the list of what it dispatches."""
    options = {"path": path}
    app = Application(
        "processes",
        Settings.isolated(
            TRIGGER_STORAGE_TYPE="sqlite", TRIGGER_STORAGE_OPTIONS=options, TRIGGER_PLUGINS=[]
        ),
    )
    runner = Collects(app)
    app.use_runner(runner)
    return app.manager(uid), runner.messages
