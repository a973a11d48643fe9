"""The runner `threading`: threads that cannot start, die or hang; and how processes end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from triggers_core import Application, TaskContext, TriggerTask
from triggers_core.engine.commands import Configure
from triggers_core.exceptions import InvalidSetting
from triggers_core.runners import ThreadingTaskRunner
from triggers_core.settings import Settings
from triggers_core.testing import VirtualClock, bodies
from triggers_core.testing.bodies import Gate
from triggers_core.testing.manager_helpers import configure, ran, statuses


@pytest.fixture
def app() -> Iterator[Application]:
    app = Application(
        "test",
        Settings.isolated(
            TRIGGER_STORAGE_TYPE="memory",
            TRIGGER_PLUGINS=[],
            TRIGGER_RUNNER_OPTIONS={"max_workers": 2},
            TRIGGER_TIMING={"sweep": 0.05},
        ),
    )
    yield app
    app.close()


def runner_of(app: Application) -> ThreadingTaskRunner:
    runner = app.runner()
    assert isinstance(runner, ThreadingTaskRunner)
    return runner


class NoThreads:
    """No thread can be started, as under a container's limit of processes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, prefix: str = "triggers-") -> None:
        self._patch, self._prefix, self.refused = monkeypatch, prefix, 0

    def __enter__(self) -> NoThreads:
        start, me = threading.Thread.start, self

        def refuse(self: threading.Thread) -> None:
            if self.name.startswith(me._prefix):
                me.refused += 1
                raise RuntimeError("can't start new thread")
            start(self)

        self._context = self._patch.context()
        self._context.__enter__().setattr(threading.Thread, "start", refuse)
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._context.__exit__(*exc_info)


