from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triggers_core.engine.names import MAX_LENGTH, check_name, instance_name, split_instance_name
from triggers_core.exceptions import InvalidName, TriggersError
from triggers_core.texts import short_repr


class Text(str):
    """A str that shows itself as something else."""

    __slots__ = ()

    def __str__(self) -> str:
        return "shown"

    def __repr__(self) -> str:
        return "<Text>"


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "firstPageReceived",
        "page received / second",
        " ",
        "t_x#0",
        "früh-übt-sich",
        "заявка",
        "申請",
        "no\u00a0break",
        "ideographic\u3000space",
        "👩\u200d💻",  # joined by a format character
        "\ue000",  # private use: some company's logo
        "\U000e0fff",  # assigned to nothing yet: another Python may know it
        "x" * MAX_LENGTH,
        "💻" * MAX_LENGTH,
    ],
)
def test_printable_text_is_a_name(name: str) -> None:
    assert check_name(name) is name


def test_a_subclass_becomes_a_plain_str() -> None:
    name = check_name(Text("t_x"))

    assert type(name) is str
    assert name == "t_x"


@pytest.mark.parametrize(
    ("value", "got"),
    [
        ("", "''; give it a name"),
        (Text(""), "''; give it a name"),
        ("x" * 201, "201: 'xxxx"),
        (None, "None of type NoneType; pass a str"),
        (3, "3 of type int; pass a str"),
        (b"go", "b'go' of type bytes; pass a str"),
        (["go"], "['go'] of type list; pass a str"),
        ("a\nb", r"'a\nb'; remove '\n' at position 1"),
        ("\0", r"'\x00'; remove '\x00' at position 0"),
        ("a\x7f", r"'a\x7f'; remove '\x7f' at position 1"),
        ("a\x85b", r"'a\x85b'; remove '\x85' at position 1"),
        ("a\u2028b", r"'a\u2028b'; remove '\u2028' at position 1"),
        ("a\u2029b", r"'a\u2029b'; remove '\u2029' at position 1"),
        ("a\ud800b", r"'a\ud800b'; remove '\ud800' at position 1"),
        ("\u00a0\t", r"'\xa0\t'; remove '\t' at position 1"),
    ],
)
def test_anything_else_is_refused(value: object, got: str) -> None:
    with pytest.raises(InvalidName) as caught:
        check_name(value, "trigger")

    assert str(caught.value).startswith(
        f"trigger: expected 1 to 200 printable characters, got {got}"
    )
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, TriggersError)


def test_messages_stay_short_and_encodable() -> None:
    with pytest.raises(InvalidName) as caught:
        check_name("\ud800" * 1_000_000, "uid")

    message = str(caught.value)
    assert message.startswith("uid: ")
    assert "1,000,000" in message
    assert len(message) < 250
    message.encode()


@given(st.text(st.characters(), max_size=210))
def test_a_name_can_be_logged_and_stored(text: str) -> None:
    try:
        name = check_name(text)
    except InvalidName:
        return
    assert name == text
    assert len(name.splitlines()) == 1
    assert len(name.encode()) <= 4 * MAX_LENGTH


@given(st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=200))
def test_all_graphic_characters_are_accepted(text: str) -> None:
    assert check_name(text) == text


@given(st.text(min_size=1, max_size=200), st.integers(0, 10**17))
def test_instance_names_split_again(task: str, n: int) -> None:
    name = instance_name(task, n)
    try:
        check_name(task)
    except InvalidName:
        with pytest.raises(InvalidName):
            split_instance_name(name)
    else:
        assert split_instance_name(name) == (task, n)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("t_x#0", ("t_x", 0)),
        ("t_x#10", ("t_x", 10)),
        ("a#1#2", ("a#1", 2)),
        ("##3", ("#", 3)),
        ("a b/c#7", ("a b/c", 7)),
    ],
)
def test_split_at_the_last_hash(name: str, parts: tuple[str, int]) -> None:
    assert split_instance_name(name) == parts
    assert instance_name(*parts) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "t_x",
        "#0",
        "t_x#",
        "t_x#01",
        "t_x#00",
        "t_x#-1",
        "t_x#+1",
        "t_x# 1",
        "t_x#1 ",
        "t_x#1\n",
        "t_x#1_0",
        "t_x#1.0",
        "t_x#٣",  # a digit, but not one that instance_name writes
        "t_x#²",
        "t_x#" + "9" * 19,
        "x" * 201 + "#0",
        "a\nb#0",
        None,
        3,
        ("t_x", 0),
        b"t_x#0",
    ],
)
def test_what_is_no_instance_name(name: object) -> None:
    with pytest.raises(InvalidName) as caught:
        split_instance_name(name)

    assert str(caught.value).startswith(("instance: expected", "task: expected"))


def test_a_refused_instance_name_is_shown() -> None:
    with pytest.raises(InvalidName, match=r"task: expected .* remove '\\n' at position 1"):
        split_instance_name("a\nb#0")
    with pytest.raises(InvalidName, match="got 't_x'; pass the instance's full name"):
        split_instance_name("t_x")


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("broken")


class BrokenClass:
    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise RuntimeError("broken")


class Surrogate:
    def __repr__(self) -> str:
        return "\ud800"


# By name, because pytest cannot make test ids of some of these.
SHOWN: dict[str, tuple[object, str]] = {
    "text": ("a", "'a'"),
    "bytes": (b"a", "b'a'"),
    "long text": ("x" * 10**6, "'xxx"),
    "long bytes": (b"x" * 10**6, "b'xxx"),
    "long subclass": (Text("x" * 1000), "'xxx"),
    "long list": (list(range(1000)), "[0, 1, "),
    "long text in a dict": ({"a": "b" * 1000}, "{'a': 'bbb"),
    "int that Python refuses to write": (10**5000, "<int of 16,610 bits>"),
    "negative int": (-(2**4096), "<int of 4,097 bits>"),
    "broken repr": (Broken(), "<Broken instance at"),
    "broken class": (BrokenClass(), "<"),
    "surrogate": (Surrogate(), "\\ud800"),
}


@pytest.mark.parametrize("case", SHOWN)
def test_short_repr(case: str) -> None:
    value, start = SHOWN[case]

    shown = short_repr(value)

    assert shown.startswith(start)
    assert len(shown) <= 60
    shown.encode()


def test_short_repr_of_what_holds_itself_many_times() -> None:
    items: list[object] = []
    items.extend([items] * 100)
    shared: list[object] = ["x"]
    for _ in range(100):  # written out, it would have 2 ** 100 items
        shared = [shared, shared]

    assert len(short_repr(items)) <= 60
    assert len(short_repr(shared)) <= 60


def test_short_repr_keeps_both_ends() -> None:
    assert short_repr("begin" + "x" * 1000 + "end", 21) == "'beginxxxx…xxxxxxend'"
