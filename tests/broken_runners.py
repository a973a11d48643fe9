"""Runners that break a promise each, and the contract run on every one of them.

`test_broken_runners` runs this file; by itself it is not collected. A class says in `breaks` which
promises fail by its defect.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

import msgspec
import pytest

from triggers_core.application import Application
from triggers_core.exceptions import BodyInterrupted, TaskNotFound
from triggers_core.runners import ThreadingTaskRunner
from triggers_core.running.messages import Message
from triggers_core.running.worker import claim, context_of, run_claimed
from triggers_core.settings import Settings
from triggers_core.tasks import RetryRequested, TriggerTask
from triggers_core.testing import RunnerContract, bodies, runner_contract

BREAKS: dict[str, tuple[str, ...]] = {}
"""Name of a suite → the promises that fail in it."""

PATIENCE = 2.0
"""Seconds until a promise that hangs because it is broken fails; the others get more."""


def breaks(*promises: str) -> Callable[[type[Broken]], type[Broken]]:
    """Make a suite for a broken runner."""

    def make(runner: type[Broken]) -> type[Broken]:
        name = f"Test{runner.__name__}"

        class Suite(OnBroken):
            bound = 2

        Suite.__name__ = Suite.__qualname__ = name
        Suite.__test__, Suite.broken = True, runner
        globals()[name] = Suite
        BREAKS[name] = promises
        return runner

    return make


class OnBroken(RunnerContract):
    broken: ClassVar[type[Any]]

    @pytest.fixture
    def app(self, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Application]:
        if BREAKS.get(type(self).__name__):
            for module in (runner_contract, bodies):
                monkeypatch.setattr(module, "_PATIENCE", PATIENCE)
        settings = Settings.isolated(
            TRIGGER_PLUGINS=[],
            TRIGGER_STORAGE_OPTIONS={"path": str(tmp_path / "s.db"), "synchronous": "NORMAL"},
        )
        app = Application("test", settings, runner=lambda app: self.broken(app, max_workers=2))
        yield app
        app.runner().give_up()
        app.close()


class Broken(ThreadingTaskRunner):
    """As it should be, in parts that can be broken."""

    def __init__(self, app: Application, max_workers: int) -> None:
        super().__init__(app, max_workers)
        resolve = app.resolve_task
        app.resolve_task = lambda *names: self.changed(resolve(*names))  # type: ignore[method-assign]

    def changed(self, task_class: type[TriggerTask]) -> type[TriggerTask]:
        return task_class

    def run(self, job: Any, worker: Any = None) -> None:
        manager, message = job
        claimed = claim(manager, self.received(manager, message), self._holder)
        if claimed is None:
            return self.refused(manager, message)
        return self.attempt(manager, claimed)

    def received(self, manager: Any, message: Message) -> Message:
        return message

    def refused(self, manager: Any, message: Message) -> None:
        pass

    def attempt(self, manager: Any, claimed: Any, **options: Any) -> None:
        run_claimed(manager, claimed, self.heartbeats, **options)

    def give_up(self) -> None:
        """A test is over, and what it left behind is not to hold the next one up."""
        with self._lock:
            self._jobs.clear()
            self._stopping = True


# -- attempts -------------------------------------------------------------------------------------


@breaks("a fire runs the task and what follows")
class ForgetsParams(Broken):
    def attempt(self, manager: Any, claimed: Any, **options: Any) -> None:
        claimed.task = msgspec.structs.replace(claimed.task, with_params={})
        super().attempt(manager, claimed)


@breaks("cascades reach their end", "a body that fires", "retries at once")
class ForgetsWhatFollows(Broken):
    def dispatch(self, manager: Any, message: Message, task: Any) -> None:
        if not self.is_own_thread():
            super().dispatch(manager, message, task)


@breaks("everything that is dispatched runs once")
class LosesAFew(Broken):
    dispatched = 0

    def dispatch(self, manager: Any, message: Message, task: Any) -> None:
        self.dispatched += 1
        if self.dispatched % 25:
            super().dispatch(manager, message, task)


@breaks("an async body")
class AwaitsNothing(Broken):
    def changed(self, task_class: type[TriggerTask]) -> type[TriggerTask]:
        class Called(task_class):  # type: ignore[misc, valid-type]
            def _run(self, context: Any) -> Any:
                returned = super()._run(context)
                if hasattr(returned, "close"):
                    returned.close()
                    return {}
                return returned

        return Called


@breaks("a body that skips itself", "a body that fails", "no more retries than allowed")
class WrapsWhatIsRaised(Broken):
    """As it is done so that errors can be pickled."""

    def attempt(self, manager: Any, claimed: Any, **options: Any) -> None:
        @contextmanager
        def wrapping() -> Iterator[None]:
            try:
                yield
            except Exception as error:
                raise RuntimeError(repr(error)) from None

        super().attempt(manager, claimed, around_body=wrapping)


@breaks("what failed is replayed")
class CallsEverythingASuccess(Broken):
    def changed(self, task_class: type[TriggerTask]) -> type[TriggerTask]:
        class Careful(task_class):  # type: ignore[misc, valid-type]
            def _run(self, context: Any) -> Any:
                try:
                    return super()._run(context)
                except ValueError:
                    return {}

        return Careful


@breaks("a body that returns no mapping")
class TakesWhateverIsReturned(Broken):
    def changed(self, task_class: type[TriggerTask]) -> type[TriggerTask]:
        class Wrapped(task_class):  # type: ignore[misc, valid-type]
            def _run(self, context: Any) -> Any:
                returned = super()._run(context)
                return returned if isinstance(returned, dict) else {"returned": returned}

        return Wrapped


@breaks("typed kwargs")
class IgnoresTypes(Broken):
    def changed(self, task_class: type[TriggerTask]) -> type[TriggerTask]:
        return type(task_class.__name__, (task_class,), {"kwargs_model": None})


@breaks("a task that the worker does not know")
class KeepsWhatItDoesNotKnow(Broken):
    def attempt(self, manager: Any, claimed: Any, **options: Any) -> None:
        _, problem = context_of(manager, claimed)
        if not isinstance(problem, TaskNotFound):
            super().attempt(manager, claimed)


@breaks("a body that breaks out fails alone")
class DiesOfABody(Broken):
    def attempt(self, manager: Any, claimed: Any, **options: Any) -> None:
        @contextmanager
        def dying() -> Iterator[None]:
            try:
                yield
            except Exception:
                raise
            except BaseException as error:
                raise BodyInterrupted from error

        with suppress(BodyInterrupted):
            super().attempt(manager, claimed, around_body=dying)


@breaks("a soft time limit is raised in the body", "a body that hangs fails when its time is over")
class KnowsNoLimits(Broken):
    def attempt(self, manager: Any, claimed: Any, **options: Any) -> None:
        super().attempt(manager, claimed, limits=(None, None))


@breaks("a cooldown is not waited for")
class KnowsNoCooldown(Broken):
    def attempt(self, manager: Any, claimed: Any, **options: Any) -> None:
        @contextmanager
        def hurrying() -> Iterator[None]:
            try:
                yield
            except RetryRequested as request:
                request.cooldown = 0
                raise

        super().attempt(manager, claimed, around_body=hurrying)


# -- messages -------------------------------------------------------------------------------------


@breaks("duplicates run once")
class RunsRefused(Broken):
    """The claim is a formality to it."""

    def refused(self, manager: Any, message: Message) -> None:
        instance = manager.storage[message.instance]
        manager.fire("ran", {"instance": instance.name, "attempt": message.attempt})


@breaks("stale messages are dropped")
class BelievesEveryMessage(Broken):
    def received(self, manager: Any, message: Message) -> Message:
        header = manager.storage.header
        generation = message.generation if header is None else header.generation
        return msgspec.structs.replace(message, generation=generation)


@breaks("lost messages are made up for")
class LooksForWork(Broken):
    def join_all(self, timeout: float | None = None) -> bool:
        for session in self.app.store.sessions() if not self.is_own_thread() else ():
            manager = self.app.manager(session.uid)
            for instance in manager.storage.instances.values():
                if instance.status == "scheduled":
                    message = Message("test", session.uid, session.generation, instance.name, 1)
                    self.dispatch(manager, message, None)
        return super().join_all(timeout)


@breaks("what recover dispatches runs")
class SendsNothingAgain(Broken):
    def dispatch(self, manager: Any, message: Message, task: Any) -> None:
        if not manager.storage[message.instance].record.redispatches:
            super().dispatch(manager, message, task)


# -- the sweep, the pool, the end -----------------------------------------------------------------


@breaks("somebody sweeps from the start on", "somebody sweeps once something was dispatched")
class NeverSweeps(Broken):
    def _see_to_sweep(self) -> None:
        pass


@breaks("making a manager and reading start no thread")
class BeginsAtOnce(Broken):
    def __init__(self, app: Application, max_workers: int) -> None:
        super().__init__(app, max_workers)
        self.ended = threading.Event()
        threading.Thread(target=self.ended.wait, daemon=True).start()

    def give_up(self) -> None:
        self.ended.set()
        super().give_up()


@breaks("the pool is bounded")
class KnowsNoBound(Broken):
    def __init__(self, app: Application, max_workers: int) -> None:
        super().__init__(app, 50)


@breaks("firing does not wait and joining does")
class WaitsForNobody(Broken):
    def join_all(self, timeout: float | None = None) -> bool:
        return True


@breaks("joining waits for nothing when there is nothing")
class NeverQuiteDone(Broken):
    def join_all(self, timeout: float | None = None) -> bool:
        return super().join_all(timeout) and timeout != 0


@breaks("a body that waits for its own runner fails")
class LetsBodiesJoin(Broken):
    def is_own_thread(self) -> bool:
        return False

    def join_all(self, timeout: float | None = None) -> bool:
        return super().is_own_thread() or super().join_all(timeout)

    def shutdown(self) -> None:
        if not super().is_own_thread():
            super().shutdown()


@breaks("the application is closed while bodies with cascades run")
class DropsWhatFollowsAtTheEnd(Broken):
    def shutdown(self) -> None:
        self._stopping = True
        super().shutdown()


@breaks("a clean shutdown")
class LeavesAThread(Broken):
    def shutdown(self) -> None:
        super().shutdown()
        self.left = threading.Event()
        threading.Thread(target=self.left.wait, daemon=True).start()

    def give_up(self) -> None:
        if hasattr(self, "left"):
            self.left.set()
        super().give_up()


@breaks("after a shutdown nothing is lost")
class ClaimsAfterTheEnd(Broken):
    def dispatch(self, manager: Any, message: Message, task: Any) -> None:
        if self._stopping:
            claim(manager, message, self._holder)
        else:
            super().dispatch(manager, message, task)


class TestWhole(OnBroken):
    """What all of them derive from, and nothing broken in it."""

    broken = Broken
    bound = 2
