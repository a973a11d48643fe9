"""Secrets are masked, by key and in URLs; everything else stays readable."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from triggers_core.redaction import SECRET_KEYS, key_pattern, mask, mask_objects, mask_url

URLS = [
    ("redis://:pw@host/0", "redis://:***@host/0"),
    ("redis://user:p@ss@host:6379/0", "redis://user:***@host:6379/0"),
    ("redis://:pa/ss@host/0", "redis://:***@host/0"),
    ("redis://:p#a/s@s@host", "redis://:***@host"),
    ("to amqp://a:b@h1;amqp://c:d@h2 now", "to amqp://a:***@h1;amqp://c:***@h2 now"),
    ("redis://host/0?password=pw&db=1", "redis://host/0?password=***&db=1"),
    ("host=db password='p w' user=me", "host=db password=*** user=me"),
    ("api-key = k1, x = 2", "api-key = ***, x = 2"),
    ("redis://:@host", "redis://:***@host"),
    # Headers and printed data.
    ("Authorization: Bearer abc, next", "Authorization: ***"),
    ("curl -H 'authorization: Basic abc' -v", "curl -H 'authorization: ***' -v"),
    ("Set-Cookie: a=b; Path=/\nx", "Set-Cookie: ***\nx"),
    ("sent Bearer abcdefghijklmnop==", "sent Bearer ***"),
    ("{'password': 'p w', 'x': 1}", "{'password': ***, 'x': 1}"),
    ('{"api_key": "k", "x": 1}', '{"api_key": ***, "x": 1}'),
    ("{'tokens': ['a', 'b'], 'x': 1}", "{'tokens': ***, 'x': 1}"),
    (r"""Login(user='a', password='it\'s', n=1)""", "Login(user='a', password=***, n=1)"),
    ("{b'cookie': b'a'}", "{b'cookie': ***}"),
    ('secret="cut in its mid', "secret=***"),
    ('ValueError("token=t")', 'ValueError("token=***")'),
    ("AWS_SECRET_ACCESS_KEY=a/b+c", "AWS_SECRET_ACCESS_KEY=***"),
    # No secrets in these.
    ("if token == other", "if token == other"),
    ("Basic authentication failed", "Basic authentication failed"),
    ("t_x.token: expected a text", "t_x.token: expected a text"),
    ("the 'secret' is out", "the 'secret' is out"),
    ("redis://host:6379/0", "redis://host:6379/0"),
    ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
    ("http://host:8080/x?mail=a@b", "http://host:8080/x?mail=a@b"),
    ("redis://user:pw@host/0?mail=a@b", "redis://user:***@host/0?mail=a@b"),
    ("token ring", "token ring"),
    ("", ""),
]


@pytest.mark.parametrize(("text", "masked"), URLS)
def test_mask_url(text: str, masked: str) -> None:
    assert mask_url(text) == masked
    assert mask_url(masked) == masked


KEYS = [
    *("password", "PASSWORD", "db_password", "passwd", "passphrase", "Authorization"),
    *("client_secret", "token", "accessToken", "api_key", "apiKey", "X-Api-Key", "private_key"),
    *("credentials", "Cookie", "access_key", b"authorization"),
]


@pytest.mark.parametrize("key", KEYS)
def test_mask_by_key(key: str | bytes) -> None:
    data: dict[str, Any] = {"outer": [{key: ["anything"], "other": 1}]}
    assert mask(data) == {"outer": [{key: "***", "other": 1}]}
    assert data["outer"][0][key] == ["anything"], "a copy"


def test_mask_leaves_the_rest() -> None:
    thing = object()
    assert mask({"key": thing, "idempotency_key": "k", 5: "x", "n": None, "password": None}) == {
        "key": thing,
        "idempotency_key": "k",
        5: "x",
        "n": None,
        "password": None,
    }
    assert mask(("a", 1)) == ["a", 1]


def test_mask_takes_other_patterns() -> None:
    pattern = key_pattern([*SECRET_KEYS, "^iban$"])
    assert mask({"iban": "DE00", "libanon": 1, "token": "t"}, pattern) == {
        "iban": "***",
        "libanon": 1,
        "token": "***",
    }


def test_mask_ends_on_circles() -> None:
    circle: dict[str, Any] = {"password": "pw"}
    circle["self"] = circle
    assert "pw" not in repr(mask(circle))


def test_mask_objects_shows_objects_with_secrets_as_text() -> None:
    harmless, error = object(), ValueError("token=t")
    shown = mask_objects({"a": harmless, "b": [error], "c": b"token=t", "d": {"token=t"}, "n": 1})
    assert shown == {
        "a": harmless,
        "b": ["ValueError('token=***')"],
        "c": "b'token=***'",
        "d": "{'token=***'}",
        "n": 1,
    }
    assert mask({"b": error}) == {"b": error}, "plain data only"


class TalksDifferently:
    def __repr__(self) -> str:
        return "<a login>"

    def __str__(self) -> str:
        return "token=t"


class Speechless:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


def test_mask_objects_looks_at_both_texts_and_survives_broken_ones() -> None:
    assert mask_objects([TalksDifferently()]) == ["<a login>"]
    assert "Speechless object" in mask_objects([Speechless()])[0]


def test_other_patterns_hold_in_texts_too() -> None:
    pattern = key_pattern([*SECRET_KEYS, r"\biban\b"])
    assert mask({"text": "iban=DE00 token=t"}, pattern) == {"text": "iban=*** token=***"}
    assert mask_url("iban=DE00") == "iban=DE00"


# -- prose, and other ways in which texts tell secrets ---------------------------------------------

PROSE = [
    ("password: hunter2", "password: ***"),
    ("login failed (user: app, password: CANARY)", "login failed (user: app, password: ***)"),
    ("user: app\n  db_password:   correct\nhost: x", "user: app\n  db_password:   ***\nhost: x"),
    ("password: |\n  p w\nhost: x", "password: ***\nhost: x"),
    ('passphrase: "p w" and so on', "passphrase: *** and so on"),
    ("password: hunter was refused", "password: *** was refused"),
    ("password is hunter2", "password is ***"),
    ("the password was 's3cret x' before", "the password was *** before"),
    ("X-Api-Key: abc", "X-Api-Key: ***"),
    ("x-api-key: a1b2c3 and more", "x-api-key: *** and more"),
    ("password => x, password := x", "password => ***, password := ***"),
    ("curl --token abc", "curl --token ***"),
    ("['curl', '--token', 'a b', '-v']", "['curl', '--token', ***, '-v']"),
    ("[('Authorization', 'Bearer a'), ('A', 'x')]", "[('Authorization', ***), ('A', 'x')]"),
    ("[(b'authorization', b'a')]", "[(b'authorization', ***)]"),
    (r'"{\"password\": \"p w\"}"', r'"{\"password\": ***}"'),
    ("{'tokens': {'a': {'b': 'x'}, 'c': 's'}, 'x': 1}", "{'tokens': ***, 'x': 1}"),
    ("{'token': ['a)', {'b': ']'}]} x", "{'token': ***} x"),
    ('Cookie: a="x y"; b=c', "Cookie: ***"),
    ("<db:password>p w</db:password>", "<db:password>***</db:password>"),
    ('    password: str = "x"', "    password: str = ***"),
    ("os.environ['PASSWORD'] = 'x'", "os.environ['PASSWORD'] = ***"),
    ("Pwd=x;Uid=y", "Pwd=***;Uid=y"),
    ("token=[a, b", "token=***"),
    (
        "-----BEGIN RSA PRIVATE KEY-----\nMII\nab-c\n-----END RSA PRIVATE KEY-----\nx",
        "-----BEGIN RSA PRIVATE KEY-----***-----END RSA PRIVATE KEY-----\nx",
    ),
    # What is said about secrets stays.
    ("token: expected a str", "token: expected a str"),
    ("kwargs['token']: a set cannot be stored", "kwargs['token']: a set cannot be stored"),
    ("password is required", "password is required"),
    ("password: this field is required", "password: this field is required"),
    ("password: missing", "password: missing"),
    ("the token is 3 days old", "the token is 3 days old"),
    ("cannot refresh the token: TimeoutError", "cannot refresh the token: TimeoutError"),
    ("error: argument --token: expected one", "error: argument --token: expected one"),
    ("Missing option '--token'.", "Missing option '--token'."),
    ("the directive 'token', which is", "the directive 'token', which is"),
    ("<token ring> is > 5", "<token ring> is > 5"),
]


@pytest.mark.parametrize(("text", "masked"), PROSE)
def test_prose_and_other_forms(text: str, masked: str) -> None:
    assert mask_url(text) == masked
    assert mask_url(masked) == masked


def test_pairs_are_masked_like_mappings() -> None:
    headers = [("Authorization", "Bearer a"), (b"cookie", b"c"), ["Accept", "x"], ["token", "t"]]
    assert mask({"headers": headers}) == {
        "headers": [["Authorization", "***"], [b"cookie", "***"], ["Accept", "x"], ["token", "***"]]
    }
    assert mask({"fields": ["token", "name"]}) == {"fields": ["token", "name"]}, "a list of names"


# -- bounds ----------------------------------------------------------------------------------------

ADVERSARIAL = """
import itertools, logging, resource, sys
from collections.abc import Mapping
resource.setrlimit(resource.RLIMIT_CPU, (30, 30))  # quadratic work would take many minutes
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
from triggers_core.redaction import mask, mask_objects, mask_url
pieces = '''token=[ |token=[|password=(|token=" |token="\\\\|token=))))|token=\\\\"|token: |token:
token|token is |<token>|<token |cookie: a="|cookie:
://a:|://:x@|bearer |-----BEGIN PRIVATE KEY-----
-----END PRIVATE KEY-----|('token', '|('token', |--token |token=|token____________|token=[[
token=["|token: |private|token='"
'token','|{'token': {'a'|basic aaaaaaaaaaaaaaaa|authorization: |a| |=|"|
token: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa |password: str |[('token', '''
pieces = pieces.replace(chr(10), "|").split("|")
for piece in filter(None, pieces):
    for before in ("", "token="):
        assert mask_url(before + piece * (150_000 // len(piece)))
assert len(mask_url("x" * 50_000_000)) < 300_000
node = {"name": "root"}; node["parent"] = node["first"] = node["last"] = node
tree = [1]
for _ in range(30): tree = [tree, tree, tree]
class Endless(Mapping):
    def __len__(self): return 10
    def __iter__(self): return map(str, itertools.count())
    def __getitem__(self, key): return {"token": "CANARY"}
class EndlessList(list):
    def __iter__(self): return iter(lambda: "CANARY=", 1)
class Nested(Mapping):
    def __len__(self): return 3
    def __iter__(self): return iter("abc")
    def __getitem__(self, key): return Nested()
for data in (node, tree, Endless(), EndlessList(), Nested(), [[0] * 300_000] * 10):
    mask(data); mask_objects(data)
huge = mask(["x" * 1_000_000] * 1_000)
assert sum(map(len, huge)) < 6_000_000
assert mask_objects([b"x" * 50_000_000])
print("ended")
"""


def test_no_text_and_no_data_makes_masking_slow() -> None:
    ran = subprocess.run([sys.executable, "-c", ADVERSARIAL], capture_output=True, text=True)
    assert ran.stdout == "ended\n", f"{ran.returncode} {ran.stderr[-2_000:]}"


@pytest.mark.parametrize("length", range(0, 60))
def test_a_secret_at_a_cut_is_not_half_shown(length: int) -> None:
    """Whatever the cut goes through, of the secret nothing is left over."""
    for secret in (
        "token=CANARYCANARY",
        "redis://a:CANARY@b",
        "{'password': 'C C'}",
        "token: CANARY1",
    ):
        filler = ". " * 30_000
        for text in (
            filler[: 470 + length] + secret + filler,
            filler + secret + filler[: 470 + length],
            filler[: 4_560 + length] + secret + filler,  # at the end of what is looked at
            filler + secret + filler[: 4_560 + length],
        ):
            masked = mask_url(text, size=1_000)
            assert "C" not in masked
            assert len(masked) < 1_100
            assert "characters left out" in masked


def test_a_key_without_its_beginning_is_masked() -> None:
    text = "x\n" * 40_000 + "-----BEGIN PRIVATE KEY-----\n" + "CANARY\n" * 700
    text += "-----END PRIVATE KEY-----\n" + "y\n" * 200
    assert "CANARY" not in mask_url(text, size=2_000)


def test_of_a_long_text_both_ends_are_shown() -> None:
    masked = mask_url("begin " + "x " * 50_000 + "end", size=1_000)
    assert masked.startswith("begin x")
    assert masked.endswith("x end")


def test_a_text_that_is_short_without_its_secrets_is_shown_whole() -> None:
    masked = mask_url(f"begin password={'C' * 1_200} end", size=1_000)
    assert masked == "begin password=*** end"


def test_many_secrets_near_a_cut_leave_nothing_half_shown() -> None:
    text = "password=CANARYCANARYCANARYCANARYCANARY " * 10_000
    assert "CANARY" not in mask_url(text, size=5_000)
    assert "CANARY" not in mask_url("'" + text.replace("=", "': '") + "'", size=5_000)


class Odd(BaseException):
    """What is no Exception, as time-outs and panics of other libraries."""


def odd(*_: object) -> Any:
    raise Odd


class OddClass:
    __class__ = property(odd)  # type: ignore[assignment]


class OddRepr:
    __repr__ = odd


class OddMapping(dict[str, Any]):
    __iter__ = odd
    items = odd


class OddItem(dict[str, Any]):
    __getitem__ = odd


class OddList(list[Any]):
    __iter__ = odd


class OddKey:
    def __hash__(self) -> int:
        return 1

    __eq__ = odd


class Exits:
    def __repr__(self) -> str:
        sys.exit(0)


class Changing(dict[str, Any]):
    def __getitem__(self, key: str) -> Any:
        self[f"{key}x"] = 1
        return 1


@pytest.mark.parametrize(
    "make",
    [
        OddClass,
        OddRepr,
        lambda: OddMapping(a=1),
        lambda: OddItem(a=1),
        lambda: OddList([1]),
        lambda: {OddKey(): 1},
        Exits,
        lambda: Changing(a=1),
    ],
    ids=["class", "repr", "mapping", "item", "list", "key", "exits", "changing"],
)
def test_masking_raises_nothing(make: Any) -> None:
    value = make()
    for hidden in (value, {"a": value, "token": "CANARY"}, [value, {"token": "CANARY"}]):
        for masked in (mask(hidden, most=100), mask_objects(hidden, most=100)):
            if type(hidden) is dict and "token" in hidden:
                assert masked["token"] == "***"
            elif type(hidden) is list:
                assert masked[1] == {"token": "***"}


def test_masking_at_the_end_of_the_stack() -> None:
    def go_on() -> Any:
        try:
            return go_on()
        except RecursionError:
            return mask({"token": "t", "deep": [{"er": [1]}]})

    assert go_on() is not None


def test_ctrl_c_passes() -> None:
    class Interrupted:
        def __repr__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mask_objects([Interrupted()])


def test_what_holds_itself_is_shown_once() -> None:
    node: dict[str, Any] = {"token": "t"}
    node["again"] = node
    both = {"a": node, "b": node}
    assert mask(both) == {
        "a": {"token": "***", "again": "…"},
        "b": {"token": "***", "again": "…"},
    }
