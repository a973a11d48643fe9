"""A process is killed while a retry waits: the next process makes it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from triggers_core import Application, TaskContext, trigger_task
from triggers_core.settings import Settings

PATIENCE = 240  # seconds until a test that hangs fails

VICTIM = """
import sys
from triggers_core import Application, trigger_task
from triggers_core.settings import Settings

@trigger_task(name="killed.task")
def task(context):
    raise ConnectionError("refused")

app = Application("killed", Settings.isolated(
    TRIGGER_STORAGE_OPTIONS={"path": sys.argv[1]}, TRIGGER_PLUGINS=["triggers_retry.plugin:plugin"]
))
manager = app.manager("s")
retry = {"times": 2, "waiting": "1 hour"}
manager.update_configuration({"t": {"after": ["go"], "run": "killed.task", "retry": retry}})
manager.fire("go", {"page": 1})
manager.join()
print(manager.storage["t#1"].status, flush=True)
sys.stdin.read()
"""

ran = threading.Event()


@trigger_task(name="killed.task")
def task(context: TaskContext) -> dict[str, object]:
    ran.set()
    return {"kwargs": context.trigger_kwargs, "retries": context.retries}


def test_the_next_process_makes_the_retry(tmp_path: Path) -> None:
    path = str(tmp_path / "triggers.db")
    victim = subprocess.Popen(
        [sys.executable, "-c", VICTIM, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with victim:
        assert victim.stdout is not None
        assert victim.stdout.readline() == b"unstarted\n", "the retry waits"
        victim.send_signal(signal.SIGKILL)
        assert victim.wait(PATIENCE) == -signal.SIGKILL

    app = Application(
        "killed",
        Settings.isolated(
            TRIGGER_STORAGE_OPTIONS={"path": path},
            TRIGGER_PLUGINS=["triggers_retry.plugin:plugin"],
        ),
    )
    app.store.clock = lambda: time.time() + 1_800
    manager = app.manager("s")
    manager.recover()
    assert manager.join(PATIENCE)
    assert manager.storage["t#1"].status == "unstarted", "not before its time"
    assert not ran.is_set()
    app.close()

    app.store.clock = lambda: time.time() + 3_700
    app.start()  # its background sweep does the rest
    manager = app.manager("s")
    assert ran.wait(PATIENCE)
    assert manager.join(PATIENCE)
    done = manager.storage["t#1"]
    assert (done.status, done.parent, done.depth) == ("finished", "t#0", 1)
    assert done.result == {"kwargs": {"go": {"page": 1}}, "retries": 1}
    app.close()
