"""Span contexts as carriers of events, and back: W3C Trace Context, whatever a process propagates.

A stored carrier is read by other processes, months later, so its form must not depend on the
propagators that one of them has set. Baggage stays out: it is for the requests of one moment, and
of three events that meet, nobody could say whose counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_W3C: Final = TraceContextTextMapPropagator()
_TRACEPARENT: Final = "traceparent"
_TRACESTATE: Final = "tracestate"
_MOST_STATE: Final = 512  # characters that W3C Trace Context asks everybody to pass on


def write(span: SpanContext, carrier: dict[str, str]) -> None:
    """Put a span's context into a carrier; nothing when it is none.

    Example::

        write(span.get_span_context(), {})  # {"traceparent": "00-4bf92f35…-00f067aa0ba902b7-01"}
    """
    if not span.is_valid:
        return
    flags = span.trace_flags & 0xFF
    carrier[_TRACEPARENT] = f"00-{span.trace_id:032x}-{span.span_id:016x}-{flags:02x}"
    if span.trace_state:
        state = span.trace_state.to_header()
        if len(state) <= _MOST_STATE:
            carrier[_TRACESTATE] = state


def read(carrier: Mapping[str, str] | None) -> SpanContext | None:
    """The span's context that an event carries; None when there is none that can be read."""
    if not carrier or _TRACEPARENT not in carrier:
        return None
    try:
        found = trace.get_current_span(_W3C.extract(dict(carrier), Context())).get_span_context()
    except Exception:  # whatever has been stored there: an attempt runs all the same
        return None
    return found if found.is_valid else None
