"""The runner `manual`: it collects what is dispatched, and runs that when it is told to."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, ClassVar

from triggers_core.exceptions import InvalidSetting
from triggers_core.runners.base import TaskRunner
from triggers_core.running.heartbeats import Heartbeats
from triggers_core.running.messages import Message
from triggers_core.running.worker import close_loop, run_message

if TYPE_CHECKING:
    from triggers_core.application import Application
    from triggers_core.engine.configuration import Task
    from triggers_core.manager import TriggerManager


class ManualRunner(TaskRunner):
    """Collects messages; `work` runs what they ask for, in the thread that calls it.

    For tests, and for programs that fire and leave the work to others: nothing is swept, and no
    thread is started until `work` runs a body. Such a program need not know the tasks of its
    configuration.

    :param keep: messages to keep at most. Older ones are let go of, to be found by the sweep of
        whoever has one; with 0, all are.

    Example::

        app = Application("shop", settings, runner=ManualRunner)
        app.manager("order:1").fire("paid")
        assert [message.instance for message in app.runner().messages] == ["t_ship#0"]
        assert app.runner().work() == 1
    """

    key: ClassVar[str] = "manual"
    executes_here: ClassVar[bool] = False

    def __init__(self, app: Application, keep: int = 100_000) -> None:
        super().__init__(app)
        if type(keep) is not int or keep < 0:
            raise InvalidSetting(f"manual: keep must be a whole number from 0 on, got {keep!r}")
        self._jobs: deque[tuple[TriggerManager, Message]] = deque(maxlen=keep)
        self.heartbeats: Heartbeats = Heartbeats(app.rules.timing.heartbeat)

    @property
    def messages(self) -> list[Message]:
        """What has been dispatched and not been run, oldest first."""
        return [message for _, message in list(self._jobs)]  # others may dispatch meanwhile

    def clear(self) -> list[Message]:
        """Forget what has been dispatched; returns it."""
        messages = self.messages
        self._jobs.clear()
        return messages

    def dispatch(self, manager: TriggerManager, message: Message, task: Task | None) -> None:
        self._jobs.append((manager, message))

    def work(self) -> int:
        """Make the attempts that have been dispatched, first in, first out, cascades included.

        :returns: how many messages there were; stale ones count.
        """
        done = 0
        while self._jobs:
            manager, message = self._jobs.popleft()
            run_message(manager, message, self.heartbeats)
            done += 1
        return done

    def join_all(self, timeout: float | None = None) -> bool:
        """Do the work now, as `work` does, however long it takes."""
        self.work()
        return True

    def shutdown(self) -> None:
        """Forget what has been dispatched: it is left to the sweep of others."""
        self._jobs.clear()
        self.heartbeats.stop()
        close_loop()
