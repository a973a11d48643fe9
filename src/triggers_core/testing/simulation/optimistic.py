"""A store that is far away: it loads, decides and writes in separate steps.

Between two steps others may commit. The write carries the version that was decided on and is
refused where there is another one by then; so it is decided anew. That is what clients of Redis do,
and where optimistic concurrency goes wrong if it does. The memory store itself holds a lock from
the first step to the last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from triggers_core.engine.configuration import Configuration
from triggers_core.engine.protocol import Command, Plan, Query, Rules, Snapshot
from triggers_core.engine.records import Header
from triggers_core.exceptions import StorageError
from triggers_core.storages.driving import drive
from triggers_core.storages.memory import MemoryStore, _Written

T = TypeVar("T")


class Conflict(StorageError):
    """Somebody else has changed the session since it was loaded."""


class _Compiled(Configuration):
    """A configuration that many runs share; what becomes of it by an update is worked out once."""

    def updated(self, other: Configuration) -> Configuration:
        known: dict[str, Configuration] = self.__dict__.setdefault("_updated", {})
        if other.hash not in known:
            known[other.hash] = super().updated(other)
        return known[other.hash]


class OptimisticStore(MemoryStore):
    """Sessions in memory that are loaded and written in steps.

    :param clock: the time of whoever is at work.
    :param between: called before each step but within `commit`: others may go on there.
    """

    conflicts: int
    times: tuple[float, float]

    checks_version = True
    """False breaks it on purpose."""

    def __init__(
        self,
        clock: Callable[[], float],
        between: Callable[[str], None],
        known: dict[str, Configuration] | None = None,
    ) -> None:
        super().__init__(clock)
        self.between = between
        self._known = {} if known is None else known
        self.conflicts = 0
        self.times = 0.0, 0.0
        """The times at which the latest commit was decided, and written."""

    def commit(self, uid: str, command: Command[T], rules: Rules) -> Plan[T]:
        while True:
            step = _Step(self, uid)
            try:
                plan = drive(command, uid, rules, step.load)
                if plan.empty:
                    return plan
                self.between("write")
                decided = step.now
                assert decided is not None
                step.check()
                self._carry_out(uid, plan)
                self.times = decided, self.clock()
                return plan
            except Conflict:
                self.conflicts += 1

    def seen(self, uid: str) -> bytes | None:
        """A session's header as it is stored, the very object: another one has been changed."""
        session = self._sessions.get(uid)
        return None if session is None else session.header

    def _replace_configuration(
        self, uid: str, written: _Written, configuration: Configuration
    ) -> None:
        address = configuration.hash
        if address not in self._known:
            self._known[address] = _Compiled.decoded(configuration.encoded)
        self._configurations.setdefault(address, self._known[address])
        super()._replace_configuration(uid, written, configuration)

    def _configuration(self, header: Header) -> Configuration:
        if header.config:
            return super()._configuration(header)
        return self._known.setdefault("", _Compiled({}))


class _Step:
    """One try at a decision: all that it loads is of one version and one time."""

    def __init__(self, store: OptimisticStore, uid: str) -> None:
        self.store, self.uid = store, uid
        self.seen: bytes | None = None
        self.now: float | None = None

    def load(self, query: Query) -> Snapshot:
        self.store.between("load")
        snapshot = self.store._load(self.uid, query)
        if self.now is None:
            self.now, self.seen = snapshot.now, self.store.seen(self.uid)
        else:
            self.check()
            snapshot.now = self.now
        return snapshot

    def check(self) -> None:
        """See that nobody has changed the session since the first load."""
        if self.store.checks_version and self.store.seen(self.uid) is not self.seen:
            raise Conflict(f"{self.uid}: changed since it was loaded")
