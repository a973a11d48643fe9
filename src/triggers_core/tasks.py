"""Tasks: what an application writes. `TriggerTask`, the `trigger_task` decorator, `TaskContext`."""

from __future__ import annotations

import inspect
import logging
import math
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast, overload

from triggers_core import payloads
from triggers_core.engine.attempts import BodyFire, check_cooldown
from triggers_core.engine.names import check_event_id, check_name
from triggers_core.engine.taken_events import (
    KwargsByTrigger,
    TakenEvent,
    seen_events,
    taken_events,
)
from triggers_core.exceptions import (
    DuplicateKey,
    InvalidArgument,
    InvalidConfiguration,
    KwargsMismatch,
    MaxRetriesExceeded,
    TriggersError,
)
from triggers_core.failures import message_of
from triggers_core.texts import convert, short_repr

if TYPE_CHECKING:
    from triggers_core.engine.configuration import Task
    from triggers_core.engine.records import Event
    from triggers_core.limits import Timing
    from triggers_core.manager import TriggerManager
    from triggers_core.storages.session import TaskInstance

T = TypeVar("T")
Result = Mapping[str, Any] | None
"""What a body may return: the kwargs of its cascade."""
Body = Callable[["TaskContext"], Any]


class RetryRequested(TriggersError):
    """Raised by a body (`raise self.retry(...)`): fail this instance and replay it later."""

    def __init__(
        self,
        exc: BaseException | None,
        cooldown: float,
        replacement_kwargs: Mapping[str, Any] | None,
        payload: bytes | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(f"retry in {cooldown:g} s" if cooldown else "retry now")
        self.exc: BaseException | None = exc
        self.cooldown: float = cooldown
        self.replacement_kwargs: Mapping[str, Any] | None = replacement_kwargs
        self.payload = payload
        """`replacement_kwargs`, encoded."""
        self.metadata: dict[str, Any] = dict(metadata or {})


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
        trigger_kwargs: KwargsByTrigger,
        task_class: type[TriggerTask],
        lost: threading.Event | None = None,
        events: Mapping[int, Event] | None = None,
    ) -> None:
        """Made by whoever makes the attempt; see `triggers_core.running.worker.context_of`."""
        self.manager = manager
        self.instance = instance
        self.task = task
        """The task's configuration."""
        self.trigger_kwargs = trigger_kwargs
        """Key (mostly a trigger's name) → kwargs, over the task's `withParams`.

        A dict for what keeps one event, a list of dicts for what counts or keeps several.
        """
        self._events = events or {}
        self.task_class = task_class
        """The class whose body runs; `TriggerTask` itself when it is not known here."""
        self._log_level = 0
        self.fires: list[BodyFire] = []
        """What the body has fired so far."""
        self.carrier: dict[str, str] = {}
        """What a tracer hands on with all that this attempt fires, its cascade included; filled by
        a plugin's `body_context` (`triggers_core.engine.carriers`)."""
        self.log_fields: dict[str, Any] = {}
        """What plugins add to the fields that every line of the attempt carries."""
        self.lost: threading.Event = lost or threading.Event()
        """Set once a heartbeat was rejected; `lease_lost` reads it."""

    def events(self, key: str) -> list[TakenEvent]:
        """The recorded events behind the kwargs of a key, in order: when each was fired, by whom.

        They stay what they were when a replay runs with other kwargs.

        Example::

            first, *others = context.events("packed")
            first.at, first.kwargs
        """
        return seen_events(self.instance.record, key, self._events)

    def event_records(self, limit: int = 1_000) -> list[Event]:
        """The records of the events that it waited for, each once, by number.

        For plugins: no payload is decoded, so that it costs little. Bodies read `events`.

        :param limit: how many at most.

        Example::

            latest = context.event_records()[-1].at
        """
        return taken_events(self.instance.record, self._events, limit)

    @property
    def log_level(self) -> int:
        """The highest level logged through `get_logger_context`.

        Set it to a number or a name of a level (``"ERROR"``); `InvalidArgument` for anything else.
        """
        return self._log_level

    @log_level.setter
    def log_level(self, level: int | str) -> None:
        known = logging.getLevelNamesMapping()
        number = known.get(level.upper()) if isinstance(level, str) else level
        if not isinstance(number, int) or not 0 <= number < 2**31:
            raise InvalidArgument(
                f"log_level: expected a level such as logging.ERROR, got {short_repr(level)}"
            )
        self._log_level = int(number)

    @property
    def attempt(self) -> int:
        """1 for the first try at this instance; more when a worker was lost."""
        return self.instance.record.attempt

    @property
    def retries(self) -> int:
        """Automatic replays since the last manual one."""
        return self.instance.record.retries

    @property
    def instance_name(self) -> str:
        """`context.instance.name`, under its name of version 2."""
        return self.instance.name

    @property
    def task_instance(self) -> TaskInstance:
        """The instance as it is stored now; `context.instance` is that of the claim."""
        return self.manager.storage[self.instance.name]

    @property
    def storage_uid(self) -> str:
        """`context.manager.uid`, under its name of version 2."""
        return self.manager.uid

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
        """`trigger_kwargs` as the task's `kwargs_model`; raises `KwargsMismatch`.

        :raises InvalidConfiguration: the task has none.
        """
        model = self.task_class.kwargs_model
        if model is None:
            raise InvalidConfiguration(
                f"{self.task_class.name} has no kwargs_model that context.kwargs could fit: give it"
                " one, or read context.trigger_kwargs"
            )
        return self.validate(model)

    def validate(self, model: type[T]) -> T:
        """Turn `trigger_kwargs` into a typed model.

        :param model: a msgspec Struct or dataclass whose fields are triggers (rename the fields of
            a Struct where a trigger's name is no identifier), or a TypedDict.
        :raises KwargsMismatch: with the path to the value that does not fit.
        """
        try:
            validated: T = convert(self.trigger_kwargs, model, "trigger_kwargs")
            return validated
        except ValueError as error:
            raise KwargsMismatch(f"{self.instance.name}: {error}") from None

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
        exc: BaseException | type[BaseException] | None = None,
        cooldown: float | timedelta | None = None,
        replacement_kwargs: Mapping[str, Mapping[str, Any]] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> RetryRequested:
        """See `TriggerTask.retry`."""
        reason = None if exc is None else _an_error(exc)
        seconds = cooldown.total_seconds() if isinstance(cooldown, timedelta) else cooldown
        wait = 0.0 if seconds is None else check_cooldown(seconds)
        _check_metadata("retry", metadata)
        payload = None
        if replacement_kwargs is not None:
            payload = payloads.encode_replacement(replacement_kwargs, self.manager.app.rules.limits)
        most = self.task_class.max_retries
        if most is not None and self.retries >= most:
            raise MaxRetriesExceeded(
                f"{self.instance.name}: gave up after {self.retries} "
                f"{'retry' if self.retries == 1 else 'retries'}"
                + ("" if reason is None else f"; the last error: {message_of(reason)}")
            ) from reason
        return RetryRequested(reason, wait, replacement_kwargs, payload, metadata)

    def skip(self, metadata: Mapping[str, Any] | None = None) -> SkipRequested:
        """See `TriggerTask.skip`."""
        _check_metadata("skip", metadata)
        return SkipRequested(dict(metadata or {}))

    def get_logger_context(
        self,
        logger: logging.Logger | Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> AbstractContextManager[Any]:
        """A context manager that yields this attempt's logger.

        Every line carries session, task, instance and attempt; an exception that leaves the block
        is logged once, with its `with_context` data; the highest level ends up as the instance's
        `log_level`.

        :param logger: logs through it; the task's own (named like the task) when not given. A
            mapping alone is taken as `context`.
        :param context: added to every line.

        Example::

            with context.get_logger_context(context={"order": 42}) as logger:
                logger.warning("out of stock")
        """
        if isinstance(logger, Mapping) and context is None:
            logger, context = None, logger
        return self.manager.app.logger_context(
            self, cast("logging.Logger | None", logger), context or {}
        )


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
    time_limit: ClassVar[float | None] = None
    """Seconds after which its instance fails with `TimeLimitExceeded`, whatever the body does then;
    None: `Timing.time_limit`, `math.inf`: no limit."""
    soft_time_limit: ClassVar[float | None] = None
    """Seconds after which `SoftTimeLimitExceeded` is raised in the body, as `time_limit`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = f"{cls.__module__}.{cls.__qualname__}"
        check_name(cls.name, f"{cls.__qualname__}.name")
        _check_limits(cls)
        if "__init__" in cls.__dict__:
            _check_init(cls)
        if cls._run is not TriggerTask._run:
            _declare(cls)
        else:
            without_body[cls.name] = cls

    def __init__(self, context: TaskContext) -> None:
        self.context = context

    def _run(self, context: TaskContext) -> Any:
        """The body: returns a mapping or None. May be an `async def`; it runs in its own loop."""
        raise InvalidConfiguration(f"{type(self).__name__} has no _run")

    def retry(
        self,
        exc: BaseException | type[BaseException] | None = None,
        cooldown: float | timedelta | None = None,
        replacement_kwargs: Mapping[str, Mapping[str, Any]] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> RetryRequested:
        """What to raise to fail this instance and have it replayed.

        :param exc: the reason, kept in the failed instance's metadata: an exception, or a class of
            exceptions that needs no arguments.
        :param cooldown: seconds (or a timedelta) until the replay; 0 when not given.
        :param replacement_kwargs: trigger → kwargs in place of the recorded ones.
        :param metadata: added to the failed instance's metadata.
        :raises InvalidArgument: an argument is something else.
        :raises InvalidPayload: `replacement_kwargs` cannot be stored.
        :raises MaxRetriesExceeded: from `exc`, when `max_retries` have been made.

        Example::

            raise self.retry(exc=error, cooldown=30)
        """
        return self.context.retry(exc, cooldown, replacement_kwargs, metadata)

    def skip(self, metadata: Mapping[str, Any] | None = None) -> SkipRequested:
        """What to raise to end this instance as skipped, without a cascade.

        Example::

            raise self.skip({"reason": "no such subject"})
        """
        return self.context.skip(metadata)


declared: dict[str, type[TriggerTask]] = {}
"""Every task class that has been defined in this process, by name."""

without_body: dict[str, type[TriggerTask]] = {}
"""Classes that have no `_run`: bases of others, or slips."""


def _declare(cls: type[TriggerTask]) -> None:
    other = declared.get(cls.name)
    if other is not None:
        here, there = _place(cls), _place(other)
        if None not in (here, there) and here != there:
            raise DuplicateKey(
                f"two tasks have the name {cls.name!r}: {there} and {here}; give one another name"
            )
    declared[cls.name] = cls
    without_body.pop(cls.name, None)


def _place(cls: type) -> str | None:
    """Where a class is defined; None when it may well be defined anew: in a function, a REPL."""
    if "<locals>" in cls.__qualname__:
        return None
    # By file: one that is run and imported too (``python -m``) is one place.
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return f"{cls.__qualname__} in {file}" if isinstance(file, str) else None


def _check_init(cls: type[TriggerTask]) -> None:
    try:
        inspect.signature(cls.__dict__["__init__"]).bind(None, None)
    except TypeError:
        raise InvalidConfiguration(
            f"{cls.__module__}.{cls.__qualname__}.__init__ has to take the context, and nothing"
            " else: def __init__(self, context): super().__init__(context)"
        ) from None
    except Exception:  # no signature can be had
        return


def _check_limits(cls: type[TriggerTask]) -> None:
    for name in ("time_limit", "soft_time_limit"):
        seconds = getattr(cls, name)
        if seconds is None:
            continue
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
            raise InvalidConfiguration(
                f"{cls.__module__}.{cls.__qualname__}.{name}: expected seconds above 0, or None,"
                f" got {short_repr(seconds)}"
            )
    hard, soft = cls.time_limit, cls.soft_time_limit
    if hard is not None and soft is not None and math.isfinite(soft) and soft >= hard:
        raise InvalidConfiguration(
            f"{cls.__module__}.{cls.__qualname__}: soft_time_limit ({soft:g} s) has to be shorter"
            f" than time_limit ({hard:g} s)"
        )


def time_limits(task_class: type[TriggerTask], timing: Timing) -> tuple[float | None, float | None]:
    """The time limit and the soft time limit of a task, in seconds; None where it has none.

    Its own, else those of `Timing`. A soft one that would never be reached counts as none.
    """
    hard = timing.time_limit if task_class.time_limit is None else task_class.time_limit
    soft = timing.soft_time_limit
    if task_class.soft_time_limit is not None:
        soft = task_class.soft_time_limit
    if hard is not None and not math.isfinite(hard):
        hard = None
    if soft is not None and (not math.isfinite(soft) or (hard is not None and soft >= hard)):
        soft = None
    return hard, soft


def why_unknown(run: str) -> str:
    """What explains that no task of a name is defined here, as the end of a message; or nothing."""
    found = without_body.get(run)
    if found is None:
        return ""
    place = f"{found.__module__}.{found.__qualname__}"
    if callable(found.__dict__.get("run")):
        return f": {place} has a run, but no _run, which is what the body of a task is called"
    return f": {place} has no _run, which is what the body of a task is called"


@overload
def trigger_task(function: Body) -> type[TriggerTask]: ...
@overload
def trigger_task(
    *,
    name: str | None = None,
    max_retries: int | None = 3,
    kwargs_model: Any = None,
    time_limit: float | None = None,
    soft_time_limit: float | None = None,
) -> Callable[[Body], type[TriggerTask]]: ...
def trigger_task(
    function: Body | None = None,
    *,
    name: str | None = None,
    max_retries: int | None = 3,
    kwargs_model: Any = None,
    time_limit: float | None = None,
    soft_time_limit: float | None = None,
) -> type[TriggerTask] | Callable[[Body], type[TriggerTask]]:
    """Make a task of a function that takes the context.

    :param name: what a configuration's `run` says; ``module.function`` when not given.
    :param max_retries: as `TriggerTask.max_retries`.
    :param kwargs_model: as `TriggerTask.kwargs_model`.
    :param time_limit: as `TriggerTask.time_limit`, in seconds.
    :param soft_time_limit: as `TriggerTask.soft_time_limit`, in seconds.

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
            "time_limit": time_limit,
            "soft_time_limit": soft_time_limit,
            "_run": lambda self, context: function(context),
            "__module__": function.__module__,
            "__qualname__": function.__qualname__,
            "__doc__": function.__doc__,
        }
        return type(function.__name__, (TriggerTask,), members)

    return decorate if function is None else decorate(function)


def _an_error(given: BaseException | type[BaseException]) -> BaseException:
    # By type: an error may lie about its class.
    if issubclass(type(given), BaseException):
        return cast(BaseException, given)
    if isinstance(given, type) and issubclass(given, BaseException):
        try:
            return given()
        except Exception:
            raise InvalidArgument(
                f"retry(exc=...): {given.__name__} needs arguments: pass an exception, such as"
                f" {given.__name__}('what went wrong')"
            ) from None
    hint = " (for data, there is metadata=...)" if isinstance(given, Mapping) else ""
    raise InvalidArgument(
        f"retry(exc=...): expected an exception, such as ValueError('what went wrong'), got"
        f" {short_repr(given)}{hint}"
    )


def _check_metadata(method: str, metadata: object) -> None:
    if metadata is not None and not isinstance(metadata, Mapping):
        raise InvalidArgument(
            f"{method}(metadata=...): expected a mapping, got {short_repr(metadata)}"
        )
