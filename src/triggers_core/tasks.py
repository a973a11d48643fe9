"""Tasks: what an application writes. `TriggerTask`, the `trigger_task` decorator, `TaskContext`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from logging import Logger
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar, overload

import msgspec

from triggers_core import payloads
from triggers_core.attempts import BodyFire, Kwargs
from triggers_core.exceptions import (
    InvalidConfiguration,
    InvalidName,
    KwargsMismatch,
    MaxRetriesExceeded,
    TriggersError,
)
from triggers_core.names import check_name
from triggers_core.records import is_generated_id

if TYPE_CHECKING:
    from triggers_core.configuration import Task
    from triggers_core.manager import TriggerManager
    from triggers_core.storages.session import TaskInstance

T = TypeVar("T")
Result = Mapping[str, Any] | None
"""What a body may return: the kwargs of its cascade."""
Body = Callable[["TaskContext"], Any]

LONGEST_COOLDOWN: Final = 10 * 366 * 86_400
"""Seconds; longer ones are slips of a unit, and dates soon cannot show them."""


class RetryRequested(TriggersError):
    """Raised by a body (`raise self.retry(...)`): fail this instance and replay it later."""

    def __init__(
        self, exc: BaseException | None, cooldown: float, replacement_kwargs: Kwargs | None
    ) -> None:
        super().__init__(f"retry in {cooldown:g} s" if cooldown else "retry now")
        self.exc, self.cooldown, self.replacement_kwargs = exc, cooldown, replacement_kwargs


class SkipRequested(TriggersError):
    """Raised by a body (`raise self.skip(...)`): mark this instance as skipped; no cascade."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        super().__init__("skipped by its body")
        self.metadata = metadata


class TaskContext:
    """What a body gets to see and to do; one per attempt.

    Example::

        def _run(self, context):
            subject = context.trigger_kwargs["firstPageReceived"]["responses"]
            context.fire("subjectImported", {"id": subject["id"]})
            return {"id": subject["id"]}
    """

    def __init__(
        self,
        manager: TriggerManager,
        instance: TaskInstance,
        task: Task,
        trigger_kwargs: Kwargs,
    ) -> None:
        self.manager = manager
        self.instance = instance
        self.task = task
        """The task's configuration."""
        self.trigger_kwargs = trigger_kwargs
        """Trigger → kwargs, over the task's `withParams`."""
        self.task_class: type[TriggerTask] = TriggerTask
        self.log_level = 0
        """The highest level logged through `get_logger_context`."""
        self.fires: list[BodyFire] = []
        """What the body has fired so far."""
        self.lost = threading.Event()
        """Set once a heartbeat was rejected; `lease_lost` reads it."""

    @property
    def attempt(self) -> int:
        """1 for the first try at this instance; more when a worker was lost."""
        return self.instance.record.attempt

    @property
    def retries(self) -> int:
        """Automatic replays since the last manual one."""
        return self.instance.record.retries

    @property
    def idempotency_key(self) -> str:
        """Stable over attempts and replays: hand it to systems that must not act twice."""
        return self.instance.record.key

    @property
    def lease_lost(self) -> bool:
        """Whether another attempt has taken over: what this one returns will be dropped."""
        return self.lost.is_set()

    @property
    def kwargs(self) -> Any:
        """`trigger_kwargs` as the task's `kwargs_model`; raises `KwargsMismatch`."""
        return self.validate(self.task_class.kwargs_model)

    def validate(self, model: type[T]) -> T:
        """Turn `trigger_kwargs` into a typed model.

        :param model: a msgspec Struct or dataclass whose fields are triggers (rename the fields of
            a Struct where a trigger's name is no identifier), or a TypedDict.
        :raises KwargsMismatch: with the path to the value that does not fit.
        """
        try:
            return msgspec.convert(self.trigger_kwargs, model)
        except msgspec.ValidationError as error:
            message = str(error).replace("`$", "`trigger_kwargs")
            raise KwargsMismatch(f"{self.instance.name}: {message}") from None

    def fire(
        self,
        trigger_name: str,
        trigger_kwargs: Mapping[str, Any] | None = None,
        event_id: str | None = None,
        once: bool = False,
        force: bool = False,
    ) -> None:
        """Fire a trigger in the same commit as this instance's success, and only then.

        :raises InvalidName: the trigger's name or the event id cannot be one.
        :raises InvalidPayload: the kwargs cannot be stored.
        """
        limits = self.manager.app.rules.limits
        self.fires.append(
            BodyFire(
                trigger=check_name(trigger_name, "trigger"),
                payload=payloads.encode(trigger_kwargs, limits),
                event_id="" if event_id is None else check_event_id(event_id),
                once=once,
                force=force,
            )
        )

    def retry(
        self,
        exc: BaseException | None = None,
        cooldown: float | timedelta | None = None,
        replacement_kwargs: Kwargs | None = None,
    ) -> RetryRequested:
        """See `TriggerTask.retry`."""
        most = self.task_class.max_retries
        if most is not None and self.retries >= most:
            raise MaxRetriesExceeded(
                f"{self.instance.name}: gave up after {self.retries} "
                f"{'retry' if self.retries == 1 else 'retries'}"
                + (f"; the last error: {exc}" if exc else "")
            ) from exc
        seconds = cooldown.total_seconds() if isinstance(cooldown, timedelta) else cooldown or 0.0
        if not 0 <= seconds <= LONGEST_COOLDOWN:
            raise ValueError(
                f"cooldown: expected 0 to {LONGEST_COOLDOWN:,} seconds (ten years),"
                f" got {cooldown!r}"
            )
        return RetryRequested(exc, float(seconds), replacement_kwargs)

    def skip(self, metadata: Mapping[str, Any] | None = None) -> SkipRequested:
        """See `TriggerTask.skip`."""
        return SkipRequested(dict(metadata or {}))

    def get_logger_context(
        self, logger: Logger | None = None, context: Mapping[str, Any] | None = None
    ) -> AbstractContextManager[Any]:
        """A context manager that yields this attempt's logger.

        Every line carries session, task, instance and attempt; an exception that leaves the block
        is logged once, with its `with_context` data; the highest level ends up as the instance's
        `log_level`.

        :param logger: logs through it; the task's own (named like the task) when not given.
        :param context: added to every line.

        Example::

            with context.get_logger_context(context={"order": 42}) as logger:
                logger.warning("out of stock")
        """
        return self.manager.app.logger_context(self, logger, context or {})


