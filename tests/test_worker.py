"""Attempts: whatever a body does, its instance ends at once, and what had finished is stored."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
import pytest
from limit_alarms import LimitAlarms

from triggers_core import Application, TaskContext, TriggerManager, TriggerTask, hookimpl
from triggers_core.engine.attempts import LONGEST_COOLDOWN, PASSED_ON, Retry
from triggers_core.exceptions import (
    BodyInterrupted,
    DuplicateKey,
    InvalidArgument,
    InvalidConfiguration,
    InvalidPayload,
    SoftTimeLimitExceeded,
    StorageError,
    TaskNotFound,
    WrongState,
    with_context,
)
from triggers_core.payloads import encode_replacement
from triggers_core.runners.manual import ManualRunner
from triggers_core.running import loops
from triggers_core.running.heartbeats import Heartbeats, Lease
from triggers_core.running.messages import Message
from triggers_core.running.worker import _Attempt, claim, context_of, run_claimed, run_message
from triggers_core.settings import Settings
from triggers_core.storages.memory import MemoryStore
from triggers_core.storages.session import TaskInstance
from triggers_core.tasks import registry, trigger_task
from triggers_core.testing.clock import VirtualClock as Clock

body: Callable[[TriggerTask, TaskContext], Any] = print
"""What the task does; each test puts its own here."""


class Body(TriggerTask):
    name = "worker.body"

    def _run(self, context: TaskContext) -> Any:
        return body(self, context)


Run = Callable[..., TaskInstance]


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Python's collector does not run: it calls back for weak references to what other tests have
    left, and whatever is raised in the middle of that, by a limit, is printed and dropped."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def alarms(monkeypatch: pytest.MonkeyPatch, uncollected: None) -> LimitAlarms:
    return LimitAlarms(monkeypatch)


@pytest.fixture
def run() -> Iterator[Run]:
    """Runs a body once in this thread, as `t#0` of the session `s`; returns the instance."""
    apps = []

    def run(
        does: Callable[[TriggerTask, TaskContext], Any],
        plugins: tuple[object, ...] = (),
        timing: Mapping[str, Any] | None = None,
        name: str = "worker.body",
    ) -> TaskInstance:
        global body
        body = does
        app = application(plugins, timing or {})
        apps.append(app)
        manager = app.manager("s")
        manager.commit(configured(app, name))
        manager.fire("go", {"n": 1})
        attempt(manager)
        return manager.storage["t#0"]

    yield run
    for app in apps:
        app.close()


def application(plugins: tuple[object, ...] = (), timing: Mapping[str, Any] | None = None) -> Any:
    settings = Settings.isolated(
        TRIGGER_STORAGE_TYPE="memory",
        TRIGGER_PLUGINS=list(plugins),
        TRIGGER_RUNNER_OPTIONS={"sweep": False},
        TRIGGER_TIMING=timing or {},
    )
    app = Application("worker", settings)
    app.use_runner(ManualRunner(app))
    return app


def configured(app: Application, run: str) -> Any:
    from triggers_core.engine.commands import Configure

    return Configure(configuration=app.parse({"t": {"after": ["go"], "run": run}}))


def message(manager: TriggerManager, name: str = "t#0") -> Message:
    header = manager.storage.header
    assert header is not None
    number = manager.storage[name].record.attempt
    return Message("worker", manager.uid, header.generation, name, number)


def attempt(manager: TriggerManager, name: str = "t#0", **options: Any) -> Any:
    heartbeats = Heartbeats(3_600)
    try:
        return run_message(manager, message(manager, name), heartbeats, **options)
    finally:
        heartbeats.stop()


def raises(error: BaseException) -> Callable[..., Any]:
    def does(task: TriggerTask, context: TaskContext) -> Any:
        raise error

    return does


# -- whatever a body raises ------------------------------------------------------------------------


class Panic(BaseException):
    """As pyo3's PanicException, gevent.Timeout, trio.Cancelled, what pytest.fail raises."""


class Untold(Exception):
    def __str__(self) -> str:
        raise Panic("no text")

    __repr__ = __str__


