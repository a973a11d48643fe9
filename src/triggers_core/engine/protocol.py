"""What a command asks of a storage and hands back to it: queries, snapshots, plans. No I/O.

A command decides in steps, as a generator: it yields a `Query`, gets the `Snapshot` for it, and
returns a `Plan`. Whoever drives it (`triggers_core.storages.base`) loads and writes, in one
transaction or optimistically; an asyncio driver would be a second loop, not a second copy of the
rules.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from triggers_core.engine.configuration import EMPTY, Configuration, Task
from triggers_core.engine.plugin_options import PluginOptions
from triggers_core.engine.records import Event, Header, Instance, Status, to_micros
from triggers_core.limits import Limits, Timing

T = TypeVar("T")

MOST_DUE: Final = 1_000
"""Due instances that one commit works off, but for those of one and the same moment."""


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a session that a change has to see, beyond the header and the configuration."""

    triggers: tuple[str, ...] = ()
    """The unstarted instances that want one of these triggers."""
    moments: float | None = None
    """The unstarted instances that fall due up to this time, earliest first: all of them, or all of
    the first moments that hold `MOST_DUE`; and `Snapshot.next_moment`."""
    instances: tuple[str, ...] = ()
    """The instances of these names."""
    unstarted: tuple[str, ...] = ()
    """All unstarted instances of these tasks."""
    event_ids: tuple[str, ...] = ()
    """The events recorded under these ids."""
    all_events: bool = False
    """Every event, in order."""
    numbers: tuple[int, ...] = ()
    """The events of these numbers, into `Snapshot.numbered`."""
    payloads: bool = False
    """The events that `instances` have taken (`event_spans`), into `Snapshot.numbered`."""


class Snapshot(msgspec.Struct, kw_only=True):
    """The answer to a `Query`. The one who gets it owns it: nothing in it is shared.

    But for the configuration, which nobody changes. For a session that there is not, `now` is all.
    """

    now: float
    """The storage's clock, in seconds since 1970."""
    header: Header | None = None
    configuration: Configuration = EMPTY
    instances: dict[str, Instance] = {}
    known: dict[str, Event] = {}
    events: list[Event] = []
    numbered: dict[int, Event] = {}
    """Event number → event."""
    next_moment: float | None = None
    """When the next unstarted instance falls due after those that `Query.moments` brought."""


class Change(msgspec.Struct, kw_only=True):
    """One instance that a plan creates or changes. Durations are in seconds from the commit."""

    instance: Instance
    before: Status | None
    """The status that is stored; None when the instance is new."""
    waits_before: frozenset[str] = frozenset()
    """The triggers under which it is indexed as stored."""
    waits_after: frozenset[str] = frozenset()
    """The triggers under which it has to be indexed."""
    due_in: float | None = None
    lease_in: float | None = None
    keep_times: bool = False
    """Leave due time and lease as they are stored (metadata changes)."""

    def stamp(self, now: float) -> None:
        """Turn the durations into the storage's time. An unstarted instance has moments instead."""
        instance = self.instance
        if not self.keep_times and instance.status is not Status.UNSTARTED:
            instance.due_at = None if self.due_in is None else now + self.due_in
            instance.lease_until = None if self.lease_in is None else now + self.lease_in
            instance.not_before = None
        if self.before is None:
            instance.created_at = now
        if instance.status is not self.before:
            if instance.status is Status.RUNNING:
                instance.started_at = now
            elif instance.resolved or instance.status is Status.FAILED:
                instance.ended_at = now


class Plan(msgspec.Struct, Generic[T], kw_only=True):
    """Everything that one commit writes; without a `header` and without `changes`, nothing."""

    outcome: T
    """What the caller of the change gets."""
    header: Header | None = None
    created: bool = False
    """Whether the session is new."""
    waiting: bool = False
    """Whether the session waits: something is unresolved and nothing is under way."""
    fleet_changed: bool = True
    """Whether what the fleet index shows (failed, waiting since) differs from what is stored."""
    group_before: tuple[str, ...] | None = None
    """What the session lacked (`Header.missing`) as it is stored; None: it did not wait."""
    events: list[Event] = []
    changes: list[Change] = []
    configuration: Configuration | None = None
    """A configuration to store under its hash."""
    scheduled: list[Instance] = []
    """The instances to dispatch once the commit is durable."""
    tasks: Mapping[str, Task] = {}
    """The session's tasks, so that a dispatch need not ask the storage for them again."""
    again: bool = False
    """Whether this is only what was due before the change: carry it out, then commit that anew."""
    notes: Sequence[str] = ()
    """Sentences for the log of whoever commits it."""
    floor: float = 0.0
    """Time of the session's last event, or of a later moment that is decided."""
    now: float | None = None
    """The time of the change, if it is not the storage's (`Rules.clock`)."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        return self.header is None and not self.changes

    def stamp(self, now: float) -> None:
        """Turn every duration into the storage's time. Storages call it right before they write.

        Events and moments have their times already: those of the slice that decided. So a plan
        never outlives its decision, however long the commit takes.
        """
        now = to_micros(now if self.now is None else self.now)
        for change in self.changes:
            change.stamp(now)
        header = self.header
        if header is None:
            return
        header.touched_at(now, self.floor)
        if self.created:
            header.created_at = now
        if not self.waiting:
            header.waiting_since = None
        elif header.waiting_since is None:
            header.waiting_since = now


CommandSteps = Generator[Query, Snapshot, Plan[T]]
"""A change at work; see the module's docstring."""


BeforeCommit = Callable[[Any, Any], None]
"""A `before_commit` hook, bound: ``(session, plan)``."""


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What the application around a session lays down for every change."""

    limits: Limits = Limits()
    timing: Timing = Timing()
    before_commit: tuple[tuple[str, BeforeCommit], ...] = ()
    """(plugin name, hook), in calling order."""
    plugins: frozenset[str] = frozenset()
    """Names of the plugins that this process has."""
    default_configuration: Configuration | None = None
    """Pinned by the first commit of a session that has none of its own."""
    default_requires: tuple[str, ...] = ()
    plugin_options: PluginOptions = PluginOptions({})
    clock: Callable[[], float] | None = None
    """The time of every change, in seconds since 1970, in place of the storage's: a backtest's."""


class Command(Protocol[T]):
    """A command of `triggers_core.engine.commands`, `attempts` or `recovery`.

    ``T`` is its outcome: what `Plan.outcome` holds once it is carried out.
    """

    def decide(self, uid: str, rules: Rules) -> CommandSteps[T]: ...
