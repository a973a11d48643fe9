"""The application's own configuration of structlog stays as it is, and is used."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest
import structlog
from structlog.stdlib import ProcessorFormatter

from triggers_core import TaskContext
from triggers_core.exceptions import with_context
from triggers_structlog import setup

CANARY = "c4n4ry"


def shout(logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
    return {**event, "event": event["event"].upper()}


def body(context: TaskContext) -> None:
    structlog.contextvars.bind_contextvars(app_token=CANARY)
    with context.get_logger_context(context={"password": CANARY}) as log:
        log.info("page received", page=3, token=CANARY)
        try:
            innocent = CANARY  # a local variable, which some renderers would show
            raise KeyError(f"handled {len(innocent)}")
        except KeyError:
            log.exception("handled")
        raise with_context(ValueError(f"token={CANARY}"), {"password": CANARY, "subject": 5})


PROCESSORS = {
    "json": [structlog.processors.add_log_level, shout, structlog.processors.JSONRenderer()],
    "formatted": [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.dict_tracebacks,
        shout,
        structlog.processors.JSONRenderer(),
    ],
    "with locals": [
        structlog.processors.add_log_level,
        structlog.processors.dict_tracebacks,
        shout,
        structlog.processors.JSONRenderer(),
    ],
    "console": [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.dev.set_exc_info,
        shout,
        structlog.dev.ConsoleRenderer(),
    ],
    "plain console": [
        shout,
        structlog.dev.ConsoleRenderer(
            colors=False, exception_formatter=structlog.dev.plain_traceback
        ),
    ],
}


@pytest.mark.parametrize("wrapper", ["filtering", "generic"])
@pytest.mark.parametrize("layout", PROCESSORS)
def test_processors_factory_and_wrapper_are_used(run: Any, layout: str, wrapper: str) -> None:
    out = io.StringIO()
    wrappers = {
        "filtering": structlog.make_filtering_bound_logger(logging.INFO),
        "generic": structlog.BoundLogger,
    }
    structlog.configure(
        processors=PROCESSORS[layout],
        wrapper_class=wrappers[wrapper],
        logger_factory=structlog.PrintLoggerFactory(out),
    )
    before = structlog.get_config()
    manager = run(body)
    assert structlog.get_config() == before, "nothing of the application's has changed"
    text = out.getvalue()
    assert CANARY not in text
    assert text.count("PAGE RECEIVED") == 1
    assert text.count("FAILED") == 1
    assert text.count("Traceback (most recent call last)") == (
        2 if wrapper == "filtering" or layout == "console" else 1
    )
    assert "subject" in text
    assert "t#0" in text
    assert manager.storage["t#0"].log_level == logging.ERROR


def test_through_the_formatter_of_logging(run: Any, lines: Any) -> None:
    structlog.configure(
        processors=[shout, ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    meta, console = ProcessorFormatter.remove_processors_meta, structlog.dev.ConsoleRenderer()
    lines.setFormatter(ProcessorFormatter(processors=[meta, console]))
    run(body)
    text = "".join(lines.of())
    assert CANARY not in text
    assert text.count("PAGE RECEIVED") == 1
    assert text.count("Traceback (most recent call last)") == 2
    assert len(lines.of()) == 3
    # Where the console renderers of structlog before 26.1 show it without a warning.
    failed = lines.records[-1].msg
    assert "stack" in failed
    assert "exception" not in failed


def test_levels_are_filtered_as_configured(run: Any) -> None:
    out = io.StringIO()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(out),
    )

    def quiet(context: TaskContext) -> None:
        with context.get_logger_context() as log:
            log.warning("a")

    assert run(quiet).storage["t#0"].log_level == logging.WARNING, "noted all the same"
    assert out.getvalue() == ""


def test_a_logger_of_structlog_keeps_its_own_ways(run: Any) -> None:
    out = io.StringIO()
    given = structlog.wrap_logger(
        structlog.PrintLogger(out),
        processors=[shout, structlog.processors.JSONRenderer()],
        mine="yes",
    )

    def chooses(context: TaskContext) -> None:
        with context.get_logger_context(given, {"order": 42}) as log:
            log.warning("a", token=CANARY)
        with context.get_logger_context(given.bind(more=1)) as log:
            log.info("b")

    assert run(chooses).storage["t#0"].log_level == logging.WARNING
    first, second = map(json.loads, out.getvalue().splitlines())
    assert first["event"] == "A"
    assert (first["mine"], first["order"], first["token"], first["instance"]) == (
        *("yes", 42, "***", "t#0"),
    )
    assert second["more"] == 1


def test_a_processor_that_fails_does_not_hide_the_failure(run: Any, lines: Any) -> None:
    def broken(logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError("cannot")

    structlog.configure(processors=[broken])

    def fails(context: TaskContext) -> None:
        with context.get_logger_context():
            raise ValueError(f"token={CANARY}")

    failed = run(fails).storage["t#0"]
    assert failed.metadata["error"]["type"] == "ValueError"
    (text,) = lines.of()
    assert text.startswith("[s t#0] failed: ValueError: token=*** {}\n")
    assert CANARY not in text


def test_setup_leaves_a_configuration_alone() -> None:
    structlog.configure(processors=[shout])
    before, handlers = structlog.get_config(), list(logging.root.handlers)
    assert setup() is False
    assert structlog.get_config() == before
    assert logging.root.handlers == handlers


def test_setup_leaves_the_handlers_of_logging_alone(run: Any, lines: Any) -> None:
    handlers, level = list(logging.root.handlers), logging.root.level
    assert setup(renderer="json", secret_keys=["^iban$"], level="CRITICAL") is True
    assert (logging.root.handlers, logging.root.level) == (handlers, level)
    assert setup() is False, "once"

    def logs(context: TaskContext) -> None:
        with context.get_logger_context() as log:
            log.info("a", iban=CANARY, token=CANARY)
            try:
                raise ValueError("x")
            except ValueError:
                log.exception("b")
                raise

    run(logs)
    first, second = lines.json()
    assert (first["event"], first["iban"], first["token"]) == ("a", "***", "***")
    assert second["event"] == "b", "and not again"
