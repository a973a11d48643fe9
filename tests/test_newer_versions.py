"""What a newer version wrote: refused, with what to do, and never taken for something else."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from applications import STORAGES, application

from triggers_core import Application, TaskContext, payloads, trigger_task
from triggers_core.engine import features
from triggers_core.engine.commands import Configure
from triggers_core.engine.configuration import Configuration, Task, parse_configuration
from triggers_core.engine.records import (
    Event,
    Header,
    Instance,
    Status,
    decode_event,
    decode_header,
    decode_instance,
    encode_record,
)
from triggers_core.exceptions import (
    InvalidConfiguration,
    LimitExceeded,
    StorageError,
    UnknownSchema,
    WrongState,
)
from triggers_core.limits import Limits


@pytest.fixture(params=STORAGES)
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Application]:
    with application(request.param, tmp_path) as app:
        yield app


# -- records ---------------------------------------------------------------------------------------

HEADER = Header(generation="g", latest={"a": 1})
HEADER.add("t", Status.FAILED, 1)
RECORDS: list[tuple[Any, Any]] = [
    (Event(id="a", trigger="t"), decode_event),
    (Instance(task="t", number=0, taken={"a": [1]}), decode_instance),
    (HEADER, decode_header),
]


@pytest.mark.parametrize(("record", "decode"), RECORDS)
def test_a_damaged_record_is_read_or_refused(record: Any, decode: Any) -> None:
    data = encode_record(record)
    refused = 0
    flipped = (
        data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]
        for place in range(len(data))
        for bit in range(8)
    )
    cut = (data[:place] for place in range(len(data)))
    for damaged in itertools.chain(flipped, cut, [b"[" * 100_000, b'{"x":' * 100_000, None, "é"]):
        try:
            decode(damaged)
        except UnknownSchema:
            refused += 1
    assert refused > len(data)


@pytest.mark.parametrize(
    ("record", "decode", "old", "new"),
    [
        (Instance(task="t", number=0, status=Status.RUNNING), decode_instance, "running", "paused"),
        (Event(id="a", trigger="t", cause="p"), decode_event, '"cause"', '"src":"clock","cause"'),
        (HEADER, decode_header, '"g":"g"', '"g":"g","s":"frozen"'),
    ],
)
def test_words_of_a_newer_version(record: Any, decode: Any, old: str, new: str) -> None:
    data = encode_record(record).decode().replace(old, new)
    assert data != encode_record(record).decode()
    with pytest.raises(UnknownSchema, match=r"a newer version of triggers-core wrote it"):
        decode(data.encode())


def test_an_error_names_its_session_once() -> None:
    error = UnknownSchema("cannot be read").of("order:1")
    assert str(error) == str(error.of("order:2")) == "order:1: cannot be read"
    assert isinstance(error, StorageError)


# -- configurations --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "task",
    [
        {"after": [{"sequence": ["a", "b"]}], "run": "x"},
        {"after": [{"anyOf": ["a", "b"], "within": 3}], "run": "x"},
        {"after": [{"trigger": "a", "where": {"b": {"like": "c"}}}], "run": "x"},
        {"after": [{"trigger": "a"}], "run": "x"},
        {"after": ["a"], "keeping": "last", "run": "x"},
        {"after": ["a"], "waiting": {"for": "b"}, "run": "x"},
        {"after": ["a"], "within": "3 fortnights", "run": "x"},
        {"after": ["a"], "everyTime": {"atMost": 3}, "run": "x"},
        {"after": ["a"], "otherwise": {"early": "b"}, "run": "x"},
        {"after": {"anyOf": ["a", "b"]}, "run": "x"},
        {"after": "abc", "run": "x"},
        {"after": ["a"], "andEvery": ["b", "c"], "run": "x"},
        {"after": ["a"], "unless": {"count": 3}, "run": "x"},
        {"after": ["a"], "withParams": [], "run": "x"},
        {"after": ["a"], "run": {"saga": "x"}},
        {"after": ["a"]},
        {"run": "x"},
        ["after"],
        None,
    ],
)
def test_shapes_of_a_newer_version_are_not_read_as_names(task: Any) -> None:
    with pytest.raises(UnknownSchema, match="its configuration cannot be read"):
        Configuration.decoded(payloads.encode({"t_x": task}, Limits()))


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b'{"$new":1}', b'{"t":{"$dict":5}}'])
def test_damaged_configurations(data: bytes) -> None:
    with pytest.raises(UnknownSchema):
        Configuration.decoded(data)


def test_what_is_stored_is_read() -> None:
    written = parse_configuration(
        {
            "t_x": {
                "after": ["a"],
                "andEvery": "b",
                "unless": ["c"],
                "withParams": {"a": {"when": b"bytes"}},
                "using": "threading",
                "run": "x",
                "extra": {"$note": {"a": [1]}},
            }
        }
    )
    read = Configuration.decoded(written.encoded)
    assert read.tasks == written.tasks
    assert read.hash == written.hash


def test_a_process_that_knows_fewer_features(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer process configures the session; then this one, which lacks a feature of it."""
    manager = app.manager("order:1")
    manager.fire("a")
    with monkeypatch.context() as newer:
        newer.setattr(features, "FEATURES", {"sequence": "0.3.0", "quorum": "0.10.0"})
        newer.setattr(
            features, "UNDERSTOOD", frozenset(map(features.requirement, features.FEATURES))
        )
        newer.setattr(Task, "features", property(lambda task: {"sequence", "quorum"}))
        parsed = parse_configuration({"t_x": {"after": ["b"], "run": "x"}})
        manager.commit(Configure(configuration=parsed))
        manager.fire("c")
        assert manager.storage.metadata is not None
        required = ("feature:quorum>=0.10.0", "feature:sequence>=0.3.0")
        assert manager.storage.metadata.requires == required
    upgrade = "order:1: .*triggers-core, which knows quorum, sequence: upgrade it .* to 0.10.0 or"
    for change in (
        lambda: manager.fire("b"),
        lambda: manager.close_session(),
        lambda: manager.commit(Configure(configuration=parsed)),
    ):
        with pytest.raises(UnknownSchema, match=upgrade):
            change()
    assert [event.trigger for event in manager.storage.events] == ["a", "c"]
    told = "a newer triggers-core (0.10.0 or later), which knows quorum and sequence: what follows"
    assert told in str(manager.explain())
    assert app.manager("order:2").fire("b").status == "recorded"


