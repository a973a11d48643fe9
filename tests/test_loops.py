"""The event loops of asynchronous bodies: one for each thread, for as long as the thread lives."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, ClassVar

import pytest
from limit_alarms import LimitAlarms

from triggers_core import Application, TaskContext, TriggerTask, hookimpl
from triggers_core.running import loops
from triggers_core.settings import Settings
from triggers_core.storages.memory import MemoryStore

colour: ContextVar[str] = ContextVar("colour", default="none")


class Body(TriggerTask):
    name = "loops.body"
    acts: ClassVar[Callable[[TaskContext], Any]]

    async def _run(self, context: TaskContext) -> Any:
        return await type(self).acts(context)


class Limited(Body):
    name = "loops.limited"
    soft_time_limit = 0.05


class Both:
    """Runs bodies on each runner."""

    def __init__(self, runner: str, *plugins: object, run: str = "loops.body") -> None:
        options = {"max_workers": 1, "sweep": False} if runner == "threading" else {}
        settings = Settings.isolated(
            TRIGGER_PLUGINS=list(plugins), TRIGGER_RUNNER=runner, TRIGGER_RUNNER_OPTIONS=options
        )
        self.app = Application("loops", settings, store=MemoryStore())
        self.manager = self.app.manager("s")
        self.manager.update_configuration({"t": {"andEvery": "go", "run": run}})
        self.count = 0

    def run(self, body: Callable[[TaskContext], Any], run: str = "loops.body") -> Any:
        """Run one body to its end; its instance."""
        Body.acts = staticmethod(body)  # type: ignore[assignment]
        self.manager.fire("go")
        self.manager.join()
        self.count += 1
        return self.manager.storage[f"t#{self.count - 1}"]


@pytest.fixture(params=["threading", "manual"])
def runner(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_bodies_of_a_thread_share_its_loop_until_it_ends(runner: str) -> None:
    bodies, seen = Both(runner), []

    async def body(context: TaskContext) -> None:
        seen.append(asyncio.get_running_loop())

    for _ in range(3):
        assert bodies.run(body).status == "finished"
    assert seen[0] is seen[1] is seen[2]
    assert not seen[0].is_closed()
    bodies.app.stop()
    assert seen[0].is_closed()
    bodies.run(body)
    assert seen[3] is not seen[0]
    bodies.app.stop()


def test_what_one_body_opens_serves_the_next(runner: str) -> None:
    bodies, open_streams, heard = Both(runner), [], []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
        writer.close()

    class Server(threading.Thread):
        """An echo in a thread and a loop of its own."""

        def __init__(self) -> None:
            super().__init__()
            self.ready, self.port = threading.Event(), 0

        def run(self) -> None:
            asyncio.run(self.serve())

        async def serve(self) -> None:
            self.loop, self.over = asyncio.get_running_loop(), asyncio.Event()
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            self.ready.set()
            await self.over.wait()
            server.close()

    server = Server()
    server.start()
    assert server.ready.wait(60)

    async def talk(context: TaskContext) -> None:
        if not open_streams:
            open_streams.append(await asyncio.open_connection("127.0.0.1", server.port))
        reader, writer = open_streams[0]
        writer.write(b"hello\n")
        heard.append(await reader.readline())

    async def hang_up(context: TaskContext) -> None:
        _, writer = open_streams[0]
        writer.close()
        await writer.wait_closed()

    bodies.run(talk)
    bodies.run(talk)
    bodies.run(hang_up)
    server.loop.call_soon_threadsafe(server.over.set)
    server.join()
    bodies.app.stop()
    assert heard == [b"HELLO\n"] * 2


def test_tasks_that_a_body_leaves_behind_end_with_it(runner: str) -> None:
    bodies, ended = Both(runner), []

    async def lingers() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("lingers")

    async def body(context: TaskContext) -> None:
        context.left = asyncio.ensure_future(lingers())  # type: ignore[attr-defined]
        await asyncio.sleep(0)

    assert bodies.run(body).status == "finished"
    assert ended == ["lingers"]
    bodies.app.stop()


def test_an_error_of_a_task_that_was_left_behind_is_logged(
    runner: str, caplog: pytest.LogCaptureFixture
) -> None:
    bodies = Both(runner)

    async def breaks() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise LookupError("on purpose")

    async def body(context: TaskContext) -> None:
        context.left = asyncio.ensure_future(breaks())  # type: ignore[attr-defined]
        await asyncio.sleep(0)

    assert bodies.run(body).status == "finished"
    assert "a body left this task behind" in caplog.text
    assert "on purpose" in caplog.text
    bodies.app.stop()


def test_a_body_may_end_the_application_of_a_runner_without_threads() -> None:
    bodies = Both("manual")

    async def body(context: TaskContext) -> None:
        context.manager.app.stop()
        await asyncio.sleep(0)

    assert bodies.run(body).status == "finished"
    bodies.app.stop()


def test_a_loop_that_cannot_be_closed_harms_nobody(
    runner: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Stubborn(ThreadPoolExecutor):
        def shutdown(self, *args: Any, **kwargs: Any) -> None:
            super().shutdown(*args, **kwargs)
            raise LookupError("on purpose")

    bodies, seen = Both(runner), []

    async def body(context: TaskContext) -> None:
        seen.append(asyncio.get_running_loop())
        seen[0].set_default_executor(Stubborn(1))

    bodies.run(body)
    bodies.app.stop()
    assert "could not be closed" in caplog.text
    assert seen[0].is_closed()


def test_generators_that_a_body_drops_or_keeps_are_ended(runner: str) -> None:
    bodies, ended, kept = Both(runner), [], []

    async def numbers(name: str) -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            ended.append(name)

    async def body(context: TaskContext) -> None:
        async for _ in numbers("dropped"):
            break
        kept.append(numbers("kept"))
        await anext(kept[0])

    assert bodies.run(body).status == "finished"
    assert ended == ["dropped"]
    bodies.app.stop()
    assert ended == ["dropped", "kept"]


def test_each_body_has_context_variables_of_its_own(runner: str) -> None:
    class Sets:
        @hookimpl
        def body_context(self, context: TaskContext) -> Any:
            from contextlib import contextmanager

            @contextmanager
            def sets() -> Any:
                token = colour.set(context.instance.name)
                yield
                colour.reset(token)

            return sets()

    bodies, seen = Both(runner, Sets()), []

    async def body(context: TaskContext) -> None:
        seen.append(colour.get())
        colour.set("left behind")

    bodies.run(body)
    bodies.run(body)
    bodies.app.stop()
    assert seen == ["t#0", "t#1"]


def test_a_time_limit_ends_one_body_and_not_the_next(
    runner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies, alarms = Both(runner, run="loops.limited"), LimitAlarms(monkeypatch)

    async def waits(context: TaskContext) -> None:
        alarms.ring()
        await asyncio.Event().wait()

    async def passes(context: TaskContext) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    for _ in range(3):
        error = bodies.run(waits).metadata["error"]
        assert error["type"].endswith("SoftTimeLimitExceeded")
        assert bodies.run(passes).status == "finished"
    bodies.app.stop()


def test_a_body_that_stops_its_loop_harms_only_itself(runner: str) -> None:
    bodies = Both(runner)

    async def stops(context: TaskContext) -> None:
        asyncio.get_running_loop().stop()
        await asyncio.Event().wait()

    async def passes(context: TaskContext) -> None: ...

    assert bodies.run(stops).status == "failed"
    assert bodies.run(passes).status == "finished"
    bodies.app.stop()


async def loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


@pytest.mark.filterwarnings("error")
def test_the_loop_of_a_thread_that_ends_without_a_word_is_closed() -> None:
    seen: list[asyncio.AbstractEventLoop] = []
    thread = threading.Thread(target=lambda: seen.append(loops.run(loop())))
    thread.start()
    thread.join()
    gc.collect()
    assert seen[0].is_closed()


def test_what_else_a_thread_does_finds_no_loop_of_ours() -> None:
    first = loops.run(loop())
    assert asyncio.run(loop()) is not first
    assert loops.run(loop()) is first

    async def within() -> Any:
        return await asyncio.to_thread(lambda: None), loops.run(loop())

    assert asyncio.run(within())[1] is not first  # a loop runs here already
    loops.close()
    loops.close()
    assert first.is_closed()


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="there is no fork here")
def test_a_forked_child_has_a_loop_of_its_own() -> None:
    code = """
