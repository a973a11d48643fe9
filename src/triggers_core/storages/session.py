"""One session as its application sees it: `manager.storage`, read-only."""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, Self

import msgspec

from triggers_core import payloads
from triggers_core.engine.by_hand import CLOSED, CONFIGURED, LOGS, noted
from triggers_core.engine.configuration import EMPTY, Configuration, Task
from triggers_core.engine.metadata import read_metadata
from triggers_core.engine.names import check_name, split_instance_name
from triggers_core.engine.protocol import Query
from triggers_core.engine.records import UNRESOLVED, Event, Header, Instance, SessionState, Status
from triggers_core.engine.standing import keep_shared
from triggers_core.engine.taken_events import KwargsByTrigger, events_of, recorded_kwargs
from triggers_core.exceptions import InstanceNotFound, InvalidName, InvalidSetting
from triggers_core.storages.base import Store, taken_events


class TaskInstance:
    """An instance as it was stored when it was read.

    Example::

        instance = manager.storage["t_importSubject#0"]
        instance.status, instance.kwargs["firstPageReceived"], instance.metadata.get("error")
    """

    __slots__ = ("_kwargs", "_read", "_store", "record", "uid")

    def __init__(self, store: Store, uid: str, record: Instance) -> None:
        self._store = store
        self.uid: str = uid
        self.record: Instance = record
        self._kwargs: KwargsByTrigger | None = None
        self._read: dict[str, Any] = {}
        """What `read_all` has read."""

    def read_all(self) -> Self:
        """Read what else there is about it now, once: kwargs, taken, result, moment.

        Otherwise each is read when it is used. For those who cannot wait for a storage then.
        """
        _ = self.kwargs
        self._read = {"taken": self.taken, "result": self.result, "moment": self.moment}
        return self

    def __getattr__(self, name: str) -> Any:
        if name in self.__slots__:
            raise AttributeError(name)  # not set yet, as while being copied
        # task, number, status, parent, depth, retries, attempt, log_level, key, …: as recorded.
        return getattr(self.record, name)

    def __repr__(self) -> str:
        return f"<{self.record.name} {self.record.status.value}>"

    def __str__(self) -> str:
        return self.record.name

    @property
    def name(self) -> str:
        """For example ``t_importSubject#0``."""
        return self.record.name

    @property
    def status(self) -> Status:
        """Where it stands; compares equal to the plain word."""
        return self.record.status

    @property
    def is_resolved(self) -> bool:
        """Whether nothing remains to be done for it; the same as `resolved`."""
        return self.record.resolved

    @property
    def log_level_name(self) -> str:
        """`log_level` in words, such as ``WARNING``; ``NOTSET`` when nothing was logged."""
        return logging.getLevelName(self.record.log_level)

    @property
    def kwargs(self) -> KwargsByTrigger:
        """Key → kwargs that it has recorded so far, without the task's `withParams`.

        A list of kwargs for what holds several events.
        """
        if self._kwargs is None:
            record = self._with_shared()
            self._kwargs = recorded_kwargs(record, taken_events(self._store, self.uid, record))
        return self._kwargs

    @property
    def taken(self) -> dict[str, list[int]]:
        """Key → numbers of the events that count for it; `unless` included."""
        if "taken" in self._read:
            read: dict[str, list[int]] = self._read["taken"]
            return read
        record = self._with_shared()
        found = {
            key: list(numbers) for key, numbers in (*record.taken.items(), *record.noted.items())
        }
        for key, extent in record.extents.items():
            amount = extent.last - extent.first + 1
            events = self._store.events(self.uid, extent.first, amount) if extent.amount else []
            by_number = {each.number: each for each in events}
            found[key] = [each.number for each in events_of(record, key, by_number)]
        return found

    def _with_shared(self) -> Instance:
        """The record; while it is unstarted, with what the session knows of shared leaves now."""
        record = self.record
        if record.status is not Status.UNSTARTED or record.parent:
            return record
        snapshot = self._store.load(self.uid, Query(instances=(record.name,)))
        task = snapshot.configuration.tasks.get(record.task)
        if snapshot.header is None or task is None or not task.rule.shared:
            return record
        record = copy.copy(record)
        record.taken = dict(record.taken)
        keep_shared(task.rule, record, snapshot.header)
        return record

    @property
    def why(self) -> str | None:
        """Why it came to no success: ``late``, ``calledOff``, ``failed``, ``skipped``; or None."""
        return self.record.why

    @property
    def moment(self) -> float | None:
        """When it was scheduled or abandoned, in seconds since 1970; None while it has not been."""
        if "moment" in self._read:
            read: float | None = self._read["moment"]
            return read
        record = self.record
        if record.moment is not None or record.scheduled_by < 0:
            return record.moment
        event = self._store.events_by_number(self.uid, [record.scheduled_by])
        return event[record.scheduled_by].at if event else None

    @property
    def metadata(self) -> dict[str, Any]:
        """What was noted about it: `error` of a failure, what a skip or the application added."""
        return read_metadata(self.record)

    @property
    def acted_by(self) -> str | None:
        """Who replayed, skipped or failed it by hand, as far as is known; see `manager.by`."""
        return self.record.acted_by or None

    @property
    def logs_resolved_by(self) -> str | None:
        """Who marked its logs as dealt with, as far as is known."""
        hand = noted(self.record, LOGS)
        return hand.by if hand else None

    @property
    def parent(self) -> str | None:
        """The name of the instance that it replays, if any."""
        return self.record.parent or None

    @property
    def result(self) -> dict[str, Any] | None:
        """What its body returned (the kwargs of its cascade); None when it has not finished."""
        if "result" in self._read:
            read: dict[str, Any] | None = self._read["result"]
            return read
        if self.record.result < 0:
            return None
        encoded = self._store.payloads(self.uid, [self.record.result])
        return payloads.decode(encoded[self.record.result])

    @property
    def idempotency_key(self) -> str:
        """Stable over attempts and replays, for the systems that the body calls."""
        return self.record.key


class SessionMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about a session."""

    uid: str
    generation: str
    """Which life of the uid this is; a deleted and re-used uid has another one."""
    state: SessionState
    version: int
    """How many commits it has seen."""
    config_version: int
    requires: tuple[str, ...]
    """Plugins without which a process may not change it."""
    events: int
    created_at: datetime
    updated_at: datetime
    waiting_since: datetime | None
    configured_by: str | None = None
    """Who changed its configuration last by hand, as far as is known…"""
    closed_by: str | None = None
    """…and who closed it; see `manager.by`."""


class SessionStorage:
    """What a session holds. Every access reads the store; nothing is cached.

    A storage plugin derives a class from it that opens its own `Store`, and registers that class
    in the entry-point group ``triggers.storages``. Its constructor takes the uid and the storage's
    options.
    """

    schemes: ClassVar[tuple[str, ...]] = ()
    """Schemes of URLs that mean this storage, beside its key: ``("redis", "rediss")``."""

    def __init__(self, uid: str, store: Store) -> None:
        """:raises InvalidName: the uid is not 1 to 200 printable characters."""
        self.uid: str = check_name(uid, "uid")
        self.store = store

    @classmethod
    def open_store(cls, *args: Any, **options: Any) -> Store:
        """Open the store that the options describe; the same options share one in a process."""
        raise NotImplementedError

    @classmethod
    def open_scratch(cls, **options: Any) -> Store:
        """Open a store whose sessions can be made anew, such as a backtest's.

        A storage may write faster there, and lose the last commits in a power cut.
        """
        return cls.open_store(**options)

    @classmethod
    def options_from_text(cls, text: str) -> dict[str, Any]:
        """The options that a text on a command line stands for.

        By default, the value is that of the option `url` or `path` of `open_store`, else of its
        first one; with `url`, a text such as ``s3://bucket`` is the value as a whole.

        :param text: ``TYPE:VALUE`` or ``TYPE`` alone, where TYPE is the key or one of `schemes`.
        :raises InvalidSetting: it stands for none.

        Example::

            SqliteStorage.options_from_text("sqlite:shop.db")  # {'path': 'shop.db'}
            RedisStorage.options_from_text("rediss://host/0")  # {'url': 'rediss://host/0'}
        """
        key, colon, value = text.partition(":")
        if not colon:
            return {}
        option = _option_for_text(cls.open_store)
        if option is None:
            raise InvalidSetting(f"the storage {key!r} takes no options: --storage {key}")
        whole = option == "url" and value.startswith("//")
        return {option: text if whole else value}

    @classmethod
    def on(cls, store: Store, uid: str) -> Self:
        """A session of a store that is open already."""
        storage = cls.__new__(cls)
        SessionStorage.__init__(storage, uid, store)
        return storage

    def __repr__(self) -> str:
        return f"<{self.store.key or type(self.store).__name__} storage of {self.uid!r}>"

    # -- reading ----------------------------------------------------------------------------------

    @property
    def exists(self) -> bool:
        """Whether anything has been stored under the uid."""
        return self.header is not None

    @property
    def header(self) -> Header | None:
        """The session's header record."""
        return self.store.load(self.uid, Query()).header

    @property
    def configuration(self) -> Configuration:
        """The session's configuration."""
        return self.store.load(self.uid, Query()).configuration

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The tasks, by name, in the order of the configuration."""
        return self.configuration.tasks

    @property
    def instances(self) -> Mapping[str, TaskInstance]:
        """All instances, by name. Iterating gives the names, as with any mapping."""
        return self._named(self.store.instances(self.uid))

    @property
    def events(self) -> list[Event]:
        """All events, in order."""
        return self.store.events(self.uid)

    @property
    def metadata(self) -> SessionMetadata | None:
        """Facts about the session; None when there is none."""
        header = self.header
        if header is None:
            return None
        configured, closed = noted(header, CONFIGURED), noted(header, CLOSED)
        return SessionMetadata(
            uid=self.uid,
            generation=header.generation,
            state=header.state,
            version=header.version,
            config_version=header.config_version,
            requires=header.requires,
            events=header.events,
            created_at=_time(header.created_at),
            updated_at=_time(header.updated_at),
            waiting_since=None if header.waiting_since is None else _time(header.waiting_since),
            configured_by=configured.by if configured else None,
            closed_by=closed.by if closed else None,
        )

    @property
    def latest_kwargs(self) -> dict[str, dict[str, Any]]:
        """Trigger → kwargs of its latest event, for every trigger that has fired."""
        header = self.header
        latest = header.latest if header else {}
        encoded = self.store.payloads(self.uid, latest.values())
        return {
            trigger: payloads.decode(encoded[number])
            for trigger, number in latest.items()
            if number in encoded
        }

    def __getitem__(self, name: str) -> TaskInstance:
        """An instance by name.

        :raises InstanceNotFound: there is none of this name (it is a KeyError, too).
        """
        try:
            task, number = split_instance_name(name)
        except InvalidName as error:
            raise InstanceNotFound(f"{self.uid}: {error}") from None
        snapshot = self.store.load(self.uid, Query(instances=(name,)))
        record = snapshot.instances.get(name)
        if record is None:
            created = snapshot.header.created(task) if snapshot.header else 0
            raise InstanceNotFound(
                f"{self.uid}: there is no instance {name}"
                + (f"; {task} has {created} so far" if created else f"; {task!r} has none yet")
            )
        assert record.number == number
        return TaskInstance(self.store, self.uid, record)

    def __contains__(self, name: object) -> bool:
        try:
            split_instance_name(name)
        except InvalidName:
            return False
        assert isinstance(name, str)
        return name in self.store.load(self.uid, Query(instances=(name,))).instances

    def __iter__(self) -> Iterator[str]:
        """The names of all instances, as of a mapping; the instances are `instances.values()`."""
        return iter(self.instances)

    def instances_of_task(self, task: str | Task) -> list[TaskInstance]:
        """The instances of one task, by number; empty when it has none."""
        name = task.name if isinstance(task, Task) else task
        return list(self._named(self.store.instances(self.uid, task=name)).values())

    def get_unresolved_tasks(self) -> list[Task]:
        """The tasks that have no instance yet, or an unresolved one."""
        snapshot = self.store.load(self.uid, Query())
        header = snapshot.header
        return [
            task
            for name, task in (snapshot.configuration or EMPTY).tasks.items()
            if header is None or not header.created(name) or header.unresolved(name)
        ]

    def get_unresolved_instances(self) -> list[TaskInstance]:
        """The instances that are unstarted, scheduled, running or failed."""
        found = self.store.instances(self.uid, statuses=UNRESOLVED)
        return list(self._named(found).values())

    def get_instances_with_unresolved_logs(self) -> list[TaskInstance]:
        """The instances that logged a warning or worse, not marked as resolved."""
        found = self.store.instances(self.uid, unresolved_logs=True)
        return list(self._named(found).values())

    def _named(self, records: list[Instance]) -> dict[str, TaskInstance]:
        return {record.name: TaskInstance(self.store, self.uid, record) for record in records}


def _option_for_text(open_store: Callable[..., Store]) -> str | None:
    """The option that gets the value of a text; None when there is none."""
    parameters = list(inspect.signature(open_store).parameters.values())
    named = [
        each.name
        for each in parameters
        if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
    ]
    usual = [name for name in ("url", "path") if name in named]
    if usual or named:
        return (usual or named)[0]
    return "url" if any(each.kind is each.VAR_KEYWORD for each in parameters) else None


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
