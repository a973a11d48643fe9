"""What the scripts share: waiting for a signal, and firing into a file."""

from __future__ import annotations

import sys

from triggers_core import Application
from triggers_core.engine.commands import Fire, FireOutcome
from triggers_core.engine.names import new_id
from triggers_core.engine.protocol import Plan, Rules
from triggers_core.limits import Limits
from triggers_core.manager import TriggerManager
from triggers_core.runners.manual import ManualRunner
from triggers_core.settings import Settings
from triggers_core.storages.base import Store


def wait_for_go(ready: str = "ready") -> None:
    """Say that this process has come so far, and wait until the test lets it go on."""
    print(ready, flush=True)
    if not sys.stdin.readline():
        sys.exit("the test has gone away")


def fire(store: Store, uid: str, trigger: str) -> Plan[FireOutcome]:
    rules = Rules(limits=Limits(trigger_names=1_000_000))
    return store.commit(uid, Fire(trigger=trigger, payload=b"{}", event_id=new_id()), rules)


def collecting_manager(path: str, uid: str) -> tuple[TriggerManager, ManualRunner]:
    """The manager of a session in a SQLite file, and the runner that has what it dispatches."""
    options = {"path": path}
    app = Application(
        "processes",
        Settings.isolated(
            TRIGGER_STORAGE_TYPE="sqlite", TRIGGER_STORAGE_OPTIONS=options, TRIGGER_PLUGINS=[]
        ),
    )
    runner = ManualRunner(app)
    app.use_runner(runner)
    return app.manager(uid), runner
