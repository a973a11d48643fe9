"""Task configurations: parsed, checked with the place of every error, and content-addressed."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import islice
from typing import Any, Final

import msgspec

from triggers_core import payloads
from triggers_core.engine.conditions import AllOf, Condition, Never
from triggers_core.engine.names import check_name
from triggers_core.exceptions import (
    InvalidConfiguration,
    InvalidInput,
    InvalidName,
    LimitExceeded,
    UnknownSchema,
)
from triggers_core.limits import Limits
from triggers_core.texts import convert, did_you_mean, short_repr

DIRECTIVES: Final = ("after", "andEvery", "unless", "withParams", "using", "run", "extra")
"""The directives that the core owns."""

FEATURE: Final = "feature:"
"""How a session's `requires` tells features of the core (``feature:any-of``) from plugins."""

FEATURES: Final[frozenset[str]] = frozenset()
"""The features of configurations, beyond those of the first version, that this one understands."""

PLUGIN_DIRECTIVES: Final = {"retry": "triggers-retry", "optional": "triggers-finalize"}
"""Directive → distribution to install, for the plugins of the project."""

_MAX_NAMES: Final = 10_000  # in one directive; an iterable may have no end

_STORED = Limits(kwargs_bytes=16_000_000, kwargs_depth=64)


class Directive(msgspec.Struct, frozen=True):
    """A directive that a plugin owns: its name, the type of its value, the plugin's name."""

    name: str
    type: Any
    owner: str


Directives = Mapping[str, Directive]


