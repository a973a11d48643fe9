"""Groups of the fleet index: sessions that wait for the same, instances that failed alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from triggers_core.engine.names import split_instance_name
from triggers_core.engine.records import Header, Instance, Status

MOST_GROUPS: Final = 1_000
"""How many groups a listing answers with, unless it is asked for more or fewer."""

MOST_COUNTED: Final = 10_000
"""How many sessions of a group, or of a configuration, a listing counts, unless it is asked for
more or fewer; and how many groups it looks at, at most."""

_BETWEEN: Final = "\n"  # no name of a trigger holds it


class WaitingGroup(msgspec.Struct, frozen=True, kw_only=True):
    """The sessions with nothing under way that lack the same triggers."""

    missing: tuple[str, ...]
    """The triggers, sorted (`Header.missing`); none: nothing that began waits for an event."""
    sessions: int
    """How many they are; never more than were to be counted."""
    since: float
    """When the first of them began to wait, in seconds since 1970."""
    more: bool = False
    """Whether there are more than were counted."""


class FailedGroup(msgspec.Struct, frozen=True, kw_only=True):
    """The failed instances of one task that failed of the same type of error."""

    task: str
    error: str
    """Such as ``SMTPError``; empty when none is known."""
    instances: int
    since: float
    """When the first of them failed, in seconds since 1970."""


class FailedInstance(msgspec.Struct, frozen=True, kw_only=True):
    """A failed instance of any session."""

    uid: str
    instance: str
    error: str
    at: float
    """When it failed, in seconds since 1970."""

    @property
    def task(self) -> str:
        """The name of its task."""
        return split_instance_name(self.instance)[0]

    @property
    def position(self) -> tuple[float, str, str]:
        """Its place among all of them."""
        return self.at, self.uid, self.instance


class ConfigurationInUse(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration that sessions have."""

    address: str
    """Its `Configuration.hash`."""
    sessions: int
    """How many have it, closed ones included; never more than were to be counted."""
    more: bool = False
    """Whether there are more than were counted."""
    example: str = ""
    """The uid of one of them."""


def group_text(missing: Iterable[str]) -> str:
    """The triggers of a group as one text, as storages may keep them."""
    return _BETWEEN.join(missing)


def group_triggers(text: str) -> tuple[str, ...]:
    """The inverse of `group_text`."""
    return tuple(text.split(_BETWEEN)) if text else ()


def failed_at(instance: Instance) -> float:
    """When a failed instance failed; of one that an earlier version wrote, as good as is known."""
    return instance.ended_at or instance.created_at


def group_waiting(
    waiting: Iterable[tuple[tuple[str, ...], float | None]], most: int = MOST_COUNTED
) -> list[WaitingGroup]:
    """The groups of sessions (what each lacks, since when it waits), as `in_order`."""
    found: dict[tuple[str, ...], list[float]] = {}
    for missing, since in waiting:
        if since is not None:
            found.setdefault(missing, []).append(since)
    return in_order(
        waiting_group(missing, len(since), min(since), most) for missing, since in found.items()
    )


def waiting_group(missing: tuple[str, ...], amount: int, since: float, most: int) -> WaitingGroup:
    """A group of so many sessions, of which no more than `most` are to be counted."""
    return WaitingGroup(
        missing=missing, sessions=min(amount, most), since=since, more=amount > most
    )


def in_use(address: str, amount: int, most: int, example: str) -> ConfigurationInUse:
    """A configuration of so many sessions, of which no more than `most` are to be counted."""
    return ConfigurationInUse(
        address=address, sessions=min(amount, most), more=amount > most, example=example
    )


def group_by_configuration(
    headers: Iterable[tuple[str, Header]], limit: int | None, after: str, most: int
) -> list[ConfigurationInUse]:
    """The configurations of a store's sessions, as `Store.configurations_in_use` promises them."""
    found: dict[str, list[str]] = {}
    for uid, header in headers:
        if header.config > after:
            found.setdefault(header.config, []).append(uid)
    return [
        in_use(address, len(found[address]), most, min(found[address])) for address in sorted(found)
    ][:limit]


def in_order(groups: Iterable[WaitingGroup]) -> list[WaitingGroup]:
    """Most sessions first; of equals, those that wait longest."""
    return sorted(groups, key=lambda each: (-each.sessions, each.since, each.missing))


def failed_in(
    uid: str, instances: Iterable[Instance], task: str | None = None, error: str | None = None
) -> list[FailedInstance]:
    """The failed ones among a session's instances, if they are of this task and error."""
    return [
        FailedInstance(uid=uid, instance=each.name, error=each.error, at=failed_at(each))
        for each in instances
        if each.status is Status.FAILED
        and task in (None, each.task)
        and error in (None, each.error)
    ]


def group_failed(failed: Iterable[FailedInstance]) -> list[FailedGroup]:
    """The groups of failed instances, most instances first."""
    found: dict[tuple[str, str], list[float]] = {}
    for each in failed:
        found.setdefault((each.task, each.error), []).append(each.at)
    groups = [
        FailedGroup(task=task, error=error, instances=len(since), since=min(since))
        for (task, error), since in found.items()
    ]
    return failed_in_order(groups)


def failed_in_order(groups: Iterable[FailedGroup]) -> list[FailedGroup]:
    """Most instances first; of equals, those that failed first."""
    return sorted(groups, key=lambda each: (-each.instances, each.since, each.task, each.error))