def test_a_default_configuration_says_which_features_it_needs(
    tmp_path: Path,
) -> None:
    default = {"t_x": {"after": [{"anyOf": ["a", "b"]}], "run": "x"}}
    with application("memory", tmp_path, TRIGGER_CONFIGURATION=default) as app:
        manager = app.manager("order:1")
        manager.fire("c")
        assert manager.storage.metadata is not None
        assert manager.storage.metadata.requires == ("feature:any-of>=0.2",)


# -- bounds ----------------------------------------------------------------------------------------


class Endless(Mapping[str, Any]):
    """Says that it is short, and never ends."""

    def __init__(self, key: str | None, value: Any) -> None:
        self.key, self.value = key, value

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        return (self.key or f"t_{number}" for number in itertools.count())

    def __getitem__(self, key: str) -> Any:
        return self.value


TASK = {"after": ["a"], "run": "x"}


@pytest.mark.parametrize(
    "endless",
    [
        {"t_x": {"after": map(str, itertools.count()), "run": "x"}},
        {"t_x": {"after": itertools.repeat("a"), "run": "x"}},
        {"t_x": {"after": ["a"], "unless": map(str, itertools.count()), "run": "x"}},
        Endless(None, TASK),
    ],
)
def test_endless_configurations(endless: Any) -> None:
    with pytest.raises(ValueError, match=r"more than 10,000 names|Limits\.tasks"):
        parse_configuration(endless)


def test_endless_notes_for_editors() -> None:
    assert parse_configuration(Endless("$schema", "x")).tasks == {}


def test_endless_directives() -> None:
    with pytest.raises(InvalidConfiguration):
        parse_configuration({"t_x": Endless("run", "x")})


def test_trigger_names_have_a_limit(tmp_path: Path) -> None:
    with application("memory", tmp_path, TRIGGER_LIMITS={"trigger_names": 5}) as app:
        manager = app.manager("order:1")
        for number in range(5):
            manager.fire(f"page:{number}")
        with pytest.raises(
            LimitExceeded, match=r"'page:5' would be trigger name 6 .*trigger_names"
        ):
            manager.fire("page:5")
        manager.fire("page:4")
        assert len(manager.storage.events) == 6
        parsed = parse_configuration({"t_x": {"after": ["go"], "run": "x"}})
        manager.commit(Configure(configuration=parsed))
        assert manager.fire("go").scheduled == ("t_x#0",), "what a task waits for can fire always"


def test_fires_of_a_body_have_a_limit(tmp_path: Path) -> None:
    @trigger_task(name="newer.pages")
    def pages(context: TaskContext) -> None:
        for number in range(context.trigger_kwargs["go"]["pages"]):
            context.fire("page", {"number": number})

    with application("memory", tmp_path, TRIGGER_LIMITS={"body_fires": 3}) as app:
        manager = app.manager("order:1")
        manager.update_configuration({"t_x": {"andEvery": "go", "run": pages.name}})
        for amount in (3, 4):
            manager.fire("go", {"pages": amount})
            assert manager.join(120)
        assert manager.storage["t_x#0"].status == "finished"
        failed = manager.storage["t_x#1"]
        assert failed.status == "failed"
        message = failed.metadata["error"]["message"]
        assert "t_x#1 fired 4 triggers, the limit for one body is 3 (Limits.body_fires)" in message
        fired = [event.trigger for event in manager.storage.events]
        assert fired.count("page") == 3, "all or none"


# -- texts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"t_x": {**TASK, "retry": {"times": 3}}}, "python -m pip install triggers-retry"),
        ({"t_x": {**TASK, "optional": True}}, "python -m pip install triggers-finalize"),
        ({"t_x": {**TASK, "priority": 3}}, "what your application notes for itself .*'extra'"),
        ({"t_x": {**TASK, "afer": ["b"]}}, "did you mean 'after'\\?$"),
        ("flow.json", r"hand in what the file holds, as json.load\(open\(...\)\)"),
    ],
)
def test_what_to_do(given: Any, message: str) -> None:
    with pytest.raises(InvalidConfiguration, match=message):
        parse_configuration(given)


def test_a_schema_for_editors_is_no_task() -> None:
    given = {"$schema": "https://example.org/tasks.json", "t_x": TASK}
    assert list(parse_configuration(given).tasks) == ["t_x"]
    with pytest.raises(InvalidConfiguration):
        parse_configuration({"$schema": 5, "t_x": TASK})


def test_a_wrong_state_is_a_value_error() -> None:
    assert issubclass(WrongState, ValueError)
    assert issubclass(WrongState, RuntimeError)
