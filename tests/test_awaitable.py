"""The awaitable form of each method of a manager: what it does, what a cancellation leaves."""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

import pytest
from awaited_memory import Awaited, Joinable

from triggers_core import Application, TaskContext, TriggerManager, TriggerTask, hookimpl
from triggers_core.application import aget_trigger_manager
from triggers_core.exceptions import (
    InstanceNotFound,
    InvalidPayload,
    MustAwait,
    SessionClosed,
    WrongState,
)
from triggers_core.methods.awaitable import AwaitableMethods
from triggers_core.running.calls import Calls
from triggers_core.settings import Settings
from triggers_core.storages.memory import MemoryStore
from triggers_core.storages.sqlite import SqliteStore

T = TypeVar("T")

TASKS = {
    "t_ship": {"after": ["paid", "packed"], "run": "awaitable.ship"},
    "t_fails": {"andEvery": "broken", "run": "awaitable.fails"},
}

colour: ContextVar[str] = ContextVar("colour", default="none")


class Ship(TriggerTask):
    name = "awaitable.ship"

    def _run(self, context: TaskContext) -> dict[str, Any]:
        return {"amount": context.trigger_kwargs["paid"]["amount"]}


class Fails(TriggerTask):
    name = "awaitable.fails"

    def _run(self, context: TaskContext) -> None:
        with context.get_logger_context() as logger:
            logger.warning("about to fail")
        raise LookupError("on purpose")


class Told:
    """A plugin that notes what it is told, and where; and stops where a test wants it to."""

    def __init__(self) -> None:
        self.before: list[str] = []
        self.after: list[str] = []
        self.threads: set[str] = set()
        self.colours: list[str] = []
        self.stop_before = self.stop_after = False
        self.reached, self.go_on = threading.Event(), threading.Event()

    def wait_here(self) -> None:
        self.reached.set()
        assert self.go_on.wait(60)

    @hookimpl
    def pre_fire(self, manager: TriggerManager, event: Any) -> None:
        self.before.append(event.trigger)
        self.threads.add(threading.current_thread().name)
        self.colours.append(colour.get())
        if self.stop_before:
            self.wait_here()

    @hookimpl
    def post_fire(self, manager: TriggerManager, event: Any, scheduled: Any) -> None:
        self.after.append(event.trigger)
        self.threads.add(threading.current_thread().name)
        if self.stop_after:
            self.wait_here()


class Quiet(Told):
    """Without a hook before a fire: such a fire is prepared in the loop."""

    pre_fire = None  # type: ignore[assignment]


