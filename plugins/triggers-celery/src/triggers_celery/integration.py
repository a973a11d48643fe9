"""What a Celery app has of Triggers: its applications, what sends messages, what sweeps."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from triggers_celery.identity import SWEEP
from triggers_celery.options import Options, read_options
from triggers_celery.publishing import Publisher
from triggers_celery.sweeper import Sweeper
from triggers_core.exceptions import UnknownKey

if TYPE_CHECKING:
    from triggers_core.application import Application
    from triggers_core.running.messages import Message


class Integration:
    """A Celery app and its applications; `celery_app.triggers`."""

    def __init__(self, celery_app: Any) -> None:
        self.celery_app = celery_app
        self.node = "eager"
        """The worker's name, in its processes."""
        self._applications: dict[str, Application] = {}
        self._publisher: Publisher | None = None
        self._sweepers: dict[tuple[int, str], Sweeper] = {}
        self._postponed: deque[Callable[[], None]] = deque()

    # -- applications -----------------------------------------------------------------------------

    def add(self, application: Application) -> None:
        """Serve one more application.

        :raises UnknownKey: it serves another one of this name.
        """
        other = self._applications.setdefault(application.name, application)
        if other is not application:
            raise UnknownKey(
                f"the Celery app has an application named {application.name!r} already: messages"
                " name the application, so each needs a name of its own"
            )

    def remove(self, application: Application) -> None:
        """Serve it no longer: what messages still ask for it, nobody does."""
        if self._applications.get(application.name) is application:
            del self._applications[application.name]
        for key, sweeper in list(self._sweepers.items()):
            if sweeper.application is application:
                del self._sweepers[key]

    @property
    def applications(self) -> list[Application]:
        """Those that it serves."""
        return list(self._applications.values())

    def application(self, name: str) -> Application:
        """The application that a message names.

        :raises UnknownKey: this worker has no such application.
        """
        try:
            return self._applications[name]
        except KeyError:
            raise UnknownKey(
                f"this worker has no application named {name!r}, only"
                f" {', '.join(map(repr, self._applications))}: call"
                " triggers_celery.setup(celery_app, application) for it"
            ) from None

    def options(self, application: Application) -> Options:
        """The options of an application's runner."""
        own = application.settings.TRIGGER_RUNNER == "celery"
        return read_options(
            application, dict(application.settings.TRIGGER_RUNNER_OPTIONS) if own else {}
        )

    @property
    def publisher(self) -> Publisher:
        """What sends messages."""
        if self._publisher is None:
            timeouts = [self.options(each).publish_timeout for each in self._applications.values()]
            self._publisher = Publisher(self.celery_app, min(timeouts))
        return self._publisher

    # -- the sweep --------------------------------------------------------------------------------

    def sweeps(self) -> list[Application]:
        """The applications that this worker looks after."""
        return [each for each in self._applications.values() if self.options(each).sweep]

    def sweep(self) -> None:
        """The task `triggers.sweep`: look after what is overdue, once."""
        for application in self.applications:
            self.sweeper(application).sweep(everything=True)

    def sweeper(self, application: Application) -> Sweeper:
        """The sweeper of an application's stores, in this process."""
        key = (os.getpid(), application.name)
        sweeper = self._sweepers.get(key)
        if sweeper is None:
            sweeper = self._sweepers[key] = Sweeper(application)
        return sweeper

    def received(self, message: Message) -> Application | None:
        """Note a message that has come: its session may have a store of its own to sweep.

        :returns: the message's application.
        """
        application = self._applications.get(message.app)
        if application is not None and getattr(application.plugins, "has_storage_load", True):
            self.sweeper(application).learn(message.uid)
        return application

    def add_beat_entry(self) -> None:
        """Let Celery beat send the task `triggers.sweep`, if an application wants it to."""
        every = [
            each.settings.timing.sweep
            for each in self._applications.values()
            if self.options(each).beat
        ]
        if every:
            seconds = min(every)
            entry = {"task": SWEEP, "schedule": seconds, "options": {"expires": seconds}}
            self.celery_app.conf.beat_schedule.setdefault(SWEEP, entry)

    def postpone(self, work: Callable[[], None]) -> None:
        """Do this after the current turn of the sweep; for signal handlers that interrupt it."""
        self._postponed.append(work)

    def catch_up(self) -> None:
        """Do what was postponed; what is postponed again meanwhile waits for the next call."""
        for _ in range(len(self._postponed)):
            self._postponed.popleft()()
