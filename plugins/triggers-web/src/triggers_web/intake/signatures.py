"""The schemes by which senders sign webhooks. Comparisons take the same time whatever is wrong."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final, Literal, Protocol

from standardwebhooks import Webhook

from triggers_core.exceptions import InvalidSetting
from triggers_web.http import Headers
from triggers_web.intake.errors import Missing, Unverified
from triggers_web.intake.paths import Facts, Path, Template

AGE: Final = 300.0
"""Seconds that the time in a signature may be off, in the past and in the future: what the
specification of Standard Webhooks and Stripe's own libraries allow."""

Digest = Literal["sha1", "sha256", "sha384", "sha512"]
Encoding = Literal["hex", "base64"]

_MAX_SIGNATURES: Final = 20
"""Signatures in one request. A sender has two while it exchanges its secret."""
_SECONDS: Final = re.compile(r"[0-9]{1,12}")
_BASE64: Final = re.compile(r"(whsec_)?[A-Za-z0-9+/]+={0,2}")


class Scheme(Protocol):
    """How a sender signs, and how it names its deliveries."""

    @property
    def needs(self) -> tuple[tuple[str, ...], ...]:
        """Headers without which nothing is signed: sets of them, of which one is enough."""
        ...

    def verify(self, raw: bytes, headers: Headers, now: float) -> None:
        """Check a request.

        :param now: seconds since 1970.
        :raises Unverified: it is not signed with any of the secrets, or not lately.
        """
        ...

    def identity(self, facts: Facts) -> str:
        """What the sender calls this delivery, the same when it repeats it.

        :raises Missing: it does not say.
        """
        ...


class Standard:
    """Standard Webhooks, version 1.0.0 of the specification: symmetric signatures (``v1``).

    The headers may also begin with ``svix-``, as those of many senders still do.

    :raises InvalidSetting: a secret is not Base64, with or without ``whsec_`` before it.
    """

    _FAMILIES: Final = ("webhook", "svix")

    def __init__(self, secrets: Sequence[str], age: float, place: str) -> None:
        self._age = age
        try:
            # Strictly: the library passes over characters that are not of Base64.
            if not all(map(_BASE64.fullmatch, secrets)):
                raise ValueError
            self._keys = [Webhook(each) for each in secrets]
        except Exception:
            raise InvalidSetting(
                f"{place}: a secret of Standard Webhooks is Base64, with or without 'whsec_' before"
                " it; copy it as the sender shows it"
            ) from None
        self.needs: tuple[tuple[str, ...], ...] = tuple(map(self._names, self._FAMILIES))

    @staticmethod
    def _names(family: str) -> tuple[str, ...]:
        return tuple([f"{family}-{each}" for each in ("id", "timestamp", "signature")])

    def _headers(self, headers: Headers) -> list[str]:
        for names in self.needs:
            if any(name in headers for name in names):
                return [one_header(headers, name) for name in names]
        raise Unverified("no header webhook-signature")

    def verify(self, raw: bytes, headers: Headers, now: float) -> None:
        name, time, given = self._headers(headers)
        at = datetime.fromtimestamp(recent(time, now, self._age), UTC)
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise Unverified("the body is not UTF-8") from None
        matches(given.split(" "), [key.sign(name, at, text) for key in self._keys])

    def identity(self, facts: Facts) -> str:
        try:
            return self._headers(facts.headers)[0]
        except Unverified:
            raise Missing("headers.webhook-id", "there is no such header") from None


