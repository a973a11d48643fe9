"""The runners of an application: one a key, made on first use."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from triggers_core.application.parts import building
from triggers_core.registries import task_runners
from triggers_core.runners.base import TaskRunner
from triggers_core.settings.option_checks import with_options

if TYPE_CHECKING:
    from triggers_core.application import Application

MakeRunner = Callable[["Application"], TaskRunner]

_EVERY_KEY: Final = ""  # that of a runner which serves all of them


class Runners:
    """Those of one application.

    :param make: makes one that serves every key; None: a key's own class does.
    """

    def __init__(self, app: Application, make: MakeRunner | None) -> None:
        self._app = app
        self.make = make
        self._by_key: dict[str, TaskRunner] = {}

    def all(self) -> list[TaskRunner]:
        """Those that have been made, or are used by name."""
        return list(self._by_key.values())

    def use(self, runner: TaskRunner, key: str | None) -> None:
        """See `Application.use_runner`."""
        with self._app._lock:
            self._by_key[key or self._app.settings.TRIGGER_RUNNER] = runner

    def get(self, key: str | None) -> TaskRunner:
        """See `Application.runner`."""
        key = key or self._app.settings.TRIGGER_RUNNER
        runner = self._known(key)
        if runner is not None:
            return runner
        with building(self._app):
            runner = self._known(key)
            if runner is not None:
                return runner
            if self.make is not None:
                return self._by_key.setdefault(_EVERY_KEY, self.make(self._app))
            return self._by_key.setdefault(key, self._made(key))

    def _known(self, key: str) -> TaskRunner | None:
        runner = self._by_key.get(key)
        return self._by_key.get(_EVERY_KEY) if runner is None else runner

    def _made(self, key: str) -> TaskRunner:
        settings = self._app.settings
        made: TaskRunner = with_options(
            task_runners.get_class(key),
            self._app,
            options=settings.TRIGGER_RUNNER_OPTIONS if key == settings.TRIGGER_RUNNER else {},
            setting=f"TRIGGER_RUNNER_OPTIONS ({settings.origin('TRIGGER_RUNNER_OPTIONS')})",
            what=f"runner {key!r}",
        )
        return made

    def stop(self) -> None:
        """Stop them, and let go of them."""
        for key, runner in list(self._by_key.items()):
            # Outside of the lock, and still in its place: cascades have to be dispatched.
            try:
                runner.stop()
            finally:
                with self._app._lock:
                    if self._by_key.get(key) is runner:
                        del self._by_key[key]
