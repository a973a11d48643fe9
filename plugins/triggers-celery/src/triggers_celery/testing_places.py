"""A real Celery worker for the fixture `triggers`: ``--triggers-storage celery``.

Messages go through a Redis broker to a worker in a thread of the process that runs the tests, so
that stand-in bodies and the tests' clock reach it; sessions are in Redis, a namespace for each
test.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

from celery import Celery, signals
from celery.app.trace import build_tracer
from celery.utils.nodenames import anon_nodename
from celery.worker import WorkController, state

from triggers_celery.adapter import AttemptTask, register_tasks
from triggers_celery.connect import connect, integrate
from triggers_celery.execution import stop_heartbeats
from triggers_celery.identity import GENERIC, SWEEP, arguments_of, id_of
from triggers_celery.integration import Integration
from triggers_celery.runner import CeleryTaskRunner
from triggers_core.engine.names import new_id
from triggers_core.exceptions import StorageError, TriggersError, WrongState
from triggers_core.storages.base import Clock
from triggers_core.testing.kit.places import OpenPlace, Place
from triggers_core.texts import listed

if TYPE_CHECKING:
    from triggers_core.application import Application
    from triggers_core.engine.configuration import Task
    from triggers_core.manager import TriggerManager
    from triggers_core.running.messages import Message

PATIENCE: Final = 60.0
"""Seconds of the real clock that `settle` waits; a body that takes longer hangs, most likely."""


class NotSettled(TriggersError):
    """A worker did not get done with what was sent to it; the message names the instances."""


@contextmanager
def places() -> Iterator[OpenPlace]:
    """What opens a place for one test: an entry point of `triggers.test_places`.

    One worker for the whole run, and one Redis: that of ``REDIS_URL``, else one that is started.
    """
    try:
        from triggers_redis.testing_places import erase, open_place, server_url
    except ImportError as error:
        raise StorageError(
            f"tests with a Celery worker keep sessions and messages in Redis ({error}):"
            " python -m pip install triggers-redis"
        ) from error
    with server_url() as url:
        prefix = f"triggers-test-{new_id()}:"
        worker = TestWorker(url, prefix)
        try:
            with worker:
                yield partial(_open_place, worker, partial(open_place, url))
        finally:
            erase(url, f"{prefix}*")


@contextmanager
def _open_place(worker: TestWorker, sessions: OpenPlace, clock: Clock) -> Iterator[Place]:
    served: list[Application] = []

    def runner(application: Application) -> WorkerRunner:
        served.append(application)
        return WorkerRunner(application, worker)

    with sessions(clock) as place:
        try:
            yield Place(place.store, runner, worker.settle)
        finally:
            worker.forget(served)


class TestWorker:
    """A Celery worker in a thread of this process, and what was sent to it.

    :param url: of the Redis that carries the messages.
    :param prefix: of all keys of the broker, so that it meets nobody else's.
    """

    __test__ = False  # for pytest, whose test classes are named alike

    def __init__(self, url: str, prefix: str) -> None:
        self.celery_app: Any = Celery("triggers-tests", broker=url, set_as_current=False)
        self.celery_app.conf.update(
            broker_transport_options={"global_keyprefix": prefix},
            broker_connection_retry_on_startup=False,
            task_default_queue="triggers-tests",
            worker_enable_remote_control=False,
        )
        self.queue: str = self.celery_app.conf.task_default_queue
        self.integration: Integration = integrate(self.celery_app)
        self._sent: Counter[str] = Counter()
        self._names: dict[str, str] = {}
        """Id of a Celery task → what it is about, for messages."""
        self._changed = threading.Condition()
        self._worker: Any = None
        self._thread: threading.Thread | None = None

    # -- its life ---------------------------------------------------------------------------------

    def __enter__(self) -> TestWorker:
        signals.task_postrun.connect(self._ended)
        signals.task_revoked.connect(self._revoked)
        ready = threading.Event()
        self.celery_app.finalize()
        # What Celery's own `start_worker` does, without making the app everybody's, and without
        # setting up logging: neither is a test's business.
        self._worker = WorkController(
            app=self.celery_app,
            pool="solo",
            hostname=anon_nodename(),
            ready_callback=lambda consumer: ready.set(),
            without_gossip=True,
            without_heartbeat=True,
            without_mingle=True,
        )
        self._thread = threading.Thread(target=self._work, name="triggers-test-worker", daemon=True)
        self._thread.start()
        until = time.monotonic() + PATIENCE
        while not ready.wait(0.05):
            if not self._lives() or time.monotonic() > until:
                raise StorageError("the Celery worker did not start; see its log")
        return self

    def _work(self) -> None:
        self.celery_app.set_current()  # in this thread: the worker looks tasks up there
        self._worker.start()

    def __exit__(self, *exc_info: object) -> None:
        assert self._thread is not None
        state.should_stop = 0
        try:
            self.celery_app.send_task(SWEEP, queue=self.queue, retry=False)  # wakes it
            self._thread.join(PATIENCE)
        finally:
            state.should_stop = None
            signals.task_postrun.disconnect(self._ended)
            signals.task_revoked.disconnect(self._revoked)
            self.celery_app.close()

    def is_own_thread(self) -> bool:
        """Whether the caller is a body, or a hook of its attempt."""
        return threading.current_thread() is self._thread

    def serve(self, application: Application) -> None:
        """Make attempts for an application, in place of another one of its name."""
        for each in self.integration.applications:
            if each is not application and each.name == application.name:
                self.integration.remove(each)
        connect(self.celery_app, application)
        self._learn_tasks()

    def _learn_tasks(self) -> None:
        """Those that were defined since the worker started."""
        register_tasks(self.integration)
        app, consumer = self.celery_app, self._worker.consumer
        for name, task in list(app.tasks.items()):
            if name not in consumer.strategies:
                task.__trace__ = build_tracer(
                    name, task, app.loader, self._worker.hostname, app=app
                )
                consumer.strategies[name] = task.start_strategy(app, consumer)

    def forget(self, applications: list[Application]) -> None:
        """A test is over: serve its applications no longer, whatever is left to do."""
        for each in applications:
            self.integration.remove(each)
            stop_heartbeats(each)
        with self._changed:
            self._sent.clear()
            self._names.clear()

    # -- what was sent to it ----------------------------------------------------------------------

    def send(self, name: str, message: Message) -> None:
        """Send a message; `settle` waits for it."""
        identity = id_of(message)
        with self._changed:
            self._sent[identity] += 1
            self._names[identity] = f"{message.instance} of {message.uid}"
        try:
            self.integration.publisher.send(name, identity, arguments_of(message), self.queue)
        except BaseException:
            self._done(identity)
            raise

    def settle(self, seconds: float = PATIENCE) -> None:
        """Wait until the worker is done with all that was sent to it, cascades included.

        :param seconds: of the real clock, at most.
        :raises NotSettled: it is not, by then.
        """
        until = time.monotonic() + seconds
        with self._changed:
            while self._sent:
                left = until - time.monotonic()
                if left <= 0 or not self._lives():
                    what = listed(list(self._names.values()))
                    raise NotSettled(
                        f"the Celery worker is not done with {what} after {seconds:g} s: does a"
                        " body hang, or wait for something real?"
                        if self._lives()
                        else f"the Celery worker has ended, before {what}; the log says why"
                    )
                self._changed.wait(min(left, 1.0))

    def _lives(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _ended(self, sender: Any, task_id: str, **_: Any) -> None:
        if isinstance(sender, AttemptTask) and sender.integration is self.integration:
            self._done(task_id)

    def _revoked(self, sender: Any, request: Any, **_: Any) -> None:
        if isinstance(sender, AttemptTask) and sender.integration is self.integration:
            self._done(request.id)

    def _done(self, identity: str) -> None:
        with self._changed:
            self._sent[identity] -= 1
            if self._sent[identity] <= 0:
                del self._sent[identity]
                self._names.pop(identity, None)
            self._changed.notify_all()


class WorkerRunner(CeleryTaskRunner):
    """The runner `celery`, whose messages all go to one worker: routes and queues do not count.

    As with the other runners of tests, what a test does leads to nothing until it asks for what
    came of it: its messages are kept until then. What follows from a body is sent at once.
    """

    key: ClassVar[str] = "celery"
    executes_here: ClassVar[bool] = True

    def __init__(self, application: Application, worker: TestWorker) -> None:
        super().__init__(application)
        self._worker = worker
        self._kept: deque[tuple[str, Message]] = deque()

    def dispatch(self, manager: TriggerManager, message: Message, task: Task | None) -> None:
        self._kept.append(("" if task is None else task.run, message))
        if self._worker.is_own_thread():
            self._send()

    def _send(self) -> None:
        if self._kept:
            self._worker.serve(self.app)
        while self._kept:
            name, message = self._kept.popleft()
            known = name in self._worker.celery_app.tasks
            self._worker.send(name if known else GENERIC, message)

    def clear(self) -> None:
        """Forget what has not been sent."""
        self._kept.clear()

    def is_own_thread(self) -> bool:
        return self._worker.is_own_thread()

    def join_all(self, timeout: float | None = None) -> bool:
        """Send what was kept, and wait until the worker is done with it, cascades included.

        :param timeout: seconds of the real clock.
        :raises WrongState: called by a body, which it would wait for.
        :raises NotSettled: the worker was not done within `PATIENCE` seconds, and there was no
            `timeout`.
        """
        if self.is_own_thread():
            raise WrongState("join was called by a body: it would wait for itself for ever")
        self._send()
        try:
            self._worker.settle(PATIENCE if timeout is None else timeout)
        except NotSettled:
            if timeout is None:
                raise
            return False
        return True

    def shutdown(self) -> None:
        self.join_all()
