"""Task configurations: parsed, checked with the place of every error, and content-addressed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import islice
from typing import Any, Final

import msgspec

from triggers_core import payloads
from triggers_core.engine.conditions import Leaf
from triggers_core.engine.directives import optional_name, read_owned, read_params, read_run
from triggers_core.engine.features import requirement
from triggers_core.engine.language import parse_rule
from triggers_core.engine.names import check_name
from triggers_core.engine.refusals import STORED, plain_mapping, refusal
from triggers_core.engine.task import DIRECTIVES as DIRECTIVES
from triggers_core.engine.task import Task as Task
from triggers_core.engine.task import stored_task
from triggers_core.exceptions import InvalidInput, LimitExceeded, UnknownSchema
from triggers_core.limits import Limits
from triggers_core.texts import did_you_mean, short_repr

PLUGIN_DIRECTIVES: Final = {"retry": "triggers-retry", "optional": "triggers-finalize"}
"""Directive → distribution to install, for the plugins of the project."""


class Directive(msgspec.Struct, frozen=True):
    """A directive that a plugin owns: its name, the type of its value, the plugin's name."""

    name: str
    type: Any
    owner: str


Directives = Mapping[str, Directive]


class Configuration:
    """The tasks of a session, in order, and which of them listen to which trigger.

    `hash` addresses the content (order included): sessions with equal configurations share one.
    """

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        self.tasks: dict[str, Task] = dict(tasks)
        listeners: dict[str, list[Task]] = {}
        for task in self.tasks.values():
            for trigger in task.listens_to:
                listeners.setdefault(trigger, []).append(task)
        self.listeners: dict[str, tuple[Task, ...]] = {
            trigger: tuple(tasks) for trigger, tasks in listeners.items()
        }

    @cached_property
    def encoded(self) -> bytes:
        """The stored form."""
        plain = {name: task.as_dict() for name, task in self.tasks.items()}
        return payloads.encode(plain, STORED, "configuration")

    @cached_property
    def hash(self) -> str:
        """The content's address: 32 hex digits of SHA-256."""
        return hashlib.sha256(self.encoded).hexdigest()[:32]

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """The configuration as it is written."""
        return {name: task.as_dict() for name, task in self.tasks.items()}

    @cached_property
    def requires(self) -> frozenset[str]:
        """The features that its tasks use, as a session's `requires` names them."""
        used = frozenset[str]().union(*(task.features for task in self.tasks.values()))
        return frozenset(map(requirement, used))

    @cached_property
    def plain(self) -> bool:
        """Whether none of its tasks uses a word of the language beyond the first version."""
        return all(task.plain for task in self.tasks.values())

    @cached_property
    def records(self) -> dict[str, Leaf]:
        """Address of a record → one of the leaves that share it, of whatever task."""
        return {
            leaf.record: leaf
            for task in self.tasks.values()
            if not task.plain
            for leaf in task.rule.leaves.values()
            if leaf.record
        }

    @cached_property
    def recorded(self) -> dict[str, tuple[Leaf, ...]]:
        """Trigger → one leaf for each record of its events."""
        found: dict[str, list[Leaf]] = {}
        for leaf in self.records.values():
            found.setdefault(leaf.trigger, []).append(leaf)
        return {trigger: tuple(leaves) for trigger, leaves in found.items()}

    @cached_property
    def with_facts(self) -> dict[str, tuple[Task, ...]]:
        """Trigger → the listening tasks whose new instances have to know earlier events."""
        found = {
            trigger: tuple(task for task in tasks if not task.plain and task.rule.needs_events)
            for trigger, tasks in self.listeners.items()
        }
        return {trigger: tasks for trigger, tasks in found.items() if tasks}

    @cached_property
    def otherwise(self) -> frozenset[str]:
        """The triggers that its tasks fire when they come to no success."""
        return frozenset(
            trigger
            for task in self.tasks.values()
            if not task.plain
            for trigger in task.rule.otherwise.values()
        )

    @cached_property
    def untested(self) -> set[str]:
        """The triggers that its tasks wait for without a test of their events' kwargs."""
        return untested_triggers(self.tasks.values())

    @cached_property
    def order(self) -> dict[str, int]:
        """Task → its position."""
        return {name: position for position, name in enumerate(self.tasks)}

    @cached_property
    def read_paths(self) -> dict[str, tuple[str, ...]]:
        """Address of a record → the paths at which a `waiting` reads its latest event."""
        found: dict[str, dict[str, None]] = {}
        for task in self.tasks.values():
            until = None if task.waiting is None else task.rule.until
            if until is not None and (leaf := task.rule.leaves[until.key]).keep == "latest":
                found.setdefault(leaf.record, {})[until.path] = None
        return {record: tuple(paths) for record, paths in found.items()}

    def updated(self, other: Configuration) -> Configuration:
        """This configuration with the tasks of another added or replaced, as `dict.update` does.

        Of two that could be parsed the union may be wrong: `check_together` says so.
        """
        if not self.tasks:  # as in each new session: nothing to be compiled once more
            return other
        return Configuration({**self.tasks, **other.tasks})

    def changed_since(self, before: Configuration) -> list[Task]:
        """The tasks that another configuration has not, or has otherwise."""
        return [
            task
            for name, task in self.tasks.items()
            if name not in before.tasks or not task.same_as(before.tasks[name])
        ]

    def check_together(self) -> None:
        """Check what concerns several tasks: parsing does, and who stores a union has to.

        :raises InvalidConfiguration: an `otherwise` fires the name of a task.
        """
        for name, task in self.tasks.items():
            for why, trigger in () if task.otherwise is None else task.rule.otherwise.items():
                if trigger in self.tasks:
                    place = f"{name}.otherwise"
                    raise refusal(
                        place if isinstance(task.otherwise, str) else f"{place}.{why}",
                        f"{trigger!r} is a task, which fires its own name when it has succeeded:"
                        " give the trigger or the task another name",
                    )

    @classmethod
    def decoded(cls, data: bytes) -> Configuration:
        """Read the stored form.

        What this version would not have written is refused, and never taken for something else.

        :raises UnknownSchema: a newer version wrote it, or it is damaged.
        """
        try:
            return cls(
                {name: stored_task(name, raw) for name, raw in payloads.decode(data).items()}
            )
        except (InvalidInput, KeyError, TypeError, ValueError) as error:
            raise UnknownSchema(
                f"its configuration cannot be read ({error}): a newer version of triggers-core"
                " wrote it, then upgrade this process; or it is damaged"
            ) from error


