"""The spans: one for each fire of an application, one for each attempt.

Names and kinds are those of OpenTelemetry's semantic conventions for messaging (1.27 and later;
they are in development still): a fire *sends*, an attempt *processes*. What they have no name for
is under ``triggers.``.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
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
from triggers_core.tasks.context import RetryRequested, SkipRequested
from triggers_otel import carriers
from triggers_otel.logs import ids_of

MOST_LINKS: Final = 128
"""Events that an attempt links to; what the SDK keeps of a span by default."""

_MESSAGE: Final = 500  # characters
_TRACEBACK: Final = 16_384  # characters, as in the core's logs

_Attributes = dict[str, str | int]


class _Current(AbstractContextManager[None]):
    """A span that is the current one meanwhile."""

    # A class: the context managers of `contextlib` take twice the time.

    def __init__(self, tracer: Tracer, name: str, kind: SpanKind) -> None:
        self._tracer, self._name, self._kind = tracer, name, kind

    def start(self, attributes: _Attributes, links: list[Link] | None = None) -> Span:
        """Start it, and make it the current one."""
        self.span = self._tracer.start_span(
            self._name, kind=self._kind, attributes=attributes, links=links
        )
        self._token = contexts.attach(set_span_in_context(self.span))
        return self.span

    def end(self) -> None:
        """End it."""
        contexts.detach(self._token)
        self.span.end()


class FireSpan(_Current):
    """The span of a fire, which its event carries."""

    def __init__(self, tracer: Tracer, firing: Firing, uid: str | None) -> None:
        trigger = firing.trigger[:200] if type(firing.trigger) is str else "?"
        super().__init__(tracer, f"fire {trigger}", SpanKind.PRODUCER)
        self._firing, self._trigger, self._uid = firing, trigger, uid

    def __enter__(self) -> None:
        attributes: _Attributes = {
            "messaging.system": "triggers",
            "messaging.operation.type": "send",
            "messaging.operation.name": "fire",
            "messaging.destination.name": self._trigger,
        }
        if self._uid is not None:
            attributes["triggers.session.uid"] = self._uid
        span = self.start(attributes)
        self._firing.carrier.update(carriers.write(span.get_span_context()))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        span, result = self.span, self._firing.result
        try:
            if not span.is_recording():
                return
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
            self.end()


class AttemptSpan(_Current):
    """The span of an attempt: links to those of the events that it waited for."""

    def __init__(self, tracer: Tracer, context: TaskContext, uid: str | None) -> None:
        super().__init__(tracer, f"run {context.task.name}", SpanKind.CONSUMER)
        self._context, self._uid = context, uid

    def __enter__(self) -> None:
        context = self._context
        events = context.event_records(MOST_LINKS)
        attributes: _Attributes = {
            "messaging.system": "triggers",
            "messaging.operation.type": "process",
            "messaging.operation.name": "run",
            "messaging.destination.name": context.task.name,
            "messaging.batch.message_count": len(events),
            "triggers.task": context.task.name,
            "triggers.run": context.task.run,
            "triggers.instance": context.instance.name,
            "triggers.attempt": context.attempt,
            "triggers.retries": context.retries,
        }
        if self._uid is not None:
            attributes["triggers.session.uid"] = self._uid
        span = self.start(attributes, links_to(events)).get_span_context()
        if span.is_valid:
            context.carrier.update(carriers.write(span))
            context.log_fields.update(ids_of(span))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        span = self.span
        try:
            if span.is_recording():
                span.set_attribute("triggers.outcome", self._outcome(error))
        finally:
            self.end()

    def _outcome(self, error: BaseException | None) -> str:
        if self._context.lease_lost:
            self.span.set_status(Status(StatusCode.ERROR, "the lease was lost: another attempt"))
            return "lease_lost"
        if error is None:
            return "finished"
        if isinstance(error, SkipRequested):
            return "skipped"
        if isinstance(error, RetryRequested):
            if error.exc is not None:
                record_error(self.span, error.exc)
            return "retried"
        record_error(self.span, error)
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