class TriggerTask:
    """Base of an application's tasks. One object per attempt; `_run` is the body.

    Example::

        class ImportSubject(TriggerTask):
            name = "app.tasks.ImportSubject"
            max_retries = 3

            def _run(self, context):
                ...
                return {"subject": 42}      # the kwargs of its cascade
    """

    name: ClassVar[str]
    """What a configuration's `run` says; ``module.Class`` when not given."""
    max_retries: ClassVar[int | None] = 3
    """How often `retry` may be asked for; None: no limit. Celery's default is 3 as well."""
    kwargs_model: ClassVar[Any] = None
    """The model that `trigger_kwargs` must fit; read them as `context.kwargs` then."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = f"{cls.__module__}.{cls.__qualname__}"
        check_name(cls.name, f"{cls.__qualname__}.name")
        if cls._run is not TriggerTask._run:
            declared[cls.name] = cls

    def __init__(self, context: TaskContext) -> None:
        self.context = context

    def _run(self, context: TaskContext) -> Any:
        """The body: returns a mapping or None. May be an `async def`; it runs in its own loop."""
        raise InvalidConfiguration(f"{type(self).__name__} has no _run")

    def retry(
        self,
        exc: BaseException | None = None,
        cooldown: float | timedelta | None = None,
        replacement_kwargs: Kwargs | None = None,
    ) -> RetryRequested:
        """What to raise to fail this instance and have it replayed.

        :param exc: the reason, kept in the failed instance's metadata.
        :param cooldown: seconds (or a timedelta) until the replay; 0 when not given.
        :param replacement_kwargs: trigger → kwargs in place of the recorded ones.
        :raises MaxRetriesExceeded: from `exc`, when `max_retries` have been made.

        Example::

            raise self.retry(exc=error, cooldown=30)
        """
        return self.context.retry(exc, cooldown, replacement_kwargs)

    def skip(self, metadata: Mapping[str, Any] | None = None) -> SkipRequested:
        """What to raise to end this instance as skipped, without a cascade.

        Example::

            raise self.skip({"reason": "no such subject"})
        """
        return self.context.skip(metadata)


declared: dict[str, type[TriggerTask]] = {}
"""Every task class that has been defined in this process, by name; the latest of a name counts."""


@overload
def trigger_task(function: Body) -> type[TriggerTask]: ...
@overload
def trigger_task(
    *, name: str | None = None, max_retries: int | None = 3, kwargs_model: Any = None
) -> Callable[[Body], type[TriggerTask]]: ...
def trigger_task(
    function: Body | None = None,
    *,
    name: str | None = None,
    max_retries: int | None = 3,
    kwargs_model: Any = None,
) -> type[TriggerTask] | Callable[[Body], type[TriggerTask]]:
    """Make a task of a function that takes the context.

    :param name: what a configuration's `run` says; ``module.function`` when not given.
    :param max_retries: as `TriggerTask.max_retries`.
    :param kwargs_model: as `TriggerTask.kwargs_model`.

    Example::

        @trigger_task(name="shop.ship", max_retries=5)
        def ship(context):
            return {"parcel": 7}
    """

    def decorate(function: Body) -> type[TriggerTask]:
        members = {
            "name": name or f"{function.__module__}.{function.__qualname__}",
            "max_retries": max_retries,
            "kwargs_model": kwargs_model,
            "_run": lambda self, context: function(context),
            "__module__": function.__module__,
            "__qualname__": function.__qualname__,
            "__doc__": function.__doc__,
        }
        return type(function.__name__, (TriggerTask,), members)

    return decorate if function is None else decorate(function)


def check_event_id(event_id: object, generated: bool = False) -> str:
    """An event id as the application may choose it: a name that does not begin with ``~``.

    :param generated: also accept what `FireResult.event_id` gave when there was none.
    """
    checked = check_name(event_id, "event id")
    if checked.startswith("~") and not (generated and is_generated_id(checked)):
        raise InvalidName(
            f"event id: {checked!r} begins with ~, which marks the ids that Triggers generates"
        )
    return checked
