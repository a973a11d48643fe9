"""The core's own logger of attempts: fields, levels, errors once, and no secrets."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from triggers_core import Application, TaskContext, TriggerManager, hookimpl, trigger_task
from triggers_core.engine.attempts import Retry
from triggers_core.exceptions import with_context
from triggers_core.failures import describe_error
from triggers_core.running.logs import FieldsFilter
from triggers_core.settings import Settings
from triggers_core.tasks import TriggerTask, registry

CANARY = "c4n4ry"

Run = Callable[..., TriggerManager]


@pytest.fixture
def run(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs a body once, as `t#0` of the session `s`; returns the manager."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(registry, "declared", {Retrying.name: Retrying})
    apps = []

    def run(
        does: Callable[[TaskContext], Any] | None,
        kwargs: Mapping[str, Any] | None = None,
        plugins: tuple[object, ...] = (),
        task: str = "logs.body",
    ) -> TriggerManager:
        if does is not None:
            trigger_task(name=task)(does)
        settings = Settings.isolated(TRIGGER_STORAGE_TYPE="memory", TRIGGER_PLUGINS=list(plugins))
        apps.append(Application("logs", settings))
        manager = apps[-1].manager("s")
        manager.update_configuration({"t": {"after": ["go"], "run": task}})
        manager.fire("go", kwargs)
        assert manager.join(120)
        return manager

    yield run
    for app in apps:
        app.close()


def own(caplog: pytest.LogCaptureFixture, name: str = "logs.body") -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == name]


# -- fields ----------------------------------------------------------------------------------------


def test_every_line_carries_the_attempt(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    def does(context: TaskContext) -> None:
        with context.get_logger_context(context={"order": 42}) as log:
            log.info("%d of %s, 100%%", 3, "five", extra={"page": 7})
            log.debug("100% sure")
            log.warning("%(a)s and %(b)s", {"a": 1, "b": 2})

    run(does)
    first, second, third = own(caplog)
    assert first.getMessage() == "[s t#0] 3 of five, 100%"
    fields = (first.session, first.task, first.instance, first.attempt)  # type: ignore[attr-defined]
    assert fields == ("s", "t", "t#0", 1)
    assert (first.order, first.page) == (42, 7)  # type: ignore[attr-defined]
    assert second.getMessage() == "[s t#0] 100% sure"
    assert third.getMessage() == "[s t#0] 1 and 2"


def test_where_it_was_logged(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    def does(context: TaskContext) -> None:
        with context.get_logger_context() as log:
            log.info("a")
            log.log(logging.INFO, "b")
            log.info("c", stack_info=True)

    run(does)
    for record in own(caplog):
        assert (record.filename, record.funcName) == ("test_logs.py", "does")
    assert "log.info(" in str(own(caplog)[2].stack_info)


def test_arguments_that_do_not_fit_are_shown(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    def does(context: TaskContext) -> None:
        with context.get_logger_context() as log:
            log.info("%d pages", "many")
            log.info("no place", 1)

    run(does)
    assert [record.getMessage() for record in own(caplog)] == [
        "[s t#0] %d pages ('many',)",
        "[s t#0] no place (1,)",
    ]


def test_fields_that_records_have_already_are_renamed(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    def does(context: TaskContext) -> None:
        with context.get_logger_context(context={"name": "x", "message": "y", 5: "z"}) as log:
            log.info("a", extra={"args": 1})

    assert run(does).storage["t#0"].status == "finished"
    record = own(caplog)[0]
    assert (record.name_, record.message_, record.args_) == ("x", "y", 1)  # type: ignore[attr-defined]
    assert vars(record)["5"] == "z"


def test_a_logger_of_the_bodys_choice(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    def does(context: TaskContext) -> None:
        with context.get_logger_context(logging.getLogger("chosen")) as log:
            log.info("a")
        adapter = logging.LoggerAdapter(logging.getLogger("adapted"), {"mine": 1})
        with context.get_logger_context(adapter) as log:  # type: ignore[arg-type]
            log.info("%s password=%s", "b", CANARY)
            log.error("c", exc_info=ValueError(f"token={CANARY}"))

    run(does)
    assert own(caplog, "chosen")[0].getMessage() == "[s t#0] a"
    record, error = own(caplog, "adapted")
    assert record.getMessage() == "[s t#0] b password=***"
    assert (record.funcName, record.mine) == ("does", 1)  # type: ignore[attr-defined]
    assert error.getMessage() == "[s t#0] c\nValueError: token=***"


def test_library_code_gets_the_fields_through_the_filter(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.handler.addFilter(FieldsFilter())

    def library() -> None:
        logging.getLogger("library").info("from below")

    def does(context: TaskContext) -> None:
        library()
        with context.get_logger_context(context={"token": CANARY}):
            library()

    run(does)
    outside, inside = own(caplog, "library")
    assert not hasattr(outside, "instance")
    assert (inside.instance, inside.token) == ("t#0", "***")  # type: ignore[attr-defined]


# -- levels ----------------------------------------------------------------------------------------


def test_the_highest_level_emitted_is_recorded(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    def does(context: TaskContext) -> None:
        with context.get_logger_context() as log:
            log.info("a")
            log.warning("b")
            log.debug("c")

    manager = run(does)
    assert manager.storage["t#0"].log_level == logging.WARNING
    assert [each.name for each in manager.get_instances_with_unresolved_logs()] == ["t#0"]


def test_what_is_not_emitted_counts_all_the_same(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """Two workers whose logging is set up differently must not decide differently."""

    def does(context: TaskContext) -> None:
        quiet = logging.getLogger("quiet")
        quiet.setLevel(logging.ERROR)
        with context.get_logger_context(quiet) as log:
            log.warning("a")

    assert run(does).storage["t#0"].log_level == logging.WARNING
    assert not own(caplog, "quiet")


# -- errors ----------------------------------------------------------------------------------------


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


def boom() -> None:
    raise with_context(ValueError("boom"), {"subject": 5})


def test_an_error_is_logged_once_with_its_context(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    def does(context: TaskContext) -> None:
        with context.get_logger_context(), context.get_logger_context():
            boom()

    manager = run(does)
    (record,) = errors(caplog)
    assert record.getMessage() == "[s t#0] failed: ValueError: boom {'subject': 5}"
    assert record.exc_info is None
    assert str(record.exc_text).endswith("ValueError: boom")
    assert "in boom" in str(record.exc_text)
    assert record.exc_text in caplog.text
    assert manager.storage["t#0"].log_level == logging.ERROR
    assert manager.storage["t#0"].metadata["error"]["context"] == {"subject": 5}


def test_without_a_logger_context_too(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    manager = run(lambda context: boom())
    (record,) = errors(caplog)
    assert record.getMessage() == "[s t#0] failed: ValueError: boom {'subject': 5}"
    assert "in boom" in str(record.exc_text)
    assert "log_failure" not in str(record.exc_text)
    assert manager.storage["t#0"].log_level == logging.ERROR
    assert "log_failure" not in manager.storage["t#0"].metadata["error"]["traceback"]


def test_an_error_that_the_body_logged_itself_is_not_logged_again(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    def does(context: TaskContext) -> None:
        with context.get_logger_context() as log:
            try:
                boom()
            except ValueError:
                log.exception("page %d is broken", 3)
                raise

    run(does)
    (record,) = errors(caplog)
    assert record.getMessage() == "[s t#0] page 3 is broken"
    assert "in boom" in str(record.exc_text)


def test_an_error_that_was_only_mentioned_is_logged(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    def does(context: TaskContext) -> None:
        with context.get_logger_context() as log:
            try:
                boom()
            except ValueError as error:
                log.info("once more", exc_info=True)
                log.info("and", exc_info=sys.exc_info())
                raise error

    run(does)
    assert [bool(record.exc_text) for record in own(caplog)] == [True, True, True]
    assert len(errors(caplog)) == 1


def test_the_same_error_in_another_attempt_is_logged_again(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    error = ValueError("one for all")

    def does(context: TaskContext) -> None:
        raise error

    manager = run(does)
    manager.replay_failed_instance("t#0")
    assert manager.join(120)
    assert [record.getMessage()[:9] for record in errors(caplog)] == ["[s t#0] f", "[s t#1] f"]


def test_retries_and_skips_are_no_errors(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    def does(context: TaskContext) -> None:
        with context.get_logger_context():
            if context.retries:
                raise context.skip({"reason": "enough"})
            raise context.retry(ValueError(f"token={CANARY}"), cooldown=0)

    manager = run(does)
    assert [each.status for each in manager.storage.instances.values()] == ["replayed", "skipped"]
    assert not errors(caplog)
    assert "s t#0: token=***: retrying in 0 s" in caplog.text
    assert manager.storage["t#0"].log_level == 0


@pytest.mark.parametrize("error", [SystemExit("over"), asyncio.CancelledError("over")])
def test_what_breaks_out_is_logged(
    run: Run, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    def does(context: TaskContext) -> None:
        with context.get_logger_context():
            raise error

    assert run(does).storage["t#0"].status == "failed"
    (record,) = errors(caplog)
    assert f"failed: {type(error).__name__}: over" in record.getMessage()


@dataclass(frozen=True)
class Frozen(Exception):
    """Takes no attributes after it was made; not even a traceback, when asked from Python."""

    reason: str


class Untold(Exception):
    """Cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("error", [Frozen("x"), Untold()])
