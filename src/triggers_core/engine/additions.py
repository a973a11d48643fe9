"""Additions: what `before_commit` hooks see of a change, and add to the same commit."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec

from triggers_core import payloads
from triggers_core.engine.configuration import Task
from triggers_core.engine.machine import Draft
from triggers_core.engine.moments import MoreDue, record, work_off
from triggers_core.engine.names import check_name
from triggers_core.engine.nesting import BeforeCommit
from triggers_core.engine.protocol import Change, Plan, Query, Snapshot
from triggers_core.engine.records import Event, SessionState, Source, Status
from triggers_core.exceptions import HookFailed, WrongState, ends_the_program
from triggers_core.failures import message_of

T = TypeVar("T")


class CommitSession:
    """A session as it will be after the commit: header facts only, never a list of instances."""

    __slots__ = ("_draft", "uid")

    def __init__(self, draft: Draft, uid: str) -> None:
        self._draft = draft
        self.uid: str = uid

    @property
    def generation(self) -> str:
        """Which life of the uid this is: a deleted and re-used uid has another one."""
        return self._draft.header.generation

    @property
    def closed(self) -> bool:
        """Whether the session refuses events."""
        return self._draft.header.state is SessionState.CLOSED

    def options(self, plugin: str, kind: type[T]) -> T:
        """A plugin's part of the setting `TRIGGER_PLUGIN_OPTIONS`, checked once.

        :param kind: a `msgspec.Struct` that forbids unknown fields.
        :raises InvalidSetting: names the plugin and what does not fit.

        Example::

            session.options("finalize", Options).trigger
        """
        return self._draft.rules.plugin_options.read(plugin, kind)

    @property
    def config(self) -> str:
        """The address of the session's configuration: a key for what is derived from it."""
        return self._draft.header.config

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The session's tasks, by name, in the order of the configuration."""
        return MappingProxyType(self._draft.configuration.tasks)

    @property
    def events(self) -> int:
        """How many events the session has recorded, those of this commit included."""
        return self._draft.header.events

    def has_fired(self, trigger: str) -> bool:
        """Whether the trigger has fired, this commit included."""
        return trigger in self._draft.header.latest

    def count(self, task: str, *statuses: Status) -> int:
        """Instances of a task in any of the statuses."""
        return self._draft.header.count(task, *statuses)

    def created(self, task: str) -> int:
        """Instances that the task ever had in this session."""
        return self._draft.header.created(task)

    def unresolved(self, task: str) -> int:
        """Unresolved instances of a task; not one that merely waits for the next time."""
        return self._draft.header.unresolved(task) - self.idle(task)

    def idle(self, task: str) -> int:
        """Unstarted instances of a task with `everyTime` that merely wait for the next time."""
        current = self._draft.header.rounds.get(task)
        return 0 if current is None else current.idle

    @property
    def unresolved_logs(self) -> Mapping[int, int]:
        """Log level (as in `logging`) → instances with unresolved logs of that level."""
        return MappingProxyType(self._draft.header.open_logs)


class CommitPlan:
    """What one commit is about to do; `fire` adds a trigger to it."""

    __slots__ = ("_draft", "_plugin", "added", "over")

    def __init__(self, draft: Draft, plugin: str) -> None:
        self._draft, self._plugin = draft, plugin
        self.added: list[Event] = []
        self.over: bool = False
        """Whether the hook has returned: what is fired now would be dropped."""

    @property
    def events(self) -> Sequence[Event]:
        """The events that it records, those of earlier rounds included."""
        return tuple(self._draft.events)

    @property
    def changes(self) -> Sequence[Change]:
        """The instances that it changes: `.instance` (with its new status) and `.before`."""
        return tuple(self._draft.changes)

    def fire(self, trigger: str, kwargs: Mapping[str, Any] | None = None) -> None:
        """Fire a trigger in this very commit.

        :raises InvalidName: the trigger's name cannot be one.
        :raises InvalidPayload: the kwargs cannot be stored.
        :raises WrongState: the hook has returned.
        """
        if self.over:
            raise WrongState(
                f"plugin {self._plugin}: plan.fire({trigger!r}) after before_commit has returned:"
                " a plan can be added to by its own hook, and not later"
            )
        payload = payloads.encode(kwargs, self._draft.rules.limits)
        chain = max((event.chain for event in self._draft.events), default=0)
        self.added.append(
            Event(
                id="",
                trigger=check_name(trigger, "trigger"),
                payload=msgspec.Raw(payload),
                source=Source.PLUGIN,
                cause=self._plugin,
                chain=chain,
            )
        )


def run_before_commit(
    draft: Draft, uid: str, without: Collection[str] = ()
) -> Generator[Query, Snapshot, None]:
    """Call `before_commit` until no hook adds anything.

    :param without: plugins whose hooks are left out.
    :raises HookFailed: a hook raised, what it added cannot be fired, or there is no end to it.
    """
    if not draft.rules.before_commit:
        return
    hooks = [(name, hook) for name, hook in draft.rules.before_commit if name not in without]
    session = CommitSession(draft, uid)
    plugin = ""
    for _ in range(draft.rules.limits.additions + 1):
        added: list[tuple[str, Event]] = []
        with BeforeCommit(uid) as inside:
            for plugin, hook in hooks:
                plan = CommitPlan(draft, plugin)
                inside.plugin = plugin
                try:
                    hook(session, plan)
                except BaseException as error:
                    if not isinstance(error, Exception) and ends_the_program(error):
                        raise
                    raise HookFailed(
                        f"plugin {plugin}: before_commit raised {type(error).__name__}:"
                        f" {message_of(error)}",
                        plugin,
                    ) from error
                added += ((plugin, event) for event in plan.added)
                plan.over = True
        if not added:
            return
        draft.absorb((yield Query(triggers=tuple({event.trigger for _, event in added}))))
        for plugin, event in added:
            try:
                yield from record(draft, event)
            except Exception as error:
                raise HookFailed(
                    f"plugin {plugin}: firing {event.trigger!r} in before_commit: {error}", plugin
                ) from error
    raise HookFailed(
        f"plugin {plugin}: before_commit still adds triggers after {draft.rules.limits.additions}"
        " rounds (Limits.additions): it must stop once the session has what it wanted",
        plugin,
    )


def due_first(draft: Draft, uid: str) -> Generator[Query, Snapshot, Plan[Any] | None]:
    """Work off what is due before a change, which goes on with the same draft.

    :returns: a plan in place of the change's own, if that is too much for one commit: it says
        `again`, and whoever carries it out commits the change anew.
    """
    try:
        yield from work_off(draft)
    except MoreDue:
        if not draft.changes:  # entries of the index that say nothing any more: no reason to wait
            return None
        yield from run_before_commit(draft, uid)
        return draft.plan(None, again=True)
    return None
