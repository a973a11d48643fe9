"""One attempt from message to commit: claim, heartbeat, run the body, finish, dispatch."""

from __future__ import annotations

import inspect
import itertools
import logging
import random
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final

from triggers_core.engine.attempts import AttemptResult, Claim, Claimed, PassOn
from triggers_core.engine.carriers import check_carrier
from triggers_core.engine.taken_events import KwargsByTrigger
from triggers_core.exceptions import (
    BodyInterrupted,
    LeaseLost,
    NotFound,
    PluginMissing,
    SoftTimeLimitExceeded,
    StaleMessage,
    TaskNotFound,
    TimeLimitExceeded,
    in_main_thread,
    with_context,
)
from triggers_core.failures import log_exception, message_of
from triggers_core.host import between_jobs
from triggers_core.running import outcomes
from triggers_core.running.heartbeats import Heartbeats, Lease
from triggers_core.running.logs import log_failure
from triggers_core.running.messages import Message
from triggers_core.running.outcomes import Outcome
from triggers_core.running.time_limits import Strikes, alarms, stack_of, time_limits
from triggers_core.storages.session import TaskInstance
from triggers_core.tasks import TriggerTask
from triggers_core.tasks.context import SkipRequested, TaskContext

if TYPE_CHECKING:
    from triggers_core.manager import TriggerManager

logger: logging.Logger = logging.getLogger(__name__)

_FIRST_PAUSE: Final = 0.05  # seconds between tries to store an outcome: this, then doubling…
_LONGEST_PAUSE: Final = 5.0  # …up to this

_NO_CONTEXT: Final = nullcontext()
_ENDINGS: Final = (KeyboardInterrupt, SystemExit, GeneratorExit, BodyInterrupted)

AroundBody = Callable[[], AbstractContextManager[Any]]
Abandoned = Callable[[], None]


def run_message(
    manager: TriggerManager,
    message: Message,
    heartbeats: Heartbeats,
    on_abandoned: Abandoned | None = None,
) -> AttemptResult | None:
    """Make the attempt that a message asks for.

    :param on_abandoned: see `run_claimed`.
    :returns: how it ended; None when there was nothing to do (the message was stale), its time was
        over, or the outcome could not be stored, in which case the sweep makes another attempt.
    """
    claimed = claim(manager, message)
    if claimed is None:
        return None
    return run_claimed(manager, claimed, heartbeats, on_abandoned=on_abandoned)


def claim(manager: TriggerManager, message: Message, holder: str = "") -> Claimed | None:
    """Take the instance; None when the message is stale, as duplicates are.

    :param holder: who takes it, kept behind the token (``<random>@<holder>``), so that whoever
        sees this worker die knows which attempts it held.
    """
    command = Claim(
        instance=message.instance, attempt=message.attempt, generation=message.generation
    )
    if holder:
        command.token += f"@{holder}"
    try:
        return manager.commit(command).outcome
    except (StaleMessage, NotFound) as error:
        if isinstance(error, StaleMessage) and error.no_session:
            _warn_of_no_session(manager, message)
        else:
            logger.info("dropped a message: %s", error)
        return None


_without_session = itertools.count(1)


def _warn_of_no_session(manager: TriggerManager, message: Message) -> None:
    count = next(_without_session)
    # Sessions may be deleted by the thousand: the 1st, 2nd, 4th, 8th, … is enough to be told of.
    logger.log(
        logging.INFO if count & (count - 1) else logging.WARNING,
        "dropped a message about %s of %r: there is no such session in %s. It was deleted, or this"
        " worker has other TRIGGER_STORAGE_TYPE or TRIGGER_STORAGE_OPTIONS than the process that"
        " fired (`triggers settings` shows them)%s",
        message.instance,
        message.uid,
        getattr(manager.storage.store, "place", manager.storage.store),
        "" if count == 1 else f"; {count:,} such messages so far",
    )


def run_claimed(
    manager: TriggerManager,
    claimed: Claimed,
    heartbeats: Heartbeats,
    around_body: AroundBody = nullcontext,
    on_abandoned: Abandoned | None = None,
    limits: tuple[float | None, float | None] | None = None,
    passes_on: bool = True,
) -> AttemptResult | None:
    """Run the body of a claimed instance and store what became of it.

    Whatever a body raises, of whatever type, fails its instance. A `KeyboardInterrupt` in the main
    thread does so too, and is raised again: it is the user who wants the process to end.

    :param around_body: entered for the body alone: a runner that interrupts bodies does so there,
        and never while something is being stored. What it raises counts as raised by the body; but
        `BodyInterrupted` is no outcome, and is passed on.
    :param on_abandoned: called from another thread when the task's `time_limit` has passed and the
        failure is stored, while the body still hangs: this call may never return, and a pool needs
        another thread. Called at most once, before this returns.
    :param limits: time limit and soft time limit, in seconds, in place of the task's own; none,
        twice, when the runner itself enforces them.
    :param passes_on: there may be other workers: an instance whose task is unknown here is left to
        them for a while. Otherwise it fails.
    :raises BodyInterrupted: nothing was stored.
    """
    attempt = _Attempt(manager, claimed, around_body, on_abandoned, limits, passes_on)
    lease = Lease(
        manager.storage.store,
        manager.uid,
        attempt.name,
        attempt.token,
        attempt.rules,
        attempt.lost,
    )
    with heartbeats.holding(lease):
        outcome = attempt.run()
        if outcome is None:
            assert attempt.stored is not None
            attempt.stored.wait()
            logger.info("%s %s: ended after its time limit", manager.uid, attempt.name)
            return None
        ended = attempt.store(outcome)
    if attempt.interrupted is not None:
        raise attempt.interrupted
    return ended


