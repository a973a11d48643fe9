"""`RunnerContract`: every promise that a runner makes, as tests to derive from."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import ClassVar

import pytest

from triggers_core.application import Application
from triggers_core.engine.commands import Configure
from triggers_core.engine.records import Status
from triggers_core.manager import TriggerManager
from triggers_core.running.messages import Message
from triggers_core.tasks import TriggerTask
from triggers_core.testing import bodies
from triggers_core.testing.bodies import Gate
from triggers_core.testing.invariants import check_store
from triggers_core.testing.manager_helpers import (
    configure,
    fire_silently,
    message_about,
    ran,
    results,
    statuses,
    triggers,
)
from triggers_core.testing.suite import Suite

_PATIENCE = 120.0  # seconds until a test that hangs fails; nothing waits that long


def _eventually(true: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(int(_PATIENCE / 0.02)):
        if true():
            return
        pause.wait(0.02)
    pytest.fail("nobody swept: what is overdue is not looked after in this process")


class RunnerContract(Suite):
    """What a runner plugin runs against itself. Name the subclass ``Test…``.

    Override the fixture `app`: an `Application` with an empty store whose default runner is the one
    under test, closed after the test. Workers in other processes import
    `triggers_core.testing.bodies`. Override `settle` too if `join_all` cannot wait for them.

    Example::

        class TestThreading(RunnerContract):
            bound = 2
            lacks = {"durable": "sessions are in memory"}

            @pytest.fixture
            def app(self):
                settings = Settings.isolated(
                    TRIGGER_STORAGE_TYPE="memory", TRIGGER_RUNNER_OPTIONS={"max_workers": 2}
                )
                app = Application("test", settings)
                yield app
                app.close()
    """

    subject: ClassVar[str] = "runner"
    capabilities: ClassVar[Mapping[str, str]] = {
        "here": "bodies run in this process: TaskRunner.executes_here",
        "bound": "there is a bound to how many bodies run at the same time",
        "durable": "the store of the fixture app outlives app.stop()",
    }
    to_override: ClassVar[frozenset[str]] = Suite.to_override | {"app", "settle", "bound"}

    bound: ClassVar[int] = 0
    """How many bodies at most the runner, as `app` sets it up, runs at the same time; at least 2.
    For one that leaves this to others, `lacks` says so."""

    @pytest.fixture
    def app(self) -> Application:
        """Override: an application whose default runner is the one under test."""
        pytest.fail(
            f"override the fixture app in {type(self).__name__}: an Application with an empty store"
            " whose default runner is the one under test; close it after the test"
        )

    @pytest.fixture
    def settle(self, app: Application) -> Callable[[], None]:
        """Waits until nothing is under way. Override if `join_all` cannot do that."""

        def settle() -> None:
            assert app.runner().join_all(_PATIENCE), "join_all did not come to an end"

        return settle

    @pytest.fixture
    def manager(self, app: Application) -> TriggerManager:
        """A session."""
        return app.manager("order:1")

    @pytest.fixture
    def here(self, promise: str) -> None:
        """Skips the tests that look into the bodies' process."""
        if "here" in self.lacks:
            pytest.skip(f"not offered: here: {self.lacks['here']}")

    # -- what not every runner offers -------------------------------------------------------------

    def test_bodies_run_here_or_the_suite_says_why_not(self, app: Application) -> None:
        runner = app.runner()
        if "here" not in self.lacks:
            assert runner.executes_here, self.undeclared(
                "here", f"{type(runner).__name__}.executes_here is False"
            )
        else:
            assert not runner.executes_here, (
                f"{type(self).__name__} says that it lacks 'here', and"
                f" {type(runner).__name__}.executes_here is True"
            )

    def test_there_is_a_bound_or_the_suite_says_why_not(self) -> None:
        if "bound" not in self.lacks and "here" not in self.lacks:
            assert self.bound >= 2, self.undeclared("bound", "set bound to it, at least 2")
        else:
            assert not self.bound, f"{type(self).__name__} has a bound, and lacks one"

    # -- attempts ---------------------------------------------------------------------------------

    def test_a_fire_runs_the_task_and_what_follows(
        self, manager: TriggerManager, settle: Callable[[], None]
    ) -> None:
        params = {"go": {"n": 0, "m": 2}}
        configure(manager, t_a=(bodies.Echo, {"after": ["go"], "withParams": params}))
        manager.fire("go", {"n": 1})
        settle()
        instance = manager.storage["t_a#0"]
        assert instance.status == "finished"
        assert instance.result == {
            "kwargs": {"go": {"n": 1, "m": 2}},
            "attempt": 1,
            "retries": 0,
            "key": instance.idempotency_key,
            "instance": "t_a#0",
        }
        assert ran(manager) == {"t_a#0": 1}

    def test_cascades_reach_their_end(
        self, manager: TriggerManager, settle: Callable[[], None]
    ) -> None:
        tasks = {f"t_{n}": (bodies.Echo, {"after": [f"t_{n - 1}"]}) for n in range(1, 10)}
        configure(manager, t_0=(bodies.Echo, {"after": ["go"]}), **tasks)
        manager.fire("go")
        settle()
        assert statuses(manager) == {f"t_{n}#0": "finished" for n in range(10)}
        assert set(ran(manager).values()) == {1}

    def test_everything_that_is_dispatched_runs_once(
        self, app: Application, settle: Callable[[], None]
    ) -> None:
        managers = [app.manager(f"order:{number}") for number in range(3)]
        for manager in managers:
            configure(
                manager,
                t_page=(bodies.Echo, {"andEvery": "page"}),
                t_all=(bodies.Echo, {"andEvery": "t_page"}),
            )
        for number in range(10):
            for manager in managers:
                manager.fire("page", {"number": number})
        settle()
        for manager in managers:
            expected = {f"{task}#{n}": 1 for task in ("t_page", "t_all") for n in range(10)}
            assert ran(manager) == expected
        check_store(app.store)

    def test_an_async_body(self, manager: TriggerManager, settle: Callable[[], None]) -> None:
        configure(manager, t_a=(bodies.Async, {"andEvery": "go"}))
        for _ in range(3):
            manager.fire("go")
        settle()
        assert results(manager) == [{"loop": True}] * 3

    def test_a_body_that_fires(self, manager: TriggerManager, settle: Callable[[], None]) -> None:
        configure(
            manager,
            t_a=(bodies.Says, {"after": ["go"]}),
            t_said=(bodies.Echo, {"andEvery": "said"}),
        )
        manager.fire("go")
        settle()
        assert ran(manager) == {"t_a#0": 1, "t_said#0": 1, "t_said#1": 1, "t_said#2": 1}

    def test_a_body_that_skips_itself(
        self, manager: TriggerManager, settle: Callable[[], None]
    ) -> None:
        configure(
            manager,
            t_a=(bodies.Skips, {"after": ["go"]}),
            t_b=(bodies.Echo, {"after": ["t_a"]}),
        )
        manager.fire("go")
        settle()
        assert statuses(manager) == {"t_a#0": "skipped"}
        assert manager.storage["t_a#0"].metadata == {"reason": "nothing to do"}

    def test_typed_kwargs(self, manager: TriggerManager, settle: Callable[[], None]) -> None:
        configure(manager, t_a=(bodies.Typed, {"andEvery": "go"}))
        manager.fire("go", {"n": 1})
        manager.fire("go", {"n": "one"})
        settle()
        assert statuses(manager) == {"t_a#0": "finished", "t_a#1": "failed"}
        error = manager.storage["t_a#1"].metadata["error"]
        assert "trigger_kwargs" in error["message"]
        assert ran(manager) == {"t_a#0": 1}, "the body of the misfit must not begin"

    # -- messages ---------------------------------------------------------------------------------

    def test_duplicates_run_once(
        self, app: Application, manager: TriggerManager, settle: Callable[[], None]
    ) -> None:
        configure(manager, t_a=(bodies.Echo, {"andEvery": "go"}))
        for number in range(5):
            message = fire_silently(app, manager, f"t_a#{number}")
            for _ in range(4):
                app.runner().dispatch(manager, message, manager.storage.tasks["t_a"])
        settle()
        assert ran(manager) == {f"t_a#{number}": 1 for number in range(5)}
        for number in range(5):
            app.runner().dispatch(manager, message_about(manager, f"t_a#{number}"), None)
        settle()
        assert ran(manager) == {f"t_a#{number}": 1 for number in range(5)}

    def test_stale_messages_are_dropped(
        self, app: Application, manager: TriggerManager, settle: Callable[[], None]
    ) -> None:
        configure(manager, t_a=(bodies.Echo, {"after": ["go"]}))
        old = fire_silently(app, manager, "t_a#0")
        manager.delete_session()
        app.runner().dispatch(manager, old, None)
        settle()
        configure(manager, t_a=(bodies.Echo, {"after": ["go"]}))
        new = fire_silently(app, manager, "t_a#0")
        for stale in (
            old,
            Message(app.name, new.uid, new.generation, "t_a#0", 2),
            Message(app.name, new.uid, new.generation, "t_a#7", 1),
            Message(app.name, "never", new.generation, "t_a#0", 1),
        ):
            app.runner().dispatch(app.manager(stale.uid), stale, None)
        settle()
        assert statuses(manager) == {"t_a#0": "scheduled"}
        app.runner().dispatch(manager, new, None)
        settle()
        assert ran(manager) == {"t_a#0": 1}

    def test_lost_messages_are_made_up_for(
        self, app: Application, manager: TriggerManager, settle: Callable[[], None]
    ) -> None:
        configure(manager, t_a=(bodies.Echo, {"after": ["go"]}))
        message = fire_silently(app, manager, "t_a#0")
        settle()
        assert ran(manager) == {}
        manager.dispatch(
            message.generation, [manager.storage["t_a#0"].record], manager.storage.tasks
        )
        settle()
        assert ran(manager) == {"t_a#0": 1}

    # -- failures ---------------------------------------------------------------------------------

    def test_a_body_that_fails(self, manager: TriggerManager, settle: Callable[[], None]) -> None:
        configure(
            manager,
            t_a=(bodies.SaysAndFails, {"after": ["go"]}),
            t_b=(bodies.Echo, {"after": ["t_a"]}),
            t_c=(bodies.Echo, {"andEvery": "go"}),
        )
        manager.fire("go")
        manager.fire("go")
        settle()
        assert statuses(manager) == {"t_a#0": "failed", "t_c#0": "finished", "t_c#1": "finished"}
        assert "said" not in triggers(manager), "what a failed body fired is dropped"
        error = manager.storage["t_a#0"].metadata["error"]
        assert (error["type"], error["message"]) == ("ValueError", "broken")
        assert error["context"] == {"subject": 42}
        assert "in act" in error["traceback"]

    def test_what_failed_is_replayed(
        self, manager: TriggerManager, settle: Callable[[], None]
    ) -> None:
        configure(manager, t_a=(bodies.SaysAndFails, {"after": ["go"]}))
        manager.fire("go", {"n": 1})
        settle()
        configure(manager, t_a=(bodies.Echo, {"after": ["go"]}))
        manager.replay_failed_instance("t_a#0")
        settle()
        assert statuses(manager) == {"t_a#0": "replayed", "t_a#1": "finished"}
        result = manager.storage["t_a#1"].result
        assert result is not None
        assert result["kwargs"] == {"go": {"n": 1}}
        assert result["key"] == manager.storage["t_a#0"].idempotency_key

    def test_a_body_that_returns_no_mapping(
        self, manager: TriggerManager, settle: Callable[[], None]
    ) -> None:
        configure(manager, t_a=(bodies.ReturnsText, {"after": ["go"]}))
        manager.fire("go")
        settle()
        assert "InvalidResult" in manager.storage["t_a#0"].metadata["error"]["type"]

    def test_a_task_that_the_worker_does_not_know(
        self, app: Application, manager: TriggerManager, settle: Callable[[], None]
    ) -> None:
        """It is left to a process that knows the task, and fails with a clear error in the end."""
        parsed = app.parse({"t_a": {"after": ["go"], "run": "nowhere.Unknown"}})
        manager.commit(Configure(configuration=parsed))
        manager.fire("go")
        settle()
        instance = manager.storage["t_a#0"]
        if instance.status == "scheduled":
            assert "nowhere.Unknown" in instance.metadata["passed_on"]["why"]
            assert instance.due_at is not None
        else:
            assert "TaskNotFound" in instance.metadata["error"]["type"]
            assert "nowhere.Unknown" in instance.metadata["error"]["message"]

    @pytest.mark.parametrize(
        "body",
        [bodies.Exits, bodies.Cancelled, bodies.Panics, bodies.AsksAmiss],
    )
    def test_a_body_that_breaks_out_fails_alone(
        self, manager: TriggerManager, settle: Callable[[], None], body: type[TriggerTask]
    ) -> None:
        """What is no `Exception` is no reason to lose a worker: whatever it is, the body failed."""
        amount = max(self.bound, 1) + 1  # more than it has workers
        configure(
            manager,
            t_a=(body, {"andEvery": "go"}),
            t_b=(bodies.Echo, {"andEvery": "later"}),
        )
        for _ in range(amount):
            manager.fire("go")
        settle()
        manager.fire("later")
        settle()
        failed = {f"t_a#{number}": "failed" for number in range(amount)}
        assert statuses(manager) == {**failed, "t_b#0": "finished"}

    def test_a_soft_time_limit_is_raised_in_the_body(
        self, manager: TriggerManager, settle: Callable[[], None]
    ) -> None:
        configure(manager, t_a=(bodies.SoftlyLimited, {"after": ["go"]}))
        manager.fire("go")
        settle()
        assert manager.storage["t_a#0"].result == {"stopped": "in time"}

    @pytest.mark.usefixtures("here")
    def test_a_body_that_hangs_fails_when_its_time_is_over(
        self, manager: TriggerManager, settle: Callable[[], None]
    ) -> None:
        """Whatever it still returns is dropped."""
        configure(
            manager,
            t_a=(bodies.Limited, {"after": ["go"]}),
            t_b=(bodies.Echo, {"after": ["t_a"]}),
        )
        gate = Gate("limited")
        manager.fire("go", {"gate": "limited"})
        gate.wait_for(1)
        until = time.monotonic() + _PATIENCE
        while manager.storage["t_a#0"].status != "failed" and time.monotonic() < until:
            time.sleep(0.01)
        gate.open()
        settle()
        assert statuses(manager) == {"t_a#0": "failed"}
        assert "TimeLimitExceeded" in manager.storage["t_a#0"].metadata["error"]["type"]
        assert triggers(manager).count("t_a") == 0

    # -- retries ----------------------------------------------------------------------------------

    def test_retries_at_once(self, manager: TriggerManager, settle: Callable[[], None]) -> None:
        configure(manager, t_a=(bodies.Flaky, {"after": ["go"]}))
        manager.fire("go")
        settle()
        expected = {"t_a#0": "replayed", "t_a#1": "replayed", "t_a#2": "finished"}
        assert statuses(manager) == expected
        assert manager.storage["t_a#2"].result == {"retries": 2}
        assert {manager.storage[name].idempotency_key for name in expected} == {
            manager.storage["t_a#0"].idempotency_key
        }

    def test_no_more_retries_than_allowed(
        self, manager: TriggerManager, settle: Callable[[], None]
    ) -> None:
        configure(manager, t_a=(bodies.NeverWell, {"after": ["go"]}))
        manager.fire("go")
        settle()
        assert list(statuses(manager).values()) == ["replayed", "replayed", "failed"]
        error = manager.storage["t_a#2"].metadata["error"]
        assert "MaxRetriesExceeded" in error["type"]
        assert "not yet" in error["message"]

    def test_a_cooldown_is_not_waited_for(
        self, manager: TriggerManager, settle: Callable[[], None]
    ) -> None:
        configure(manager, t_a=(bodies.Slow, {"after": ["go"]}))
        manager.fire("go")
        settle()
        assert statuses(manager) == {"t_a#0": "replayed", "t_a#1": "unstarted"}

    # -- the sweep --------------------------------------------------------------------------------

    @pytest.mark.usefixtures("here")
    def test_somebody_sweeps_from_the_start_on(self, app: Application) -> None:
        """What a killed process left behind is picked up although nobody fires anything.

        A runner of bodies in this process sweeps itself; `TRIGGER_RUNNER_OPTIONS` of the fixture
        must not turn that off.
        """
        manager = app.manager("order:1")
        configure(manager, t_a=(bodies.Echo, {"after": ["go"]}))
        fire_silently(app, manager, "t_a#0")
        app.stop()
        with app.store as store:
            if "durable" in self.lacks:
                pytest.skip(f"not offered: durable: {self.lacks['durable']}")
            assert store.instances("order:1"), self.undeclared(
                "durable", "sessions of this application are gone when it has stopped"
            )
        app.configure(TRIGGER_TIMING={"sweep": 0.05})
        ahead = app.store.now() + 3_600
        app.store.clock = lambda: ahead
        app.start()
        app.start()  # again is no error
        _eventually(lambda: app.store.instances("order:1")[0].status is Status.FINISHED)
        app.stop()
        app.stop()

    def test_what_recover_dispatches_runs(
        self, app: Application, manager: TriggerManager, settle: Callable[[], None]
    ) -> None:
        """Who sweeps calls `Application.recover`, in whichever process: then it has to run."""
        configure(manager, t_a=(bodies.Echo, {"after": ["go"]}))
        fire_silently(app, manager, "t_a#0")
        ahead = app.store.now() + 3_600
        app.store.clock = lambda: ahead
        app.recover()
        settle()
        assert ran(manager) == {"t_a#0": 1}

    @pytest.mark.usefixtures("here")
    def test_making_a_manager_and_reading_start_no_thread(self, app: Application) -> None:
        before = set(threading.enumerate())
        manager = app.manager("order:1")
        configure(manager, t_a=(bodies.Echo, {"after": ["go"]}))
        manager.fire("other")
        assert len(manager.storage.events) == 1
        assert "waits for go" in str(manager.explain("t_a"))
        assert set(threading.enumerate()) <= before  # what others have left behind may end

    @pytest.mark.usefixtures("here")
    def test_somebody_sweeps_once_something_was_dispatched(self, app: Application) -> None:
        app.configure(TRIGGER_TIMING={"sweep": 0.05})
        manager = app.manager("order:1")
        configure(
            manager,
            t_a=(bodies.Echo, {"after": ["go"]}),
            t_b=(bodies.Echo, {"after": ["first"]}),
        )
        manager.fire("first")
        fire_silently(app, manager, "t_a#0")
        ahead = app.store.now() + 3_600
        app.store.clock = lambda: ahead
        app.runner().wake()
        _eventually(lambda: set(statuses(manager).values()) == {"finished"})

    # -- the pool, joining, the end ---------------------------------------------------------------

    @pytest.mark.usefixtures("here")
    def test_the_pool_is_bounded(self, manager: TriggerManager, settle: Callable[[], None]) -> None:
        if "bound" in self.lacks:
            pytest.skip(f"not offered: bound: {self.lacks['bound']}")
        configure(manager, t_a=(bodies.Gated, {"andEvery": "go"}))
        gate = Gate("bounded")
        for _ in range(3 * self.bound):
            manager.fire("go", {"gate": "bounded"})
        gate.wait_for(self.bound)
        gate.open()
        settle()
        assert gate.most == self.bound
        assert set(statuses(manager).values()) == {"finished"}
        assert len(statuses(manager)) == 3 * self.bound

    @pytest.mark.usefixtures("here")
    def test_firing_does_not_wait_and_joining_does(
        self, app: Application, manager: TriggerManager
    ) -> None:
        configure(
            manager,
            t_a=(bodies.Gated, {"after": ["go"]}),
            t_b=(bodies.Echo, {"after": ["t_a"]}),
        )
        gate = Gate("joining")
        manager.fire("go", {"gate": "joining"})
        gate.wait_for(1)
        assert statuses(manager) == {"t_a#0": "running"}
        assert not app.runner().join_all(timeout=0)
        gate.open()
        assert app.runner().join_all(_PATIENCE)
        assert statuses(manager) == {"t_a#0": "finished", "t_b#0": "finished"}

    @pytest.mark.usefixtures("here")
    @pytest.mark.parametrize("what", ["join", "close", "reset"])
    def test_a_body_that_waits_for_its_own_runner_fails(
        self, app: Application, manager: TriggerManager, settle: Callable[[], None], what: str
    ) -> None:
        """Or it would wait for itself, for ever."""
        configure(manager, t_a=(bodies.WaitsForItself, {"after": ["go"]}))
        manager.fire("go", {"what": what})
        settle()
        assert "WrongState" in manager.storage["t_a#0"].metadata["error"]["type"]
        configure(manager, t_b=(bodies.Echo, {"after": ["later"]}))
        manager.fire("later")
        settle()
        assert statuses(manager)["t_b#0"] == "finished"

    @pytest.mark.usefixtures("here")
    def test_the_application_is_closed_while_bodies_with_cascades_run(
        self, app: Application, manager: TriggerManager
    ) -> None:
        configure(
            manager,
            t_a=(bodies.Gated, {"after": ["go"]}),
            t_b=(bodies.Echo, {"after": ["t_a"]}),
            t_c=(bodies.Echo, {"after": ["t_b"]}),
        )
        gate = Gate("closing")
        manager.fire("go", {"gate": "closing"})
        gate.wait_for(1)
        closing = threading.Thread(target=app.close, daemon=True)
        closing.start()
        gate.open()
        closing.join(_PATIENCE)
        assert not closing.is_alive()
        assert list(statuses(manager).values()) == ["finished"] * 3

    @pytest.mark.usefixtures("here")
    def test_joining_waits_for_nothing_when_there_is_nothing(self, app: Application) -> None:
        assert app.runner().join_all(timeout=0)
        assert app.runner().join_all()

    @pytest.mark.usefixtures("here")
    def test_a_clean_shutdown(self, app: Application) -> None:
        before = set(threading.enumerate())
        manager = app.manager("order:1")
        tasks = {f"t_{n}": (bodies.Echo, {"andEvery": f"t_{n - 1}"}) for n in range(1, 5)}
        configure(manager, t_0=(bodies.Echo, {"andEvery": "go"}), **tasks)
        for _ in range(5):
            manager.fire("go")
        runner = app.runner()
        runner.shutdown()
        assert set(statuses(manager).values()) == {"finished"}
        assert len(statuses(manager)) == 25, "what had begun is finished, cascades included"
        # The one that keeps the interpreter alive until then ends with it.
        left = {each.name for each in set(threading.enumerate()) - before} - {"triggers-exit"}
        assert left == set()
        runner.shutdown()

    @pytest.mark.usefixtures("here")
    def test_after_a_shutdown_nothing_is_lost(self, app: Application) -> None:
        manager = app.manager("order:1")
        configure(manager, t_a=(bodies.Echo, {"after": ["go"]}))
        app.runner().shutdown()
        assert manager.fire("go").scheduled == ("t_a#0",)
        assert statuses(manager) == {"t_a#0": "scheduled"}
        due = app.store.next_due()
        assert due is not None
        assert due > 0, "the sweep of the next start will find it"