Make = Callable[..., Application]


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Makes an application on a storage that blocks."""
    numbers = iter(range(1_000))

    def make_one(*plugins: object, store: Any = None, **settings: Any) -> Application:
        if store is None and request.param == "memory":
            store = MemoryStore()
        elif store is None:
            store = SqliteStore(tmp_path / f"{next(numbers)}.db")
        return application(store, *plugins, **settings)

    return make_one


def application(store: Any, *plugins: object, **settings: Any) -> Application:
    settings = {
        "TRIGGER_PLUGINS": list(plugins),
        "TRIGGER_RUNNER_OPTIONS": {"sweep": False},
        **settings,
    }
    return Application("awaitable", Settings.isolated(**settings), store=store)


@asynccontextmanager
async def managed(app: Application, runner: str = "threading") -> AsyncIterator[TriggerManager]:
    async with app:
        manager = await aget_trigger_manager("order:1", app)
        await manager.aupdate_configuration(TASKS)
        yield manager


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return asyncio.run(main(), debug=False)


# -- each method ----------------------------------------------------------------------------------


def test_each_method_has_one_with_the_same_parameters() -> None:
    """A method of a manager that is new has to be told of here, or have an awaitable form."""
    never = {
        "commit",
        "after_commit",
        "dispatch",
        "sibling",
        "using",
        "by",
    }  # no storage, or internal
    methods = {
        name: each for name, each in vars(TriggerManager).items() if inspect.isfunction(each)
    }
    public = {name: each for name, each in methods.items() if not name.startswith("_")}
    awaitable = vars(AwaitableMethods)
    assert {f"a{name}" for name in public.keys() - never} <= awaitable.keys()
    for name in public.keys() - never:
        form = awaitable[f"a{name}"]
        assert inspect.iscoroutinefunction(form), name
        assert inspect.signature(form) == inspect.signature(public[name]), name


def test_the_methods_do_what_their_counterparts_do(make: Make) -> None:
    async def main() -> None:
        async with managed(make()) as manager:
            rehearsed = await manager.aupdate_configuration(
                {"t_new": {**TASKS["t_ship"]}}, dry_run=True
            )
            assert "t_new" not in await manager.aread(lambda storage: dict(storage.tasks))
            assert rehearsed is not None
            assert [task.name for task in await manager.aget_unresolved_tasks()] == list(TASKS)
            await manager.afire("packed")
            paid = await manager.afire("paid", {"amount": 42}, event_id="evt:1")
            assert paid.scheduled == ("t_ship#0",)
            assert (
                await manager.afire("paid", {"amount": 42}, event_id="evt:1")
            ).status == "duplicate"
            assert await manager.ajoin(60)
            shipped = await manager.aget_instance("t_ship#0")
            assert shipped.status == "finished"
            assert "1 instance, finished" in str(await manager.aexplain("t_ship"))

            await manager.afire("broken")
            await manager.afire("broken")
            assert await manager.ajoin()
            failed = await manager.aget_unresolved_instances()
            assert [each.name for each in failed] == ["t_fails#0", "t_fails#1"]
            logged = await manager.aget_instances_with_unresolved_logs()
            assert [each.name for each in logged] == ["t_fails#0", "t_fails#1"]
            assert (await manager.amark_instance_logs_resolved("t_fails#0")).name == "t_fails#0"
            noted = await manager.aupdate_instance_metadata(failed[0], {"ticket": 7})
            assert noted.metadata["ticket"] == 7
            clone = await manager.areplay_failed_instance("t_fails#0", {"broken": {"now": 1}})
            assert clone.parent == "t_fails#0"
            assert await manager.ajoin(60)
            skipped = await manager.askip_failed_instance(
                "t_fails#1", cascade=True, result={"a": 1}
            )
            assert skipped.status == "skipped"
            with pytest.raises(WrongState):
                await manager.afail_instance("t_fails#1", "stuck")
            assert (await manager.arecover()) is not None
            await manager.aclose_session()
            with pytest.raises(SessionClosed):
                await manager.afire("late")
            assert await manager.adelete_session()
            assert not await manager.adelete_session()

    run(main)


def test_what_was_read_of_an_instance_needs_no_storage(make: Make) -> None:
    async def main() -> None:
        async with managed(make()) as manager:
            await manager.afire("packed")
            await manager.afire("paid", {"amount": 42})
            await manager.ajoin()
            instance = await manager.aget_instance("t_ship#0")
            await manager.adelete_session()
            assert instance.kwargs["paid"] == {"amount": 42}
            assert instance.result == {"amount": 42}
            assert instance.taken == {"paid": [1], "packed": [0]}
            assert instance.moment is not None
            with pytest.raises(InstanceNotFound):
                await manager.aget_instance("t_ship#0")

    run(main)


def test_an_override_of_a_method_is_what_the_awaitable_form_calls(make: Make) -> None:
    class Loud(TriggerManager):
        def fire(self, trigger_name: str, *args: Any, **kwargs: Any) -> Any:
            return super().fire(trigger_name.lower(), *args, **kwargs)

    async def main() -> None:
        app = make()
        async with app:
            manager = Loud(app.storage("order:1"), app)
            await manager.afire("PAID")
            assert await manager.aread(lambda storage: list(storage.latest_kwargs)) == ["paid"]

    run(main)


def test_a_refused_fire_raises_to_the_one_who_awaits_it(make: Make) -> None:
    async def main() -> None:
        async with managed(make()) as manager:
            with pytest.raises(InvalidPayload):
                await manager.afire("paid", {"amount": {1, 2}})
            with pytest.raises(RuntimeError, match="StopIteration"):
                await manager.aread(lambda _: next(iter(())))

    run(main)


# -- threads --------------------------------------------------------------------------------------


def test_hooks_run_in_threads_of_the_application_with_the_context_of_the_caller(make: Make) -> None:
    told, before = Told(), set(threading.enumerate())

    async def main() -> None:
        async with managed(make(told)) as manager:
            colour.set("green")
            await manager.afire("paid")
            assert begun(before)

    run(main)
    assert told.colours == ["green"]
    assert {name.rsplit("-", 1)[0] for name in told.threads} == {"triggers-async"}
    assert not begun(before)


def begun(before: set[threading.Thread]) -> list[threading.Thread]:
    """The threads of ours that have begun since, but for what other tests have left behind."""
    since = set(threading.enumerate()) - before
    return [each for each in since if each.name.startswith("triggers-async-")]


def test_the_loop_goes_on_while_a_hook_blocks(make: Make) -> None:
    told = Told()

    async def main() -> int:
        async with managed(make(told)) as manager:
            told.stop_before = True
            fire = asyncio.ensure_future(manager.afire("paid"))
            ticks = 0
            while not told.reached.is_set() or ticks < 100:
                await asyncio.sleep(0)
                ticks += 1
            assert not fire.done()
            told.go_on.set()
            await fire
            return ticks

    assert run(main) >= 100


def test_calls_are_bounded_and_wait_for_their_turn() -> None:
    calls, gate, begun = Calls(most=2), threading.Event(), []

    def call(number: int) -> int:
        begun.append(number)
        assert gate.wait(60)
        return number

    async def main() -> list[int]:
        waiting = [asyncio.ensure_future(calls.run(lambda n=n: call(n))) for n in range(5)]
        while len(begun) < 2:
            await asyncio.sleep(0)
        assert len(calls._threads) == 2
        assert len(begun) == 2
        gate.set()
        return await asyncio.gather(*waiting)

    assert run(main) == [0, 1, 2, 3, 4]
    calls.shutdown()
    assert not calls.in_use


def test_what_is_in_line_keeps_its_order_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    calls, seen, gate = Calls(), [], threading.Event()

    def fails() -> None:
        assert gate.wait(60)
        raise LookupError("on purpose")

    calls.submit_in_line("a", fails)
    for number in range(50):
        calls.submit_in_line("a", lambda n=number: seen.append(n))
    gate.set()
    calls.shutdown()
    assert seen == list(range(50))
    assert "on purpose" in caplog.text


def test_a_hook_cannot_end_the_application_that_waits_for_it(make: Make) -> None:
    class Ends:
        problem: BaseException | None = None

        @hookimpl
        def post_fire(self, manager: TriggerManager, event: Any, scheduled: Any) -> None:
            try:
                manager.app.stop()
            except WrongState as error:
                self.problem = error

    ends = Ends()

    async def main() -> None:
        async with managed(make(ends)) as manager:
            await manager.afire("paid")

    run(main)
    assert "wait for itself" in str(ends.problem)


def test_a_storage_says_in_which_thread_it_wants_to_be_called() -> None:
    class Picky(MemoryStore):
        threads = ThreadPoolExecutor(1, "picky")

        def in_thread(self, call: Callable[[], T]) -> Any:
            return asyncio.get_running_loop().run_in_executor(self.threads, call)

    told = Told()

    async def main() -> None:
        app = application(Picky(), told)
        async with managed(app) as manager:
            await manager.afire("paid")

    run(main)
    Picky.threads.shutdown()
    assert told.threads == {"picky_0"}


def test_a_transaction_of_the_loops_thread_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with managed(application(SqliteStore(tmp_path / "t.db"))) as manager:
            store = manager.storage.store

            def within() -> None:
                with store.transaction():
                    manager.fire("paid", {"amount": 1})
                    manager.fire("packed")

            with store.transaction():
                with pytest.raises(MustAwait, match="to_thread"):
                    await manager.afire("paid")
                with pytest.raises(MustAwait, match="to_thread"):
                    await manager.aexplain()
            assert stored(manager) == []
            await asyncio.to_thread(within)
            assert stored(manager)[:2] == ["paid", "packed"]

    run(main)


def test_an_asynchronous_body_cannot_wait_for_itself(make: Make) -> None:
    class Waits(TriggerTask):
        name = "awaitable.waits"

        async def _run(self, context: TaskContext) -> None:
            await context.manager.ajoin()

    async def main() -> str:
        async with managed(make()) as manager:
            await manager.aupdate_configuration(
                {"t_w": {"after": ["go"], "run": "awaitable.waits"}}
            )
            await manager.afire("go")
            await manager.ajoin()
            instance = await manager.aget_instance("t_w#0")
            return str(instance.metadata["error"]["message"])

    assert "for itself for ever" in run(main)


def test_an_asynchronous_body_fires(make: Make) -> None:
    class Passes(TriggerTask):
        name = "awaitable.passes"

        async def _run(self, context: TaskContext) -> None:
            await context.manager.afire("passed", {"by": context.instance.name})

    async def main() -> dict[str, Any]:
        async with managed(make()) as manager:
            await manager.aupdate_configuration({"t_p": {"after": ["go"], "run": Passes}})
            await manager.afire("go")
            await manager.ajoin()
            return await manager.aread(lambda storage: storage.latest_kwargs["passed"])

    assert run(main) == {"by": "t_p#0"}


# -- cancelled ------------------------------------------------------------------------------------


def stored(manager: TriggerManager) -> list[str]:
    return [event.trigger for event in manager.storage.events]


@pytest.mark.parametrize("steps", range(12))
def test_cancelled_after_some_steps_it_is_stored_or_not(make: Make, steps: int) -> None:
    told = Told()
    app = make(told, TRIGGER_RUNNER="manual", TRIGGER_RUNNER_OPTIONS={})

    async def main() -> None:
        async with managed(app) as manager:
            await manager.afire("packed")
            fire = asyncio.ensure_future(manager.afire("paid", {"amount": 1}, event_id="e"))
            for _ in range(steps):
                await asyncio.sleep(0)
            fire.cancel()
            ended = (await asyncio.gather(fire, return_exceptions=True))[0]
            app.calls.shutdown()  # whatever was begun has ended
            recorded = "paid" in stored(manager)
            assert recorded or isinstance(ended, asyncio.CancelledError)
            assert told.after.count("paid") == int(recorded)
            messages = app.runner().messages  # type: ignore[attr-defined]
            assert [each.instance for each in messages] == ["t_ship#0"] * recorded
            again = await manager.afire("paid", {"amount": 1}, event_id="e")
            assert again.status == ("duplicate" if recorded else "recorded")

    run(main)


@pytest.mark.parametrize("where", ["queued", "before the commit", "after the commit"])
def test_cancelled_where_a_thread_is_held_up(make: Make, where: str) -> None:
    told = Told()
    app = make(told, TRIGGER_RUNNER="manual", TRIGGER_RUNNER_OPTIONS={})

    async def main() -> None:
        async with managed(app) as manager:
            await manager.afire("packed")
            told.stop_before, told.stop_after = where != "after the commit", where[0] == "a"
            if where == "queued":
                app.calls.most = len(app.calls._threads)
                held = [asyncio.ensure_future(manager.afire("x")) for _ in range(app.calls.most)]
            fire = asyncio.ensure_future(manager.afire("paid", {"amount": 1}))
            while not told.reached.is_set():
                await asyncio.sleep(0)
            fire.cancel()
            with pytest.raises(asyncio.CancelledError):
                await fire  # at once, though its thread is still held up
            assert "paid" not in told.after or where == "after the commit"
            told.go_on.set()
            if where == "queued":
                await asyncio.gather(*held)
            app.calls.shutdown()
            recorded = where != "queued"
            assert ("paid" in stored(manager)) == recorded
            assert told.after.count("paid") == int(recorded)
            assert len(app.runner().messages) == int(recorded)  # type: ignore[attr-defined]

    run(main)


def test_an_error_that_nobody_awaits_any_more_is_logged(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    class Breaks(Told):
        @hookimpl
        def pre_fire(self, manager: TriggerManager, event: Any) -> None:
            self.wait_here()
            raise LookupError("on purpose")

    told = Breaks()

    async def main() -> None:
        app = make(told)
        manager = await aget_trigger_manager("order:1", app)
        fire = asyncio.ensure_future(manager.afire("paid"))
        while not told.reached.is_set():
            await asyncio.sleep(0)
        fire.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fire
        told.go_on.set()
        await app.astop()

    run(main)
    assert "nobody awaits any more" in caplog.text
    assert "on purpose" in caplog.text


def test_an_error_is_logged_when_its_loop_has_ended(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told()
    app = make(told)
    told.stop_before = True

    def breaks() -> None:
        told.wait_here()
        raise LookupError("on purpose")

    async def main() -> None:
        call = asyncio.ensure_future(app.in_thread(breaks))
        while not told.reached.is_set():
            await asyncio.sleep(0)
        call.cancel()

    run(main)
    told.go_on.set()
    app.stop()
    assert "on purpose" in caplog.text


def test_an_error_in_the_thread_of_a_storage_is_logged_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = Told()

    class Picky(MemoryStore):
        threads = ThreadPoolExecutor(1)

        def in_thread(self, call: Callable[[], T]) -> Any:
            return asyncio.get_running_loop().run_in_executor(self.threads, call)

    def breaks(_: object) -> None:
        told.wait_here()
        raise LookupError("on purpose")

    async def main() -> None:
        app = application(Picky())
        manager = await aget_trigger_manager("order:1", app)
        read = asyncio.ensure_future(manager.aread(breaks))
        while not told.reached.is_set():
            await asyncio.sleep(0)
        read.cancel()
        with pytest.raises(asyncio.CancelledError):
            await read
        told.go_on.set()
        Picky.threads.shutdown()
        await app.astop()

    run(main)
    assert "nobody awaits any more" in caplog.text
    assert "on purpose" in caplog.text


def test_an_error_that_comes_with_the_cancellation_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls = Calls()

    def breaks() -> None:
        raise LookupError("on purpose")

    async def main() -> None:
        call = asyncio.ensure_future(calls.run(breaks))
        await asyncio.sleep(0)  # it is submitted…
        calls.shutdown()  # …made, and settled in the next turn, when this has been told to go on
        asyncio.get_running_loop().call_soon(call.cancel)
        with pytest.raises(asyncio.CancelledError):
            await call

    run(main)
    assert "on purpose" in caplog.text


# -- processes ------------------------------------------------------------------------------------


def test_without_a_thread_to_be_had_the_fire_is_refused(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the system does it at its limit of threads."""
    app = make()
    manager = app.manager("order:1")

    def refuses(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuses)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                await manager.afire("paid")
        assert (await manager.afire("packed")).number == 0
        await app.astop()

    run(main)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_has_threads_of_its_own() -> None:
    code = """
import asyncio, os
from triggers_core import Application
from triggers_core.settings import Settings
app = Application("forks", Settings.isolated(TRIGGER_STORAGE_TYPE="memory", TRIGGER_PLUGINS=[]))
fire = lambda: asyncio.run(app.manager("s").afire("go")).number
assert fire() == 0
child = os.fork()
if not child:
    os._exit(fire())
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
app.stop()
print("well")
"""
    assert printed_by(code) == "well\n"


