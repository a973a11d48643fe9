"""What a body gets to see and to do: `TaskContext`, and what it raises to be retried or skipped."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

from triggers_core import payloads
from triggers_core.engine.attempts import BodyFire, check_cooldown
from triggers_core.engine.names import check_event_id, check_name
from triggers_core.engine.taken_events import KwargsByTrigger, TakenEvent, seen_events, taken_events
from triggers_core.exceptions import (
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
    from triggers_core.manager import TriggerManager
    from triggers_core.storages.session import TaskInstance
    from triggers_core.tasks import TriggerTask

T = TypeVar("T")


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