@pytest.mark.parametrize("logged", [True, False])
def test_errors_that_resist_are_recorded_and_logged_once(
    run: Run, caplog: pytest.LogCaptureFixture, error: Exception, logged: bool
) -> None:
    def does(context: TaskContext) -> None:
        if not logged:
            raise error
        try:
            with context.get_logger_context() as log:
                raise error
        finally:
            log.info("after")

    assert run(does).storage["t#0"].status == "failed"
    assert len(errors(caplog)) == 1


def test_a_task_that_is_retried_by_a_plugin(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    class Once:
        @hookimpl
        def task_failed(self, context: TaskContext, error: BaseException) -> Retry | None:
            return None if context.retries else Retry()

    def does(context: TaskContext) -> None:
        raise ValueError(f"token={CANARY}")

    run(does, plugins=(Once(),))
    (record,) = errors(caplog)
    assert record.getMessage() == "[s t#1] failed: ValueError: token=***"
    assert CANARY not in caplog.text


# -- the loggers of plugins ------------------------------------------------------------------------


class Silent:
    """Its logger logs no errors by itself."""

    @hookimpl
    @contextmanager
    def get_logger_context(self, context: TaskContext) -> Iterator[logging.Logger]:
        yield logging.getLogger("silent")


class Broken:
    """Its context manager fails at one of its ends."""

    def __init__(self, at_the_end: bool) -> None:
        self.at_the_end = at_the_end

    @hookimpl
    @contextmanager
    def get_logger_context(self, context: TaskContext) -> Iterator[logging.Logger]:
        if self.at_the_end:
            try:
                yield logging.getLogger("broken")
            finally:
                raise RuntimeError("cannot log")
        raise RuntimeError("cannot begin")


class Swallowing:
    """Its context manager keeps errors to itself."""

    @hookimpl
    @contextmanager
    def get_logger_context(self, context: TaskContext) -> Iterator[logging.Logger]:
        try:
            yield logging.getLogger("swallowing")
        except ValueError as error:
            logging.getLogger("swallowing").error("swallowed %s", error)


class Reraising(AbstractContextManager[logging.Logger]):
    """Its context manager raises again what it gets."""

    @hookimpl
    def get_logger_context(self, context: TaskContext) -> AbstractContextManager[logging.Logger]:
        return self

    def __enter__(self) -> logging.Logger:
        return logging.getLogger("reraising")

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None:
            raise error


PLUGINS = [Silent(), Broken(True), Broken(False), Swallowing(), Reraising()]


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_failure_is_logged_whatever_a_plugins_logger_does(
    run: Run, caplog: pytest.LogCaptureFixture, plugin: object
) -> None:
    manager = run(lambda context: boom(), plugins=(plugin,))
    failed = manager.storage["t#0"]
    assert (failed.status, failed.log_level) == ("failed", logging.ERROR)
    assert failed.metadata["error"]["message"] == "boom"
    messages = [record.getMessage() for record in own(caplog)]
    assert messages == ["[s t#0] failed: ValueError: boom {'subject': 5}"]
    complaints = [
        each for each in errors(caplog) if "the logger of t#0 failed" in each.getMessage()
    ]
    assert len(complaints) == isinstance(plugin, Broken)


# -- secrets ---------------------------------------------------------------------------------------


@dataclass
class Login:
    user: str
    password: str


class AsJson(logging.Formatter):
    """Shows all that a record has, as formatters for log collectors do."""

    def format(self, record: logging.LogRecord) -> str:
        super().format(record)
        if record.exc_info:
            record.exc_text = self.formatException(record.exc_info)
        return json.dumps({**vars(record), "text": record.getMessage()}, default=repr)


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.setFormatter(AsJson())

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


KWARGS = {
    "login": {"user": "ann", "password": CANARY, "session_token": CANARY},
    "url": f"https://ann:{CANARY}@example.org/path",
    "headers": [{"Authorization": f"Bearer {CANARY}"}],
}


def leaks(log: Any, context: TaskContext) -> None:
    """Logs the canary in many ways."""
    login = Login("ann", CANARY)
    log.info("kwargs %s", context.trigger_kwargs)
    log.info("kwargs %r and %s", context.trigger_kwargs["go"]["login"], login)
    log.info(f"an f-string: {context.trigger_kwargs} {login}")
    log.info("%(password)s", {"password": CANARY})
    log.info("token=%s", CANARY)
    log.info("header %s: Bearer %s", "Authorization", CANARY * 4)
    log.info(json.dumps(context.trigger_kwargs))
    log.info("fields", extra={"login": login, "secret": CANARY, "data": context.trigger_kwargs})
    try:
        raise KeyError(f"password='{CANARY}'")
    except KeyError as error:
        log.warning("handled", exc_info=error)
        log.warning("handled: %s", error, exc_info=True)


def test_no_line_shows_a_secret(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    kept = Kept()
    logging.root.addHandler(kept)

    def does(context: TaskContext) -> None:
        given = {"api_key": CANARY, "login": Login("ann", CANARY), "kwargs": context.trigger_kwargs}
        with context.get_logger_context(context=given) as log:
            leaks(log, context)
            try:
                raise OSError(f"redis://:{CANARY}@host refused token={CANARY}")
            except OSError as error:
                data = {"login": Login("ann", CANARY), "password": CANARY, **KWARGS}
                raise with_context(ValueError(f"token={CANARY}"), data) from error

    try:
        manager = run(does, KWARGS)
    finally:
        logging.root.removeHandler(kept)
    assert len(kept.lines) >= 11
    assert "ann" in "".join(kept.lines), "the rest is shown"
    assert CANARY not in "".join(kept.lines)
    assert CANARY not in caplog.text
    assert "Traceback" in caplog.text
    failed = manager.storage["t#0"]
    assert CANARY not in repr(failed.metadata)
    assert failed.metadata["error"]["context"]["login"] == "Login(user='ann', password=***)" or (
        "ann" in str(failed.metadata["error"]["context"]["login"])
    )
    assert CANARY not in str(manager.explain())
    assert CANARY not in json.dumps(manager.explain().data)
    assert failed.kwargs["go"] == KWARGS, "what the body needs is stored as it is"


def test_an_error_without_a_logger_context_shows_none_either(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    def does(context: TaskContext) -> None:
        raise with_context(ValueError(f"https://u:{CANARY}@h/?token={CANARY}"), KWARGS)

    manager = run(does, KWARGS)
    assert "failed: ValueError: https://u:***@h/?token=***" in caplog.text
    assert CANARY not in caplog.text
    assert CANARY not in repr(manager.storage["t#0"].metadata)
    assert CANARY not in str(manager.explain())


def test_an_async_body(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def does(context: TaskContext) -> None:
        with context.get_logger_context() as log:
            await asyncio.gather(*(asyncio.to_thread(log.info, "part %d", n) for n in range(3)))
            raise ValueError(f"token={CANARY}")

    manager = run(does, task="logs.async")
    assert len(own(caplog, "logs.async")) == 4
    assert manager.storage["t#0"].log_level == logging.ERROR
    assert CANARY not in caplog.text


class Retrying(TriggerTask):
    """Asks for more retries than it has."""

    name = "logs.retrying"
    max_retries = 1

    def _run(self, context: TaskContext) -> Any:
        try:
            raise ConnectionError(f"amqp://u:{CANARY}@h")
        except ConnectionError as error:
            raise self.retry(exc=error) from error


def test_the_last_retry_shows_no_secret(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    manager = run(None, task="logs.retrying")
    last = manager.storage["t#1"]
    assert last.metadata["error"]["message"].endswith("the last error: amqp://u:***@h")
    assert CANARY not in caplog.text + repr(last.metadata) + str(manager.explain())
    assert len(errors(caplog)) == 1


def test_what_is_stored_of_an_error() -> None:
    message = f"token={CANARY} " + "x" * 100_000
    # A text that will be cut in its middle: what is left of it no longer tells what it was.
    cut = "x" * 2_040 + f"token={CANARY * 3_000}"
    try:
        raise with_context(ValueError(message), {"list": [Login("", CANARY)], "cut": cut})
    except ValueError as error:
        described = describe_error(error)
    assert CANARY not in repr(described)
    assert "characters left out" in described["message"]
    assert len(repr(described)) < 16_384


def test_no_traceback_reaches_the_log_unmasked() -> None:
    """`logger.exception` would show secrets in tracebacks: `log_exception` masks them."""
    root = Path(__file__).parents[1]
    sources = [*root.glob("src/**/*.py"), *root.glob("plugins/triggers-*/src/**/*.py")]
    assert sources
    unmasked = ("logger.exception(", "exc_info=True")
    found = [
        f"{each.relative_to(root)}:{number}"
        for each in sources
        for number, line in enumerate(each.read_text().splitlines(), 1)
        if any(call in line for call in unmasked) and "logger.debug" not in line
    ]
    assert found == []