def test_work_is_taken_up_once_threads_can_be_had_again(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = app.manager("order:1")  # the sweep runs
    configure(manager, t_a=(bodies.Echo, {"andEvery": "go"}))
    with NoThreads(monkeypatch) as refused:
        for _ in range(5):
            manager.fire("go")
        assert refused.refused >= 5
        assert runner_of(app)._threads == [], "what could not be started does not count"
        assert not app.runner().join_all(timeout=0.01)
    assert app.runner().join_all(60)
    assert ran(manager) == {f"t_a#{number}": 1 for number in range(5)}


def test_the_sweep_takes_work_up_that_nobody_waits_for(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = app.manager("order:1")
    configure(manager, t_a=(bodies.Echo, {"andEvery": "go"}))
    with NoThreads(monkeypatch):
        manager.fire("go")
        assert runner_of(app)._threads == []
    runner_of(app).sweep()
    assert len(runner_of(app)._threads) == 1
    assert manager.join(60)


@pytest.mark.parametrize("ending", ["join", "close"])
def test_no_end_hangs_for_want_of_threads(
    app: Application, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    manager = app.manager("order:1")
    configure(
        manager,
        t_a=(bodies.Echo, {"andEvery": "go"}),
        t_b=(bodies.Echo, {"andEvery": "t_a"}),
    )
    with NoThreads(monkeypatch):
        for _ in range(3):
            manager.fire("go")
        _ = manager.join() if ending == "join" else app.close()
    assert list(statuses(manager).values()) == ["finished"] * 6


def test_heartbeats_and_sweep_are_started_again_when_they_could_not_be(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = app.manager("order:1")
    configure(manager, t_a=(bodies.Gated, {"andEvery": "go"}))
    gate = Gate("revived")
    with NoThreads(monkeypatch, "triggers-sweep"), NoThreads(monkeypatch, "triggers-heartbeat"):
        manager.fire("go", {"gate": "revived"})
        gate.wait_for(1)
    manager.fire("go", {"gate": "revived"})
    gate.wait_for(2)
    names = {thread.name for thread in threading.enumerate()}
    assert {"triggers-sweep", "triggers-heartbeat"} <= names
    gate.open()
    assert manager.join(60)


class GreenletExit(BaseException):
    """What ends a greenlet, and so a thread where threads are greenlets."""


def test_heartbeats_and_sweep_that_were_killed_are_started_again(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise GreenletExit

    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    manager, runner = app.manager("order:1"), runner_of(app)
    configure(manager, t_a=(bodies.Gated, {"andEvery": "go"}))
    gate = Gate("killed")
    with monkeypatch.context() as killer:
        killer.setattr(ThreadingTaskRunner, "sweep", killed)
        killer.setattr(type(runner.heartbeats), "_beat_forever", killed)
        runner.wake()
        manager.fire("go", {"gate": "killed"})
        gate.wait_for(1)
        for thread in (runner._sweeper, runner.heartbeats._thread):
            assert thread is not None
            thread.join(60)
            assert not thread.is_alive()
    manager.fire("go", {"gate": "killed"})
    gate.wait_for(2)
    for thread in (runner._sweeper, runner.heartbeats._thread):
        assert thread is not None
        assert thread.is_alive()
    gate.open()
    assert manager.join(60)


class Panic(BaseException):
    """As those of Rust's extensions, gevent, trio and pytest."""


class Panics(TriggerTask):
    name = "tests.Panics"

    def _run(self, context: TaskContext) -> None:
        raise Panic("on purpose")


def test_a_thread_that_dies_is_replaced_and_its_job_accounted_for(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if it dies where nothing is expected to be raised."""
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    manager = app.manager("order:1")
    configure(
        manager,
        t_a=(bodies.Echo, {"andEvery": "go"}),
        t_p=(Panics, {"andEvery": "panic"}),
    )
    run, died = ThreadingTaskRunner.run, []

    def dies(self: ThreadingTaskRunner, job: Any, worker: Any = None) -> None:
        if len(died) < 7:
            died.append(job)
            raise Panic("in the thread itself")
        run(self, job, worker)

    monkeypatch.setattr(ThreadingTaskRunner, "run", dies)
    for _ in range(7):
        manager.fire("go")
    assert manager.join(60)
    for _ in range(5):
        manager.fire("panic")
        manager.fire("go")
    assert manager.join(60)
    found = statuses(manager)
    assert [found[f"t_p#{number}"] for number in range(5)] == ["failed"] * 5
    assert [found[f"t_a#{number}"] for number in range(7, 12)] == ["finished"] * 5
    assert all(thread.is_alive() for thread in runner_of(app)._threads)


class Hangs(TriggerTask):
    name = "tests.Hangs"
    time_limit = 0.2
    release = threading.Event()

    def _run(self, context: TaskContext) -> None:
        while not self.release.is_set():
            with contextlib.suppress(BaseException):  # it is told, and does not listen
                self.release.wait(0.05)


def test_a_body_that_hangs_gives_its_place_away(app: Application) -> None:
    Hangs.release.clear()
    manager = app.manager("order:1")
    configure(
        manager,
        t_h=(Hangs, {"andEvery": "hang"}),
        t_a=(bodies.Echo, {"andEvery": "go"}),
    )
    try:
        for _ in range(3):  # more than there are threads
            manager.fire("hang")
        for _ in range(3):
            manager.fire("go")
        assert manager.join(60), "they are not waited for"
        found = statuses(manager)
        assert [found[f"t_h#{number}"] for number in range(3)] == ["failed"] * 3
        assert [found[f"t_a#{number}"] for number in range(3)] == ["finished"] * 3
        app.close()
    finally:
        Hangs.release.set()


# -- the ends of processes -------------------------------------------------------------------------

SETUP = """
    import atexit, os, signal, sys, threading, time
    from triggers_core import Application, TriggerTask
    from triggers_core.settings import Settings
    class Body(TriggerTask):
        name = "b.Body"
        def _run(self, context):
            with open("began", "a") as file: file.write(context.instance.task)
            time.sleep(0.5)
            with open("ended", "a") as file: file.write(context.instance.task)
    app = Application("a", Settings.isolated(TRIGGER_STORAGE_OPTIONS={"path": "t.db"},
        TRIGGER_PLUGINS=[], TRIGGER_CONFIGURATION={
            "a": {"andEvery": "go", "run": "b.Body"}, "b": {"andEvery": "a", "run": "b.Body"}}))
    def fire():
        app.manager("s").fire("go")
    def began():
        while not os.path.exists("began"): time.sleep(0.01)
"""


def run(folder: Path, end: str, setup: str = SETUP) -> subprocess.CompletedProcess[str]:
    code = textwrap.dedent(setup) + textwrap.dedent(end)
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, timeout=300, capture_output=True, text=True
    )


def ended(folder: Path) -> str:
    path = folder / "ended"
    return "".join(sorted(path.read_text())) if path.exists() else ""


@pytest.mark.parametrize(
    "end",
    [
        "fire()",
        "fire(); sys.exit(0)",
        "t = threading.Thread(target=fire, daemon=True); t.start(); t.join()",
        "t = threading.Thread(target=fire); t.start()",
        "fire(); began(); app.runner(); atexit.register(print)",
        "app.start(); fire()",
    ],
)
def test_what_was_dispatched_is_finished(tmp_path: Path, end: str) -> None:
    done = run(tmp_path, end)
    assert (done.returncode, ended(tmp_path)) == (0, "ab"), done.stderr


def test_so_it_is_after_an_exception(tmp_path: Path) -> None:
    done = run(tmp_path, "fire(); began(); raise ValueError('the end')")
    assert done.returncode == 1
    assert ended(tmp_path) == "ab", done.stderr


def test_and_after_ctrl_c(tmp_path: Path) -> None:
    end = """
        signal.signal(signal.SIGINT, signal.default_int_handler)
        fire(); began()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    """
    done = run(tmp_path, end)
    assert "KeyboardInterrupt" in done.stderr
    assert ended(tmp_path) == "ab", done.stderr


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    end = """
        signal.signal(signal.SIGINT, signal.default_int_handler)
        fire()
        while not os.path.exists("ended"): time.sleep(0.01)  # b is next: it takes its time
        class Long(TriggerTask):
            name = "b.Long"
            def _run(self, context):
                print("long", flush=True)
                time.sleep(120)
        app.manager("long").update_configuration({"t_l": {"after": ["go"], "run": "b.Long"}})
        app.manager("long").fire("go")
        print("waiting", flush=True)
        time.sleep(120)
    """
    code = textwrap.dedent(SETUP) + textwrap.dedent(end)
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = {process.stdout.readline().strip() for _ in range(2)}
        assert lines == {"long", "waiting"}
        process.send_signal(signal.SIGINT)
        for line in process.stderr:
            if line.startswith("KeyboardInterrupt"):
                break
        # The interpreter waits for the threads now, or is about to.
        for _ in range(800):
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.3)
                break
        assert process.returncode is not None, "it waits for the body, whatever the user does"
        assert "in _close_all" not in process.stderr.read(), "it began to wait once more"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on Windows")
def test_a_forked_child_finishes_its_own(tmp_path: Path) -> None:
    end = """
        import multiprocessing
        fire()
        child = multiprocessing.get_context("fork").Process(target=fire)
        child.start(); child.join()
        assert child.exitcode == 0
    """
    done = run(tmp_path, end)
    assert (done.returncode, ended(tmp_path)) == (0, "aabb"), done.stderr


@pytest.mark.parametrize("cold", [True, False])
def test_a_fire_at_the_very_end_is_stored(tmp_path: Path, cold: bool) -> None:
    """Whether it can still be done depends on Python's version; the next start finds it."""
    done = run(tmp_path, ("" if cold else "fire();") + "atexit.register(fire)")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    look = "print(app.manager('s').storage.header.latest['go'])"
    assert int(run(tmp_path, look).stdout) == (0 if cold else 1) or not cold


@pytest.mark.parametrize("how", ["exit", "join"])
def test_gevent_finishes_what_was_dispatched(tmp_path: Path, how: str) -> None:
    pytest.importorskip("gevent")
    end = """
        requests = [gevent.spawn(fire) for _ in range(10)]
        gevent.joinall(requests, raise_error=True)
    """ + ("" if how == "exit" else "\n        assert app.manager('s').join(60)")
    patched = "\n    from gevent import monkey; monkey.patch_all()\n    import gevent" + SETUP
    done = run(tmp_path, end, patched)
    assert (done.returncode, ended(tmp_path)) == (0, "a" * 10 + "b" * 10), done.stderr


def test_a_body_that_hangs_does_not_keep_the_process(tmp_path: Path) -> None:
    end = """
        class Hangs(TriggerTask):
            name = "b.Hangs"
            time_limit = 0.2
            def _run(self, context):
                while True:
                    try: time.sleep(300)
                    except BaseException: pass
        manager = app.manager("h")
        manager.update_configuration({"t_h": {"after": ["go"], "run": "b.Hangs"}})
        manager.fire("go")
    """
    assert run(tmp_path, end).returncode == 0


def test_a_task_that_nobody_knows_fails_in_the_end() -> None:
    """A deploy that never brings the task: its instance must not stay `scheduled` for ever."""
    clock = VirtualClock()
    app = Application(
        "test",
        Settings.isolated(
            TRIGGER_STORAGE_TYPE="memory",
            TRIGGER_STORAGE_OPTIONS={"clock": clock},
            TRIGGER_PLUGINS=[],
            TRIGGER_RUNNER_OPTIONS={"max_workers": 1, "sweep": False},
        ),
    )
    manager = app.manager("s")
    manager.commit(Configure(configuration=app.parse({"t": {"after": ["go"], "run": "no.Where"}})))
    manager.fire("go")
    statuses = []
    for _ in range(60):
        assert manager.join(60)
        statuses.append(str(manager.storage["t#0"].status))
        clock.advance(10)
        app.recover()
    app.close()
    assert statuses[0] == "scheduled"
    assert statuses[-1] == "failed"
    assert manager.storage["t#0"].metadata["error"]["type"].endswith("TaskNotFound")


# -- interrupted -----------------------------------------------------------------------------------


class Alarm(Exception):
    """What a signal handler raises."""


class Interrupted(threading.Condition):
    """Python runs signal handlers at the end of functions in Python, such as this one."""

    def __enter__(self) -> bool:
        entered = super().__enter__()
        if threading.current_thread() is threading.main_thread():
            raise Alarm
        return entered


@pytest.mark.parametrize("what", ["dispatch", "join"])
def test_an_interruption_leaves_nothing_locked(app: Application, what: str) -> None:
    manager = app.manager("s")
    configure(manager, t=(bodies.Echo, {"andEvery": "go"}))
    runner = runner_of(app)
    for condition in (runner._changed, runner._work_waits):
        condition.__class__ = Interrupted
    with contextlib.suppress(Alarm):
        manager.fire("go") if what == "dispatch" else runner.join_all(0.01)
    for condition in (runner._changed, runner._work_waits):
        condition.__class__ = threading.Condition

    def elsewhere() -> None:
        app.manager("s").fire("go")
        assert manager.join(60)
        done.append(True)

    done: list[bool] = []
    thread = threading.Thread(target=elsewhere, daemon=True)
    thread.start()
    thread.join(60)
    assert done, "nobody can go on"


@pytest.mark.parametrize("how", ["time.sleep(5)", "hang.wait()", "while True: pass"])
def test_code_can_be_traced_after_a_time_limit(tmp_path: Path, how: str) -> None:
    """By a debugger or coverage: an exception that was taken back must not be looked for ever."""
    end = f"""
        hang = threading.Event()
        class Late(TriggerTask):
            name = "b.Late"
            time_limit = 0.1
            def _run(self, context):
                {how}
        manager = app.manager("l")
        manager.update_configuration({{"t_l": {{"after": ["go"], "run": "b.Late"}}}})
        manager.fire("go")
        assert manager.join(60)
        assert manager.storage["t_l#0"].status == "failed"
        def looks(*_): pass
        sys.settrace(looks)
        subprocess.list2cmdline(["a", "b"])
        sys.settrace(None)
        hang.set()
    """
    setup = SETUP.replace("import ", "import subprocess, sys, threading, ", 1)
    done = run(tmp_path, end, setup)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "options",
    [{"max_workers": value} for value in (0, -1, 2.5, True, "4", float("nan"))]
    + [{"sweep": value} for value in ("no", 0, None)],
)
def test_options_are_checked(app: Application, options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(InvalidSetting, match=f"threading: {name} must be"):
        ThreadingTaskRunner(app, **options)
