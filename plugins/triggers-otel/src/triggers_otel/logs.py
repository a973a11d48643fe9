"""Trace ids in log lines.

Bodies that log through `context.get_logger_context()` have them without: the plugin adds those of
the attempt to its fields. This is for all other lines, and for spans within a body.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import SpanContext


def ids_of(span: SpanContext) -> dict[str, str]:
    """The ids of a span's context, under the names that OpenTelemetry's logs have."""
    return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}


def add_trace_ids(
    logger: Any, method: str, event_dict: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A processor of structlog: adds the current span's ids, if there is one.

    Example::

        structlog.configure(processors=[add_trace_ids, *processors])
    """
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        event_dict.update(ids_of(span))
    return event_dict