def test_a_process_ends_when_what_was_begun_has_ended() -> None:
    code = """
import asyncio, threading, time
from triggers_core.application import default_application as app
begun = threading.Event()
def slow():
    begun.set()
    threading.main_thread().join()
    threading.Event().wait(0.2)  # by then it would be gone, if it did not wait
    print("ended")
async def main():
    call = asyncio.ensure_future(app.in_thread(slow))
    while not begun.is_set():
        await asyncio.sleep(0)
    call.cancel()
asyncio.run(main())
"""
    assert printed_by(code) == "ended\n"


def printed_by(code: str) -> str:
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.stderr == ""
    return done.stdout


# -- on a connection of the event loop ------------------------------------------------------------


@pytest.fixture(params=[Told, Quiet])
def told(request: pytest.FixtureRequest) -> Told:
    made: Told = request.param()
    return made


def joined_app(told: Told) -> Application:
    return application(Joinable(), told, TRIGGER_RUNNER="manual", TRIGGER_RUNNER_OPTIONS={})


def test_on_a_joined_connection_hooks_and_dispatch_follow_its_commit(told: Told) -> None:
    app, connection = joined_app(told), Awaited()

    async def main() -> None:
        manager = (await aget_trigger_manager("order:1", app)).using(connection)
        await manager.aupdate_configuration(TASKS)
        for trigger in ("packed", "paid", "broken"):
            await manager.afire(trigger, {"amount": 42})
        assert (await manager.aget_instance("t_ship#0")).kwargs["paid"] == {"amount": 42}
        app.calls.shutdown()
        assert told.after == []
        assert app.runner().messages == []  # type: ignore[attr-defined]
        connection.commit_all()
        app.calls.shutdown()
        assert told.after == ["packed", "paid", "broken"]
        messages = app.runner().messages  # type: ignore[attr-defined]
        assert [each.instance for each in messages] == ["t_ship#0", "t_fails#0"]
        await app.astop()

    run(main)
    assert all(name.startswith("triggers-async-") for name in told.threads)


