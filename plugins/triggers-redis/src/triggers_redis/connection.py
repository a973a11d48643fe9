"""Connections to the server: one for each thread, none taken across a fork.

Redis-py makes the connections, with all its options, and reads the replies (with hiredis, if that
is installed). Its pool and its retries are left out: the checkout is a third of a GET, and a retry
behind the caller's back applies a write twice when only the reply was lost. `Client` resends too,
but says so.
"""

from __future__ import annotations

import os
import random
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import redis
from redis import exceptions

from triggers_core.exceptions import StorageError
from triggers_redis.resp import encode_command
from triggers_redis.scripts import Script

RESEND_TIMEOUT: Final = 3.0
"""Seconds for which a request is sent again while the server cannot be reached: a restart or a
failover within that time is not noticed. Then the caller gets a `StorageError`."""

_FIRST_PAUSE: Final = 0.02  # seconds before the second resend; doubles each time…
_LONGEST_PAUSE: Final = 0.5  # …up to this

_DEFAULTS: Final[dict[str, Any]] = {
    "protocol": 2,  # which every server knows
    "socket_connect_timeout": 5.0,
    "socket_timeout": 10.0,  # above the 2 s for which `appendfsync everysec` may hold a reply back
}
if redis.__version__.startswith("5.0."):
    # It tells servers its name; the refusal of those below 7.2 stays in a reference cycle, with all
    # frames that made the connection, which would be open until garbage is collected.
    _DEFAULTS.update(lib_name=None, lib_version=None)
_UNREACHABLE: Final = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)
_FATAL: Final = (
    exceptions.AuthenticationError,
    exceptions.AuthorizationError,
    exceptions.ResponseError,  # of SELECT, for example: a cluster has no database but 0
)
_ANSWERED: Final = (*_FATAL, exceptions.BusyLoadingError)
_REDIRECTS: Final = ("MOVED", "ASK", "TRYAGAIN")  # a slot is on another node, or on its way there
_TRANSIENT: Final = ("LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", *_REDIRECTS)
"""Errors of a server that starts, or that fails over: nothing was carried out, ask again. A primary
in cluster mode that has become a replica says MOVED."""

_TLS_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_ca_path")

Answer = tuple[Any, bool]
"""A reply, and whether the request may have been carried out before this reply came."""


class Refused(StorageError):
    """The server was reached, and would not do it."""


