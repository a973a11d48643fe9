"""Paths into webhooks, and templates."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triggers_core.exceptions import InvalidSetting
from triggers_web.http import Headers
from triggers_web.intake.errors import Missing
from triggers_web.intake.paths import Facts, Path, Template

HERE = "webhooks['/x'].uid"


def facts(body: Any = None, *headers: tuple[str, str]) -> Facts:
    return Facts(json.dumps(body).encode(), Headers(headers), body)


values = st.recursive(
    st.text() | st.integers() | st.none(),
    lambda inner: st.lists(inner, min_size=1) | st.dictionaries(st.text(), inner, min_size=1),
    max_leaves=20,
)


@given(value=values, data=st.data())
def test_whatever_is_in_a_body_has_a_path(value: Any, data: st.DataObject) -> None:
    text, found = "body", value
    while isinstance(found, dict | list) and data.draw(st.booleans()):
        if isinstance(found, dict):
            key = data.draw(st.sampled_from(sorted(found)))
            text += f"[{json.dumps(key)}]"
        else:
            key = data.draw(st.integers(0, len(found) - 1))
            text += data.draw(st.sampled_from([f"[{key}]", f".{key}"]))
        found = found[key]
    assert Path(text, HERE).find(facts(value)) is found
    if isinstance(found, int) or (isinstance(found, str) and found):
        assert Template(f"<{{{text}}}>", HERE).fill(facts(value)) == f"<{found}>"


@given(text=st.text() | st.text(alphabet='body.[]"\\09{} headers').map(lambda each: "body" + each))
def test_any_text_is_a_path_or_an_error_that_names_the_place(text: str) -> None:
    told = f"{HERE}: {text}: "
    try:
        Path(text, HERE).find(facts({"a": [1]}))
    except InvalidSetting as error:
        told = str(error)
    except Missing as missing:
        told = f"{HERE}: {missing.reason}"
    assert told.startswith(f"{HERE}: ")


@given(text=st.text(alphabet='ab{}.body"[]0'))
def test_any_text_is_a_template_or_an_error(text: str) -> None:
    with suppress(InvalidSetting):
        template = Template(text, HERE)
        if not template.paths:
            assert template.fill(facts()) == text.replace("{{", "{").replace("}}", "}")


def test_the_forms_of_a_path() -> None:
    body = {"a": {"b.c": [{"d": "x"}], "0": "zero"}, "é ü": 7, "": "empty"}
    known = facts(body, ("X-GitHub-Event", "push"))
    for text, expected in {
        'body.a["b.c"][0].d': "x",
        'body.a["b.c"].0.d': "x",
        "body.a.0": "zero",
        'body["é ü"]': 7,
        'body[""]': "empty",
        "body": body,
        "headers.x-github-event": "push",
        "sha256": known.sha256,
    }.items():
        assert Path(text, HERE).find(known) == expected
    assert Template("{{{body.a.0}}}-{headers.X-GitHub-Event}", HERE).fill(known) == "{zero}-push"


@pytest.mark.parametrize(
    "text", ["", "bodi.id", "body..id", "body.", "body[", "body[-1]", "body[a]", "body.a b", "Body",
             "headers", "headers.a.b", "headers.X Y", "sha256.x", 'body["a]', "query.x",
             'body["\\q"]', "body.{x}", "__class__", "body.__class__.x["],
)  # fmt: skip
def test_what_is_no_path(text: str) -> None:
    with pytest.raises(InvalidSetting, match=r"^webhooks\['/x'\]\.uid: "):
        Path(text, HERE)


@pytest.mark.parametrize("text", ["{", "}", "{body.a", "order:}", "{}", "{ }", "{body..a}", "{{}"])
def test_what_is_no_template(text: str) -> None:
    with pytest.raises(InvalidSetting, match=r"^webhooks\['/x'\]\.uid: "):
        Template(text, HERE)


def test_what_is_missing_is_named_and_its_neighbours_are_not() -> None:
    known = facts({"card": {"number": "4242", "list": []}}, ("x-a", "1"), ("X-A", "2"))
    for text, problem in {
        "body.card.name": "nothing",
        "body.card.number.x": "nothing",
        "body.card.list[0]": "nothing",
        "body.card.list.first": "nothing",
        "body.__class__": "nothing",
        "headers.x-b": "no such header",
        "headers.x-a": "several times",
    }.items():
        with pytest.raises(Missing) as caught:
            Path(text, HERE).find(known)
        assert caught.value.reason.startswith(f"{text}: ")
        assert problem in caught.value.reason
        assert "4242" not in caught.value.reason


@pytest.mark.parametrize("value", [None, True, 1.5, "", [], {}, [1], {"a": 1}])
def test_what_is_no_part_of_a_text(value: Any) -> None:
    with pytest.raises(Missing, match="a text or an integer"):
        Template("order:{body.x}", HERE).fill(facts({"x": value}))
