"""One session in a test: fire into it, let time pass, say what bodies do, ask what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from triggers_core.engine.commands import Configured
from triggers_core.engine.configuration import Configuration, Task
from triggers_core.engine.records import Status
from triggers_core.exceptions import InstanceNotFound, TaskNotFound
from triggers_core.explain import Explanation
from triggers_core.manager import TriggerManager
from triggers_core.methods.operations import FireResult, Kwargs
from triggers_core.storages.session import TaskInstance
from triggers_core.testing.kit import stand_ins
from triggers_core.testing.kit.stand_ins import Behaviour
from triggers_core.testing.kit.told import Count, Word
from triggers_core.texts import did_you_mean

if TYPE_CHECKING:
    from triggers_core.testing.kit.workbench import Triggers

_UNDER_WAY: Final = (Status.SCHEDULED, Status.RUNNING)


class SessionUnderTest:
    """A session, as a test sees it; made by `Triggers.session`.

    What has been dispatched is done at once after each fire, and before anything is asked.

    Example::

        s = triggers.session(CONFIG)
        s.fire("paid", {"amount": 120})
        assert s.ran("t_ship") == 0
    """

    def __init__(self, triggers: Triggers, uid: str) -> None:
        self.triggers = triggers
        self.uid = uid

    def __repr__(self) -> str:
        return f"<session {self.uid!r} under test>"

    @property
    def manager(self) -> TriggerManager:
        """The session's manager, as the application has it."""
        return self.triggers.app.manager(self.uid)

    # -- what happens -----------------------------------------------------------------------------

    def fire(
        self,
        trigger_name: str,
        trigger_kwargs: Kwargs | None = None,
        event_id: str | None = None,
        once: bool = False,
        force: bool = False,
    ) -> FireResult:
        """Fire, as `TriggerManager.fire` does, and do the work that it leads to."""
        result = self.manager.fire(trigger_name, trigger_kwargs, event_id, once, force)
        self.triggers.work()
        return result

    async def afire(
        self,
        trigger_name: str,
        trigger_kwargs: Kwargs | None = None,
        event_id: str | None = None,
        once: bool = False,
        force: bool = False,
    ) -> FireResult:
        """As `fire`, by the manager's method for coroutines."""
        result = await self.manager.afire(trigger_name, trigger_kwargs, event_id, once, force)
        self.triggers.work()
        return result

    def advance(self, duration: str | float | timedelta) -> None:
        """Let time pass; see `Triggers.advance`."""
        self.triggers.advance(duration)

    def configure(
        self, configuration: Mapping[str, Any] | Configuration, past: bool = False
    ) -> Configured:
        """Give the session tasks, as `TriggerManager.update_configuration` does."""
        configured = self.manager.update_configuration(configuration, past=past)
        self.triggers.work()
        return configured

    def replay(
        self, name: str, replacement_kwargs: Mapping[str, Kwargs] | None = None
    ) -> TaskInstance:
        """Replay a failed instance, and do the work; returns the replay as it is then.

        :param name: an instance, or a task: its latest instance.
        """
        failed = self.instance(name).name
        replay = self.manager.replay_failed_instance(failed, replacement_kwargs)
        return self.instance(replay.name)

    def skip(self, name: str, cascade: bool = False, result: Kwargs | None = None) -> TaskInstance:
        """Skip a failed instance; `name` as in `replay`."""
        failed = self.instance(name).name
        self.manager.skip_failed_instance(failed, cascade=cascade, result=result)
        return self.instance(failed)

    def fail(self, name: str, reason: str = "failed by the test") -> TaskInstance:
        """Fail an instance that is scheduled or running by hand; `name` as in `replay`."""
        stuck = self._latest(name).name
        self.manager.fail_instance(stuck, reason)
        return self.instance(stuck)

    # -- what bodies do ---------------------------------------------------------------------------

    def returns(
        self,
        task: str,
        result: Mapping[str, Any] | Behaviour | None = None,
        times: int | None = None,
    ) -> None:
        """Let a task's body return something; or call a function with its context instead.

        :param times: for so many runs, after those that were told of before; None: for all runs
            that nothing else is said of.
        """
        self._say(task, stand_ins.returning(result), times)

    def fails(
        self,
        task: str,
        error: BaseException | type[BaseException] | str = "failed by the test",
        times: int | None = None,
    ) -> None:
        """Let a task's body raise an error. `times` as in `returns`."""
        self._say(task, stand_ins.failing(error), times)

    def skips(
        self, task: str, metadata: Mapping[str, Any] | None = None, times: int | None = None
    ) -> None:
        """Let a task's body skip itself. `times` as in `returns`."""
        self._say(task, stand_ins.skipping(metadata), times)

    def retries(
        self,
        task: str,
        times: int | None = 1,
        cooldown: float | None = None,
        exc: BaseException | type[BaseException] | None = None,
    ) -> None:
        """Let a task's body ask for a retry, after `cooldown` seconds. `times` as in `returns`."""
        self._say(task, stand_ins.retrying(exc, cooldown), times)

    def dies(self, task: str, times: int = 1) -> None:
        """Let the worker die in the middle of a task's body. `times` as in `returns`.

        Nobody hears of it: another one takes over when the lease has run out (`Timing.lease`, a
        minute).
        """
        self._say(task, stand_ins.dying, times)

    def _say(self, task: str, behaviour: Behaviour, times: int | None) -> None:
        self._check_task(task)
        self.triggers.say(self.uid, task, behaviour, times)

    # -- what came of it --------------------------------------------------------------------------

    def ran(self, task: str) -> Count:
        """How often a task has run: its body, to an outcome that was stored.

        Retries and replays count. What a worker did not bring to an end does not.

        :raises TaskNotFound: the session has no such task.
        """
        self._check_task(task)
        self.triggers.work()
        instances = self.manager.storage.store.instances(self.uid, task=task)
        ran = sum(
            each.started_at is not None and each.status not in _UNDER_WAY for each in instances
        )
        return Count.of(ran, f"{task} ran", lambda: self._why(task))

    def fired(self, trigger: str) -> Count:
        """How often a trigger has been recorded, whoever fired it."""
        self.triggers.work()
        number = sum(each.trigger == trigger for each in self.manager.storage.events)
        return Count.of(number, f"{trigger} fired", lambda: self._why(None))

    def status(self, name: str) -> Word:
        """The status of an instance, or of a task's latest one; ``missing``: there is none."""
        try:
            found: str = self.instance(name).status.value
        except InstanceNotFound:
            found = "missing"
        task = self._task_of(name)
        return Word.of(found, name, lambda: self._why(task))

    def result(self, name: str) -> dict[str, Any] | None:
        """What an instance, or a task's latest one, returned; None: it has not finished."""
        return self.instance(name).result

    def instance(self, name: str) -> TaskInstance:
        """An instance, or a task's latest one.

        :raises InstanceNotFound: there is none.
        """
        self.triggers.work()
        return self._latest(name)

    def unresolved_tasks(self) -> list[str]:
        """The names of the tasks that have no instance yet, or an unresolved one; sorted."""
        self.triggers.work()
        return sorted(each.name for each in self.manager.get_unresolved_tasks())

    def unresolved_instances(self) -> list[str]:
        """The names of the instances that are unstarted, scheduled, running or failed; sorted."""
        self.triggers.work()
        return sorted(each.name for each in self.manager.get_unresolved_instances())

    def explain(self, task: str | None = None) -> Explanation:
        """What a task (or every task) has, what it waits for, and why it did not run."""
        self.triggers.work()
        return self.manager.explain(task)

    def _why(self, task: str | None) -> str:
        return self.triggers.why(self, task)

    def _latest(self, name: str) -> TaskInstance:
        task = self._task_of(name)
        self._check_task(task)
        if task != name:
            return self.manager.storage[name]
        found = self.manager.storage.instances_of_task(task)
        if not found:
            raise InstanceNotFound(f"{self.uid}: {task!r} has no instance yet")
        return found[-1]

    def _tasks(self) -> Mapping[str, Task]:
        return self.manager.storage.tasks or self.triggers.default_tasks()

    def _task_of(self, name: str) -> str:
        """The task that is meant by its own name, or by that of an instance."""
        task, hash_sign, _ = name.rpartition("#")
        return name if not hash_sign or name in self._tasks() else task

    def _check_task(self, task: str) -> None:
        known = self._tasks()
        if task not in known:
            raise TaskNotFound(
                f"{self.uid} has no task {task!r}{did_you_mean(task, known)}"
                + ("" if known else ": it has no configuration yet")
            )


__all__ = ["SessionUnderTest"]
