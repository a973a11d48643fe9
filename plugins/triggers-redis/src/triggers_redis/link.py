"""Connections to the server: one held by each thread, none taken across a fork.

Redis-py makes the connections, with all its options. Its pool and its retries are left out: the
checkout is a third of a GET, and a retry behind the caller's back applies a write twice when only
the reply was lost. `Link` resends too, but says so.
"""

from __future__ import annotations

import os
import random
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit
from weakref import WeakSet

import redis
from redis import exceptions

from triggers_core.exceptions import StorageError
from triggers_redis.resp import ServerError, Wire, command
from triggers_redis.scripts import Script

PATIENCE: Final = 3.0
"""Seconds for which a request is sent again while the server cannot be reached: a restart or a
failover within that time is not noticed. Then the caller gets a `StorageError`."""

_PAUSE: Final = 0.02  # seconds before the second resend; doubles each time…
_LONGEST_PAUSE: Final = 0.5  # …up to this

_DEFAULTS: Final[dict[str, Any]] = {
    "protocol": 2,  # which `Wire` reads
    "socket_connect_timeout": 5.0,
    "socket_timeout": 10.0,  # above the 2 s for which `appendfsync everysec` may hold a reply back
}
_UNREACHABLE: Final = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)
_HOPELESS: Final = (
    exceptions.AuthenticationError,
    exceptions.AuthorizationError,
    exceptions.ResponseError,  # of SELECT, for example: a cluster has no database but 0
)
_ELSEWHERE: Final = ("MOVED", "ASK", "TRYAGAIN")  # a slot is on another node, or on its way there
_PASSING: Final = ("LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", *_ELSEWHERE)
"""Errors of a server that starts, or that fails over: nothing was carried out, ask again. A primary
in cluster mode that has become a replica says MOVED."""

_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_ca_path")

Answer = tuple[Any, bool]
"""A reply, and whether the request may have been carried out before this reply came."""


class Refused(StorageError):
    """The server was reached, and would not do it."""


class _Held:
    """A thread's connection. Redis-py closes it when the thread is gone."""

    __slots__ = ("__weakref__", "connection", "wire")

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.wire: Wire | None = None

    def connect(self) -> Wire:
        """Connect, log in, choose the database."""
        self.connection.connect()
        self.wire = Wire(self.connection._sock)  # as redis-py's own parsers get it
        return self.wire

    def disconnect(self) -> None:
        """Close it; the next request connects again."""
        self.wire = None
        self.connection.disconnect()


