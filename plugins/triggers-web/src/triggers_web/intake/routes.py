"""The configuration of webhooks: read and checked before any request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from secrets import token_hex
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from triggers_core.engine.names import check_event_id, check_name
from triggers_core.exceptions import InvalidName, InvalidSetting
from triggers_core.texts import convert, did_you_mean
from triggers_web.http import MAX_BODY
from triggers_web.intake.errors import Missing, NotTaken
from triggers_web.intake.paths import Facts, Path, Template
from triggers_web.intake.secrets import read_secrets
from triggers_web.intake.signatures import (
    AGE,
    Digest,
    Encoding,
    Hmac,
    Scheme,
    Standard,
    Stripe,
    Unsigned,
    github,
)

T = TypeVar("T")

MOST_BYTES: Final = 26_214_400
"""The largest body that a route may take, in bytes: 25 MiB, the largest that GitHub sends."""
_PATH: Final = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")
_TIMED: Final = ("standard", "stripe")


class TriggerWords(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which trigger a webhook fires, by what it holds."""

    source: str = msgspec.field(name="from")
    """A path, or a template of several."""
    map: dict[str, str]
    """What is found there → the trigger."""
    others: Literal["ignore", "refuse"] = "ignore"
    """What becomes of everything else: a 200 that says so, or a 422."""


