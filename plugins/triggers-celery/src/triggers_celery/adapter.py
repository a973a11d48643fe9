"""Celery tasks for `TriggerTask` classes, by the same names: Celery's own means apply to them."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

from triggers_celery.abandoned import abandon
from triggers_celery.execution import AttemptFailed, ExecutionContext, run_attempt
from triggers_celery.identity import GENERIC, SWEEP, parse_message
from triggers_celery.limits import Limits, merge_limits, own_limits
from triggers_core.exceptions import DuplicateKey, InvalidConfiguration
from triggers_core.tasks import registry
from triggers_core.texts import did_you_mean

if TYPE_CHECKING:
    from triggers_celery.integration import Integration
    from triggers_core.tasks import TriggerTask

_RESERVED: Final = frozenset(
    {"name", "run", "bind", "base", "app", "Request", "serializer", "typing"}
)
"""What `celery_options` must not change: messages and claims depend on it."""

_RETRIES: Final = frozenset(
    {"autoretry_for", "retry_backoff", "retry_kwargs", "default_retry_delay"}
)
"""Celery's own retries would repeat a message whose attempt is over: nothing would happen."""

_ATTRIBUTES: Final = frozenset(
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

_MESSAGE_OPTIONS: Final = frozenset(
    {"queue", "exchange", "routing_key", "delivery_mode", "priority"}
)
"""…and what may go with its messages: as attributes Celery has deprecated these."""


class AttemptTask:
    """Base of the Celery tasks that make attempts; mixed into the Celery app's own task class.

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
    message_options: ClassVar[dict[str, Any]] = {}
    """Options of its messages; they win over the app's routes."""
    own_limits: ClassVar[dict[str, float]] = {}
    """The time limits of its `TriggerTask`."""

    def run(self, *arguments: object, **named: object) -> str:
        """Make one attempt."""
        message = parse_message((*arguments, *named))  # no message has named ones: refused
        application = self.integration.application(message.app)
        request: Any = self.request  # type: ignore[attr-defined]
        return run_attempt(
            application,
            message,
            ExecutionContext(
                node=self.integration.node,
                eager=bool(request.is_eager),
                knows_task=self.name != GENERIC,  # type: ignore[attr-defined]
                limits=Limits(*(request.timelimit or (None, None))),
                abandon=partial(abandon, request.id),
            ),
        )


_registering: Final = threading.RLock()


def register_tasks(integration: Integration) -> None:
    """Register a Celery task for each `TriggerTask` that is defined by now, and the plugin's own.

    :raises DuplicateKey: the Celery app has another task of such a name.
    :raises InvalidConfiguration: the `celery_options` of a task are impossible.
    """
    celery_app = integration.celery_app
    with _registering:
        if GENERIC not in celery_app.tasks:
            _register(integration, GENERIC, {}, AttemptTask)
        if SWEEP not in celery_app.tasks:

            def sweep() -> None:
                """Look after what is overdue, once."""
                integration.sweep()

            celery_app.task(sweep, name=SWEEP, ignore_result=True, shared=False)
        for task_class in list(registry.declared.values()):
            _register_class(integration, task_class)


def _register_class(integration: Integration, task_class: type[TriggerTask]) -> None:
    name = task_class.name
    known = integration.celery_app.tasks.get(name)
    if known is not None:
        if not isinstance(known, AttemptTask):
            raise DuplicateKey(
                f"task {name!r}: {_path(task_class)} is a TriggerTask, but the Celery app has"
                f" another task of this name, {_path(type(known))}: rename one of them"
            )
        return
    _register(integration, name, options_of(task_class), task_class)


def _register(integration: Integration, name: str, options: dict[str, Any], like: type) -> None:
    celery_app = integration.celery_app
    members = {
        **{option: value for option, value in options.items() if option not in _MESSAGE_OPTIONS},
        "message_options": {
            option: options[option] for option in _MESSAGE_OPTIONS & options.keys()
        },
        "name": name,
        "integration": integration,
        "own_limits": own_limits(like),
        "__module__": like.__module__,
        "__qualname__": like.__qualname__,
        "__doc__": like.__doc__,
    }
    adapter = type(like.__name__, (AttemptTask, celery_app.Task), members)
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
        if option in _RETRIES:
            raise InvalidConfiguration(
                f"{place}: {option!r} has no effect here: retries are made by Triggers"
                " (raise self.retry(...), or the plugin triggers-retry)",
                place,
            )
        if option in _RESERVED:
            raise InvalidConfiguration(f"{place}: {option!r} is not yours to set: leave it", place)
        known = _ATTRIBUTES | _MESSAGE_OPTIONS
        if option not in known:
            raise InvalidConfiguration(
                f"{place}: Celery tasks have no option {option!r}{did_you_mean(option, known)}",
                place,
            )
    return merge_limits(options, task_class, place)


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
