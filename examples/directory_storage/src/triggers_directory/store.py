"""The storage: a directory with a file for each session and for each lease."""

import hashlib
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import ClassVar, TypeVar

import msgspec

from triggers_core.engine.protocol import Command, Plan, Query, Rules, Snapshot
from triggers_core.engine.records import Event, Instance, Status
from triggers_core.exceptions import UnknownSchema
from triggers_core.storages.arguments import check_age, check_limit, check_window
from triggers_core.storages.base import Due, Store
from triggers_core.storages.driving import drive
from triggers_core.storages.session import SessionStorage
from triggers_core.storages.summaries import (
    SessionSummary,
    fleet_order,
    prunable,
    readable_header,
    readable_summaries,
)
from triggers_directory.files import erase, locked, make_directory, replace
from triggers_directory.record import SessionFile, apply, snapshot

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Lease(msgspec.Struct):
    """Who holds a named lease, and until when, in seconds since 1970."""

    owner: str
    until: float


class DirectoryStore(Store):
    """Every change rewrites the file of its session; every listing reads all files."""

    key = "directory"

    def __init__(self, path: str | Path, clock: Callable[[], float] = time.time) -> None:
        super().__init__(clock)
        self.path = Path(path).absolute()

    @property
    def place(self) -> str:
        return f"the directory {self.path}"

    @property
    def exists(self) -> bool:
        return self._sessions.is_dir()

    def set_up(self) -> bool:
        return make_directory(self._sessions)

    # Changes: under a lock from the first read to the end of the write.

    def commit(self, uid: str, command: Command[T], rules: Rules) -> Plan[T]:
        path = self._file("sessions", uid)
        with locked(path):
            session = self._read(uid)
            now = self.clock
            plan = drive(command, uid, rules, lambda query: snapshot(session, query, now()))
            if not plan.empty:
                plan.stamp(now())
                session = session or SessionFile(uid)
                apply(plan, session)
                replace(path, msgspec.json.encode(session))
            elif session is None:
                erase(path)  # the lock, too
        return plan

    def delete(self, uid: str) -> bool:
        path = self._file("sessions", uid)
        with locked(path):
            return erase(path)

    def prune(self, older_than: float, resolved_only: bool = True) -> int:
        before = self.clock() - check_age(older_than, resolved_only)

        def is_old(session: SessionFile) -> bool:
            header = readable_header(session.uid, bytes(session.header))
            return header is not None and prunable(header, before, resolved_only)

        return sum(self._delete_if(is_old, each.uid) for each in self._all() if is_old(each))

    def _delete_if(self, test: Callable[[SessionFile], bool], uid: str) -> bool:
        """Delete a session if the test still holds once nobody can change it."""
        path = self._file("sessions", uid)
        with locked(path):
            session = self._read(uid)
            return session is not None and test(session) and erase(path)

    # Reads take no lock: a file is read as a whole, and replaced as a whole.

    def load(self, uid: str, query: Query) -> Snapshot:
        return snapshot(self._read(uid), query, self.clock())

    def instances(
        self,
        uid: str,
        *,
        statuses: Collection[Status] | None = None,
        task: str | None = None,
        unresolved_logs: bool = False,
    ) -> list[Instance]:
        session = self._read(uid) or SessionFile(uid)
        found = [session.instance(name) for name in session.instances]
        return [
            instance
            for instance in sorted(found, key=lambda each: (each.task, each.number))
            if (statuses is None or instance.status in statuses)
            and (task is None or instance.task == task)
            and (not unresolved_logs or instance.has_open_logs)
        ]

    def events(self, uid: str, start: int = 0, limit: int | None = None) -> list[Event]:
        start, limit = check_window(start, limit)
        session = self._read(uid) or SessionFile(uid)
        numbers = range(len(session.events))[start:]
        return [session.event(number) for number in numbers[:limit]]

    def events_by_number(self, uid: str, numbers: Iterable[int]) -> dict[int, Event]:
        session = self._read(uid) or SessionFile(uid)
        return {n: session.event(n) for n in set(numbers) if 0 <= n < len(session.events)}

    def find_event(self, event_id: str, limit: int | None = 100) -> list[tuple[str, int]]:
        found = [(each.uid, each.ids[event_id]) for each in self._all() if event_id in each.ids]
        return sorted(found)[: check_limit(limit)]

    def due(self, limit: int = 100, within: float = 0.0) -> list[Due]:
        most, now = check_limit(limit), self.clock() + within
        return [Due(uid, name) for at, uid, name in self._times() if at <= now][:most]

    def due_ahead(self, seconds: float, limit: int = 100) -> list[Due]:
        most, after = check_limit(limit), self.clock() + seconds
        return [Due(uid, name) for at, uid, name in reversed(self._times()) if at > after][:most]

    def next_due(self) -> float | None:
        times = self._times()
        return times[0][0] - self.clock() if times else None

    def sessions(
        self,
        *,
        failed: bool = False,
        waiting: bool = False,
        limit: int | None = None,
        after: str = "",
    ) -> list[SessionSummary]:
        limit = check_limit(limit)
        headers = ((each.uid, bytes(each.header)) for each in self._all() if each.uid > after)
        return fleet_order([*readable_summaries(headers).values()], failed, waiting, limit)

    # Leases: a file each.

    def acquire_lease(self, name: str, owner: str, seconds: float) -> bool:
        path = self._file("leases", name)
        with locked(path):
            now, lease = self.clock(), self._lease(path)
            held = lease is not None and now < lease.until <= now + seconds
            if lease is not None and held and lease.owner != owner:
                return False
            replace(path, msgspec.json.encode(Lease(owner, now + seconds)))
            return True

    def release_lease(self, name: str, owner: str) -> None:
        path = self._file("leases", name)
        with locked(path):
            lease = self._lease(path)
            if lease is not None and lease.owner == owner:
                erase(path)

    # Files.

    @property
    def _sessions(self) -> Path:
        return self.path / "sessions"

    def _file(self, kind: str, name: str) -> Path:
        """Names of sessions and leases may hold anything, names of files may not."""
        return self.path / kind / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"

    def _read(self, uid: str) -> SessionFile | None:
        try:
            return msgspec.json.decode(self._file("sessions", uid).read_bytes(), type=SessionFile)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise UnknownSchema(f"its file is damaged ({error})", uid) from error

    def _all(self) -> Iterator[SessionFile]:
        """Every session but those whose file is damaged: they must not hide the others."""
        for file in sorted(self._sessions.glob("*.json")):
            try:
                yield msgspec.json.decode(file.read_bytes(), type=SessionFile)
            except FileNotFoundError:
                pass  # erased meanwhile
            except msgspec.DecodeError as error:
                logger.warning("%s is damaged, and left out of listings: %s", file, error)

    def _lease(self, path: Path) -> Lease | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=Lease)
        except FileNotFoundError:
            return None

    def _times(self) -> list[tuple[float, str, str]]:
        """What falls due, earliest first: time, session, instance."""
        return sorted((at, each.uid, name) for each in self._all() for name, at in each.due.items())


class DirectoryStorage(SessionStorage):
    """``TRIGGER_STORAGE_TYPE="directory"``; its options are those of `open_store`."""

    _open: ClassVar[dict[Path, DirectoryStore]] = {}

    def __init__(self, uid: str, path: str | Path = "sessions") -> None:
        super().__init__(uid, self.open_store(path))

    @classmethod
    def open_store(cls, path: str | Path = "sessions") -> DirectoryStore:
        """Open the store of a directory; the same one for the same directory."""
        return cls._open.setdefault(Path(path).absolute(), DirectoryStore(path))
