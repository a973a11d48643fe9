"""Signatures: what the senders publish, and whatever is not signed as it has to be."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook
from web_signing import (
    GITHUB_SECRET,
    HMAC_SECRET,
    NOW,
    STANDARD_SECRET,
    STRIPE_SECRET,
    github_headers,
    hmac_headers,
    standard_headers,
    stripe_headers,
)

from triggers_core.exceptions import InvalidSetting
from triggers_web.http import Headers
from triggers_web.intake.errors import Missing, Unverified
from triggers_web.intake.paths import Facts, Template
from triggers_web.intake.signatures import AGE, Hmac, Scheme, Standard, Stripe, github

BODY = b'{"id": "evt_1", "n": 1}'
IDENTITY = Template("{sha256}", "here")

STRIPE = Stripe([STRIPE_SECRET], AGE, "here")
GITHUB = github([GITHUB_SECRET], "here")
HMAC = Hmac([HMAC_SECRET], "X-Signature", IDENTITY)
STANDARD = Standard([STANDARD_SECRET], AGE, "here")

EVERY = {
    "stripe": (STRIPE, stripe_headers),
    "github": (GITHUB, github_headers),
    "hmac": (HMAC, hmac_headers),
    "standard": (STANDARD, standard_headers),
}
every_scheme = pytest.mark.parametrize("name", EVERY)


def accepts(
    scheme: Scheme, body: bytes, headers: dict[str, str] | Headers, now: float = NOW
) -> bool:
    known = headers if isinstance(headers, Headers) else Headers(headers.items())
    try:
        scheme.verify(body, known, now)
    except Unverified:
        return False
    return True


# -- what they publish ----------------------------------------------------------------------------


def test_the_vector_of_standard_webhooks() -> None:
    """That of the project's libraries: `test_sign_function` in libraries/python/tests."""
    scheme = Standard(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], AGE, "here")
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    assert accepts(scheme, b'{"test": 2432232314}', headers, 1614265330)
    assert not accepts(scheme, b'{"test": 2432232315}', headers, 1614265330)
    several = (  # of `test_multi_sig_payload_is_valid`
        "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="
        " v2,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="
    )
    with_ours = {**headers, "webhook-signature": f"{several} {headers['webhook-signature']}"}
    assert accepts(scheme, b'{"test": 2432232314}', with_ours, 1614265330)
    assert not accepts(
        scheme, b'{"test": 2432232314}', {**headers, "webhook-signature": several}, 1614265330
    )


STRIPE_EVENT = {
    "id": "evt_123",
    "object": "event",
    "account": "acct_123",
    "api_version": "2017-05-25",
    "created": 1533204620,
    "data": {
        "object": {
            "id": "cus_123",
            "object": "customer",
            "created": 123456789,
            "email": "test@stripe.com",
            "livemode": False,
            "metadata": {},
        }
    },
    "livemode": False,
    "pending_webhooks": 1,
    "request": {"id": "req_123", "idempotency_key": "idempotency-key-123"},
    "type": "customer.created",
}


def test_the_vector_of_stripe() -> None:
    """That of stripe-dotnet: EventUtilityTest.cs and event_test_signature.json."""
    body = json.dumps(STRIPE_EVENT, indent=2).encode() + b"\n"
    signature = "2220f87ef101a04665f11cdf770523143f875572008577fa0f20882ddb9cc3c7"
    old = "63f3a72374a733066c4be69ed7f8e5ac85c22c9f0a6a612ab9a025a9e4ee7eef"
    headers = {"stripe-signature": f"t=1533204620,v1={signature},v0={old}"}
    scheme = Stripe(["webhook_secret"], AGE, "here")
    assert accepts(scheme, body, headers, 1533204720)
    assert not accepts(scheme, body, headers, 1533204620 + 300 + 100)
    assert not accepts(scheme, body + b"this_changes_the_json", headers, 1533204720)
    assert not accepts(Stripe(["another"], AGE, "here"), body, headers, 1533204720)


@pytest.mark.parametrize("header", ["t=,v1=2220,v0=63f3", "t,v1=,v0=", "t,v1=,", ",,", "t", ""])
def test_what_stripe_publishes_as_wrong_headers(header: str) -> None:
    assert not accepts(Stripe(["webhook_secret"], AGE, "here"), b"{}", {"stripe-signature": header})


def test_the_vector_of_github() -> None:
    """That of GitHub's documentation: *Validating webhook deliveries*, "Testing the …"."""
    scheme = github(["It's a Secret to Everybody"], "here")
    signature = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    headers = {"X-Hub-Signature-256": f"sha256={signature}"}
    assert accepts(scheme, b"Hello, World!", headers)
    assert not accepts(scheme, b"Hello, World?", headers)


def test_the_vectors_of_hmac() -> None:
    """RFC 4231, test cases 2 (SHA-256, SHA-512), and RFC 2202, case 2 (SHA-1)."""
    body = b"what do ya want for nothing?"
    known = {
        "sha1": "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
        "sha256": "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        "sha512": (
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
            "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"
        ),
    }
    for digest, signature in known.items():
        scheme = Hmac(["Jefe"], "X-S", IDENTITY, digest=digest)  # type: ignore[arg-type]
        assert accepts(scheme, body, {"x-s": signature})
        assert accepts(scheme, body, {"x-s": signature.upper()})
        assert not accepts(scheme, body, {"x-s": signature[:-1]})
        in_base64 = base64.b64encode(bytes.fromhex(signature)).decode()
        other = Hmac(["Jefe"], "X-S", IDENTITY, digest=digest, encoding="base64", prefix="v=")  # type: ignore[arg-type]
        assert accepts(other, body, {"x-s": f"v={in_base64}"})
        assert not accepts(other, body, {"x-s": in_base64})