EMPTY: Final = Configuration({})


def untested_triggers(tasks: Iterable[Task]) -> set[str]:
    """The triggers that tasks wait for without a test of their events' kwargs."""
    found: set[str] = set()
    for task in tasks:
        if task.plain:
            found |= task.listens_to
        else:
            found |= {leaf.trigger for leaf in task.rule.leaves.values() if leaf.where is None}
    return found


def parse_configuration(
    configuration: object, limits: Limits | None = None, directives: Directives | None = None
) -> Configuration:
    """Check a configuration and turn it into a `Configuration`.

    :param configuration: mapping of task name → mapping of directives.
    :param directives: the directives that plugins own, by name.
    :raises InvalidConfiguration: names the place, for example
        ``t_x.after: expected a list of trigger names, got 'go'``.
    :raises LimitExceeded: too many tasks.

    Example::

        parse_configuration({"t_ship": {"after": ["paid", "packed"], "run": "shop.Ship"}})
    """
    limits = limits or Limits()
    if isinstance(configuration, Configuration):
        configuration = configuration.as_dict()
    if not isinstance(configuration, Mapping):
        fix = ""
        if isinstance(configuration, str | os.PathLike):
            fix = ": hand in what the file holds, as json.load(open(...)) returns it"
        raise refusal(
            "",
            f"expected a mapping of task name to directives, got {short_repr(configuration)}{fix}",
        )
    tasks: dict[str, Task] = {}
    amount = len(configuration)
    # Read no further than the limit, whatever its `len` says.
    for name, raw in islice(configuration.items(), limits.tasks + 2):
        if name == "$schema" and isinstance(raw, str):
            continue  # it tells editors how to check the file
        try:
            name = check_name(name, "task name")
        except InvalidInput as error:
            raise refusal("", str(error)) from None
        if len(tasks) >= limits.tasks:
            raise LimitExceeded(
                f"the configuration has {max(amount, limits.tasks + 1):,} tasks, the limit is"
                f" {limits.tasks:,} (Limits.tasks)"
            )
        tasks[name] = _parse_task(name, raw, directives or {}, limits)
    parsed = Configuration(tasks)
    parsed.check_together()
    return parsed


def _parse_task(name: str, raw: object, directives: Directives, limits: Limits) -> Task:
    if not isinstance(raw, Mapping):
        raise refusal(name, f"expected a mapping of directives, got {short_repr(raw)}")
    known = (*DIRECTIVES, *directives)
    plain: dict[Any, Any] = {}
    for key, value in islice(raw.items(), len(known) + 1):
        if key not in known:
            raise refusal(name, f"unknown directive {short_repr(key)}{_directive_hint(key, known)}")
        plain[key] = value
    raw = plain
    parsed = parse_rule(name, raw, limits)
    using = optional_name(f"{name}.using", "the key of a runner", raw.get("using"))
    owned = {
        key: read_owned(f"{name}.{key}", raw[key], directives[key].type, directives[key].owner)
        for key in raw
        if key in directives
    }
    task = Task(
        name=name,
        after=parsed.after,
        and_every=parsed.and_every,
        unless=parsed.unless,
        keeping=parsed.keeping,
        every_time=parsed.every_time,
        waiting=parsed.waiting,
        within=parsed.within,
        otherwise=parsed.otherwise,
        with_params=read_params(f"{name}.withParams", raw.get("withParams")),
        using=using,
        run=read_run(name, raw),
        extra=plain_mapping(f"{name}.extra", raw.get("extra")),
        directives=owned,
    )
    task.__dict__["rule"] = parsed.rule  # what the property would compile once more
    return task


def _directive_hint(key: object, known: Iterable[str]) -> str:
    distribution = PLUGIN_DIRECTIVES.get(key) if isinstance(key, str) else None
    if distribution is not None:
        return (
            f": python -m pip install {distribution} (or, if it is installed, see that"
            " TRIGGER_PLUGINS does not leave it out)"
        )
    hint = did_you_mean(key, known)
    if hint.endswith("?"):
        return hint
    return f"{hint}; what your application notes for itself belongs in 'extra'"
