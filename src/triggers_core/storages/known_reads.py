"""Reading a session in an event loop with code that was written for threads.

What reads a session (`SessionStorage`, `explain`) asks its store again and again in between. It is
called on a `_KnownReads`, which knows no answer at first: the read that it lacks is awaited, and
the code is called anew. So none of it is written twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar, cast

from triggers_core.engine.protocol import Query, Snapshot
from triggers_core.engine.records import Event, Instance, Status
from triggers_core.exceptions import WrongState
from triggers_core.storages.awaited import AwaitedStore
from triggers_core.storages.base import Store
from triggers_core.storages.session import SessionStorage

T = TypeVar("T")

_Read = tuple[str, tuple[Any, ...], dict[str, Any]]  # of a store: method, arguments


class _Unknown(BaseException):
    """The answer to a read is not known yet. No `Exception`, which a caller may expect."""

    def __init__(self, read: _Read) -> None:
        self.read = read


async def aread(storage: SessionStorage, read: Callable[[SessionStorage], T]) -> T:
    """What `read` returns of the storage of a session, whose store is awaited.

    :raises WrongState: it reads something else when it is called again.
    """
    store = cast(AwaitedStore, storage.store)
    answers: list[tuple[_Read, Any]] = []
    while True:
        known = _KnownReads(store, answers)
        try:
            return read(type(storage).on(known, storage.uid))
        except _Unknown as unknown:
            missing = unknown.read
        finally:
            known.over = True
        method, args, kwargs = missing
        answers.append((missing, await getattr(store, f"a{method}")(*args, **kwargs)))


class _KnownReads(Store):
    """Answers the reads that have been awaited, in their order."""

    def __init__(self, store: AwaitedStore, answers: list[tuple[_Read, Any]]) -> None:
        super().__init__(store.clock)
        self._store, self._answers, self._next = store, answers, 0
        self.over: bool = False
        """Whether `read` has returned: what it returned reads from the store itself."""

    @property
    def place(self) -> str:
        return self._store.place

    def now(self) -> float:
        return self._store.now()

    def load(self, uid: str, query: Query) -> Snapshot:
        found: Snapshot = self._answer("load", uid, query)
        return found

    def instances(
        self,
        uid: str,
        *,
        statuses: Collection[Status] | None = None,
        task: str | None = None,
        unresolved_logs: bool = False,
    ) -> list[Instance]:
        found: list[Instance] = self._answer(
            "instances", uid, statuses=statuses, task=task, unresolved_logs=unresolved_logs
        )
        return found

    def events(self, uid: str, start: int = 0, limit: int | None = None) -> list[Event]:
        found: list[Event] = self._answer("events", uid, start, limit)
        return found

    def events_by_number(self, uid: str, numbers: Iterable[int]) -> dict[int, Event]:
        found: dict[int, Event] = self._answer("events_by_number", uid, list(numbers))
        return found

    def payloads(self, uid: str, numbers: Iterable[int]) -> dict[int, bytes]:
        found: dict[int, bytes] = self._answer("payloads", uid, list(numbers))
        return found

    def _answer(self, method: str, *args: Any, **kwargs: Any) -> Any:
        if self.over:
            return getattr(self._store, method)(*args, **kwargs)  # says what to await
        read: _Read = (method, args, kwargs)
        if self._next == len(self._answers):
            raise _Unknown(read)
        known, answer = self._answers[self._next]
        if known != read:
            raise WrongState(
                f"what is given to aread has to read the same each time it is called: after"
                f" {known[0]}{known[1]!r} it asks for {method}{args!r}"
            )
        self._next += 1
        return answer
