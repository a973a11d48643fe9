"""Trace ids in the lines of bodies, and of everything else."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import structlog
from opentelemetry.trace import INVALID_SPAN, use_span

from triggers_core import TaskContext
from triggers_core.running.logs import FieldsFilter
from triggers_otel import add_trace_ids

ONE = {"t": {"after": ["a"], "run": "body"}}


def ids_of(span: Any) -> tuple[str, str]:
    context = span.get_span_context()
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


def run(app: Any) -> None:
    manager = app.manager("s")
    manager.update_configuration(ONE)
    manager.fire("a")
    assert manager.join(120)
    assert manager.storage["t#0"].status == "finished"


def test_lines_of_the_cores_logger(
    make: Any, telemetry: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def body(context: TaskContext) -> None:
        with context.get_logger_context() as logger:
            logger.warning("hello")
            logging.getLogger("library").warning("hello, too")

    caplog.handler.addFilter(FieldsFilter())
    run(make(body=body))
    records: list[Any] = [each for each in caplog.records if "hello" in each.getMessage()]
    assert len(records) == 2
    expected = ids_of(telemetry.span("run t"))
    assert {(each.trace_id, each.span_id) for each in records} == {expected}


def test_lines_of_structlog(make: Any, telemetry: Any) -> None:
    """Without a word from one plugin about the other."""
    plugin = pytest.importorskip("triggers_structlog.plugin")
    lines: list[Any] = []

    def body(context: TaskContext) -> None:
        with context.get_logger_context() as logger:
            logger.warning("hello")

    def keep(logger: Any, method: str, event: Any) -> Any:
        lines.append(dict(event))
        raise structlog.DropEvent

    structlog.configure(processors=[keep])
    try:
        run(make(plugins=(plugin,), body=body))
    finally:
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
    (line,) = lines
    assert (line["trace_id"], line["span_id"]) == ids_of(telemetry.span("run t"))
    assert line["instance"] == "t#0"


def test_a_processor_for_all_other_lines(telemetry: Any) -> None:
    assert add_trace_ids(None, "info", {"event": "hello"}) == {"event": "hello"}
    with telemetry.tracer.start_as_current_span("request") as span:
        trace_id, span_id = ids_of(span)
        line = add_trace_ids(None, "info", {"event": "hello"})
        assert line == {"event": "hello", "trace_id": trace_id, "span_id": span_id}
    with use_span(INVALID_SPAN):
        assert add_trace_ids(None, "info", {}) == {}


def test_without_spans_there_are_no_ids(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    def body(context: TaskContext) -> None:
        with context.get_logger_context() as logger:
            logger.warning("hello")

    run(make(options={"spans": False}, body=body))
    (record,) = [each for each in caplog.records if "hello" in each.getMessage()]
    assert not hasattr(record, "trace_id")