# -- whatever is wrong ----------------------------------------------------------------------------


@every_scheme
@given(data=st.data(), body=st.binary(max_size=60))
def test_a_changed_body_or_signature_is_not_accepted(
    name: str, data: st.DataObject, body: bytes
) -> None:
    scheme, sign = EVERY[name]
    body = body.decode("utf-8", "replace").encode()
    headers = sign(body)
    assert accepts(scheme, body, headers)
    changed = data.draw(st.binary(max_size=60).filter(lambda each: each != body))
    assert not accepts(scheme, changed, headers)
    signature = next(each for each in headers if "signature" in each.lower())
    at = data.draw(st.integers(0, len(headers[signature]) - 1))
    other = data.draw(st.sampled_from("0123456789abcdefXYZ,=. é\x00"))
    value = headers[signature]
    if value[at].lower() != other.lower():
        forged = {**headers, signature: value[:at] + other + value[at + 1 :]}
        assert not accepts(scheme, body, forged)


@every_scheme
@given(value=st.text(max_size=80))
def test_any_text_in_place_of_a_signature_is_refused_and_nothing_else(
    name: str, value: str
) -> None:
    scheme, sign = EVERY[name]
    for header in sign(BODY):
        if header != "X-GitHub-Event" and header != "X-GitHub-Delivery":
            headers = {**sign(BODY), header: value}
            assert accepts(scheme, BODY, headers) == (headers == sign(BODY))


@every_scheme
def test_a_header_that_is_missing_or_comes_twice(name: str) -> None:
    scheme, sign = EVERY[name]
    headers = sign(BODY)
    for each in headers:
        if not each.startswith("X-GitHub"):
            rest = {key: value for key, value in headers.items() if key != each}
            assert not accepts(scheme, BODY, rest)
            twice = Headers([*headers.items(), (each, headers[each])])
            assert not accepts(scheme, BODY, twice)


@pytest.mark.parametrize("name", ["stripe", "standard"])
def test_the_age_of_a_signature(name: str) -> None:
    scheme, sign = EVERY[name]
    headers = sign(BODY)
    for now in (NOW - 300, NOW, NOW + 300):
        assert accepts(scheme, BODY, headers, now)
    for now in (NOW - 301, NOW + 301, 0, 1e12):
        assert not accepts(scheme, BODY, headers, now)


@pytest.mark.parametrize("time", ["1700000000.0", "+1700000000", " 1700000000", "1_700_000_000",
                                  "nan", "１７００００００００", "9" * 40])  # fmt: skip
def test_a_time_is_a_number_of_seconds(time: str) -> None:
    """Written in another way it means the same to some, and is signed as something else."""
    text = BODY.decode()
    signature = Webhook(STANDARD_SECRET).sign("msg_1", datetime.fromtimestamp(NOW, UTC), text)
    headers = {"webhook-id": "msg_1", "webhook-timestamp": time, "webhook-signature": signature}
    assert not accepts(STANDARD, BODY, headers)


def test_several_secrets_while_one_replaces_another() -> None:
    both = Stripe(["new", STRIPE_SECRET], AGE, "here")
    assert accepts(both, BODY, stripe_headers(BODY))
    assert accepts(both, BODY, stripe_headers(BODY, secret="new"))
    assert not accepts(both, BODY, stripe_headers(BODY, secret="older"))


def test_too_many_signatures_are_not_tried() -> None:
    header = stripe_headers(BODY)["Stripe-Signature"]
    assert accepts(STRIPE, BODY, {"stripe-signature": header + ",v1=0" * 19})
    assert not accepts(STRIPE, BODY, {"stripe-signature": header + ",v1=0" * 20})


def test_headers_as_svix_calls_them() -> None:
    headers = standard_headers(BODY, family="svix")
    assert accepts(STANDARD, BODY, headers)
    # Those of the other name count as soon as one of them is there: never a mixture.
    assert not accepts(STANDARD, BODY, {**headers, "webhook-id": "msg_2"})


def test_a_body_that_is_no_text() -> None:
    assert not accepts(STANDARD, b"\xff", standard_headers(b"\xff"))
    assert accepts(HMAC, b"\xff", hmac_headers(b"\xff"))


@pytest.mark.parametrize("secret", ["whsec_", "whsec_x", "é", "="])
def test_a_secret_that_is_no_base64(secret: str) -> None:
    with pytest.raises(InvalidSetting, match="Base64") as caught:
        Standard([secret], AGE, "webhooks['/x'].secret")
    assert secret not in str(caught.value).replace("whsec_'", "")


def test_how_deliveries_are_called() -> None:
    def facts(headers: dict[str, str]) -> Facts:
        return Facts(BODY, Headers(headers.items()), json.loads(BODY))

    assert STRIPE.identity(facts({})) == "evt_1"
    assert GITHUB.identity(facts(github_headers(BODY))) == "d-1"
    assert STANDARD.identity(facts(standard_headers(BODY))) == "msg_1"
    assert STANDARD.identity(facts(standard_headers(BODY, family="svix"))) == "msg_1"
    assert len(HMAC.identity(facts({}))) == 64
    for scheme in (GITHUB, STANDARD):
        with pytest.raises(Missing, match="no such header"):
            scheme.identity(facts({}))
