"""The spans: one for each fire of an application, each act by hand, each attempt.

Names and kinds are those of OpenTelemetry's semantic conventions for messaging (1.27 and later;
they are in development still): a fire *sends*, an attempt *processes*. What they have no name for
is under ``triggers.``.
"""

from __future__ import annotations

import time
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
from triggers_core.plugins.fire_contexts import Act, Firing
from triggers_core.tasks.context import RetryRequested, SkipRequested
from triggers_otel import carriers
from triggers_otel.logs import ids_of

MOST_LINKS: Final = 128
"""Events that an attempt links to; what the SDK keeps of a span by default."""

ACTS: Final = {
    "replay_failed_instance": "replay",
    "skip_failed_instance": "skip",
    "fail_instance": "fail",
    "update_configuration": "configure",
    "close_session": "close",
}
"""Method → what its span is called. Others change nothing that runs."""

_NAME: Final = 300  # characters of an instance's name, which nothing has checked yet
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
        trigger = _text(firing.trigger[:200]) if type(firing.trigger) is str else "?"
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


class ActSpan:
    """The span of an act by hand, which its events and its replay carry."""

    def __init__(self, tracer: Tracer, act: Act, uid: str | None) -> None:
        self._tracer, self._act = tracer, act
        self._attributes: _Attributes = {"triggers.act": ACTS[act.name]}
        if act.instance is not None:
            self._attributes["triggers.task"] = _text(self._task[:_NAME])
            self._attributes["triggers.instance"] = _text(act.instance[:_NAME])
        if uid is not None:
            self._attributes["triggers.session.uid"] = uid

    def __enter__(self) -> None:
        self._start()
        self._token = contexts.attach(set_span_in_context(self._span))
        carriers.write(self._span.get_span_context(), self._act.carrier)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        contexts.detach(self._token)
        self._end(error)

    def _start(self, at: int | None = None) -> None:
        about = self._attributes.get("triggers.task")
        name = self._attributes["triggers.act"]
        self._span = self._tracer.start_span(
            f"{name} {about}" if about else str(name), attributes=self._attributes, start_time=at
        )

    def _end(self, error: BaseException | None) -> None:
        try:
            if error is not None:
                record_error(self._span, error)
            elif self._act.name == "replay_failed_instance":
                self._span.set_attribute("triggers.replay", self._act.result.name)
        finally:
            self._span.end()

    @property
    def _task(self) -> str:
        return (self._act.instance or "").rpartition("#")[0] or "?"


class ConfigureSpan(ActSpan):
    """The span of a configuration; made on leaving, if that changed anything or was refused.

    Applications configure a session wherever they fire into it. So it is never the current one, and
    nothing carries it.
    """

    def __enter__(self) -> None:
        self._began = time.time_ns()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None or self._act.result.changed:
            self._start(self._began)
            self._end(error)


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
            links=[*links_to(events), *link_to_replay(instance.record.carrier)][-MOST_LINKS:],
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


def link_to_replay(carrier: dict[str, str] | None) -> list[Link]:
    """A link to the span of the replay by hand that made the instance, if one did."""
    span = carriers.read(carrier)
    return [] if span is None else [Link(span, {"triggers.act": "replay"})]


def record_error(span: Span, error: BaseException) -> None:
    """Record an error as OpenTelemetry does, but with secrets masked as the core masks them."""
    kind, message = type_name(error), _text(message_of(error, _MESSAGE))
    span.set_attribute("error.type", kind)
    span.add_event(
        "exception",
        {
            "exception.type": kind,
            "exception.message": message,
            "exception.stacktrace": _text(traceback_of(error, _TRACEBACK)),
        },
    )
    span.set_status(Status(StatusCode.ERROR, message))


def _text(text: str) -> str:
    """The text, without lone surrogates: over one, exporters lose all spans of a batch."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace").decode()
    return text
