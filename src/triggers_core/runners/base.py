"""The interface of a runner: what turns messages into attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from triggers_core.running.messages import Message

if TYPE_CHECKING:
    from triggers_core.application import Application
    from triggers_core.engine.configuration import Task
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

        A runner that sweeps in this process begins to with the first dispatch, at the latest.

        :param task: the task's configuration; None when the session no longer has it.
        :raises Exception: any; the caller logs it and the sweep tries again.
        """
        raise NotImplementedError

    def start(self) -> None:
        """Begin what goes on in the background: a runner that sweeps in this process begins to.

        Called by `Application.start`; again is no error. By default there is nothing to begin.
        """

    def stop(self) -> None:
        """End it, and finish what has begun; `shutdown` by default. Again is no error."""
        self.shutdown()

    def is_own_thread(self) -> bool:
        """Whether the caller is in a thread of this runner, such as a body's.

        `Application.close` refuses to wait there, for itself. False by default.
        """
        return False

    def wake(self) -> None:
        """Told when an instance has been put on hold for a while."""

    def join_all(self, timeout: float | None = None) -> bool:
        """Wait until everything dispatched in this process has ended, cascades included.

        :param timeout: seconds; None waits for ever.
        :returns: whether it got there in time.
        :raises WrongState: called by a body that it would have to wait for.
        """
        return True

    def shutdown(self) -> None:
        """Finish what has begun and let go of threads and connections."""