def test_a_join_waits_for_what_follows_a_commit_of_the_event_loop() -> None:
    told = Quiet()
    app, connection = application(Joinable(), told), Awaited()
    told.stop_after = True

    async def main() -> None:
        outside = await aget_trigger_manager("order:1", app)
        manager = outside.using(connection)
        await manager.aupdate_configuration(
            {"t_x": {"after": ["broken"], "run": "awaitable.fails"}}
        )
        await manager.afire("broken")
        connection.commit_all()
        join = asyncio.ensure_future(manager.ajoin())
        while not told.reached.is_set():
            await asyncio.sleep(0)
        assert not join.done()
        told.go_on.set()
        assert await join
        assert told.after == ["broken"]
        instance = await outside.aget_instance("t_x#0")
        assert instance.status == "failed"
        await app.astop()

    run(main)


class Late(Joinable):
    """A store that hears of commits in a thread of its own, which is late."""

    def joined(self, connection: object) -> Any:
        self.connection = super().joined(connection)
        return self.connection

    def follow_up(self) -> None:
        self.connection.commit_all()


@pytest.mark.parametrize("ends", ["ajoin", "astop"])
def test_what_a_store_has_not_heard_of_yet_is_waited_for_too(ends: str) -> None:
    told, connection = Quiet(), Awaited()
    app = application(Late(), told)

    async def main() -> None:
        outside = await aget_trigger_manager("order:1", app)
        manager = outside.using(connection)
        await manager.aupdate_configuration(TASKS)
        await manager.afire("broken")
        await (outside.ajoin() if ends == "ajoin" else app.astop())
        assert told.after == ["broken"]
        assert (await outside.aget_instance("t_fails#0")).status == "failed"
        await app.astop()

    run(main)