def close_loop() -> None:
    """End the event loop in which this thread has run asynchronous bodies, if it has.

    A runner calls it when a thread of its ends, or in its `shutdown`.
    """
    loops = sys.modules.get("triggers_core.running.loops")
    if loops is not None:
        loops.close()


def context_of(
    manager: TriggerManager, claimed: Claimed, lost: threading.Event | None = None
) -> tuple[TaskContext, BaseException | None]:
    """The context of an attempt, and what keeps its body from running, if anything does.

    With such a problem (the task is not known here, say) the context has what there is: hooks and
    logs need one for the failure, too.
    """
    kwargs: KwargsByTrigger = {}
    task_class, problem = TriggerTask, None
    try:
        kwargs = claimed.kwargs()
        task_class = manager.app.resolve_task(claimed.task.run, claimed.task.using)
    except BaseException as error:
        problem = error
    instance = TaskInstance(manager.storage.store, manager.uid, claimed.instance)
    context = TaskContext(manager, instance, claimed.task, kwargs, task_class, lost, claimed.events)
    return context, problem


class _Attempt:
    """One attempt, while it runs."""

    context: TaskContext
    """Made when it begins to run, and so under its lease: to import a task may take its time."""

    def __init__(
        self,
        manager: TriggerManager,
        claimed: Claimed,
        around_body: AroundBody,
        on_abandoned: Abandoned | None,
        limits: tuple[float | None, float | None] | None,
        passes_on: bool,
    ) -> None:
        self.manager, self.claimed, self.around_body = manager, claimed, around_body
        self.rules = manager.app.rules
        self.name, self.token = claimed.instance.name, claimed.instance.token
        self.lost = threading.Event()
        self.interrupted: BaseException | None = None
        self.stored: threading.Event | None = None
        """Of an attempt with a time limit: set when its failure has been stored."""
        self.limits, self.passes_on = limits, passes_on
        self._on_abandoned = on_abandoned
        self._owner: dict[str, str] = {}
        self._strikes: Strikes | None = None
        self._passed: BaseException | None = None

    def owns_outcome(self, who: str) -> bool:
        """Whether the body or its time limit, whoever asks first, says what is stored."""
        return self._owner.setdefault("outcome", who) == who

    # -- the body ---------------------------------------------------------------------------------

    def run(self) -> Outcome | None:
        """Run the body; what is to be stored of it. None when its time limit has decided that."""
        manager = self.manager
        self.context, problem = context_of(manager, self.claimed, self.lost)
        context = self.context
        try:
            if isinstance(problem, TaskNotFound) and self.passes_on:
                self._passed = problem
                return outcomes.pass_on(manager, self.name, problem)
            if problem is not None:
                raise problem
            limits = self.limits
            if limits is None:
                limits = time_limits(context.task_class, self.rules.timing)
            returned = self._run_body() if limits == (None, None) else self._run_limited(*limits)
            if not self.owns_outcome("body"):
                return None
            return outcomes.finish(manager, context, self.name, returned)
        except SkipRequested as request:
            return outcomes.skip(manager, self.name, request) if self.owns_outcome("body") else None
        except BodyInterrupted:
            raise
        except BaseException as error:
            if self._strikes is not None:
                self._strikes.leave()
            if issubclass(type(error), KeyboardInterrupt) and in_main_thread():
                self.interrupted = error
            if not self.owns_outcome("body"):
                return None
            return outcomes.fail(manager, context, self.name, error)

    def _run_body(self) -> Any:
        context = self.context
        if context.task_class.kwargs_model is not None:
            context.validate(context.task_class.kwargs_model)
        plugins = self.manager.app.plugins
        with (
            self.around_body(),
            plugins.body_contexts(context) if plugins.has_body_context else _NO_CONTEXT,
        ):
            try:
                task = context.task_class(context)
                task.context = context  # also where an __init__ of its own does not pass it on
                return self._call(task)
            finally:
                if self._strikes is not None:
                    self._strikes.leave()

    def _call(self, task: TriggerTask) -> Any:
        result = task._run(self.context)
        if not inspect.isawaitable(result):
            return result
        if self._strikes is not None:
            self._strikes.leave()
        from triggers_core.running import loops  # asyncio: 19 ms, for asynchronous bodies only

        begins = inspect.iscoroutinefunction(task._run)
        return loops.run(_awaited(result, self._strikes, begins))

    # -- time limits ------------------------------------------------------------------------------

    def _run_limited(self, hard: float | None, soft: float | None) -> Any:
        strikes = self._strikes = Strikes()
        self.stored = threading.Event()
        thread = threading.get_ident()
        told = f"{self.name} runs longer than its soft_time_limit of {soft:g} s" if soft else ""
        set_alarms = []
        try:
            if soft is not None:
                raise_soft = lambda: strikes.raise_in_body(SoftTimeLimitExceeded)  # noqa: E731
                set_alarms.append(alarms.set(soft, raise_soft))
            if hard is not None:
                set_alarms.append(alarms.set(hard, lambda: self._give_up(hard, thread)))
            return self._run_body()
        except SoftTimeLimitExceeded as error:
            if not error.args:  # ours: Python makes it of the class alone
                error.args = (told,)
            raise
        finally:
            for alarm in set_alarms:
                alarm.cancelled = True

    def _give_up(self, hard: float, thread: int) -> None:
        """The hard limit has passed: fail the instance, whatever the body does. In a thread."""
        if not self.owns_outcome("limit"):
            return
        try:
            error = TimeLimitExceeded(f"{self.name} ran longer than its time_limit of {hard:g} s")
            where = stack_of(thread)
            if where:
                with_context(error, {"where": where})
            self.store(outcomes.fail(self.manager, self.context, self.name, error))
        finally:
            self.lost.set()
            try:
                if self._on_abandoned is not None:
                    self._on_abandoned()
            finally:
                assert self.stored is not None
                assert self._strikes is not None
                self.stored.set()
                self._strikes.raise_in_body(TimeLimitExceeded)

    # -- the outcome ------------------------------------------------------------------------------

    def store(self, outcome: Outcome) -> AttemptResult | None:
        """Store an outcome; during an outage it is tried again for as long as a lease lasts."""
        outcome.token = self.token
        outcome.log_level = max(_level(self.context), outcome.log_level)
        if not isinstance(outcome, PassOn):
            outcome.carrier = _carrier(self.context)
        manager = self.manager
        until = pause = 0.0
        while True:
            try:
                ended = manager.commit(outcome).outcome
            except (LeaseLost, NotFound) as error:
                self.lost.set()
                logger.warning("%s", error)
                return None
            except PluginMissing as error:
                logger.error("%s: %s", self.name, error)
                return None
            except BaseException as error:
                if issubclass(type(error), _ENDINGS) and in_main_thread():
                    raise
                lease, first = self.rules.timing.lease, not until
                if first:
                    until, pause = time.monotonic() + lease, min(_FIRST_PAUSE, lease / 20)
                left = until - time.monotonic()
                if left <= 0:
                    log_exception(
                        logger,
                        "%s %s: its outcome could not be stored; another attempt follows when the"
                        " lease runs out",
                        error,
                        *(manager.uid, self.name),
                    )
                    return None
                if first:
                    logger.warning(
                        "%s %s: its outcome could not be stored; tried for another %.0f s: %s",
                        *(manager.uid, self.name, left, message_of(error)),
                    )
                time.sleep(min(pause * random.uniform(0.5, 1.0), left))
                pause = min(pause * 2, _LONGEST_PAUSE, lease / 10)
                between_jobs()  # a connection that has broken would fail again
            else:
                self._tell(ended)
                return ended

    def _tell(self, ended: AttemptResult) -> None:
        uid = self.manager.uid
        for plugin, problem in ended.dropped.items():
            logger.error("%s: plugin %s was left out: %s", uid, plugin, problem)
        if ended.passed_on is not None and self._passed is not None:
            logger.warning(
                "%s %s: left to other workers, the next is asked in %g s: %s",
                *(uid, self.name, ended.passed_on, message_of(self._passed)),
            )
        elif self._passed is not None:
            log_failure(self.context, self._passed)


def _level(context: TaskContext) -> int:
    try:
        level = context.log_level
        return int(level) if 0 <= level < 2**31 else logging.ERROR
    except BaseException:
        return logging.ERROR


def _carrier(context: TaskContext) -> dict[str, str] | None:
    try:
        return check_carrier(context.carrier)
    except BaseException as problem:
        log_exception(logger, "context.carrier is left out", problem)
        return None


async def _awaited(result: Any, strikes: Strikes | None, begins: bool) -> Any:
    if strikes is None:
        return await result
    import asyncio  # loaded by the caller

    strikes.in_loop(asyncio.get_running_loop(), asyncio.current_task(), begins)
    try:
        return await result
    except asyncio.CancelledError:
        if strikes.struck is None:
            raise
        raise strikes.struck from None
    finally:
        strikes.leave()
