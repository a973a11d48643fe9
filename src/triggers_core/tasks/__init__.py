"""Tasks: what an application writes. `TriggerTask`, and the `trigger_task` decorator."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, ClassVar, overload

from triggers_core.engine.names import check_name
from triggers_core.exceptions import InvalidConfiguration
from triggers_core.tasks.context import RetryRequested, SkipRequested, TaskContext
from triggers_core.tasks.registry import declare, without_body
from triggers_core.texts import short_repr

Body = Callable[[TaskContext], Any]


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
            declare(cls)
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