class Link:
    """The way to one server.

    :param url: as redis-py takes it: ``redis://``, ``rediss://`` or ``unix://``.
    :param options: of redis-py's connections, for example ``ssl_ca_certs`` or ``socket_timeout``.
    :raises StorageError: redis-py cannot make sense of them.
    """

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self.url = masked(url)
        try:
            pool = redis.ConnectionPool.from_url(url, **{**_DEFAULTS, **options})
            if int(pool.connection_kwargs["protocol"]) != 2:
                raise ValueError("only protocol 2 is spoken here, which every server knows")
            if issubclass(pool.connection_class, redis.SSLConnection):
                _check_tls(pool.connection_kwargs)
            self._make: Callable[[], Any] = lambda: pool.connection_class(**pool.connection_kwargs)
            self._make()  # does not connect yet
        except (ValueError, TypeError, exceptions.RedisError) as error:
            raise StorageError(f"redis: cannot use {self.url} and its options: {error}") from error
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._local = threading.local()
        self._open: WeakSet[_Held] = WeakSet()

    def close(self) -> None:
        """Close the connections of all threads; the next request opens new ones."""
        held = list(self._open) if self._pid == os.getpid() else []
        self._forget()
        for each in held:
            each.disconnect()

    # -- requests -----------------------------------------------------------------------------

    def run(self, script: Script, count: int, keys: bytes, arguments: Sequence[bytes]) -> Answer:
        """Run a script.

        :param count: how many keys there are in `keys`, which is packed already.
        :raises StorageError: the server refused, or cannot be reached.
        """
        data = script.command(count, keys, arguments)
        held = self._held()
        wire, lost = held.wire, False
        if wire is not None:  # the usual way, in few steps
            try:
                return wire.ask(data), False
            except ServerError as error:
                if error.code == "NOSCRIPT":  # a new server, or SCRIPT FLUSH
                    data = script.full_command(count, keys, arguments)
                elif error.code not in _PASSING:
                    raise self._refused(error) from error
            except OSError:
                held.disconnect()
                lost = True
            except BaseException:
                held.disconnect()  # its reply must not be taken for the next one
                raise

        def ask(wire: Wire) -> Any:
            try:
                return wire.ask(data)
            except ServerError as error:
                if error.code != "NOSCRIPT":
                    raise
                return wire.ask(script.full_command(count, keys, arguments))

        return self._resending(ask, lost)

    def run_each(
        self, script: Script, runs: Sequence[tuple[int, bytes, Sequence[bytes]]]
    ) -> list[Any]:
        """Run a script that only reads several times, in one round trip."""
        data = b"".join([script.command(*each) for each in runs])
        load = command(b"SCRIPT", b"LOAD", script.source)

        def ask(wire: Wire) -> list[Any]:
            try:
                return wire.ask_all(data, len(runs))
            except ServerError as error:
                if error.code != "NOSCRIPT":
                    raise
                wire.ask(load)
                return wire.ask_all(data, len(runs))

        replies, _ = self._resending(ask)
        return list(replies)

    def ask(self, *arguments: bytes) -> Any:
        """Send one command that may be carried out twice."""
        data = command(*arguments)
        reply, _ = self._resending(lambda wire: wire.ask(data))
        return reply

    def _resending(self, request: Callable[[Wire], Any], resent: bool = False) -> Answer:
        """Make a request, again and again while the server cannot be reached."""
        pause, since = 0.0, 0.0
        while True:
            held = self._held()
            wire = held.wire
            try:
                wire = wire or held.connect()
            except _HOPELESS as error:
                raise self._refused(error) from error
            except (*_UNREACHABLE, exceptions.RedisError) as error:
                reason = getattr(error.__context__, "verify_message", "")  # ssl's
                if reason:
                    raise self._untrusted(reason) from error
                problem: Exception = error
            else:
                try:
                    return request(wire), resent
                except OSError as error:
                    problem, resent = error, True
                except ServerError as error:
                    if error.code not in _PASSING:
                        raise self._refused(error) from error
                    problem = error
                except BaseException:
                    held.disconnect()
                    raise
            held.disconnect()
            since = since or time.monotonic()
            if time.monotonic() - since + pause > PATIENCE:
                raise self._exhausted(problem) from problem
            if pause:
                time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2 or _PAUSE, _LONGEST_PAUSE)

    def _refused(self, error: Exception) -> Refused:
        return Refused(f"redis: {self.url} refused: {error}")

    def _untrusted(self, reason: str) -> StorageError:
        return StorageError(
            f"redis: {self.url} shows a certificate that is not trusted ({reason}): give the file"
            " of the authority that signed it as ssl_ca_certs, and the host as the certificate"
            " names it"
        )

    def _exhausted(self, problem: Exception) -> StorageError:
        """Patience is over."""
        if not isinstance(problem, ServerError):
            return StorageError(f"redis: {self.url} did not answer for {PATIENCE:g} s: {problem}")
        if problem.code in _ELSEWHERE:
            return StorageError(
                f"redis: {self.url} is one node of a Redis Cluster and does not hold all slots"
                f" ({problem}): a cluster of several nodes is not supported yet. Use one server, or"
                " the primary of a cluster that has all slots in one shard"
            )
        return StorageError(f"redis: {self.url} was not ready for {PATIENCE:g} s: {problem}")

    def _held(self) -> _Held:
        if self._pid != os.getpid():
            # A fork copied this object. Redis-py closes a connection of the parent without telling
            # the server, so dropping it here does not disturb the parent.
            self._forget()
        try:
            held: _Held = self._local.held
        except AttributeError:
            held = self._local.held = _Held(self._make())
            self._open.add(held)
        return held


def _check_tls(options: dict[str, Any]) -> None:
    """Have the server's name checked, as redis-py 6 does and redis-py 5 does not by itself.

    :raises ValueError: a file that the options name cannot be read.
    """
    if options.get("ssl_cert_reqs", "required") in ("required", ssl.CERT_REQUIRED):
        options.setdefault("ssl_check_hostname", True)
    for name in _FILES:
        path = options.get(name)
        if path is not None and not os.access(path, os.R_OK):
            raise ValueError(f"{name}: {path} cannot be read")


def masked(url: str) -> str:
    """A URL without its password and its query, which may hold one."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    user = parts.username or ""
    secret = f"{user}:***@" if parts.password else f"{user}@" if user else ""
    return f"{parts.scheme}://{secret}{host}{parts.path}"