class Task(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One task's configuration: *after* these, *and every* that, *unless* those, *run* this."""

    name: str
    run: str
    after: tuple[str, ...] = ()
    and_every: str | None = None
    unless: tuple[str, ...] = ()
    with_params: dict[str, dict[str, Any]] = {}
    using: str | None = None
    extra: dict[str, Any] = {}
    directives: dict[str, Any] = {}
    """The values of plugins' directives, by name."""

    @cached_property
    def required(self) -> Condition:
        """What must have happened: ``after ∪ {andEvery}``."""
        every = () if self.and_every is None else (self.and_every,)
        return AllOf((*self.after, *every))

    @cached_property
    def abandoned_by(self) -> Condition:
        """What ends an instance before it ran: all of `unless`."""
        return AllOf(self.unless) if self.unless else Never()

    @cached_property
    def listens_to(self) -> frozenset[str]:
        """Every trigger that can change an instance of the task."""
        return self.required.triggers | self.abandoned_by.triggers

    @property
    def features(self) -> frozenset[str]:
        """What a process must understand to read the task: names out of `FEATURES`."""
        return frozenset()

    def as_dict(self) -> dict[str, Any]:
        """The configuration as it is written, defaults left out."""
        written: dict[str, Any] = {
            "after": list(self.after),
            "andEvery": self.and_every,
            "unless": list(self.unless),
            "withParams": self.with_params,
            "run": self.run,
            "using": self.using,
            "extra": self.extra,
        }
        given = {key: value for key, value in written.items() if value or key == "after"}
        return {**given, **self.directives}


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
        return payloads.encode(plain, _STORED, "configuration")

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
        return frozenset(FEATURE + feature for feature in used)

    def updated(self, other: Configuration) -> Configuration:
        """This configuration with the tasks of another added or replaced, as `dict.update` does."""
        return Configuration({**self.tasks, **other.tasks})

    @classmethod
    def decoded(cls, data: bytes) -> Configuration:
        """Read the stored form.

        What this version would not have written is refused, and never taken for something else.

        :raises UnknownSchema: a newer version wrote it, or it is damaged.
        """
        try:
            return cls(
                {name: _stored_task(name, raw) for name, raw in payloads.decode(data).items()}
            )
        except (InvalidInput, KeyError, TypeError, ValueError) as error:
            raise UnknownSchema(
                f"its configuration cannot be read ({error}): a newer version of triggers-core"
                " wrote it, then upgrade this process; or it is damaged"
            ) from error


EMPTY: Final = Configuration({})


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
        raise _error(
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
            raise _error("", str(error)) from None
        if len(tasks) >= limits.tasks:
            raise LimitExceeded(
                f"the configuration has {max(amount, limits.tasks + 1):,} tasks, the limit is"
                f" {limits.tasks:,} (Limits.tasks)"
            )
        tasks[name] = _parse_task(name, raw, directives or {})
    return Configuration(tasks)


def _parse_task(name: str, raw: object, directives: Directives) -> Task:
    if not isinstance(raw, Mapping):
        raise _error(name, f"expected a mapping of directives, got {short_repr(raw)}")
    known = (*DIRECTIVES, *directives)
    plain: dict[Any, Any] = {}
    for key, value in islice(raw.items(), len(known) + 1):
        if key not in known:
            raise _error(name, f"unknown directive {short_repr(key)}{_directive_hint(key, known)}")
        plain[key] = value
    raw = plain
    after = _names(f"{name}.after", raw.get("after", ()))
    unless = _names(f"{name}.unless", raw.get("unless") or ())
    every = _optional_name(f"{name}.andEvery", "one trigger name", raw.get("andEvery"))
    if not after and every is None:
        raise _error(f"{name}.after", "the task waits for nothing: name at least one trigger")
    if name in after or name == every:
        place = "after" if name in after else "andEvery"
        raise _error(f"{name}.{place}", "a task cannot wait for its own name: it would never run")
    using = _optional_name(f"{name}.using", "the key of a runner", raw.get("using"))
    owned = {
        key: _fits(f"{name}.{key}", raw[key], directives[key]) for key in raw if key in directives
    }
    return Task(
        name=name,
        after=after,
        and_every=every,
        unless=unless,
        with_params=_params(f"{name}.withParams", raw.get("withParams")),
        using=using,
        run=_run(name, raw),
        extra=_plain(f"{name}.extra", raw.get("extra")),
        directives=owned,
    )


def _run(name: str, raw: Mapping[Any, Any]) -> str:
    if "run" not in raw:
        raise _error(f"{name}.run", "missing: name the task to run")
    run = raw["run"]
    if isinstance(run, type):
        run = getattr(run, "name", run)  # the task class itself
    named = _optional_name(f"{name}.run", "the name of a task", run)
    if named is None:
        raise _error(f"{name}.run", "expected the name of a task, got None")
    return named


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


def _names(place: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise _error(place, f"expected a list of trigger names, got {short_repr(value)}")
    chosen = sorted(value, key=str) if isinstance(value, set | frozenset) else value
    items = list(islice(chosen, _MAX_NAMES + 1))
    if len(items) > _MAX_NAMES:
        raise _error(place, f"more than {_MAX_NAMES:,} names: let one trigger stand for many")
    names = [_name(f"{place}[{position}]", item) for position, item in enumerate(items)]
    return tuple(dict.fromkeys(names))


def _name(place: str, value: object) -> str:
    try:
        return check_name(value, "trigger name")
    except InvalidInput as error:
        raise _error(place, str(error)) from None


def _optional_name(place: str, expected: str, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise _error(place, f"expected {expected}, got {short_repr(value)}")
    return _name(place, value)


def _plain(place: str, value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _error(place, f"expected a mapping, got {short_repr(value)}")
    try:
        return payloads.decode(payloads.encode(value, _STORED, place))
    except InvalidInput as error:
        raise InvalidConfiguration(str(error), getattr(error, "path", place)) from error


def _params(place: str, value: object) -> dict[str, dict[str, Any]]:
    params = _plain(place, value)
    for trigger, kwargs in params.items():
        if not isinstance(kwargs, dict):
            raise _error(
                f"{place}.{trigger}",
                "expected a mapping of that trigger's kwargs (withParams is"
                f" {{trigger: {{name: value}}}}), got {short_repr(kwargs)}",
            )
    return params


def _fits(place: str, value: object, directive: Directive) -> Any:
    try:
        plain = _plain(place, {"value": value})["value"]
    except InvalidConfiguration as error:
        path = place + error.path.removeprefix(place).removeprefix("['value']")
        path = re.sub(r"\['([^\W\d]\w*)'\]", r".\1", path)
        raise InvalidConfiguration(str(error).replace(error.path, path, 1), path) from error
    try:
        convert(plain, directive.type, place)
    except ValueError as error:
        raise _error(place, f"{error} (directive of {directive.owner})") from None
    return plain


class _Stored(msgspec.Struct):
    """The core's directives of one task, in the shapes that this version writes."""

    run: str
    after: list[str] = []
    andEvery: str | None = None
    unless: list[str] = []
    withParams: dict[str, dict[str, Any]] = {}
    using: str | None = None
    extra: dict[str, Any] = {}


def _stored_task(name: str, raw: dict[str, Any]) -> Task:
    stored = msgspec.convert(raw, _Stored)
    if not stored.after and stored.andEvery is None:
        raise InvalidName(f"{name}: it waits for nothing")
    return Task(
        name=name,
        after=tuple(stored.after),
        and_every=stored.andEvery,
        unless=tuple(stored.unless),
        with_params=raw.get("withParams", {}),
        using=stored.using,
        run=stored.run,
        extra=raw.get("extra", {}),
        directives={key: value for key, value in raw.items() if key not in DIRECTIVES},
    )


def _error(place: str, message: str) -> InvalidConfiguration:
    return InvalidConfiguration(f"{place}: {message}" if place else message, place)