class ServerError(Exception):
    """An error that the server answered.

    :ivar code: its first word, for example ``NOSCRIPT``.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code = text.partition(" ")[0]


_CODES: Final[dict[type[Exception], str]] = {
    exceptions.AskError: "ASK",
    exceptions.BusyLoadingError: "LOADING",
    exceptions.ClusterCrossSlotError: "CROSSSLOT",
    exceptions.ClusterDownError: "CLUSTERDOWN",
    exceptions.MasterDownError: "MASTERDOWN",
    exceptions.MovedError: "MOVED",
    exceptions.NoPermissionError: "NOPERM",
    exceptions.NoScriptError: "NOSCRIPT",
    exceptions.OutOfMemoryError: "OOM",
    exceptions.ReadOnlyError: "READONLY",
    exceptions.TryAgainError: "TRYAGAIN",
}
"""What redis-py leaves out of the text of an error that it has a type for."""


class Connection:
    """Requests and replies on one connection of redis-py, which it owns.

    It is `dirty` from before the first byte of a request until the whole reply has been read. An
    exception may come out of a signal handler at any moment; what it left dirty must not be used
    again, for the next request would read the reply to the last one. Whoever made the request
    closes it, nobody else: a handler that finds it dirty may have come in the middle of a request
    that goes on when the handler returns.

    :param connection: connected, logged in, with nothing left to read.
    """

    __slots__ = ("__weakref__", "_closer", "_read", "_send", "dirty")

    def __init__(self, connection: Any) -> None:
        self.dirty = False
        self._send, self._read = connection.send_packed_command, connection.read_response
        # When a thread has ended, or its store has let go of it. No `__del__`: in a cycle of
        # garbage the socket's own comes first, perhaps, and complains.
        self._closer = weakref.finalize(self, connection.disconnect)
        self._closer.atexit = False

    def ask(self, request: bytes) -> Any:
        """Send one command and return its reply.

        :raises ServerError: the server refused.
        :raises OSError: the connection broke or timed out; it must not be used again.
        """
        self.dirty = True
        try:
            self._send((request,), check_health=False)
            reply = self._read(disable_decoding=True)
        except exceptions.ResponseError as error:
            self.dirty = False
            raise _translated(error) from None
        except BaseException as error:
            self.close()
            if isinstance(error, exceptions.RedisError):
                raise _translated(error) from None
            raise
        self.dirty = False
        return reply

    def ask_all(self, requests: bytes, count: int) -> list[Any]:
        """Send several commands and return their replies; all are read before any error is raised.

        :raises ServerError, OSError: as `ask`.
        """
        self.dirty = True
        replies: list[Any] = []
        refused: list[Exception] = []
        try:
            self._send((requests,), check_health=False)
            for _ in range(count):
                try:
                    replies.append(self._read(disable_decoding=True))
                except exceptions.ResponseError as error:
                    refused.append(_translated(error))
        except BaseException as error:
            self.close()
            if isinstance(error, exceptions.RedisError):
                raise _translated(error) from None
            raise
        self.dirty = False
        if refused:
            raise refused.pop(0)
        return replies

    def close(self) -> None:
        """Close the connection.

        For whoever made the last request; not left to the end of this object, where an exception
        out of a signal handler would be lost.
        """
        self.dirty = True
        self._closer()


def _translated(error: exceptions.RedisError) -> Exception:
    """An error of redis-py's as `Connection` raises it.

    Redis-py's own loses its traceback: in there are frames that know the error, a cycle that would
    keep the connection open.
    """
    error.__traceback__ = None
    if isinstance(error, _ANSWERED):
        code = _CODES.get(type(error))
        return ServerError(f"{code} {error}" if code else str(error))
    if isinstance(error, exceptions.TimeoutError):
        return TimeoutError("timed out")
    return ConnectionError(str(error))


class Client:
    """The commands that a store sends to one server, over a connection for each thread.

    :param url: as redis-py takes it: ``redis://``, ``rediss://`` or ``unix://``.
    :param options: of redis-py's connections, for example ``ssl_ca_certs`` or ``socket_timeout``.
    :raises StorageError: redis-py cannot make sense of them.
    """

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        try:
            self.url = masked(url)
        except (ValueError, TypeError, AttributeError) as error:
            raise StorageError(f"redis: url must be a URL as text: {error}") from None
        try:
            pool = redis.ConnectionPool.from_url(url, **{**_DEFAULTS, **options})
            if int(pool.connection_kwargs["protocol"]) != 2:
                raise ValueError("only protocol 2 is spoken here, which every server knows")
            _check_timeouts(pool.connection_kwargs)
            if issubclass(pool.connection_class, redis.SSLConnection):
                _check_tls(pool.connection_kwargs)
            self._make: Callable[[], Any] = lambda: pool.connection_class(**pool.connection_kwargs)
            self._make()  # does not connect yet
        except (ValueError, TypeError, exceptions.RedisError) as error:
            raise StorageError(f"redis: cannot use {self.url} and its options: {error}") from None
        self._forget()

    def _forget(self) -> None:
        self._local = threading.local()
        self._pid = os.getpid()

    def close(self) -> None:
        """Close the connections of all threads; the next request opens new ones.

        A request of another thread that is under way is answered first: its thread alone has its
        connection from now on, and the last one to let go of a connection closes it.
        """
        self._forget()

    # -- requests -----------------------------------------------------------------------------

    def run(self, script: Script, count: int, keys: bytes, arguments: Sequence[bytes]) -> Answer:
        """Run a script.

        :param count: how many keys there are in `keys`, which is encoded already.
        :raises StorageError: the server refused, or cannot be reached.
        """
        data = script.command(count, keys, arguments)
        connection, lost = self._current(), False
        if connection is not None:  # the usual way, in few steps
            try:
                return connection.ask(data), False
            except ServerError as error:
                if error.code == "NOSCRIPT":  # a new server, or SCRIPT FLUSH
                    data = script.full_command(count, keys, arguments)
                elif error.code not in _TRANSIENT:
                    raise self._refused(error) from None
            except OSError:
                lost = True

        def ask(connection: Connection) -> Any:
            try:
                return connection.ask(data)
            except ServerError as error:
                if error.code != "NOSCRIPT":
                    raise
                return connection.ask(script.full_command(count, keys, arguments))

        return self._resending(ask, lost)

    def run_each(
        self, script: Script, runs: Sequence[tuple[int, bytes, Sequence[bytes]]]
    ) -> list[Any]:
        """Run a script that only reads several times, in one round trip."""
        data = b"".join([script.command(*each) for each in runs])
        load = encode_command(b"SCRIPT", b"LOAD", script.source)

        def ask(connection: Connection) -> list[Any]:
            try:
                return connection.ask_all(data, len(runs))
            except ServerError as error:
                if error.code != "NOSCRIPT":
                    raise
                connection.ask(load)
                return connection.ask_all(data, len(runs))

        replies, _ = self._resending(ask)
        return list(replies)

    def ask(self, *arguments: bytes) -> Any:
        """Send one command that may be carried out twice."""
        data = encode_command(*arguments)
        reply, _ = self._resending(lambda connection: connection.ask(data))
        return reply

    def _resending(self, request: Callable[[Connection], Any], resent: bool = False) -> Answer:
        """Make a request, again and again while the server cannot be reached."""
        pause, since = 0.0, 0.0
        while True:
            try:
                connection = self._current() or self._connect()
            except _FATAL as error:
                raise self._refused(error) from None
            except (*_UNREACHABLE, exceptions.RedisError) as error:
                reason = getattr(error.__context__, "verify_message", "")  # ssl's
                if reason:
                    raise self._untrusted(reason) from None
                problem: Exception = _bare(error)
            except (TypeError, ValueError, OverflowError) as error:  # socket_timeout="5"
                raise StorageError(
                    f"redis: cannot connect to {self.url} with these options: {error}"
                ) from None
            else:
                try:
                    return request(connection), resent
                except OSError as error:
                    problem, resent = _bare(error), True
                except ServerError as error:
                    if error.code not in _TRANSIENT:
                        raise self._refused(error) from None
                    problem = _bare(error)
                    connection.close()
            since = since or time.monotonic()
            if time.monotonic() - since + pause > RESEND_TIMEOUT:
                raise self._exhausted(problem) from None
            if pause:
                time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2 or _FIRST_PAUSE, _LONGEST_PAUSE)

    def _refused(self, error: Exception) -> Refused:
        return Refused(f"redis: {self.url} refused: {error}")

    def _untrusted(self, reason: str) -> StorageError:
        return StorageError(
            f"redis: {self.url} shows a certificate that is not trusted ({reason}): give the file"
            " of the authority that signed it as ssl_ca_certs, and the host as the certificate"
            " names it"
        )

    def _exhausted(self, problem: Exception) -> StorageError:
        """The server has been asked for long enough."""
        if not isinstance(problem, ServerError):
            return StorageError(
                f"redis: {self.url} did not answer for {RESEND_TIMEOUT:g} s: {problem}"
            )
        if problem.code in _REDIRECTS:
            return StorageError(
                f"redis: {self.url} is one node of a Redis Cluster and does not hold all slots"
                f" ({problem}): a cluster of several nodes is not supported yet. Use one server, or"
                " the primary of a cluster that has all slots in one shard"
            )
        return StorageError(f"redis: {self.url} was not ready for {RESEND_TIMEOUT:g} s: {problem}")

    def _current(self) -> Connection | None:
        """This thread's connection, if it has one that can be used."""
        if self._pid != os.getpid():
            # A fork copied this object. A connection of the parent is closed without a word to
            # the server, so dropping it here does not disturb the parent.
            self._forget()
        try:
            connection: Connection = self._local.connection
        except AttributeError:
            return None
        if connection.dirty:  # broken, or interrupted between a request and the end of its reply
            self._local.__dict__.pop("connection", None)
            return None
        return connection

    def _connect(self) -> Connection:
        """Connect, log in, choose the database; it is this thread's when all that is done.

        Wherever this is interrupted, nobody has the connection, and so it is closed.
        """
        made = self._make()
        try:
            made.connect()
            connection = Connection(made)
        except BaseException:
            made.disconnect()  # at once: a traceback may keep it for long
            raise
        self._local.connection = connection
        return connection


def _bare(error: Exception) -> Exception:
    """An error without its history, which knows the frames and so the connection."""
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)


def _check_timeouts(options: dict[str, Any]) -> None:
    """:raises ValueError: a time limit is no number of seconds."""
    for name in ("socket_timeout", "socket_connect_timeout"):
        value = options.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
            raise ValueError(f"{name} must be a number of seconds above 0, got {value!r}")


def _check_tls(options: dict[str, Any]) -> None:
    """Have the server's name checked, as redis-py 6 does and redis-py 5 does not by itself.

    :raises ValueError: a file that the options name cannot be read.
    """
    if options.get("ssl_cert_reqs", "required") in ("required", ssl.CERT_REQUIRED):
        options.setdefault("ssl_check_hostname", True)
    for name in _TLS_FILES:
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
