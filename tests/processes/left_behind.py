"""``left_behind.py FILE UID``: runs a body that never ends, until it is killed."""

from __future__ import annotations

import sys
import threading

from triggers_core import Application, TaskContext, trigger_task
from triggers_core.settings import Settings


@trigger_task(name="left_behind.body")
def body(context: TaskContext) -> None:
    print("in the body", flush=True)
    threading.Event().wait()


path, uid = sys.argv[1:]
app = Application(
    "left behind", Settings.isolated(TRIGGER_STORAGE_OPTIONS={"path": path}, TRIGGER_PLUGINS=[])
)
manager = app.manager(uid)
manager.update_configuration({"t_x": {"after": ["go"], "run": "left_behind.body"}})
manager.fire("go")
manager.join()