class Stripe:
    """Stripe's ``Stripe-Signature``: ``t=1700000000,v1=…``, HMAC-SHA256 of time, dot and body."""

    needs: tuple[tuple[str, ...], ...] = (("stripe-signature",),)

    def __init__(self, secrets: Sequence[str], age: float, place: str) -> None:
        self._keys = [each.encode() for each in secrets]
        self._age = age
        self._id = Path("body.id", place)

    def verify(self, raw: bytes, headers: Headers, now: float) -> None:
        header = one_header(headers, "stripe-signature")
        pairs = [part.strip().partition("=")[::2] for part in header.split(",")]
        times = [value for name, value in pairs if name == "t"]
        if len(times) != 1:
            raise Unverified("Stripe-Signature does not state one time")
        recent(times[0], now, self._age)
        signed = times[0].encode() + b"." + raw
        given = [value for name, value in pairs if name == "v1"]
        matches(given, [hmac.new(key, signed, "sha256").hexdigest() for key in self._keys])

    def identity(self, facts: Facts) -> str:
        return self._id.find_text(facts)


class Hmac:
    """The HMAC of the raw body in a header, as many senders have it.

    :param header: its name.
    :param prefix: what stands before the signature, such as ``sha256=``.
    :param identity: how deliveries are named.
    """

    def __init__(
        self,
        secrets: Sequence[str],
        header: str,
        identity: Template,
        *,
        prefix: str = "",
        digest: Digest = "sha256",
        encoding: Encoding = "hex",
    ) -> None:
        self._keys = [each.encode() for each in secrets]
        self._header, self._prefix, self._identity = header.lower(), prefix, identity
        self._digest, self._hex = digest, encoding == "hex"
        self.needs: tuple[tuple[str, ...], ...] = ((self._header,),)

    def verify(self, raw: bytes, headers: Headers, now: float) -> None:
        given = one_header(headers, self._header).strip()
        if not given.startswith(self._prefix):
            raise Unverified(f"{self._header} does not begin with {self._prefix!r}")
        given = given.removeprefix(self._prefix)
        made = [hmac.new(key, raw, getattr(hashlib, self._digest)).digest() for key in self._keys]
        if self._hex:
            matches([given.lower()], [each.hex() for each in made])
        else:
            matches([given], [base64.b64encode(each).decode() for each in made])

    def identity(self, facts: Facts) -> str:
        return self._identity.fill(facts)


def github(secrets: Sequence[str], place: str) -> Hmac:
    """GitHub's ``X-Hub-Signature-256``. The older SHA-1 header is not looked at.

    Deliveries are named by ``X-GitHub-Delivery``, as GitHub advises. No signature covers headers:
    with ``sha256`` as `event_id`, a body counts once, whatever header comes with it.
    """
    identity = Template("{headers.X-GitHub-Delivery}", place)
    return Hmac(secrets, "X-Hub-Signature-256", identity, prefix="sha256=")


class Unsigned:
    """No signature at all, for what comes from within, or through something that has checked it."""

    needs: tuple[tuple[str, ...], ...] = ()

    def verify(self, raw: bytes, headers: Headers, now: float) -> None:
        """Everything will do."""

    def identity(self, facts: Facts) -> str:
        return facts.sha256


def one_header(headers: Headers, name: str) -> str:
    """A header that has to be there once: which of two would count, others see differently.

    :raises Unverified: it is not there, or there are several.
    """
    values = headers.all(name)
    if len(values) != 1:
        raise Unverified(f"the header {name} came {len(values)} times")
    return values[0]


def recent(text: str, now: float, age: float) -> int:
    """The time that a signature states, in seconds since 1970.

    :raises Unverified: it is no time, or off by more than `age` seconds.
    """
    if not _SECONDS.fullmatch(text):
        raise Unverified("the time in the signature is no number of seconds")
    if abs(now - int(text)) > age:
        raise Unverified(f"the time in the signature is more than {age:g} s off")
    return int(text)


def matches(given: Sequence[str], expected: Iterable[str]) -> None:
    """Check that one of the given signatures is one of the expected ones.

    :raises Unverified: none is, or there are more than anybody sends.
    """
    if len(given) > _MAX_SIGNATURES:
        raise Unverified("too many signatures")
    candidates = [each.encode("utf-8", "replace") for each in given]
    found = False
    for each in expected:
        for candidate in candidates:  # all of them, so that time does not tell which one it was
            found |= hmac.compare_digest(each.encode(), candidate)
    if not found:
        raise Unverified("no signature matches")
