"""The language of conditions: from the directives of one task to its `Rule`.

`conditions` says what a tree is, `trees` how it is written, `where` which events pass a leaf,
`durations` how times are written. This module puts them together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, cast

from triggers_core.engine.conditions import REASONS, Group, Keep, Leaf, Reference
from triggers_core.engine.durations import read_duration
from triggers_core.engine.refusals import checked_name, inside, read_words, refusal
from triggers_core.engine.rule import Rule
from triggers_core.engine.trees import Trees
from triggers_core.limits import Limits
from triggers_core.texts import did_you_mean, listed, short_repr

LANGUAGE: Final = (
    "after",
    "andEvery",
    "unless",
    "keeping",
    "everyTime",
    "waiting",
    "within",
    "otherwise",
)
"""The directives that say when a task runs, and what happens when it does not."""

_KEEPS: Final = ("first", "latest", "all")


class Parsed(NamedTuple):
    """A task's rule, and its directives in plain form: read again, they give the same."""

    rule: Rule
    after: tuple[Any, ...]
    and_every: Any
    unless: tuple[Any, ...]
    keeping: Any
    every_time: bool
    waiting: Any
    within: Any
    otherwise: Any


def parse_rule(name: str, raw: Mapping[str, Any], limits: Limits) -> Parsed:
    """Check the directives of one task that belong to the language, and compile them.

    What concerns the other tasks of a session is left to `Configuration.updated`.

    :param name: the task's.
    :param raw: directive → value; None, where it is one, counts as not given.
    :raises InvalidConfiguration: names the place and the cure.

    Example::

        parse_rule("t_ship", {"after": ["paid", {"anyOf": ["packed", "bought"]}]}, Limits())
    """
    trees = Trees(limits)
    after = trees.read_top(f"{name}.after", raw.get("after", ()), "after")
    given = raw.get("andEvery")
    every = None if given is None else trees.read_every(f"{name}.andEvery", given)
    if not after and every is None:
        raise refusal(f"{name}.after", "the task waits for nothing: name at least one trigger")
    unless = trees.read_top(f"{name}.unless", raw.get("unless") or (), "unless")
    required = [each.condition for each in after]
    if every is not None and every.condition not in required:
        required.append(every.condition)
    details = _Details(name, trees.leaves, every is not None)
    details.check_own_name()
    keeping = details.read_keeping(raw.get("keeping"))
    for count in trees.named_counts:
        count.leaf.count = details.reference(
            count.place, count.text, lambda leaf: leaf.own, "keeps the first event"
        )
    every_time = details.read_every_time(raw.get("everyTime"))
    waiting = details.read_waiting(raw.get("waiting"))
    within = details.read_within(raw.get("within"))
    otherwise = details.read_otherwise(raw.get("otherwise"))
    for leaf in trees.leaves.values():
        if not leaf.own or leaf.where is not None:
            leaf.record = record_address(leaf)
    words = {
        "keeping": keeping,
        "every-time": every_time,
        "waiting": waiting.written,
        "within": within.written,
        "otherwise": otherwise[1],
    }
    rule = Rule(
        trees.leaves,
        Group(len(required), tuple(required)),
        Group(len(unless), tuple(each.condition for each in unless)) if unless else None,
        every_time=every_time,
        waiting=waiting.time,
        at_most=waiting.at_most,
        until=waiting.until,
        within=within.time,
        within_of=within.of,
        otherwise=otherwise[0],
        features=frozenset(trees.features | {word for word, value in words.items() if value}),
    )
    return Parsed(
        rule,
        after=tuple(each.written for each in after),
        and_every=None if every is None else every.written,
        unless=tuple(each.written for each in unless),
        keeping=keeping,
        every_time=every_time,
        waiting=waiting.written,
        within=within.written,
        otherwise=otherwise[1],
    )


def plain_rule(after: Iterable[str], and_every: str | None, unless: Iterable[str]) -> Rule:
    """The rule of a task that was checked before and uses names only: the quick way to it."""
    leaves: dict[str, Leaf] = {}

    def each(name: str) -> Leaf:
        return leaves.setdefault(name, Leaf(name, name))

    required = [each(name) for name in after]
    if and_every is not None:
        every = each(and_every)
        every.every = True
        if every not in required:
            required.append(every)
    for leaf in required:
        leaf.required = True
    against = [each(name) for name in unless]
    for leaf in against:
        leaf.unless = True
    return Rule(
        leaves,
        Group(len(required), tuple(required)),
        Group(len(against), tuple(against)) if against else None,
    )


