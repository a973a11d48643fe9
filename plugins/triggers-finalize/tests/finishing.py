"""A worker process: claims one task in each session, and finishes it when told to.

    python finishing.py plugin|recipe PATH SESSIONS TASK

With `plugin` it has triggers-finalize; with `recipe` it does by hand what people did before: after
its own fire, look whether everything is resolved, then fire. In every tenth session the operating
system takes its time right after the commit, as it may: the process waits for the other one there.
"""

from __future__ import annotations

import sys
from typing import Any

import triggers_finalize.plugin
from triggers_core import Application, TriggerManager, trigger_task
from triggers_core.runners.manual import ManualRunner
from triggers_core.running.messages import Message
from triggers_core.running.worker import claim, run_claimed
from triggers_core.settings import Settings
from triggers_core.storages.session import TaskInstance

CONFIGURATION = {
    "t_a": {"after": ["go"], "run": "finishing.body"},
    "t_b": {"after": ["go"], "run": "finishing.body"},
    "t_report": {"after": ["sessionFinalized"], "run": "finishing.body"},
}


@trigger_task(name="finishing.body")
def body(context: Any) -> None:
    return None


class WithPlugin(TriggerManager):
    """Nothing to do: the plugin fires in the commit itself."""

    def _post_fire(self, trigger_name: str, tasks_scheduled: list[TaskInstance]) -> None:
        if trigger_name in ("t_a", "t_b") and int(self.uid[1:]) % 10 == 0:
            wait("committed")


class Recipe(WithPlugin):
    """Check after the fire, then fire: the recipe without the plugin."""

    def _post_fire(self, trigger_name: str, tasks_scheduled: list[TaskInstance]) -> None:
        super()._post_fire(trigger_name, tasks_scheduled)
        if trigger_name in ("t_a", "t_b"):
            waiting = [task.name for task in self.get_unresolved_tasks()]
            if waiting == ["t_report"]:
                self.fire("sessionFinalized")


def wait(said: str) -> None:
    """Tell the test where this process is, and wait for its word."""
    print(said, flush=True)
    sys.stdin.readline()


def application(how: str, path: str) -> Application:
    app = Application(
        "finishing",
        Settings.isolated(
            TRIGGER_STORAGE_OPTIONS={"path": path, "synchronous": "NORMAL"},
            TRIGGER_PLUGINS=[triggers_finalize.plugin] if how == "plugin" else [],
        ),
    )
    app.use_runner(ManualRunner(app))
    return app


def main(how: str, path: str, sessions: int, task: str) -> None:
    from triggers_core.running.heartbeats import Heartbeats

    app = application(how, path)
    heartbeats = Heartbeats(60)
    for number in range(sessions):
        kind = WithPlugin if how == "plugin" else Recipe
        manager = kind(app.storage(f"s{number}"), app)
        header = manager.storage.header
        assert header is not None
        claimed = claim(manager, Message("finishing", manager.uid, header.generation, task, 1))
        assert claimed is not None
        wait("ready")
        run_claimed(manager, claimed, heartbeats)
    heartbeats.stop()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