class Lost(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise Panic(name)


class Liar(Exception):
    @property
    def __class__(self) -> Any:  # type: ignore[override]
        raise Panic("no class")


class Meta(type):
    def __getattribute__(cls, name: str) -> Any:
        raise Panic(name)

    def __instancecheck__(cls, other: object) -> bool:
        raise Panic("instance")


def hostile() -> BaseException:
    class Hostile(Exception, metaclass=Meta):
        pass

    error: BaseException = type.__call__(Hostile)
    return error


@dataclass(frozen=True)
class Frozen(Exception):
    what: str = "frozen"


class Text(str):
    def __contains__(self, other: object) -> bool:
        raise Panic("contains")

    def __len__(self) -> int:
        raise Panic("len")


class Texts(Exception):
    def __str__(self) -> str:
        return Text("a text of its own")


class Refuses(Exception):
    def __setattr__(self, name: str, value: object) -> None:
        raise Panic(name)

    def __getstate__(self) -> Any:
        raise Panic("pickle")

    def __eq__(self, other: object) -> bool:
        raise Panic("equal")

    def __bool__(self) -> bool:
        raise Panic("bool")

    __hash__ = None  # type: ignore[assignment]


class Headers(Mapping[str, Any]):
    """Request headers outside of the request."""

    def __getitem__(self, key: str) -> Any:
        raise RuntimeError("outside of request context")

    def __iter__(self) -> Any:
        raise Panic("no iteration")

    def __len__(self) -> int:
        return 1


ERRORS: dict[str, Callable[[], BaseException]] = {
    "Panic": Panic,
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "SystemExit": lambda: SystemExit(3),
    "StopIteration": StopIteration,
    "CancelledError": asyncio.CancelledError,
    "Failed": lambda: pytest.fail.Exception("pytest.fail"),
    "Untold": Untold,
    "Lost": lambda: Lost("x"),
    "Liar": Liar,
    "Hostile": hostile,
    "Frozen": Frozen,
    "Texts": Texts,
    "Refuses": Refuses,
    "ExceptionGroup": lambda: ExceptionGroup("g", [Untold(), ValueError("x")]),
    "BaseExceptionGroup": lambda: BaseExceptionGroup("g", [Panic(), KeyboardInterrupt()]),
    "ValueError": lambda: with_context(ValueError("x"), {"headers": Headers(), "page": 3}),
}


@pytest.mark.parametrize("retry", [False, True])
@pytest.mark.parametrize("name", ERRORS)
def test_whatever_is_raised_fails_the_instance_at_once(run: Run, name: str, retry: bool) -> None:
    error = ERRORS[name]()

    def does(task: TriggerTask, context: TaskContext) -> Any:
        if retry:
            raise task.retry(error)
        with context.get_logger_context():
            raise error

    instances = []
    thread = threading.Thread(target=lambda: instances.append(run(does)))  # as runners do
    thread.start()
    thread.join()
    (instance,) = instances
    assert instance.status == ("replayed" if retry else "failed")
    assert instance.metadata["error"]["type"].rpartition(".")[2].endswith(name)


def test_what_of_a_context_can_be_shown_is_kept(run: Run) -> None:
    context = run(raises(ERRORS["ValueError"]())).metadata["error"]["context"]
    assert context["page"] == 3
    assert "Panic" in str(context["headers"])


def test_in_the_main_thread_an_interrupt_is_recorded_and_goes_on(run: Run) -> None:
    """It is the user who wants the process to end."""
    app = application()
    manager = app.manager("s")
    manager.commit(configured(app, "worker.body"))
    manager.fire("go")
    global body
    body = raises(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        attempt(manager)
    assert manager.storage["t#0"].status == "failed"
    app.close()


def test_what_the_runner_interrupts_is_no_outcome() -> None:
    app = application()
    manager = app.manager("s")
    manager.commit(configured(app, "worker.body"))
    manager.fire("go")
    claimed = claim(manager, message(manager))
    assert claimed is not None

    class Ends:
        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None:
            raise BodyInterrupted

    global body
    body = raises(SystemExit())
    with pytest.raises(BodyInterrupted):
        run_claimed(manager, claimed, Heartbeats(3_600), Ends)
    assert manager.storage["t#0"].status == "running"
    app.close()


@pytest.mark.parametrize("error", [Panic, ValueError, SystemExit])
def test_what_plugins_raise_around_a_failure_does_not_hide_it(run: Run, error: Any) -> None:
    class Plugin:
        @hookimpl
        def task_failed(self) -> Any:
            raise error("plugin")

        @hookimpl
        def get_logger_context(self) -> Any:
            raise error("plugin")

    def does(task: TriggerTask, context: TaskContext) -> Any:
        raise ValueError("of the body")

    assert run(does, (Plugin(),)).metadata["error"]["message"] == "of the body"


def test_what_a_hook_that_resolves_tasks_raises_fails_the_instance(run: Run) -> None:
    class Plugin:
        @hookimpl
        def resolve_task(self) -> Any:
            raise Panic("plugin")

    assert run(print, (Plugin(),)).metadata["error"]["type"].endswith("Panic")


def test_a_result_that_raises_fails_the_instance(run: Run) -> None:
    instance = run(lambda task, context: {"headers": Headers()})
    assert instance.status == "failed"


def test_what_a_body_makes_of_its_context_does_not_matter(run: Run) -> None:
    def tampers(task: TriggerTask, context: TaskContext) -> Any:
        context.fires.append("x")  # type: ignore[arg-type]

    assert "context.fires" in run(tampers).metadata["error"]["message"]

    def destroys(task: TriggerTask, context: Any) -> Any:
        vars(context).clear()
        raise ValueError("of the body")

    assert run(destroys).metadata["error"]["type"] == "ValueError"

    def level(task: TriggerTask, context: Any) -> Any:
        context.log_level = "ERROR"
        context._log_level = "what"

    assert run(level).log_level == logging.ERROR

    def nonsense(task: TriggerTask, context: Any) -> Any:
        context.log_level = []

    assert run(nonsense).metadata["error"]["type"].endswith("InvalidArgument")


# -- arguments of retry and skip -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"exc": "the service is down"}, "expected an exception"),
        ({"exc": {"why": "no"}}, "metadata="),
        ({"exc": [1]}, "expected an exception"),
        ({"exc": UnicodeDecodeError}, "needs arguments"),
        ({"cooldown": "10"}, "cooldown"),
        ({"cooldown": float("nan")}, "cooldown"),
        ({"cooldown": -1}, "cooldown"),
        ({"cooldown": True}, "cooldown"),
        ({"cooldown": LONGEST_COOLDOWN + 1}, "cooldown"),
        ({"replacement_kwargs": [1]}, "replacement_kwargs"),
        ({"replacement_kwargs": {"go": 1}}, "replacement_kwargs['go']"),
        ({"metadata": "why"}, "expected a mapping"),
    ],
)
def test_wrong_arguments_are_refused_in_the_body(
    run: Run, arguments: dict[str, Any], told: str
) -> None:
    refused = []

    def does(task: TriggerTask, context: TaskContext) -> Any:
        try:
            raise task.retry(**arguments)
        except (InvalidArgument, InvalidPayload) as error:
            refused.append(error)
            raise

    assert told in run(does).metadata["error"]["message"]
    assert refused
    assert isinstance(refused[0], TypeError)