def record_address(leaf: Leaf) -> str:
    """The address of a leaf's record, one for leaves of any task that are about the same events."""
    tests = "" if leaf.where is None else leaf.where.canonical
    return hashlib.sha256(f"{leaf.trigger}\0{tests}".encode()).hexdigest()[:12]


class _Waiting(NamedTuple):
    time: int | None = None
    at_most: int | None = None
    until: Reference | None = None
    written: Any = None


class _Within(NamedTuple):
    time: int | None = None
    of: str | None = None
    written: Any = None


class _Details:
    """What a task says beside its trees, which is about their leaves."""

    def __init__(self, name: str, leaves: Mapping[str, Leaf], has_every: bool) -> None:
        self.name, self.leaves, self.has_every = name, leaves, has_every
        self.required = {key: leaf for key, leaf in leaves.items() if leaf.required}

    def check_own_name(self) -> None:
        for leaf in self.required.values():
            if leaf.trigger == self.name:
                place = "andEvery" if leaf.every else "after"
                raise refusal(
                    f"{self.name}.{place}",
                    "a task cannot wait for its own name: it would never run",
                )

    # -- keeping, everyTime -------------------------------------------------------------------

    def read_keeping(self, value: object) -> Any:
        place = f"{self.name}.keeping"
        if value is None:
            return None
        if isinstance(value, str):
            keep = _keep(place, value)
            for leaf in self.required.values():
                if not leaf.every and leaf.keep == "first":
                    leaf.keep = keep
            return keep
        if not isinstance(value, Mapping):
            raise refusal(
                place,
                f"expected 'first', 'latest' or 'all', or a mapping of key to it, got"
                f" {short_repr(value)}",
            )
        may = [
            key for key, leaf in self.required.items() if not leaf.every and leaf.keep != "count"
        ]
        written = read_words(place, value, self.leaves, what="key")
        for key, each in written.items():
            spot, leaf = inside(place, key), self.leaves[key]
            if leaf.every:
                raise refusal(
                    spot,
                    f"{key!r} stands in andEvery, whose leaves keep the first event: leave it out",
                )
            if leaf.keep == "count":
                raise refusal(
                    spot, f"{key!r} is counted, and keeps the events that it counts: leave it out"
                )
            if not leaf.required:
                raise refusal(spot, f"{key!r} is not in 'after'{did_you_mean(key, may)}")
            written[key] = _keep(spot, each)
        for key, each in written.items():
            leaf = self.leaves[key]
            leaf.keep = each
        return written or None

    def read_every_time(self, value: object) -> bool:
        place = f"{self.name}.everyTime"
        if value is None or value is False:
            return False
        if value is not True:
            raise refusal(place, f"expected true or false, got {short_repr(value)}")
        if self.has_every:
            raise refusal(
                place,
                "beside andEvery, which makes an instance for each of its events anyway: leave one"
                " of them out",
            )
        for key, leaf in self.required.items():
            if leaf.unless:
                raise refusal(
                    place,
                    f"{key!r} is required and stands in 'unless', and with everyTime the two see"
                    " different events: give one of them a key of its own with 'as'",
                )
        return True

    # -- times --------------------------------------------------------------------------------

    def read_waiting(self, value: object) -> _Waiting:
        place = f"{self.name}.waiting"
        if value is None:
            return _Waiting()
        if not isinstance(value, Mapping):
            time, written = read_duration(place, value)
            return _Waiting(time, written=written)
        words = read_words(
            place, value, ("time", "atMost", "until"), {"of": "did you mean 'until'?"}
        )
        if "until" in words:
            if len(words) > 1:
                raise refusal(place, "'until' says when by itself: leave 'time' and 'atMost' out")
            until = self.reference(
                f"{place}.until",
                words["until"],
                lambda leaf: leaf.one,
                "is about one event, the first or the latest",
            )
            return _Waiting(until=until, written={"until": str(until)})
        if "time" not in words:
            raise refusal(
                place, "'time' is missing: write {'time': '5 minutes', 'atMost': '1 hour'}"
            )
        time, plain = read_duration(f"{place}.time", words["time"])
        written, at_most = {"time": plain}, None
        if "atMost" in words:
            at_most, written["atMost"] = read_duration(f"{place}.atMost", words["atMost"])
        return _Waiting(time, at_most, written=written)

    def read_within(self, value: object) -> _Within:
        place = f"{self.name}.within"
        if value is None:
            return _Within()
        if not isinstance(value, Mapping):
            time, written = read_duration(place, value)
            return _Within(time, written=written)
        words = read_words(place, value, ("of", "time"))
        for word in ("of", "time"):
            if word not in words:
                raise refusal(
                    place, f"{word!r} is missing: write {{'of': 'paid', 'time': '3 days'}}"
                )
        of = words["of"]
        leaf = self.required.get(of) if isinstance(of, str) else None
        if leaf is None:
            raise refusal(
                f"{place}.of",
                f"{short_repr(of)} is no key of a required leaf{did_you_mean(of, self.required)}",
            )
        if not leaf.one:
            raise refusal(
                f"{place}.of",
                f"{leaf.key!r} holds several events: name a leaf that keeps the first or the"
                " latest",
            )
        time, plain = read_duration(f"{place}.time", words["time"])
        return _Within(time, leaf.key, {"of": leaf.key, "time": plain})

    def reference(
        self, place: str, text: object, fits: Callable[[Leaf], bool], expected: str
    ) -> Reference:
        """Read ``key.path``.

        :param fits: whether a leaf may be named; `expected` says which may, after "that".
        """
        known = [key for key, leaf in self.required.items() if fits(leaf)]
        form = f"expected 'key.path', of a required leaf that {expected}, and of its kwargs"
        if not isinstance(text, str):
            raise refusal(place, f"{form}, got {short_repr(text)}")
        found = [
            leaf
            for key, leaf in self.required.items()
            if text.startswith(f"{key}.") and all(text[len(key) + 1 :].split("."))
        ]
        if not found:
            hint = did_you_mean(text.partition(".")[0], known)
            raise refusal(place, f"{form}, got {short_repr(text)}{hint}")
        if len(found) > 1:
            both = listed([repr(leaf.key) for leaf in found])
            raise refusal(
                place, f"the keys {both} fit {short_repr(text)}: give one of them another with 'as'"
            )
        [leaf] = found
        if not fits(leaf):
            raise refusal(
                place,
                f"{form}, got {short_repr(text)}: {leaf.key!r} keeps"
                f" {'those that it counts' if leaf.keep == 'count' else leaf.keep}",
            )
        return Reference(leaf.key, str.__str__(text)[len(leaf.key) + 1 :])

    # -- otherwise ----------------------------------------------------------------------------

    def read_otherwise(self, value: object) -> tuple[dict[str, str], Any]:
        place = f"{self.name}.otherwise"
        if value is None:
            return {}, None
        if isinstance(value, str):
            trigger = self._other_trigger(place, value)
            return dict.fromkeys(REASONS, trigger), trigger
        if not isinstance(value, Mapping):
            raise refusal(
                place,
                f"expected a trigger's name, or a mapping of {', '.join(REASONS)} to one, got"
                f" {short_repr(value)}",
            )
        cures = {"success": "a task fires its own name when it has succeeded"}
        found = {
            why: self._other_trigger(f"{place}.{why}", trigger)
            for why, trigger in read_words(place, value, REASONS, cures).items()
        }
        return found, found or None

    def _other_trigger(self, place: str, value: object) -> str:
        trigger = checked_name(place, value)
        if any(leaf.trigger == trigger for leaf in self.required.values()):
            raise refusal(place, f"the task itself waits for {trigger!r}: let it fire another name")
        if trigger == self.name:
            raise refusal(
                place, "the task fires its own name when it has succeeded: choose another"
            )
        return trigger


def _keep(place: str, value: object) -> Keep:
    if not isinstance(value, str) or value not in _KEEPS:
        raise refusal(
            place,
            f"expected 'first', 'latest' or 'all', got {short_repr(value)}"
            f"{did_you_mean(value, _KEEPS) if isinstance(value, str) else ''}",
        )
    return cast(Keep, str.__str__(value))