import asyncio, os
from triggers_core.running import loops
async def loop():
    await asyncio.to_thread(lambda: None)
    return asyncio.get_running_loop()
first = loops.run(loop())
child = os.fork()
if not child:
    os._exit(0 if loops.run(loop()) is not first else 1)
assert os.waitpid(child, 0)[1] == 0
assert loops.run(loop()) is first
loops.close()
print("well")
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=300
    )
    assert (done.stdout, done.stderr) == ("well\n", "")


def test_greenlets_run_asynchronous_bodies_beside_each_other() -> None:
    pytest.importorskip("gevent")
    code = """
from gevent import monkey; monkey.patch_all()
import asyncio, gevent
from triggers_core.running import loops
met = []
async def body(number):
    met.append(number)
    while len(met) < 3:  # all three are under way at once
        await asyncio.sleep(0.001)
    return number
jobs = [gevent.spawn(loops.run, body(number)) for number in range(3)]
gevent.joinall(jobs, raise_error=True)
print([job.value for job in jobs])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (done.stdout, done.stderr) == ("[0, 1, 2]\n", "")


def test_the_body_of_a_greenlet_that_is_killed_is_cancelled() -> None:
    pytest.importorskip("gevent")
    code = """
from gevent import monkey; monkey.patch_all()
import asyncio, gevent
from triggers_core.running import loops
said = []
async def body():
    said.append("began")
    try:
        await asyncio.Event().wait()
    finally:
        said.append("ended")
async def fails():
    raise SystemExit("on purpose")
job = gevent.spawn(loops.run, body())
while not said:
    gevent.sleep(0.001)
job.kill()
while len(said) < 2:
    gevent.sleep(0.001)
try:
    loops.run(fails())
except SystemExit as error:
    print(said, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (done.stdout, done.stderr) == ("['began', 'ended'] on purpose\n", "")
