"""Managers for commands that change a session, and what becomes of what they schedule.

A manager's runner would start a background sweep in this process, and so take over other work of
the store. Here, nothing runs unless the command was told to wait; and then, only what it scheduled.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from triggers_cli.actors import in_the_hands_of
from triggers_cli.errors import FAILED, OK
from triggers_cli.output import STATUS_STYLES, to_line
from triggers_cli.state import GIVEN_UP, State
from triggers_core.engine.records import Status
from triggers_core.exceptions import PluginError, TaskNotFound, TriggersError, UnknownKey
from triggers_core.redaction import mask
from triggers_core.registries import task_runners, trigger_managers
from triggers_core.runners.base import TaskRunner
from triggers_core.runners.manual import ManualRunner
from triggers_core.runners.threads import ThreadingTaskRunner

if TYPE_CHECKING:
    from triggers_core.application import Application
    from triggers_core.engine.configuration import Task
    from triggers_core.manager import TriggerManager
    from triggers_core.storages.session import TaskInstance

_REDISPATCH_AFTER: Final = 0.001  # seconds until any worker's sweep takes what nobody was told of
_MAX_SHOWN: Final = 5  # instances that a line names
_POLL_INTERVAL: Final = 0.1  # seconds between two looks at work that other processes do
_NOBODY_AFTER: Final = 5.0  # seconds until work that no worker has taken is wondered about
_REPORT_INTERVAL: Final = 1.0  # seconds between two lines about work that this process does
_UNDER_WAY: Final = ("scheduled", "running")


class Operator:
    """One session, to be changed from the command line.

    :param state: the command's options.
    :param wait: run what is scheduled (or let the workers), and wait for it.
    :param more: tasks that the session is about to get.
    :param create: the session need not exist.
    :param by: who does it; see `TriggerManager.by`.
    :raises click.UsageError: to wait, a task would have to run here, and is not known here.
    """

    def __init__(
        self,
        state: State,
        uid: str,
        wait: bool,
        more: Iterable[Task] = (),
        create: bool = False,
        by: str = "",
    ) -> None:
        self.state, self.uid, self.wait = state, uid, wait
        if wait:
            state.import_tasks()  # should that fail, nothing has been created yet
        storage = state.session(uid, create)
        self.in_a_new_place = create and not storage.store.exists
        """Whether the storage itself begins with this session: a file, most likely."""
        tasks = [*storage.tasks.values(), *more]
        self.runs_here = prepare_runners(state, tasks, wait)
        state.works_here = wait and self.runs_here
        manager_class = trigger_managers.get_class(state.app.settings.TRIGGER_MANAGER_TYPE)
        self.manager: TriggerManager = in_the_hands_of(manager_class(storage, state.app), by)
        header = storage.header
        self._before = header.events if header is not None else 0

    def settle(self, scheduled: Iterable[str], timeout: float | None) -> tuple[list[Any], int]:
        """Wait, if that was asked for, and tell what became of what was scheduled.

        :param scheduled: names of instances.
        :returns: the instances as data, and the exit code.
        """
        names = set(scheduled)
        try:
            if self.wait and names and not self.state.json:
                self.state.out.note((self._waited_for(names), "dim"))
            in_time = not self.wait or self._join(names, timeout)
        except KeyboardInterrupt:
            self._give_up()
            raise
        found = self._touched(names) if self.wait else self._named(names)
        if not in_time:
            self.state.out.note("The time is up.")
            self._give_up()
        bad = self.wait and any(each.status == "failed" for each in found)
        return [self._as_data(each) for each in found], FAILED if bad or not in_time else OK

    def scheduled(self) -> set[str]:
        """The names of the instances that are scheduled now."""
        store = self.manager.storage.store
        return {each.name for each in store.instances(self.uid, statuses=(Status.SCHEDULED,))}

    def tell(self, found: list[Any]) -> None:
        """Print what became of what was scheduled."""
        out = self.state.out
        for each in found:
            status, remark = each["status"], each["error"] or ""
            if each["result"]:
                remark = to_line(each["result"], 100)
            out.line(f"  {each['name']}  ", (status, STATUS_STYLES[status]), f"  {remark}".rstrip())
        if any(each["status"] == "scheduled" for each in found) and not self.wait:
            out.note((self.who_runs_it(), "dim"))

    def who_runs_it(self) -> str:
        """What happens to scheduled instances that nobody waits for."""
        sweep = self.state.app.settings.timing.sweep
        if self.runs_here:
            return (
                f"A running worker of the application takes this within {sweep:g} s; with --wait,"
                " it would run here."
            )
        return "Left to the workers."

    def _waited_for(self, scheduled: set[str]) -> str:
        """What goes on, for whoever has to wait for it."""
        shown = sorted(scheduled)[:_MAX_SHOWN]
        more = f" and {len(scheduled) - _MAX_SHOWN:,} more" if len(scheduled) > _MAX_SHOWN else ""
        where = "in this process" if self.runs_here else "on the workers"
        verb = "runs" if len(scheduled) == 1 else "run"
        return f"{', '.join(shown)}{more} {verb} {where} …"

    def _give_up(self) -> None:
        """Stop waiting; tell what becomes of the work."""
        self.state.gives_up = self.runs_here
        self.state.out.note(GIVEN_UP if self.runs_here else "The workers go on.")

    def _join(self, names: set[str], timeout: float | None) -> bool:
        begun = time.monotonic()
        give_up = None if timeout is None else begun + timeout
        with self.state.out.status_line() as tell:
            while not self.manager.join(_until(give_up, _REPORT_INTERVAL)):
                if give_up is not None and time.monotonic() > give_up:
                    return False
                tell(self._under_way(self._touched(names), begun))
            wonders = not self.runs_here
            while True:
                left = self._touched(names)
                open_ones = [each for each in left if each.status in _UNDER_WAY]
                if not open_ones:
                    return True
                if wonders and time.monotonic() > begun + _NOBODY_AFTER:
                    wonders = False
                    if all(each.status == "scheduled" for each in open_ones):
                        tell("")
                        self.state.out.note(
                            "No worker has taken it yet. Is one running, on these settings?"
                            f" {self.state.program} settings"
                        )
                if give_up is not None and time.monotonic() > give_up:
                    return False
                tell(self._under_way(left, begun))
                time.sleep(_POLL_INTERVAL)

    def _under_way(self, found: list[TaskInstance], begun: float) -> str:
        """What goes on, for a line that is written again and again."""
        counts = Counter(each.status.value for each in found)
        told = [f"{counts[status]:,} {status}" for status in _UNDER_WAY if counts[status]]
        ended = len(found) - sum(counts[status] for status in _UNDER_WAY)
        return f"{', '.join([*told, f'{ended:,} ended'])} ({time.monotonic() - begun:.0f} s)"

    def _touched(self, names: set[str]) -> list[TaskInstance]:
        """The instances of these names, and those that events since then have completed."""
        found = [
            each
            for each in self.manager.storage.instances.values()
            if each.name in names or each.record.scheduled_by >= self._before
        ]
        return sorted(found, key=lambda each: each.record.scheduled_by)

    def _named(self, names: set[str]) -> list[TaskInstance]:
        return [self.manager.storage[name] for name in sorted(names)]

    def _as_data(self, each: TaskInstance) -> dict[str, Any]:
        error = each.metadata.get("error")
        told = f"{error.get('type')}: {error.get('message')}" if isinstance(error, dict) else None
        return {
            "name": each.name,
            "status": each.status.value,
            "result": mask(each.result),
            "error": mask(told),
        }


def _until(give_up: float | None, step: float) -> float:
    """Seconds to wait now: a step, or what is left."""
    return step if give_up is None else max(0.0, min(step, give_up - time.monotonic()))


def prepare_runners(state: State, tasks: Iterable[Task], wait: bool) -> bool:
    """Give the application the runners that a command may use.

    :returns: whether any of the tasks runs in the process that runs the application.
    :raises click.UsageError: to wait, a task would have to run here, and is not known here.
    """
    app = state.app
    default = app.settings.TRIGGER_RUNNER
    wanted = list(tasks)
    local, elsewhere = set[str](), set[str]()
    for key in dict.fromkeys([default, *(task.using or default for task in wanted)]):
        try:
            kind = task_runners.get_class(key)
        except (UnknownKey, PluginError):
            if key == default:
                raise
            continue  # the dispatch to it fails, and the sweep of a worker that has it takes over
        (local if kind.executes_here else elsewhere).add(key)
    here = [task for task in wanted if (task.using or default) in local]
    if wait:
        for key in local:
            app.use_runner(_here(app, key), key)
        state.import_tasks()
        for task in here:
            _check_known(app, task)
        return default in local if not wanted else bool(here)
    if default in local:
        _leave_to_workers(state)
        for key in elsewhere:
            with suppress(TriggersError):  # told of by the dispatch
                state.app.use_runner(app.runner(key), key)
    for key in local:
        state.app.use_runner(ManualRunner(state.app, keep=0), key)
    return default in local if not wanted else bool(here)


def prepare_for_many(state: State) -> None:
    """Give the application runners for changes in sessions with any tasks; nothing runs here.

    What they schedule is left to the workers.
    """
    app = state.app
    default = app.settings.TRIGGER_RUNNER
    local = set[str]()
    for key in dict.fromkeys([default, *task_runners.keys()]):
        try:
            if task_runners.get_class(key).executes_here:
                local.add(key)
        except (UnknownKey, PluginError):
            if key == default:
                raise
    if default in local:
        _leave_to_workers(state)
    for key in local:
        state.app.use_runner(ManualRunner(state.app, keep=0), key)


def _leave_to_workers(state: State) -> None:
    """Let any worker's sweep take at once what is scheduled here."""
    app = state.app
    timing = msgspec.structs.replace(app.rules.timing, redispatch_after=_REDISPATCH_AFTER)
    state.app = app.replace(rules=msgspec.structs.replace(app.rules, timing=timing))


def _here(app: Application, key: str) -> TaskRunner:
    options: dict[str, Any] = {}
    if key == app.settings.TRIGGER_RUNNER:
        options.update(app.settings.TRIGGER_RUNNER_OPTIONS)
    if issubclass(task_runners.get_class(key), ThreadingTaskRunner):
        options["sweep"] = False
    return task_runners.get(key, app, **options)


def _check_known(app: Application, task: Task) -> None:
    try:
        app.resolve_task(task.run, task.using)
    except TaskNotFound as error:
        raise click.UsageError(
            f"{task.name} would have to run here: {error}. Or leave it to the workers: --no-wait"
        ) from None