class RouteWords(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A webhook, as it is written."""

    verify: Literal["standard", "stripe", "github", "hmac", "none"]
    secret: str | list[str] | None = None
    """``env:NAME``, ``file:/path``, or a list while one secret replaces another."""
    uid: str
    """A template: the session."""
    trigger: str | TriggerWords
    kwargs: str | dict[str, str] | None = None
    """A path to an object, or key → path. None: the event has none."""
    event_id: str | None = None
    """A template. None: what the scheme calls a delivery, below the route's path."""
    age: Annotated[float, msgspec.Meta(gt=0, le=86_400)] | None = None
    """Seconds that the time in a signature may be off."""
    max_bytes: Annotated[int, msgspec.Meta(ge=1, le=MOST_BYTES)] = MAX_BODY
    header: str | None = None
    prefix: str | None = None
    digest: Digest | None = None
    encoding: Encoding | None = None


@dataclass(frozen=True)
class Event:
    """What a webhook fires."""

    uid: str
    trigger: str
    kwargs: Mapping[str, Any]
    event_id: str


@dataclass(frozen=True)
class Ignored:
    """What a webhook fires that is none of the route's: nothing."""

    reason: str


class Route:
    """One webhook: who may send it, and what event it becomes.

    :param path: where it is, below the intake; used as it is, with no encoding.
    :param words: how it is written.
    :param environ: where secrets are. None: they are not looked for, and nothing is verified.
    :raises InvalidSetting: names the place and the cure.
    """

    def __init__(
        self, path: str, words: Mapping[str, Any], environ: Mapping[str, str] | None
    ) -> None:
        place = f"webhooks[{path!r}]"
        if not isinstance(path, str) or not _PATH.fullmatch(path):
            raise InvalidSetting(
                f"{place}: a path begins with '/', such as '/stripe', and holds letters, digits,"
                " '-', '_', '.' and '~' in each part, of which none begins with '.' or is empty"
            )
        read = _read(words, RouteWords, place)
        self.path = path
        self.max_bytes = read.max_bytes
        self.scheme: Scheme = _scheme(read, place, environ)
        self.signed = read.verify != "none"
        self._uid = Template(read.uid, f"{place}.uid")
        self._trigger = _trigger(read.trigger, f"{place}.trigger")
        self._kwargs = _kwargs(read.kwargs, f"{place}.kwargs")
        given = read.event_id
        self._event_id = None if given is None else Template(given, f"{place}.event_id")
        for name, template in (("uid", self._uid), ("event_id", self._event_id)):
            if template is not None and not template.paths:
                _check(name, template.text, f"{place}.{name}")
        if self._event_id is not None and not self._event_id.paths:
            raise InvalidSetting(
                f"{place}.event_id: {given!r} is the same for every webhook, so that only the"
                " first would count: put a path into it, such as '{body.id}'"
            )

    def event(self, facts: Facts) -> Event | Ignored:
        """What event a webhook is.

        :raises NotTaken: something is missing in it, or cannot be used; names the path.
        """
        trigger = self._trigger.find(facts)
        if isinstance(trigger, Ignored):
            return trigger
        uid = self._uid.fill(facts)
        if self._event_id is not None:
            event_id = self._event_id.fill(facts)
        else:
            event_id = f"{self.path[1:]}:{self.scheme.identity(facts)}"
        kwargs = {} if self._kwargs is None else self._kwargs.find(facts)
        for what, text in (("uid", uid), ("trigger", trigger), ("event_id", event_id)):
            _check_sent(what, text)
        return Event(uid, trigger, kwargs, event_id)


def find_route(routes: Mapping[str, Any], path: str) -> Route:
    """One of the routes of a configuration, to be tried: its secrets are not looked for.

    :raises InvalidSetting: there is none, or it makes no sense.
    """
    if path not in routes:
        hint = did_you_mean(path, routes) or ": there are none at all"
        raise InvalidSetting(f"there is no webhook {path!r}{hint}")
    return Route(path, routes[path], None)


class _Fixed:
    """One trigger for all, or a template of it."""

    def __init__(self, text: str, place: str) -> None:
        self._template = Template(text, place)
        if not self._template.paths:
            _check("trigger", self._template.text, place)

    def find(self, facts: Facts) -> str | Ignored:
        return self._template.fill(facts)


class _Mapped:
    """A trigger for each of some values."""

    def __init__(self, words: TriggerWords, place: str) -> None:
        source, where = words.source, f"{place}.from"
        self._written = source
        self._source = Template(source if "{" in source else f"{{{source}}}", where)
        if not self._source.paths:
            raise InvalidSetting(f"{where}: {source!r} has no path in it, such as '{{body.type}}'")
        if not words.map:
            raise InvalidSetting(f"{place}.map: it is empty, so that no webhook fires anything")
        for key, name in words.map.items():
            _check("trigger", name, f"{place}.map[{key!r}]")
        self._map, self._refuses = words.map, words.others == "refuse"

    def find(self, facts: Facts) -> str | Ignored:
        try:
            found = self._map.get(self._source.fill(facts))
            reason = f"no trigger is configured for this {self._written}"
        except Missing as missing:  # a kind that has nothing there: it is none of ours
            found, reason = None, missing.reason
        if found is not None:
            return found
        if self._refuses:
            raise NotTaken(422, "unknown", reason)
        return Ignored(reason)


class _Whole:
    """An object in the webhook, as kwargs."""

    def __init__(self, text: str, place: str) -> None:
        self._path = Path(text, place)
        if self._path.root != "body":
            raise InvalidSetting(f"{place}: {text!r} is no object: it begins with 'body'")

    def find(self, facts: Facts) -> Mapping[str, Any]:
        found = self._path.find(facts)
        if not isinstance(found, dict):
            raise Missing(self._path.text, "an object is needed there")
        return found


class _Picked:
    """Values from here and there, as kwargs."""

    def __init__(self, words: Mapping[str, str], place: str) -> None:
        self._paths = {key: Path(text, f"{place}[{key!r}]") for key, text in words.items()}

    def find(self, facts: Facts) -> Mapping[str, Any]:
        return {key: path.find(facts) for key, path in self._paths.items()}


def _trigger(words: str | TriggerWords, place: str) -> _Fixed | _Mapped:
    return _Fixed(words, place) if isinstance(words, str) else _Mapped(words, place)


def _kwargs(words: str | Mapping[str, str] | None, place: str) -> _Whole | _Picked | None:
    if words is None:
        return None
    return _Whole(words, place) if isinstance(words, str) else _Picked(words, place)


def _scheme(words: RouteWords, place: str, environ: Mapping[str, str] | None) -> Scheme:
    verify = words.verify
    for name in ("header", "prefix", "digest", "encoding"):
        if getattr(words, name) is not None and verify != "hmac":
            raise InvalidSetting(
                f'{place}.{name}: it belongs to "verify": "hmac"; {verify!r} knows it by itself'
            )
    if words.age is not None and verify not in _TIMED:
        raise InvalidSetting(f"{place}.age: what {verify!r} signs has no time in it")
    if verify == "none":
        if words.secret is not None:
            raise InvalidSetting(f"{place}.secret: nothing is verified by it: say how in 'verify'")
        return Unsigned()
    if words.secret is None:
        raise InvalidSetting(
            f"{place}.secret: {verify!r} needs one: 'env:ITS_NAME', an environment variable"
        )
    where = f"{place}.secret"
    if environ is None:  # one that nobody knows
        secrets: tuple[str, ...] = (token_hex(32),)
    else:
        secrets = read_secrets(words.secret, environ, where)
    age = AGE if words.age is None else words.age
    if verify == "standard":
        return Standard(secrets, age, where)
    if verify == "stripe":
        return Stripe(secrets, age, place)
    if verify == "github":
        return github(secrets, place)
    if not words.header:
        raise InvalidSetting(
            f"{place}.header: say which header holds the signature, such as 'X-Signature'"
        )
    return Hmac(
        secrets,
        words.header,
        Template("{sha256}", place),
        prefix=words.prefix or "",
        digest=words.digest or "sha256",
        encoding=words.encoding or "hex",
    )


def _read(words: object, kind: type[T], place: str) -> T:
    """Words as their type, with an error that names the place and what was meant."""
    if not isinstance(words, Mapping):
        raise InvalidSetting(f"{place}: expected a mapping, got {type(words).__name__}")
    known = [field.encode_name for field in msgspec.structs.fields(kind)]  # type: ignore[arg-type]
    for name in words:
        if name not in known:
            raise InvalidSetting(f"{place}: there is no {name!r}{did_you_mean(name, known)}")
    plain = dict(words)
    inner = plain.get("trigger")
    if isinstance(inner, Mapping):
        plain["trigger"] = _read(inner, TriggerWords, f"{place}.trigger")
    try:
        found: T = convert(plain, kind, place)
    except ValueError as error:
        raise InvalidSetting(f"{place}: {error}") from None
    return found


def _check(what: str, text: str, place: str) -> None:
    """Check a name that the configuration holds."""
    try:
        check_event_id(text) if what == "event_id" else check_name(text, what)
    except InvalidName as error:
        raise InvalidSetting(f"{place}: {error}") from None


def _check_sent(what: str, text: str) -> None:
    """Check a name that was made of a webhook. The answer does not repeat it."""
    try:
        check_event_id(text) if what == "event_id" else check_name(text, what)
    except InvalidName:
        raise NotTaken(
            422,
            "unusable",
            f"{what}: what this webhook makes of it is not 1 to 200 printable characters",
        ) from None