def test_on_a_joined_connection_every_method_is_awaited(told: Told) -> None:
    app, connection = joined_app(told), Awaited()

    async def main() -> None:
        outside = await aget_trigger_manager("order:1", app)
        manager = outside.using(connection)
        await manager.aupdate_configuration(TASKS)
        assert await manager.aupdate_configuration({}, dry_run=True) is not None
        await manager.afire("broken", {"at": 1})
        await manager.afire("broken")
        await manager.afail_instance("t_fails#0", "stuck")
        await manager.afail_instance("t_fails#1", "stuck")
        await manager.aupdate_instance_metadata("t_fails#0", {"ticket": 7})
        await manager.amark_instance_logs_resolved("t_fails#0")
        assert len(await manager.aget_unresolved_instances()) == 2
        assert await manager.aget_instances_with_unresolved_logs() == []
        assert len(await manager.aget_unresolved_tasks()) == 2
        assert "stuck" in str(await manager.aexplain())
        assert (await manager.areplay_failed_instance("t_fails#0")).parent == "t_fails#0"
        assert (await manager.askip_failed_instance("t_fails#1")).status == "skipped"
        with pytest.raises(MustAwait, match="not joined"):
            await manager.arecover()
        await manager.aclose_session()
        kept = await manager.aread(lambda storage: storage["t_fails#0"])
        with pytest.raises(MustAwait, match="aget_instance"):
            _ = kept.kwargs
        with pytest.raises(WrongState, match="the same each time"):
            await manager.aread(
                lambda storage: (
                    (storage.header, storage.events, 1)
                    if len(connection.asked) % 2
                    else (storage.events, storage.header, 2)
                )
            )
        assert await manager.adelete_session()
        await app.astop()

    run(main)