def test_skip_takes_a_mapping(run: Run) -> None:
    def does(task: TriggerTask, context: TaskContext) -> Any:
        raise task.skip("why")  # type: ignore[arg-type]

    assert "skip(metadata=...)" in run(does).metadata["error"]["message"]


def test_a_class_of_exceptions_and_metadata_are_fine(run: Run) -> None:
    def does(task: TriggerTask, context: TaskContext) -> Any:
        raise task.retry(ConnectionError, metadata={"page": 3})

    instance = run(does)
    assert instance.status == "replayed"
    assert instance.metadata["page"] == 3
    assert instance.metadata["error"]["type"] == "ConnectionError"


@pytest.mark.parametrize(
    "wrong",
    [{"cooldown": "x"}, {"cooldown": float("nan")}, {"cooldown": float("inf")}, {"cooldown": -1}]
    + [{"payload": each} for each in (b"nonsense", "text", b"[1]", b'{"go":1}')],
)
def test_a_retry_checks_itself_and_so_does_the_worker(
    run: Run, wrong: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InvalidArgument):
        Retry(**wrong)
    past_the_checks = Retry()
    for field, value in wrong.items():
        msgspec.structs.force_setattr(past_the_checks, field, value)

    class Plugin:
        def __init__(self, answer: Callable[[], Any]) -> None:
            self.answer = answer

        @hookimpl
        def task_failed(self) -> Any:
            return self.answer()

    for answer in (lambda: Retry(**wrong), lambda: past_the_checks, lambda: "retry"):
        instance = run(raises(ValueError("of the body")), (Plugin(answer),))
        assert instance.status == "failed"
        assert instance.metadata["error"]["message"] == "of the body"
        assert "task_failed" in caplog.text
        caplog.clear()


