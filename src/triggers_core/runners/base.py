"""The interface of a runner: what turns messages into attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from triggers_core.messages import Message

if TYPE_CHECKING:
    from triggers_core.application import Application
    from triggers_core.configuration import Task
    from triggers_core.manager import TriggerManager


class TaskRunner:
    """Base of every runner; one object per application.

    A runner may lose messages, repeat them and reorder them: the claim and the sweep make up for
    all of that. It must not change them.
    """

    key: ClassVar[str] = ""
    """Its key in the registry, for messages."""
    executes_here: ClassVar[bool] = True
    """Whether bodies run in this process, so that it has to know their tasks."""

    def __init__(self, app: Application) -> None:
        self.app = app

    def dispatch(self, manager: TriggerManager, message: Message, task: Task | None) -> None:
        """See to it that an attempt is made soon; return quickly.

        :param task: the task's configuration; None when the session no longer has it.
        :raises Exception: any; the caller logs it and the sweep tries again.
        """
        raise NotImplementedError

    def watch(self, manager: TriggerManager) -> None:
        """Told about every manager: a runner that sweeps in this process notes the store."""

    def wake(self) -> None:
        """Told when an instance has been put on hold for a while."""

    def join_all(self, timeout: float | None = None) -> bool:
        """Wait until everything dispatched in this process has ended, cascades included.

        :param timeout: seconds; None waits for ever.
        :returns: whether it got there in time.
        """
        return True

    def shutdown(self) -> None:
        """Finish what has begun and let go of threads and connections."""
