"""The spans: one for each fire of an application, one for each attempt.

Names and kinds are those of OpenTelemetry's semantic conventions for messaging (1.27 and later;
they are in development still): a fire *sends*, an attempt *processes*. What they have no name for
is under ``triggers.``.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Final

from opentelemetry import context as contexts
from opentelemetry.trace import (
    Link,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    set_span_in_context,
)

from triggers_core import TaskContext
from triggers_core.engine.records import Event
from triggers_core.exceptions import BodyInterrupted
from triggers_core.failures import message_of, traceback_of, type_name
from triggers_core.plugins.fire_contexts import Firing
from triggers_core.tasks import RetryRequested, SkipRequested
from triggers_otel import carriers
from triggers_otel.logs import ids_of

MOST_LINKS: Final = 128
"""Events that an attempt links to; what the SDK keeps of a span by default."""

_MESSAGE: Final = 500  # characters
_TRACEBACK: Final = 16_384  # characters, as in the core's logs

_Attributes = dict[str, str | int]


class FireSpan:
    """The span of a fire, which its event carries."""

    # A class: the context managers of `contextlib` take twice the time.

    __slots__ = ("_firing", "_span", "_token", "_tracer", "_uid")

    def __init__(self, tracer: Tracer, firing: Firing, uid: str | None) -> None:
        self._tracer, self._firing, self._uid = tracer, firing, uid

    def __enter__(self) -> None:
        firing = self._firing
        trigger = firing.trigger[:200] if type(firing.trigger) is str else "?"
        attributes: _Attributes = {
            "messaging.system": "triggers",
            "messaging.operation.type": "send",
            "messaging.operation.name": "fire",
            "messaging.destination.name": trigger,
        }
        if self._uid is not None:
            attributes["triggers.session.uid"] = self._uid
        self._span = span = self._tracer.start_span(
            f"fire {trigger}", kind=SpanKind.PRODUCER, attributes=attributes
        )
        self._token = contexts.attach(set_span_in_context(span))
        carriers.write(span.get_span_context(), firing.carrier)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        contexts.detach(self._token)
        span, result = self._span, self._firing.result
        if not span.is_recording():
            return
        try:
            if result is not None:
                span.set_attributes(
                    {
                        "messaging.message.id": result.event_id,
                        "triggers.fire.status": result.status,
                    }
                )
            elif error is not None:
                record_error(span, error)
        finally:
            span.end()


class AttemptSpan:
    """The span of an attempt: links to those of the events that it waited for."""

    __slots__ = ("_context", "_span", "_token", "_tracer", "_uid")

    def __init__(self, tracer: Tracer, context: TaskContext, uid: str | None) -> None:
        self._tracer, self._context, self._uid = tracer, context, uid

    def __enter__(self) -> None:
        context = self._context
        events = context.event_records(MOST_LINKS)
        task, instance = context.task, context.instance
        attributes: _Attributes = {
            "messaging.system": "triggers",
            "messaging.operation.type": "process",
            "messaging.operation.name": "run",
            "messaging.destination.name": task.name,
            "messaging.batch.message_count": len(events),
            "triggers.task": task.name,
            "triggers.run": task.run,
            "triggers.instance": instance.name,
            "triggers.attempt": context.attempt,
            "triggers.retries": context.retries,
        }
        if self._uid is not None:
            attributes["triggers.session.uid"] = self._uid
        self._span = span = self._tracer.start_span(
            f"run {task.name}",
            kind=SpanKind.CONSUMER,
            attributes=attributes,
            links=links_to(events),
        )
        self._token = contexts.attach(set_span_in_context(span))
        here = span.get_span_context()
        if here.is_valid:
            carriers.write(here, context.carrier)
            context.log_fields.update(ids_of(here))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        contexts.detach(self._token)
        span = self._span
        if not span.is_recording():
            return
        try:
            span.set_attribute("triggers.outcome", self._outcome(error))
        finally:
            span.end()

    def _outcome(self, error: BaseException | None) -> str:
        if self._context.lease_lost:
            self._span.set_status(Status(StatusCode.ERROR, "the lease was lost: another attempt"))
            return "lease_lost"
        if error is None:
            return "finished"
        if isinstance(error, SkipRequested):
            return "skipped"
        if isinstance(error, RetryRequested):
            if error.exc is not None:
                record_error(self._span, error.exc)
            return "retried"
        record_error(self._span, error)
        return "interrupted" if isinstance(error, BodyInterrupted) else "failed"


def links_to(events: list[Event]) -> list[Link]:
    """A link to the span of each event that carries one."""
    links = []
    for event in events:
        span = carriers.read(event.carrier)
        if span is not None:
            about: dict[str, Any] = {
                "messaging.destination.name": event.trigger,
                "messaging.message.id": event.id,
                "triggers.event.number": event.number,
            }
            links.append(Link(span, about))
    return links


def record_error(span: Span, error: BaseException) -> None:
    """Record an error as OpenTelemetry does, but with secrets masked as the core masks them."""
    kind, message = type_name(error), message_of(error, _MESSAGE)
    span.set_attribute("error.type", kind)
    span.add_event(
        "exception",
        {
            "exception.type": kind,
            "exception.message": message,
            "exception.stacktrace": traceback_of(error, _TRACEBACK),
        },
    )
    span.set_status(Status(StatusCode.ERROR, message))
