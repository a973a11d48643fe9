"""Tasks as a session's configuration has them: what is written, what it means, how it is stored."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

import msgspec

from triggers_core import payloads
from triggers_core.engine.conditions import Group
from triggers_core.engine.language import LANGUAGE, parse_rule, plain_rule
from triggers_core.engine.refusals import STORED, refusal
from triggers_core.engine.rooms import Rooms
from triggers_core.engine.rule import Rule
from triggers_core.exceptions import InvalidName
from triggers_core.limits import Limits

DIRECTIVES: Final = (*LANGUAGE, "withParams", "using", "run", "extra")
"""The directives that the core owns."""

_LENIENT: Final = Limits(condition_depth=20, condition_width=1_000_000)
"""For what is stored: the process that wrote it may have had other limits."""


class Task(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One task's configuration: *after* these, *and every* that, *unless* those, *run* this.

    What the language of conditions owns is kept as it is written, in plain form; what it means is
    the `rule`, and nobody but the views that show it need look at the former.
    """

    name: str
    run: str
    after: tuple[Any, ...] = ()
    and_every: Any = None
    unless: tuple[Any, ...] = ()
    keeping: Any = None
    every_time: bool = False
    waiting: Any = None
    within: Any = None
    otherwise: Any = None
    with_params: dict[str, dict[str, Any]] = {}
    using: str | None = None
    extra: dict[str, Any] = {}
    directives: dict[str, Any] = {}
    """The values of plugins' directives, by name."""

    @cached_property
    def rule(self) -> Rule:
        """What it says, compiled."""
        if self.plain:
            return plain_rule(self.after, self.and_every, self.unless)
        return parse_rule(self.name, self._language, _LENIENT).rule

    @cached_property
    def plain(self) -> bool:
        """Whether it uses no word of the language beyond the first version: names, nothing else."""
        return (
            not (self.keeping or self.every_time or self.waiting or self.within or self.otherwise)
            and (self.and_every is None or isinstance(self.and_every, str))
            and all(isinstance(each, str) for each in (*self.after, *self.unless))
        )

    @property
    def required(self) -> Group:
        """What must have happened: all of `after`, and `andEvery`."""
        return self.rule.required

    @cached_property
    def listens_to(self) -> frozenset[str]:
        """Every trigger that can change an instance of the task."""
        if not self.plain:
            return self.rule.triggers
        every = () if self.and_every is None else (self.and_every,)
        return frozenset((*self.after, *every, *self.unless))

    @property
    def features(self) -> frozenset[str]:
        """What a process must understand to read the task: names out of `features.FEATURES`."""
        return frozenset() if self.plain else self.rule.features

    @cached_property
    def open_triggers(self) -> Rooms:
        """Called with an instance: the triggers of own leaves in which it still has room.

        :return: a function ``(instance) -> frozenset of triggers``.
        """
        return Rooms(self.rule)

    def same_as(self, other: Task) -> bool:
        """Whether two tasks say the same; 1, 1.0 and True differ, the order of keys is nothing."""
        return self is other or payloads.same(self.encoded, other.encoded)

    @cached_property
    def encoded(self) -> bytes:
        """Its stored form."""
        return payloads.encode(self.as_dict(), STORED, self.name)

    @property
    def _language(self) -> dict[str, Any]:
        return {
            "after": list(self.after),
            "andEvery": self.and_every,
            "unless": list(self.unless),
            "keeping": self.keeping,
            "everyTime": self.every_time,
            "waiting": self.waiting,
            "within": self.within,
            "otherwise": self.otherwise,
        }

    def as_dict(self) -> dict[str, Any]:
        """The configuration as it is written, defaults left out."""
        written: dict[str, Any] = {
            **self._language,
            "withParams": self.with_params,
            "run": self.run,
            "using": self.using,
            "extra": self.extra,
        }
        given = {key: value for key, value in written.items() if value or key == "after"}
        return {**given, **self.directives}


class _Stored(msgspec.Struct):
    """The core's directives of one task, in the shapes that this version writes."""

    run: str
    after: list[str | list[Any] | dict[str, Any]] = []
    andEvery: str | dict[str, Any] | None = None
    unless: list[str | list[Any] | dict[str, Any]] = []
    keeping: str | dict[str, str] | None = None
    everyTime: bool = False
    waiting: str | int | float | dict[str, Any] | None = None
    within: str | int | float | dict[str, Any] | None = None
    otherwise: str | dict[str, str] | None = None
    withParams: dict[str, dict[str, Any]] = {}
    using: str | None = None
    extra: dict[str, Any] = {}


def stored_task(name: str, raw: dict[str, Any]) -> Task:
    """Read the stored form of one task.

    :raises ValueError: this version would not have written it; or InvalidInput, TypeError…
    """
    stored = msgspec.convert(raw, _Stored)
    if not stored.after and stored.andEvery is None:
        raise InvalidName(f"{name}: it waits for nothing")
    task = Task(
        name=name,
        after=tuple(raw.get("after", ())),
        and_every=raw.get("andEvery"),
        unless=tuple(raw.get("unless", ())),
        keeping=stored.keeping,
        every_time=stored.everyTime,
        waiting=raw.get("waiting"),
        within=raw.get("within"),
        otherwise=stored.otherwise,
        with_params=raw.get("withParams", {}),
        using=stored.using,
        run=stored.run,
        extra=raw.get("extra", {}),
        directives={key: value for key, value in raw.items() if key not in DIRECTIVES},
    )
    if not task.plain:
        _check_stored(task)
    return task


def _check_stored(task: Task) -> None:
    """Compile a stored task, and see that this version would have written it so."""
    parsed = parse_rule(task.name, task._language, _LENIENT)
    for word in (
        "after",
        "and_every",
        "unless",
        "keeping",
        "every_time",
        "waiting",
        "within",
        "otherwise",
    ):
        if getattr(parsed, word) != getattr(task, word):
            raise refusal(f"{task.name}.{word}", "it is not written as this version writes it")
    task.__dict__["rule"] = parsed.rule
