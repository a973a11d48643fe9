"""Publishing of messages: a connection pool that never waits longer than a fire can."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import Any, Final

from kombu.exceptions import KombuError

from triggers_celery.routes import Route, send_directly, send_through_celery
from triggers_core.exceptions import TriggersError

_PAUSE_SHORTEST: Final = 0.5  # seconds without a try after a failure,
_PAUSE_LONGEST: Final = 30.0
_PAUSE_FACTOR: Final = 5.0  # times as long as the failure took: a sixth of the time is waited


class BrokerUnavailable(TriggersError):
    """The broker could not be reached. Whatever was to be sent is sent by the sweep."""


class Publisher:
    """Sends the messages of one Celery app, from any thread and after any fork.

    :param timeout: seconds that the broker may take to answer.

    It keeps connections of its own, as many as `broker_pool_limit` allows, because those of Celery
    wait for ever and try again and again. After a failure nothing is tried for a while: each fire
    would wait in vain for as long.
    """

    def __init__(self, celery_app: Any, timeout: float) -> None:
        self._app, self._timeout = celery_app, timeout
        self._routes: dict[tuple[str, str | None], Route] = {}
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._idle: list[_Connection] = []
        self._resume_at = 0.0
        self._problem = ""
        limit = self._app.conf.broker_pool_limit
        self._slots = threading.BoundedSemaphore(limit) if limit else None

    @property
    def paused(self) -> bool:
        """Whether nothing is tried at the moment, after a failure."""
        return self._pid == os.getpid() and time.monotonic() < self._resume_at

    def send(
        self, name: str, task_id: str, arguments: tuple[object, ...], queue: str | None = None
    ) -> None:
        """Send one message.

        :param queue: in place of the one that the task's route leads to.
        :raises BrokerUnavailable: the broker does not answer, or has just not done so.
        """
        if self._pid != os.getpid():
            self._reset()  # sockets must not be shared with the parent
        if self.paused:
            raise BrokerUnavailable(
                f"nothing is sent to the broker for the moment, after {self._problem}"
            )
        route = self._routes.get((name, queue))
        if route is None:
            route = self._routes[name, queue] = Route(self._app, name, queue)
        slots = self._slots
        if slots is not None and not slots.acquire(timeout=self._timeout):
            raise BrokerUnavailable(
                f"all {self._app.conf.broker_pool_limit} connections to the broker are busy; raise"
                " broker_pool_limit on the Celery app"
            )
        try:
            self._send(route, task_id, arguments)
        finally:
            if slots is not None:
                slots.release()

    def _send(self, route: Route, task_id: str, arguments: tuple[object, ...]) -> None:
        began = time.monotonic()
        connection = self._take()
        if connection is not None:
            try:
                connection.send(route, task_id, arguments)
                return self._idle.append(connection)
            except Exception as error:
                connection.close()
                self.close()  # the others are as old
                if not connection.is_broken_by(error):
                    raise
                if time.monotonic() - began >= self._timeout:
                    raise self._failed(error, began) from error
                # It may have died while it was idle: that says nothing about the broker.
        connection = _Connection(self._app, self._timeout)
        try:
            connection.connect()
            connection.send(route, task_id, arguments)
        except BaseException as error:
            connection.close()
            if not connection.is_broken_by(error):
                raise
            raise self._failed(error, began) from error
        self._resume_at = 0.0
        self._idle.append(connection)

    def _take(self) -> _Connection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _failed(self, error: BaseException, began: float) -> BrokerUnavailable:
        self._problem = f"{type(error).__name__}: {error}"
        now = time.monotonic()
        pause = min(max(_PAUSE_FACTOR * (now - began), _PAUSE_SHORTEST), _PAUSE_LONGEST)
        self._resume_at = now + pause
        return BrokerUnavailable(
            f"the broker cannot be reached ({self._problem}); next try in {pause:.1f} s"
        )

    def close(self) -> None:
        """Close the connections of this process that nobody uses at the moment."""
        if self._pid != os.getpid():
            return
        while (connection := self._take()) is not None:
            connection.close()


class _Connection:
    """A connection to the broker with one channel, used by one thread at a time."""

    def __init__(self, celery_app: Any, timeout: float) -> None:
        self._app = celery_app
        self._declared: set[str] = set()
        driver = celery_app.connection_for_write().transport.driver_type
        limits = dict.fromkeys(_TIMEOUTS.get(driver, ()), timeout)
        self._connection = celery_app.connection_for_write(
            connect_timeout=timeout, transport_options=limits
        )

    def connect(self) -> None:
        # Not `.connect()` nor `.default_channel`, which try again after pauses of seconds.
        self._connection.ensure_connection(max_retries=0)
        self._channel = channel = self._connection.channel()
        if self._connection.transport.driver_type == "redis":
            # kombu makes a client for each message, and that asks its pool for a connection. One
            # that is kept, with its connection, saves 70 of 170 µs a message (quietest slices).
            make, client = channel._create_client, channel._create_client().client()
            # redis-py makes it anew, and leaves out what kombu's own class adds.
            client.global_keyprefix = getattr(channel, "global_keyprefix", "")
            channel._create_client = lambda asynchronous=False: (
                make(asynchronous=True) if asynchronous else client
            )

    def send(self, route: Route, task_id: str, arguments: tuple[object, ...]) -> None:
        if not route.direct:
            return send_through_celery(self._app, self._channel, route, task_id, arguments)
        if route.queue.name not in self._declared:
            route.queue(self._channel).declare()
            self._declared.add(route.queue.name)
        send_directly(self._app, self._channel, route, task_id, arguments)

    def is_broken_by(self, error: BaseException) -> bool:
        """Whether an error is the broker's fault, not that of a route, for example."""
        connection = self._connection
        kinds = (*connection.connection_errors, *connection.channel_errors, OSError, KombuError)
        return isinstance(error, kinds)

    def close(self) -> None:
        with suppress(Exception):  # it is broken already
            self._connection.release()


_TIMEOUTS: Final = {
    "redis": ("socket_timeout", "socket_connect_timeout"),
    "amqp": ("read_timeout", "write_timeout"),
}
"""Transport options, by driver, that keep a silent broker from holding a fire up."""
