"""What the fixture `triggers` gives: an application of the test's own, its clock, its sessions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from itertools import groupby
from typing import Any, Final, Self

from triggers_core.application import Application, default_application
from triggers_core.engine.configuration import Configuration, Task
from triggers_core.engine.durations import read_duration
from triggers_core.engine.records import to_micros
from triggers_core.exceptions import InvalidArgument, InvalidConfiguration, WrongState
from triggers_core.runners.base import TaskRunner
from triggers_core.runners.manual import ManualRunner
from triggers_core.running.sweep import recover_session
from triggers_core.settings import Settings
from triggers_core.storages.base import all_sessions
from triggers_core.testing.clock import VirtualClock
from triggers_core.testing.faults.store import Crash, CrashPoints
from triggers_core.testing.kit.any_order import AnyOrder, prove
from triggers_core.testing.kit.crashes import crashing
from triggers_core.testing.kit.exchange import exchanged
from triggers_core.testing.kit.orders import Duplicates, read_events
from triggers_core.testing.kit.places import Place, open_place
from triggers_core.testing.kit.recorded import Log, Replayed, replay
from triggers_core.testing.kit.runner import KitRunner
from triggers_core.testing.kit.session import SessionUnderTest
from triggers_core.testing.kit.stand_ins import Behaviour, StandIns

_STUCK: Final = 100  # turns of the sweep in a row at one moment, none of which changes anything
_PAGE: Final = 1_000  # instances that fall due at one moment, to be worked off at a time
_TOLD: Final = 5  # sessions that a report explains


class Triggers:
    """An isolated application with a virtual clock, for one test.

    Storage and runner are its own; no thread is started, and nobody waits for the clock.

    :param place: where its sessions live; see `triggers_core.testing.kit.places`.

    Example::

        with Triggers() as triggers:
            s = triggers.session(CONFIG)
            s.fire("paid")
    """

    def __init__(self, place: str = "memory") -> None:
        self.place_name = place
        self.clock: VirtualClock = VirtualClock()
        self.sessions: list[SessionUnderTest] = []
        """Those that the test has asked for, in order."""
        self.paused: bool = False
        self._apps: list[Application] = []
        self._dying = False
        """Whether a process that dies takes this test's step with it."""
        self._stack = ExitStack()
        self._numbers = 0

    def __enter__(self) -> Self:
        self.place: Place = self._stack.enter_context(open_place(self.place_name, self.clock))
        try:
            own = Application("test", Settings.isolated(TRIGGER_PLUGINS=[]))
            self._exchange(own, {}, stand_ins=True)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def __repr__(self) -> str:
        return f"<Triggers under test on {self.place_name}>"

    # -- the application --------------------------------------------------------------------------

    def use(
        self, app: Application | None = None, *, stand_ins: bool = False, **settings: Any
    ) -> Application:
        """Test an application of your own: its tasks, plugins and settings; not its storage.

        Until the test ends, whoever uses the application gets the test's storage, runner and clock:
        web code that calls `get_trigger_manager`, too. Afterwards all is as it was.

        :param app: the default application, when not given.
        :param stand_ins: give `run` names that no code defines a body that returns ``{}``; else
            they are refused, as in production.
        :param settings: settings that win over its own, such as ``TRIGGER_PLUGINS=["finalize"]``.
        :returns: the application.

        Example::

            triggers.use()  # the default one
            client.post("/paid/42")
            assert triggers.session(uid="order:42").ran("t_ship") == 1
        """
        app = app or default_application
        self._exchange(app, settings, stand_ins)
        return app

    def configure(self, **settings: Any) -> None:
        """Set settings of the application for this test; see `Application.configure`.

        The fixture's own application has no plugins before it is told of some.

        Example::

            triggers.configure(TRIGGER_PLUGINS=["finalize", "retry"])
        """
        self.app.configure(**settings)

    def _exchange(self, app: Application, settings: Mapping[str, Any], stand_ins: bool) -> None:
        self.bodies: StandIns = StandIns(app.resolve_task, stand_ins)
        place = self.place
        self._stack.enter_context(
            exchanged(app, place.store, place.runner, self.bodies.resolve, settings)
        )
        self.app: Application = app
        self._apps.append(app)

    def say(self, uid: str, task: str, behaviour: Behaviour, times: int | None) -> None:
        """Say what a task's body does; `SessionUnderTest.returns` and others do so."""
        if not self.place.bodies_here:
            raise WrongState(
                f"{self.place_name}: bodies run in another process, where a test cannot say what"
                " they do"
            )
        self.bodies.say(uid, task, behaviour, times)

    def default_tasks(self) -> Mapping[str, Task]:
        """The tasks of a session that has none of its own (`TRIGGER_CONFIGURATION`)."""
        default = self.app.rules.default_configuration
        return {} if default is None else default.tasks

    # -- sessions ---------------------------------------------------------------------------------

    def session(
        self, configuration: Mapping[str, Any] | Configuration | None = None, uid: str | None = None
    ) -> SessionUnderTest:
        """A session to fire into.

        :param configuration: its tasks; those of the application when not given.
        :param uid: its uid; a new one when not given.
        """
        if uid is None:
            self._numbers += 1
            uid = f"session {self._numbers}"
        session = SessionUnderTest(self, uid)
        if configuration is not None:
            session.configure(configuration)
        self.sessions.append(session)
        return session

    # -- work and time ----------------------------------------------------------------------------

    def work(self) -> None:
        """Do what has been dispatched, cascades included."""
        if self.paused:
            return
        self.place.store.follow_up()
        for app in self._apps:
            for runner in app._runners.all():
                self._join(runner)
        self.place.settle()

    def _join(self, runner: TaskRunner) -> None:
        while True:
            try:
                runner.join_all()
                return
            except Crash:  # a worker has died; the others go on
                if self._dying:
                    raise

    @contextmanager
    def crash(self, at: int | None = None) -> Iterator[CrashPoints]:
        """Let the process die within the block, and another one go on after it.

        It dies at the `at`-th of its crash points: before and after each operation on the storage
        and each dispatch. What it was about to do is not done; what it had dispatched is lost. The
        block is left there.

        :param at: from 1; None: it lives, and the points are counted.
        :returns: the points, as the value of the block: `reached` names them, `dead` says whether
            it has died.

        Example::

            with triggers.crash(at=3):
                s.fire("paid", event_id="evt_1")
            s.fire("paid", event_id="evt_1")  # the sender tries again
            s.advance("2 minutes")  # the lease of the dead one runs out
        """
        if not (isinstance(self.place.runner, type) and issubclass(self.place.runner, KitRunner)):
            raise WrongState(
                f"{self.place_name}: bodies run elsewhere, and no crash can be placed there"
            )
        points = CrashPoints(at)
        before, self._dying = self._dying, True
        try:
            with crashing(self.app, self.place.store, self.bodies.resolve, points):
                yield points
        finally:
            self._dying = before

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Leave within the block what is dispatched; at its end it is done."""
        before, self.paused = self.paused, True
        try:
            yield
        finally:
            self.paused = before
        self.work()

    def advance(self, duration: str | float | timedelta) -> None:
        """Let time pass, from one moment at which something falls due to the next.

        Holds end, deadlines pass, retries have cooled down, leases of dead workers run out; the
        work that each of them leads to is done before the next.

        :param duration: ``"3 days"``, a number of seconds, or a timedelta.
        :raises InvalidArgument: it is none.
        """
        try:
            micros, _ = read_duration("advance", duration)
        except InvalidConfiguration as error:
            raise InvalidArgument(str(error)) from None
        self.advance_to(to_micros(self.clock.now + micros / 1_000_000))

    def advance_to(self, end: float) -> None:
        """Let time pass until a moment, in seconds since 1970; see `advance`."""
        self.work()
        idle = 0
        while True:
            left = self.place.store.next_due()
            if left is None or self.clock.now + left > end:
                break
            if left > 0:
                # Moments are whole microseconds, and no sum of floats may fall short of one.
                moment = max(to_micros(self.clock.now + left), self.clock.now + 1e-6)
                self.clock.now, idle = min(moment, end), 0
            moved, before = self._sweep(), self.clock.now
            self.work()
            idle = 0 if moved or before != self.clock.now else idle + 1
            if idle > _STUCK:
                raise WrongState(
                    f"something is due at {before:,.6f} and cannot be worked off:"
                    f" {self.place.store.due(3)}"
                )
        self.clock.now = max(self.clock.now, end)

    def _sweep(self) -> bool:
        """Work off what is due now; whether anything was.

        As the sweep of production, but that what goes wrong is raised.
        """
        moved = False
        due = sorted(self.place.store.due(_PAGE), key=lambda each: each.uid)
        for uid, instances in groupby(due, key=lambda each: each.uid):
            names = tuple(each.instance for each in instances)
            recovered = recover_session(self.app.manager(uid), names)
            moved = moved or bool(recovered.dispatch or recovered.failed or recovered.due)
        return moved

    # -- proofs -----------------------------------------------------------------------------------

    def assert_any_order(
        self,
        configuration: Mapping[str, Any] | Configuration | None,
        events: Sequence[object],
        runs: Mapping[str, int] | None = None,
        *,
        duplicates: bool | Duplicates = False,
        delays: Sequence[str | float | timedelta] = (),
        crash: bool = False,
        wait: str | float | timedelta | None = None,
        prepare: Callable[[SessionUnderTest], None] | None = None,
        check: Callable[[SessionUnderTest], None] | None = None,
        may_fail: Collection[str] = (),
        seed: int = 0,
        sample: int = 1_000,
    ) -> int:
        """Prove that a workflow does the same whatever order its events come in.

        Each order is gone through in a session of its own, with nothing left of the others. Where
        there are at most 5,040 of them, each is; else a sample is. Without `runs` and `check`,
        every task has to come to what it comes to in the order as written.

        :param configuration: its tasks; those of the application when None.
        :param events: triggers, or (trigger, kwargs).
        :param runs: task → how often it has to have run at the end.
        :param duplicates: events come twice: ``"redelivered"`` with the event id that they had, as
            webhooks do, ``"repeated"`` without any, so that they count as two; True: both.
        :param delays: durations that pass between events, each or none.
        :param crash: the process dies at any operation, the sender of the event tries again, and
            another process takes over after two minutes.
        :param wait: how long to wait at the end.
        :param prepare: called with each session before the first event, to say what bodies do.
        :param check: called with each session at the end, to assert what else has to hold.
        :param may_fail: tasks that may fail; any other failure is one of the proof, too.
        :param seed: of the sample.
        :param sample: how many orders it takes.
        :returns: how many orders were tried.
        :raises AssertionError: with the shortest order found in which something else happens, as
            code to paste, and what `explain` says there.

        Example::

            triggers.assert_any_order(CONFIG, ["paid", "packed"], {"t_ship": 1}, duplicates=True)
        """
        __tracebackhide__ = True
        proof = AnyOrder(
            configuration=configuration,
            events=read_events(events),
            runs=runs,
            wait=wait,
            prepare=prepare,
            check=check,
            may_fail=may_fail,
        )
        with type(self)(self.place_name) as bench:
            bench._exchange(self.app, {}, self.bodies.unknown)
            return prove(
                bench,
                proof,
                duplicates=duplicates,
                delays=delays,
                crash=crash,
                seed=seed,
                sample=sample,
            )

    def replay_log(
        self, log: Log, configuration: Mapping[str, Any] | Configuration | None = None
    ) -> Replayed:
        """Fire recorded events again, and run the bodies that they lead to.

        Time passes between them where they have a ``ts``.

        :param log: a file with one event a line, as JSON (``.gz`` is unpacked), or events:
            `session`, `trigger` and optionally `kwargs`, `id` and `ts`, as for `backtest`.
        :param configuration: what each session gets; the application's own tasks when not given.
        :returns: the sessions, by uid.
        :raises InvalidEvent: names the event and what is wrong with it.

        Example::

            log = triggers.replay_log("events.jsonl", CONFIG)
            assert log["order:42"].ran("t_ship") == 1
        """
        return replay(self, log, configuration)

    def erase(self) -> None:
        """Erase all sessions, and what was said of their tasks."""
        for each in all_sessions(self.place.store):
            self.place.store.delete(each.uid)
        for app in self._apps:
            for runner in app._runners.all():
                if isinstance(runner, ManualRunner):
                    runner.clear()
        self.bodies.forget()
        self.sessions.clear()

    # -- reports ----------------------------------------------------------------------------------

    def why(self, session: SessionUnderTest, task: str | None) -> str:
        """What `explain` says, for the report of a failed assertion."""
        try:
            text = str(session.manager.explain(task))
        except Exception as error:
            return f"(no explanation: {error})"
        about_session, _, about_task = text.partition("\n\n")
        if task is not None and "\n" not in about_session:  # it has no notes
            return about_task
        return text

    def report(self) -> str:
        """What `explain` says of the sessions of the test."""
        told = [self.why(each, None) for each in self.sessions[-_TOLD:]]
        if told and self.bodies.without_code:
            names = ", ".join(sorted(self.bodies.without_code))
            told.append(f"No code defines {names}: a stand-in ran, which returns {{}}.")
        return "\n\n".join(told)