def test_replacements_are_checked_for_operators_too(run: Run) -> None:
    instance = run(raises(ValueError("x")))
    manager = application().manager("s")
    with pytest.raises(InvalidPayload, match="a mapping of trigger to kwargs, got list"):
        encode_replacement([1], manager.app.rules.limits)  # type: ignore[arg-type]
    assert instance.status == "failed"


# -- time limits -----------------------------------------------------------------------------------


class Gate(threading.Event):
    """Tells who waits at it."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.reached.set()
        return super().wait(timeout)


class Hangs(TriggerTask):
    name = "worker.hangs"
    time_limit = 0.05
    gate: Gate

    def _run(self, context: TaskContext) -> Any:
        self._call_something(20)
        return {"late": context.lease_lost}

    def _call_something(self, depth: int) -> None:
        if depth:
            self._call_something(depth - 1)
        else:
            self.gate.wait(60)  # outside of Python, where nothing can end it


def begin(app: Application, name: str) -> TriggerManager:
    manager = app.manager("s")
    manager.commit(configured(app, name))
    manager.fire("go")
    return manager


def test_a_body_that_hangs_fails_and_its_late_outcome_is_dropped(alarms: LimitAlarms) -> None:
    app = application()
    manager = begin(app, "worker.hangs")
    Hangs.gate, abandoned, ended = Gate(), threading.Event(), []

    def work() -> None:
        ended.append(attempt(manager, on_abandoned=abandoned.set))

    thread = threading.Thread(target=work)
    thread.start()
    assert Hangs.gate.reached.wait(60)
    alarms.ring()
    assert abandoned.wait(60)
    instance = manager.storage["t#0"]
    assert instance.status == "failed"
    assert instance.metadata["error"]["type"].endswith("TimeLimitExceeded")
    assert "0.05 s" in instance.metadata["error"]["message"]
    assert "self.gate.wait(60)" in instance.metadata["error"]["context"]["where"]
    Hangs.gate.set()
    thread.join(60)
    assert ended == [None]
    assert manager.storage["t#0"].status == "failed"
    assert not [event for event in manager.storage.events if event.trigger == "t"]
    app.close()


def test_plugins_may_retry_what_took_too_long() -> None:
    class Plugin:
        @hookimpl
        def task_failed(self, error: BaseException) -> Retry | None:
            return Retry() if isinstance(error, TimeoutError) else None

    app = application((Plugin(),))
    manager = begin(app, "worker.hangs")
    Hangs.gate, abandoned = Gate(), threading.Event()
    thread = threading.Thread(
        target=attempt, args=(manager,), kwargs={"on_abandoned": abandoned.set}
    )
    thread.start()
    assert abandoned.wait(60)
    assert [str(each.status) for each in manager.storage.instances.values()] == [
        "replayed",
        "scheduled",
    ]
    Hangs.gate.set()
    thread.join(60)
    app.close()


class Spins(TriggerTask):
    name = "worker.spins"
    soft_time_limit = 0.05
    catches = False
    begins: Callable[[], object]

    def _run(self, context: TaskContext) -> Any:
        try:
            type(self).begins()
            while True:
                threading.Event().wait(0.001)
        except SoftTimeLimitExceeded:
            if not self.catches:
                raise
            return {"part": 1}


@pytest.mark.parametrize("catches", [False, True])
def test_a_soft_limit_is_raised_in_the_body(catches: bool, alarms: LimitAlarms) -> None:
    Spins.catches, Spins.begins = catches, alarms.ring
    app = application()
    manager = begin(app, "worker.spins")
    attempt(manager)
    instance = manager.storage["t#0"]
    if catches:
        assert instance.result == {"part": 1}
    else:
        assert instance.metadata["error"]["type"].endswith("SoftTimeLimitExceeded")
        assert "soft_time_limit of 0.05 s" in instance.metadata["error"]["message"]
    app.close()


class Waits(TriggerTask):
    name = "worker.waits"

    async def _run(self, context: TaskContext) -> Any:
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("timing", "kind"),
    [
        ({"soft_time_limit": 0.05}, "SoftTimeLimitExceeded"),
        ({"time_limit": 0.05}, ".TimeLimitExceeded"),
    ],
)
def test_async_bodies_have_limits_too(timing: dict[str, float], kind: str) -> None:
    app = application(timing=timing)
    manager = begin(app, "worker.waits")
    attempt(manager)
    assert manager.storage["t#0"].metadata["error"]["type"].endswith(kind)
    app.close()


@pytest.mark.parametrize("kind", ["SoftTimeLimitExceeded", "TimeLimitExceeded"])
@pytest.mark.parametrize("fits", [False, True])
def test_a_limit_that_passes_on_the_way_into_the_loop_is_not_forgotten(
    kind: str, fits: bool, alarms: LimitAlarms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine may take its time there: to import asyncio, to make the loop of the thread."""
    run_in_loop = loops.run

    def run_late(main: Any) -> Any:
        for thread in alarms.ring():
            thread.join(60)
        return run_in_loop(main)

    monkeypatch.setattr(loops, "run", run_late)
    soft = kind.startswith("Soft")
    app = application(timing={"soft_time_limit" if soft else "time_limit": 60})
    manager = begin(app, "worker.awaits")
    Awaits.ended, Awaits.fits = [], fits
    attempt(manager)
    instance = manager.storage["t#0"]
    if fits and soft:
        assert instance.status == "finished", "it never gave way, so nothing could strike"
    else:
        assert instance.metadata["error"]["type"].rpartition(".")[2] == kind
    assert Awaits.ended == ["in time"]
    app.close()


