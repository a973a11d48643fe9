"""The server's clock, which every process goes by; in tests an injected one."""

from __future__ import annotations

import time

from triggers_core.storages.base import Clock
from triggers_redis.connection import Client


class ServerClock:
    """Tells the time, and how scripts get to know it.

    :param injected: time instead of the server's, for tests.
    """

    def __init__(self, client: Client, injected: Clock | None = None) -> None:
        self._client, self._injected = client, injected

    def __call__(self) -> float:
        """The time in seconds since 1970: one round trip, unless it is injected."""
        if self._injected is not None:
            return self._injected()
        seconds, micros = self._client.ask(b"TIME")
        return int(seconds) + int(micros) / 1e6

    def since(self, now: float, read_at: float) -> float:
        """The time now, without asking the server.

        :param now: what the server's clock was at `read_at` of this process's monotonic clock.
        """
        if self._injected is not None:
            return self._injected()
        return round(now + time.monotonic() - read_at, 6)  # microseconds, as TIME has

    def session_argument(self, stamp: float | None = None) -> bytes:
        """ARGV 1 of the scripts about sessions.

        :param stamp: what a commit has stamped, to be compared with the server's time.
        """
        if self._injected is not None:
            return b"=" + repr(self._injected()).encode()
        return b"" if stamp is None else repr(stamp).encode()

    def argument(self) -> bytes:
        """ARGV 1 of the other scripts: an injected time, or nothing."""
        return b"" if self._injected is None else repr(self._injected()).encode()
