"""For each `TriggerTask` a Celery task of the same name, so that Celery's own means apply to it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

from triggers_celery.abandoned import abandon
from triggers_celery.execution import AttemptFailed, Place, attempt
from triggers_celery.identity import GENERIC, message_of
from triggers_celery.limits import Limits, own_limits, with_own
from triggers_core.exceptions import DuplicateKey, InvalidConfiguration
from triggers_core.texts import did_you_mean

if TYPE_CHECKING:
    from triggers_celery.integration import Integration
    from triggers_core.tasks import TriggerTask

_OURS: Final = frozenset({"name", "run", "bind", "base", "app", "Request", "serializer", "typing"})
"""What `celery_options` must not change: messages and claims depend on it."""

_NEVER: Final = frozenset({"autoretry_for", "retry_backoff", "retry_kwargs", "default_retry_delay"})
"""Celery's own retries would repeat a message whose attempt is over: nothing would happen."""

_OPTIONS: Final = frozenset(
    {
        "acks_late",
        "acks_on_failure",
        "acks_on_failure_or_timeout",
        "acks_on_timeout",
        "expires",
        "ignore_result",
        "compression",
        "rate_limit",
        "reject_on_worker_lost",
        "resultrepr_maxsize",
        "send_events",
        "soft_time_limit",
        "store_errors_even_if_ignored",
        "time_limit",
        "track_started",
        "trail",
    }
)
"""The attributes of a Celery task that `celery_options` may set…"""

_MAILING: Final = frozenset({"queue", "exchange", "routing_key", "delivery_mode", "priority"})
"""…and what may go with its messages: as attributes Celery has deprecated these."""


class Attempt:
    """What every adapter has in common; mixed into the Celery app's own task class.

    The defaults are those of the protocol: acknowledged once the outcome is stored, given back to
    the broker when the process that ran it died, no results (they are in the session), JSON.
    """

    acks_late = True
    reject_on_worker_lost = True
    ignore_result = True
    serializer = "json"
    typing = False
    throws = (AttemptFailed,)
    Request = "triggers_celery.requests:AttemptRequest"
    integration: Integration
    mailing: ClassVar[dict[str, Any]] = {}
    """Options of its messages; they win over the app's routes."""
    own_limits: ClassVar[dict[str, float]] = {}
    """The time limits of its `TriggerTask`."""

    def run(self, *arguments: object, **named: object) -> str:
        """Make one attempt."""
        message = message_of((*arguments, *named))  # no message has named ones: refused
        application = self.integration.application(message.app)
        request: Any = self.request  # type: ignore[attr-defined]
        return attempt(
            application,
            message,
            Place(
                node=self.integration.node,
                eager=bool(request.is_eager),
                knows_task=self.name != GENERIC,  # type: ignore[attr-defined]
                limits=Limits(*(request.timelimit or (None, None))),
                abandon=partial(abandon, request.id),
            ),
        )


def register(integration: Integration, task_class: type[TriggerTask]) -> None:
    """Register the Celery task of a `TriggerTask`; once more does nothing.

    :raises DuplicateKey: the Celery app has a task of its own under that name.
    :raises InvalidConfiguration: `celery_options` holds something impossible.
    """
    name = task_class.name
    known = integration.celery_app.tasks.get(name)
    if known is not None:
        if not isinstance(known, Attempt):
            raise DuplicateKey(
                f"task {name!r}: {_path(task_class)} is a TriggerTask, but the Celery app has"
                f" another task of this name, {_path(type(known))}: rename one of them"
            )
        return
    _register(integration, name, options_of(task_class), task_class)


def register_generic(integration: Integration) -> None:
    """Register the Celery task that takes messages for whatever has none of its own."""
    if GENERIC not in integration.celery_app.tasks:
        _register(integration, GENERIC, {}, Attempt)


def _register(integration: Integration, name: str, options: dict[str, Any], like: type) -> None:
    celery_app = integration.celery_app
    members = {
        **{option: value for option, value in options.items() if option not in _MAILING},
        "mailing": {option: options[option] for option in _MAILING & options.keys()},
        "name": name,
        "integration": integration,
        "own_limits": own_limits(like),
        "__module__": like.__module__,
        "__qualname__": like.__qualname__,
        "__doc__": like.__doc__,
    }
    adapter = type(like.__name__, (Attempt, celery_app.Task), members)
    celery_app.register_task(adapter())


def options_of(task_class: type[TriggerTask]) -> dict[str, Any]:
    """The `celery_options` of a task class, checked, and its time limits.

    :raises InvalidConfiguration: names the class, the option and the fix.

    Example::

        class Ship(TriggerTask):
            celery_options = {"queue": "parcels", "rate_limit": "10/m", "time_limit": 60}
    """
    options = getattr(task_class, "celery_options", {})
    place = f"{_path(task_class)}.celery_options"
    if not isinstance(options, dict):
        raise InvalidConfiguration(
            f"{place}: expected a dict of Celery task options, got {type(options).__name__}", place
        )
    for option in options:
        if option in _NEVER:
            raise InvalidConfiguration(
                f"{place}: {option!r} has no effect here: retries are made by Triggers"
                " (raise self.retry(...), or the plugin triggers-retry)",
                place,
            )
        if option in _OURS:
            raise InvalidConfiguration(f"{place}: {option!r} is not yours to set: leave it", place)
        known = _OPTIONS | _MAILING
        if option not in known:
            raise InvalidConfiguration(
                f"{place}: Celery tasks have no option {option!r}{did_you_mean(option, known)}",
                place,
            )
    return with_own(options, task_class, place)


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