class Awaits(TriggerTask):
    name = "worker.awaits"
    ended: ClassVar[list[str]]
    fits: ClassVar[bool]

    async def _run(self, context: TaskContext) -> None:
        if self.fits:
            self.ended.append("in time")
            return
        try:
            await asyncio.sleep(10)
            self.ended.append("late")
        except asyncio.CancelledError:
            self.ended.append("in time")
            raise


@trigger_task(name="worker.short", soft_time_limit=0.002, time_limit=60)
def short(context: TaskContext) -> None:
    threading.Event().wait(0.0019)


@pytest.mark.usefixtures("uncollected")
def test_a_limit_never_strikes_while_something_is_stored(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Bodies that end just when their limit passes: each ends in one of two ways."""
    caplog.set_level(logging.CRITICAL)
    app = application()
    manager = app.manager("s")
    tasks = {"t": {"andEvery": "go", "run": "worker.short"}}
    from triggers_core.engine.commands import Configure

    manager.commit(Configure(configuration=app.parse(tasks)))
    seen = set()
    for number in range(300):
        manager.fire("go")
        attempt(manager, f"t#{number}")
        instance = manager.storage[f"t#{number}"]
        seen.add(str(instance.status))
        if instance.status == "failed":
            assert instance.metadata["error"]["type"].endswith("SoftTimeLimitExceeded")
    assert seen <= {"finished", "failed"}
    app.close()


@pytest.mark.parametrize("wrong", [0, -1, "10", True, float("nan")])
def test_limits_are_checked_where_a_task_is_defined(wrong: Any) -> None:
    with pytest.raises(InvalidConfiguration, match="time_limit: expected seconds above 0"):
        trigger_task(name="worker.wrong", time_limit=wrong)(print)
    with pytest.raises(InvalidConfiguration, match="has to be shorter"):
        trigger_task(name="worker.wrong", time_limit=5, soft_time_limit=5)(print)


# -- outages ---------------------------------------------------------------------------------------


class Outage(MemoryStore):
    """A store that is away for some commits."""

    error: BaseException = StorageError("away")
    left = 0

    def commit(self, *arguments: Any) -> Any:
        if self.left:
            self.left -= 1
            raise self.error
        return super().commit(*arguments)


@pytest.mark.parametrize("error", [StorageError("away"), OSError(35, "deadlock"), Panic("hook")])
def test_an_outage_does_not_throw_a_finished_body_away(
    run: Run, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []
    monkeypatch.setattr("triggers_core.running.worker.time.sleep", naps.append)
    app = application(timing={"lease": 60.0})
    store = Outage()
    vars(app)["store"] = store
    manager = begin(app, "worker.body")
    ran = []
    global body

    def does(task: TriggerTask, context: TaskContext) -> Any:
        ran.append(1)
        store.error, store.left = error, 12

    body = does
    attempt(manager)
    assert manager.storage["t#0"].status == "finished"
    assert (len(ran), len(naps)) == (1, 12)
    assert sum(naps) > 15, "longer than a restart takes"
    app.close()


def test_an_outage_that_outlasts_the_lease_ends_the_tries(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    app = application(timing={"lease": 0.2, "heartbeat": 0.1})
    store = Outage()
    vars(app)["store"] = store
    manager = begin(app, "worker.body")
    global body

    def does(task: TriggerTask, context: TaskContext) -> Any:
        store.left = 1_000_000

    body = does
    assert attempt(manager) is None
    store.left = 0
    assert manager.storage["t#0"].status == "running", "the sweep makes another attempt"
    assert caplog.text.count("could not be stored") == 2, "at the beginning and at the end"
    app.close()


# -- tasks that are not known, sessions that are not there -----------------------------------------


def test_a_task_that_is_unknown_here_is_left_to_others(caplog: pytest.LogCaptureFixture) -> None:
    app = application(timing={"unknown_task_for": 60.0})
    clock = Clock()
    vars(app)["store"] = MemoryStore(clock=clock)
    manager = begin(app, "worker.later")
    ended = attempt(manager)
    instance = manager.storage["t#0"]
    assert ended.passed_on == 1.0
    assert (instance.status, instance.attempt, instance.log_level) == ("scheduled", 1, 0)
    assert instance.due_at == clock() + 1.0
    told = instance.metadata[PASSED_ON]
    assert "worker.later" in told["why"]
    assert (told["since"], told["times"]) == (clock(), 1)
    assert "left to other workers" in caplog.text

    @trigger_task(name="worker.later")
    def later(context: TaskContext) -> None: ...

    clock.advance(2.0)
    assert manager.recover().dispatch == [("t#0", 1)]
    attempt(manager)
    assert manager.storage["t#0"].status == "finished"
    del registry.declared["worker.later"]
    app.close()


def test_a_task_that_nobody_knows_fails_in_the_end() -> None:
    app = application(timing={"unknown_task_for": 60.0})
    clock = Clock()
    vars(app)["store"] = MemoryStore(clock=clock)
    manager = begin(app, "worker.nobody")
    rounds = 0
    while manager.storage["t#0"].status == "scheduled":
        attempt(manager)
        clock.advance(10.0)
        rounds += 1
    instance = manager.storage["t#0"]
    assert (instance.status, instance.attempt) == ("failed", 1)
    assert instance.metadata["error"]["type"].endswith("TaskNotFound")
    assert instance.log_level == logging.ERROR
    assert 5 <= rounds <= 10
    app.close()


def test_a_clock_that_stands_still_does_not_keep_it_for_ever() -> None:
    app = application(timing={"unknown_task_for": 60.0})
    vars(app)["store"] = MemoryStore(clock=Clock())
    manager = begin(app, "worker.nobody")
    for _ in range(30):
        if manager.storage["t#0"].status == "scheduled":
            attempt(manager)
    assert manager.storage["t#0"].status == "failed"
    app.close()


def test_a_body_that_does_not_find_a_task_has_failed(run: Run) -> None:
    instance = run(raises(TaskNotFound("in the body")))
    assert instance.metadata["error"]["message"] == "in the body"


def test_a_session_that_is_not_there_names_the_storage(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    app = application()
    manager = app.manager("s")
    assert claim(manager, Message("worker", "s", "generation", "t#0", 1)) is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING or "such messages so far" in record.getMessage()
    assert app.store.place in record.getMessage()
    assert "TRIGGER_STORAGE_OPTIONS" in record.getMessage()
    caplog.clear()
    begin(app, "worker.body")
    assert claim(manager, Message("worker", "s", "another", "t#0", 1)) is None
    assert [each.levelno for each in caplog.records] == [logging.INFO]
    app.close()


# -- async bodies ----------------------------------------------------------------------------------


class Async(TriggerTask):
    name = "worker.async"

    async def _run(self, context: TaskContext) -> Any:
        await asyncio.sleep(0)
        if context.trigger_kwargs["go"]:
            raise Panic("async")
        return {"loop": id(asyncio.get_running_loop())}


@pytest.mark.parametrize("fails", [False, True])
def test_an_async_body_where_a_loop_runs_already(fails: bool) -> None:
    app = application()

    async def view() -> int:
        manager = app.manager("s")
        manager.commit(configured(app, "worker.async"))
        manager.fire("go", {"fails": 1} if fails else {})
        attempt(manager)
        return id(asyncio.get_running_loop())

    loop = asyncio.run(view())
    instance = app.manager("s").storage["t#0"]
    if fails:
        assert instance.metadata["error"]["type"].endswith("Panic")
    else:
        assert instance.result is not None
        assert instance.result["loop"] != loop
    app.close()


# -- definitions, and names of old -----------------------------------------------------------------


def test_an_init_without_the_context_is_refused() -> None:
    with pytest.raises(InvalidConfiguration, match="has to take the context"):

        class Wrong(TriggerTask):
            name = "worker.init"

            def __init__(self) -> None: ...

            def _run(self, context: TaskContext) -> None: ...


def test_an_init_that_keeps_the_context_for_itself(run: Run) -> None:
    class Own(TriggerTask):
        name = "worker.own-init"

        def __init__(self, context: TaskContext) -> None:
            self.client = 5

        def _run(self, context: TaskContext) -> None:
            raise self.skip({"client": self.client})

    assert run(print, name="worker.own-init").metadata == {"client": 5}


def test_run_in_place_of__run_is_named() -> None:
    class Slip(TriggerTask):
        name = "worker.slip"

        def run(self, context: TaskContext) -> None: ...

    with pytest.raises(TaskNotFound, match=r"Slip has a run, but no _run"):
        application().resolve_task("worker.slip")


def test_two_tasks_of_one_name(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    source = "\n".join(
        [
            "from triggers_core import TriggerTask",
            "class A(TriggerTask):",
            "    name = 'worker.twice'",
            "    def _run(self, context): ...",
        ]
    )
    (tmp_path / "twice_1.py").write_text(source)
    (tmp_path / "twice_2.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    first = importlib.import_module("twice_1")
    importlib.reload(first)
    with pytest.raises(DuplicateKey, match=r"twice_1.*twice_2"):
        importlib.import_module("twice_2")
    assert registry.declared.pop("worker.twice") is first.A


def test_old_names(run: Run) -> None:
    def does(task: TriggerTask, context: TaskContext) -> Any:
        with context.get_logger_context({"order": 42}) as log:
            log.info("x")
            assert log.extra["order"] == 42
        assert (context.instance_name, context.storage_uid) == ("t#0", "s")
        assert context.task_instance.status == "running"
        raise with_context(exc=ValueError("x"), context={"page": 3})

    error = run(does).metadata["error"]
    assert (error["type"], error["context"]) == ("ValueError", {"page": 3})
    assert issubclass(WrongState, ValueError)


def test_the_log_says_which_attempt_and_retry(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run(lambda task, context: (_ for _ in ()).throw(task.retry(ValueError("x"))))
    assert "(attempt 1, retry 1)" in caplog.text


def test_a_body_that_runs_for_long_is_told_of_at_growing_intervals(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = application()
    manager = begin(app, "worker.body")
    claimed = claim(manager, message(manager))
    assert claimed is not None
    lease = Lease(
        manager.storage.store, "s", "t#0", claimed.instance.token, app.rules, threading.Event()
    )
    for minutes in range(100):
        lease.began = time.monotonic() - 60 * minutes - 1
        lease.renew()
    told = [record.getMessage() for record in caplog.records]
    assert [each.partition("for ")[2].partition(" ")[0] for each in told] == [
        "10",
        "20",
        "40",
        "80",
    ]
    assert "time_limit" in told[0]
    app.close()


def test_the_last_resort_tells_what_went_wrong_in_describing_a_failure(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    def does(task: TriggerTask, context: TaskContext) -> Any:
        request = task.retry(ValueError("x"))
        del request.metadata
        raise request

    error = run(does).metadata["error"]
    assert error["type"].endswith("RetryRequested")
    assert "could not be described: AttributeError" in error["message"]
    assert "could not be described" in caplog.text


def test_an_error_that_lies_about_its_class_is_described_all_the_same(run: Run) -> None:
    assert run(raises(Liar("of the body"))).metadata["error"]["message"] == "of the body"
    error = run(raises(with_context(Lost("of the body"), {"page": 3}))).metadata["error"]
    assert (error["message"], error["context"]) == ("of the body", {"page": 3})


def test_a_logger_that_fails_does_not_hide_the_error_of_the_body(run: Run) -> None:
    class Broken(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise Panic("of the filter")

    log, broken = logging.getLogger("worker.body"), Broken()
    log.addFilter(broken)
    try:

        def does(task: TriggerTask, context: TaskContext) -> Any:
            with context.get_logger_context():
                raise ValueError("of the body")

        assert run(does).metadata["error"]["message"] == "of the body"
    finally:
        log.removeFilter(broken)


def test_a_limit_that_passes_as_the_body_ends_leaves_the_outcome_to_the_body() -> None:
    app = application()
    manager = begin(app, "worker.body")
    claimed = claim(manager, message(manager))
    assert claimed is not None
    ending = _Attempt(manager, claimed, nullcontext, None, None, True)
    assert ending.owns_outcome("body")
    ending._give_up(1.0, threading.get_ident())
    assert manager.storage["t#0"].status == "running"
    assert not ending.lost.is_set()
    app.close()


@pytest.mark.parametrize("error", [Panic("no"), SystemExit(3), Untold()])
def test_whatever_a_before_commit_hook_raises_the_body_is_not_run_again(
    run: Run, error: BaseException
) -> None:
    class Plugin:
        @hookimpl
        def before_commit(self, session: Any, plan: Any) -> None:
            if session.has_fired("t"):
                raise error

    seen: list[TaskInstance] = []

    def elsewhere() -> None:  # in the main thread a SystemExit is somebody's who ends the process
        seen.append(run(lambda *_: {"n": 1}, (Plugin(),)))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(60)
    (instance,) = seen
    assert instance.status == "finished"
    assert type(error).__name__ in str(instance.metadata)


def test_the_context_is_complete_for_task_failed(run: Run) -> None:
    seen: list[Any] = []

    class Plugin:
        @hookimpl
        def task_failed(self, context: TaskContext, error: BaseException) -> None:
            seen.append((context.trigger_kwargs, context.task_class, context.attempt))

    def does(task: TriggerTask, context: TaskContext) -> Any:
        raise ValueError("no")

    run(does, (Plugin(),))
    assert seen == [({"go": {"n": 1}}, Body, 1)]


def test_a_context_of_an_unknown_task_has_what_there_is() -> None:
    app = application()
    manager = app.manager("s")
    manager.commit(configured(app, "nobody.Knows"))
    manager.fire("go", {"n": 1})
    claimed = claim(manager, message(manager))
    assert claimed is not None
    context, problem = context_of(manager, claimed)
    assert isinstance(problem, TaskNotFound)
    assert (context.trigger_kwargs, context.task_class) == ({"go": {"n": 1}}, TriggerTask)
    assert not context.lease_lost
    app.close()