def test_on_a_joined_connection_methods_that_block_say_what_to_await() -> None:
    manager = joined_app(Told()).manager("order:1").using(Awaited())
    for call, named in [
        (lambda: manager.fire("paid"), "await manager.afire"),
        (lambda: manager.update_configuration({}), "await manager.aupdate_configuration"),
        (lambda: manager.replay_failed_instance("t#0"), "await manager.areplay_failed_instance"),
        (lambda: manager.skip_failed_instance("t#0"), "await manager.askip_failed_instance"),
        (lambda: manager.fail_instance("t#0", "stuck"), "await manager.afail_instance"),
        (lambda: manager.update_instance_metadata("t#0", {}), "aupdate_instance_metadata"),
        (lambda: manager.mark_instance_logs_resolved("t#0"), "amark_instance_logs_resolved"),
        (lambda: manager.close_session(), "await manager.aclose_session"),
        (lambda: manager.delete_session(), "await manager.adelete_session"),
        (lambda: manager.get_unresolved_tasks(), "aread"),
        (lambda: manager.explain(), "aexplain"),
        (lambda: manager.storage["t#0"], "aget_instance"),
        (lambda: manager.storage.events, "aread"),
        (lambda: manager.storage.store.transaction(), "afire"),
    ]:
        with pytest.raises(MustAwait, match=named):
            call()


def test_cancelled_on_a_joined_connection_after_every_step(told: Told) -> None:
    outcomes = set()
    for steps in range(100):
        app, connection = joined_app(told), Awaited()
        told.after.clear()

        async def main(steps: int = steps, app: Any = app, connection: Any = connection) -> str:
            manager = (await aget_trigger_manager("order:1", app)).using(connection)
            await manager.aupdate_configuration(TASKS)
            fire = asyncio.ensure_future(manager.afire("paid"))
            for _ in range(steps):
                await asyncio.sleep(0)
            fire.cancel()
            ended = (await asyncio.gather(fire, return_exceptions=True))[0]
            connection.commit_all()
            await app.astop()
            recorded = [event.trigger for event in connection.inner.events("order:1")]
            assert told.after == recorded
            if isinstance(ended, asyncio.CancelledError):
                return "stored" if recorded else "not stored"
            assert recorded == ["paid"]
            return "ended"

        outcome = run(main)
        outcomes.add(outcome)
        if outcome == "ended":
            break
    assert {"not stored", "ended"} <= outcomes
