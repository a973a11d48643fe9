"""What is on a line, how loud it gets, and that an exception is logged once."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import structlog

from triggers_core import TaskContext, hookimpl
from triggers_core.engine.attempts import Retry
from triggers_core.exceptions import with_context
from triggers_core.running.logs import FieldsFilter

FIELDS = {"session": "s", "task": "t", "instance": "t#0", "attempt": 1, "retries": 0}


def test_every_line_carries_the_attempt(run: Any, lines: Any) -> None:
    def body(context: TaskContext) -> None:
        with context.get_logger_context(context={"order": 42}) as log:
            log.info("page received", page=3)
            log.bind(subject=5).warning("%d of %s", 3, "five")

    assert run(body).storage["t#0"].status == "finished"
    first, second = lines.json()
    assert first.items() >= {**FIELDS, "order": 42, "page": 3, "event": "page received"}.items()
    assert (first["level"], first["logger"]) == ("info", "structured.body")
    assert datetime.fromisoformat(first["timestamp"]).tzinfo is not None
    assert second.items() >= {**FIELDS, "order": 42, "subject": 5, "event": "3 of five"}.items()


@dataclass
class Parcel:
    number: int


def test_json_lines_parse_whatever_is_in_them(run: Any, lines: Any) -> None:
    circle: dict[str, Any] = {}
    circle["self"] = circle

    def body(context: TaskContext) -> None:
        with context.get_logger_context(context={1: "x", "self": "y", "event": "z"}) as log:
            log.info("a\nb\u2028c", at=datetime(2026, 1, 2, tzinfo=UTC), id=UUID(int=5))
            log.info("b", n=float("nan"), big=10**40, raw=b"\xff", thing=object, parcel=Parcel(7))
            log.info("c", pair={(1, 2): 3})
            log.info("d", lone="\ud800")
            log.info("e", circle=circle, items={1, 2})
            log.info(None)
            log.info("100%")

    assert run(body).storage["t#0"].status == "finished"
    found = lines.json()
    assert all("\n" not in text for text in lines.of())
    assert [line.get("event", "").strip("'")[:1] for line in found] == [*"abcde", "z", "1"]
    assert all(line["instance"].strip("'") == "t#0" for line in found)
    assert found[0]["id"] == str(UUID(int=5))
    assert found[0]["1"] == "x"
    assert found[1]["parcel"] == {"number": 7}


def test_the_console(run: Any, lines: Any) -> None:
    def body(context: TaskContext) -> None:
        with context.get_logger_context() as log:
            log.info("page received", page=3)
            raise ValueError("boom")

    run(body, renderer="console")
    first, failed = lines.of()
    assert "[info     ] page received" in first
    assert "instance=t#0" in first
    assert "\x1b" not in first, "no colours: it does not go to a terminal"
    assert failed.count("ValueError: boom") == 1
    assert failed.count("Traceback (most recent call last)") == 1


def test_the_same_body_runs_with_the_core_logger(run: Any, lines: Any) -> None:
    def body(context: TaskContext) -> None:
        with context.get_logger_context(logging.getLogger("chosen")) as log:
            log.info("%d of %s", 3, "five")
            log.error("no page", exc_info=ValueError("x"))
            log.log(logging.WARNING, "by number")

    run(body)
    events = [line["event"] for line in lines.json("chosen")]
    assert events == ["3 of five", "no page", "by number"]


# -- contextvars -----------------------------------------------------------------------------------


def test_library_code_logs_with_the_fields(run: Any, lines: Any) -> None:
    out = io.StringIO()
    filtered = FieldsFilter()
    lines.addFilter(filtered)

    def library() -> None:
        structlog.get_logger("library").info("structured")
        logging.getLogger("library").info("plain")

    def body(context: TaskContext) -> None:
        with context.get_logger_context(context={"order": 42}):
            library()
        library()

    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(out),
    )
    run(body)
    inside, outside = map(json.loads, out.getvalue().splitlines())
    assert inside == {**FIELDS, "order": 42, "event": "structured"}
    assert outside == {"event": "structured"}
    first, second = (record for record in lines.records if record.name == "library")
    assert (first.instance, first.order) == ("t#0", 42)
    assert not hasattr(second, "instance")


def test_an_async_body(run: Any, lines: Any) -> None:
    async def part(number: int) -> None:
        structlog.contextvars.bind_contextvars(part=number)
        await asyncio.sleep(0)
        logging.getLogger("library").info("x")

    async def body(context: TaskContext) -> None:
        with context.get_logger_context(context={"order": 42}) as log:
            await log.ainfo("begins")
            await asyncio.gather(*(part(number) for number in range(3)))
            await asyncio.to_thread(log.warning, "in a thread")
            raise ValueError("boom")

    manager = run(body, task="structured.async")
    assert manager.storage["t#0"].log_level == logging.ERROR
    found = lines.json("structured.async")
    assert [line["event"] for line in found] == ["begins", "in a thread", "failed"]
    assert all(line.items() >= {**FIELDS, "order": 42}.items() for line in found)
    assert structlog.contextvars.get_contextvars() == {}


# -- levels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "level"),
    [("debug", 10), ("info", 20), ("warning", 30), ("error", 40), ("exception", 40),
     ("critical", 50)],
)  # fmt: skip
def test_the_highest_level_is_recorded(run: Any, method: str, level: int) -> None:
    def body(context: TaskContext) -> None:
        with context.get_logger_context() as log:
            getattr(log, method)("a")
            log.debug("b")

    assert run(body).storage["t#0"].log_level == level


def test_what_is_not_emitted_counts_all_the_same(run: Any, lines: Any) -> None:
    def body(context: TaskContext) -> None:
        quiet = logging.getLogger("quiet")
        quiet.setLevel(logging.ERROR)
        with context.get_logger_context(quiet) as log:
            log.warning("a")
        with context.get_logger_context(structlog.wrap_logger(quiet)) as log:
            log.warning("b")  # a configuration that leaves the dropping to `logging`

    assert run(body).storage["t#0"].log_level == logging.WARNING
    assert not lines.of("quiet")


# -- exceptions ------------------------------------------------------------------------------------


def boom() -> None:
    raise with_context(ValueError("boom"), {"subject": 5})


def failures(lines: Any) -> list[str]:
    return [
        text
        for text, record in zip(lines.texts, lines.records, strict=True)
        if record.levelno >= logging.ERROR
    ]


@pytest.mark.parametrize("with_logger", [True, False])
def test_a_failure_is_logged_once_with_its_context(run: Any, lines: Any, with_logger: bool) -> None:
    def body(context: TaskContext) -> None:
        if not with_logger:
            boom()
        with context.get_logger_context(), context.get_logger_context():
            boom()

    manager = run(body)
    (text,) = failures(lines)
    line = json.loads(text)
    expected = {"event": "failed", "error_type": "ValueError", "error": "boom", "level": "error"}
    assert line.items() >= {**FIELDS, **expected, "error_context": {"subject": 5}}.items()
    assert line["exception"].startswith("Traceback (most recent call last)")
    assert "in boom" in line["exception"]
    assert "log_failure" not in line["exception"]
    assert manager.storage["t#0"].log_level == logging.ERROR
    assert manager.storage["t#0"].status == "failed"


def test_what_the_body_logged_itself_is_not_logged_again(run: Any, lines: Any) -> None:
    def body(context: TaskContext) -> None:
        with context.get_logger_context() as log:
            try:
                boom()
            except ValueError:
                log.exception("page is broken", page=3)
                raise

    run(body)
    (text,) = failures(lines)
    line = json.loads(text)
    assert (line["event"], line["page"]) == ("page is broken", 3)
    assert line["error_context"] == {"subject": 5}
    assert "in boom" in line["exception"]


def test_what_was_only_mentioned_is_logged(run: Any, lines: Any) -> None:
    def body(context: TaskContext) -> None:
        with context.get_logger_context() as log:
            try:
                boom()
            except ValueError as error:
                log.warning("once more", exc_info=error)
                raise

    run(body)
    assert [json.loads(text)["event"] for text in failures(lines)] == ["failed"]


def test_retries_and_skips_are_no_failures(run: Any, lines: Any) -> None:
    def body(context: TaskContext) -> None:
        with context.get_logger_context():
            if context.retries:
                raise context.skip()
            raise context.retry(ValueError("x"))

    manager = run(body)
    assert [each.status for each in manager.storage.instances.values()] == ["replayed", "skipped"]
    assert not failures(lines)


def test_beside_a_plugin_that_retries(run: Any, lines: Any) -> None:
    class Once:
        @hookimpl
        def task_failed(self, context: TaskContext, error: BaseException) -> Retry | None:
            return None if context.retries else Retry()

    def body(context: TaskContext) -> None:
        boom()

    run(body, plugins=(Once(),))
    assert [json.loads(text)["instance"] for text in failures(lines)] == ["t#1"]


@dataclass(frozen=True)
class Frozen(Exception):
    reason: str


@pytest.mark.parametrize("with_logger", [True, False])
def test_an_exception_that_takes_no_attributes(run: Any, lines: Any, with_logger: bool) -> None:
    def body(context: TaskContext) -> None:
        if with_logger:
            with context.get_logger_context():
                raise Frozen("x")
        raise Frozen("x")

    assert run(body).storage["t#0"].metadata["error"]["type"].endswith("Frozen")
    assert [json.loads(text)["event"] for text in failures(lines)] == ["failed"]


# -- options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"rendrer": "json"}, "structlog: Object contains unknown field `rendrer`"),
        ({"renderer": "xml"}, "at `TRIGGER_PLUGIN_OPTIONS['structlog'].renderer`"),
        ({"secret_keys": ["("]}, "at `TRIGGER_PLUGIN_OPTIONS['structlog'].secret_keys[0]`"),
    ],
)
def test_a_wrong_option_is_named_and_the_core_logs(
    run: Any, lines: Any, option: dict[str, Any], message: str
) -> None:
    def body(context: TaskContext) -> None:
        with context.get_logger_context() as log:
            log.info("a")

    assert run(body, **option).storage["t#0"].status == "finished"
    assert lines.of() == ["[s t#0] a"]
    assert message in "".join(failures(lines))
