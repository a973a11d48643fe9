"""The modules that define an application's tasks: imported once; and the tasks found then."""

from __future__ import annotations

import importlib
import threading
from types import ModuleType
from typing import TYPE_CHECKING

from triggers_core.exceptions import ImportExited, TaskNotFound
from triggers_core.host import host
from triggers_core.tasks import TriggerTask, registry
from triggers_core.texts import did_you_mean

if TYPE_CHECKING:
    from triggers_core.application import Application


class TaskModules:
    """Those of one application."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._imported = False
        self.renew_lock()

    def renew_lock(self) -> None:
        """In the child of a fork: what a thread of the parent was about, nobody is any more."""
        self._importing = threading.local()

    def forget(self) -> None:
        """Import them again: they may be others now."""
        self._imported = False

    def names(self) -> list[str]:
        """See `Application.task_modules`."""
        return list(dict.fromkeys([*self._app.settings.TRIGGER_IMPORTS, *host().task_modules()]))

    def load(self) -> None:
        """See `Application.import_tasks`."""
        if self._imported or getattr(self._importing, "now", False):
            return  # a module that is being imported uses the application
        self._importing.now = True
        try:
            # No lock of ours: a thread that imports one of them itself, and makes a manager then,
            # would wait for us, and we for it. Python's own locks notice that.
            modules = [_imported(module) for module in self._app.task_modules()]
        finally:
            self._importing.now = False
        if not any(getattr(module.__spec__, "_initializing", False) for module in modules):
            self._imported = True

    def task(self, run: str) -> type[TriggerTask]:
        """The class of a name, defined already or by one of the modules.

        :raises TaskNotFound: there is none.
        """
        found = registry.declared.get(run)
        if found is None:
            self._app.import_tasks()
            found = registry.declared.get(run)
        if found is None:
            if no_body := registry.why_unknown(run):
                raise TaskNotFound(f"no task named {run!r} can be run{no_body}")
            hint = did_you_mean(run, registry.declared)
            raise TaskNotFound(
                f"no task named {run!r} is defined in this process"
                f"{hint}{'' if hint.endswith('?') else '.'} Import its module, or list the module"
                " in TRIGGER_IMPORTS"
            )
        return found


def _imported(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except SystemExit as error:
        raise ImportExited(
            f"TRIGGER_IMPORTS: importing {module!r} called sys.exit({error.code!r}): a module that"
            " defines tasks must not end the program when it is imported; keep what does so under"
            " `if __name__ == '__main__':`"
        ) from error
    except Exception as error:
        error.add_note(f"raised when {module!r} of TRIGGER_IMPORTS was imported")
        raise
