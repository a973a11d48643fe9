"""Names and payloads are data: whatever is accepted comes back as it was."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import pytest

from triggers_core.limits import Limits
from triggers_core.storages.base import Store
from triggers_core.testing.driver import SessionDriver
from triggers_core.testing.storage.base import Reopen, StoragePromises

NAMES: Final = (
    "x",
    "page received",
    " leading and trailing ",
    "a/b\\c:d.e,f;g|h",
    "t_x#0",
    "#",
    "#1#2",
    "{0}",
    "{tag}:x",
    "%s%d%",
    "_",
    "*?[a]",
    "'; DROP TABLE sessions; --",
    '"quoted"',
    "~",
    "0",
    "-1",
    "null",
    "Größe",
    "Gro\u0308ße",
    "страница",
    "页面接收",
    "صفحة",
    "👩‍👩‍👧‍👦",
    "no\u00a0break",
    "n" * 200,
    "页" * 200,
    "\U0001d4b3" * 200,
)
"""Every one of them is a good name for a session, a trigger and a task."""

PAYLOADS: Final[dict[str, Any]] = {
    "none": None,
    "bools": [True, False],
    "ints": [0, 1, -1, 2**31, 2**53 + 1, -(2**63), 2**64, 10**300, -(10**300)],
    "floats": [0.0, -0.0, 0.1, 1e308, 5e-324, -1.5, 1e16],
    "strs": ["", "\x00", "ü", "\U0001d4b3", "\u2028", '"\\/', "{}", "null"],
    "lists": [[], [[]], [1, "1", 1.0, None, True]],
    "dicts": [{}, {"": {}}, {"$dict": 1}, {"$uuid": "x"}, {"a": {"b": {"c": []}}}],
    "bytes": [b"", b"\x00\xff", bytes(range(256))],
    "datetimes": [
        datetime(2024, 2, 29, 23, 59, 59, 999999),
        datetime(2024, 2, 29, tzinfo=UTC),
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=-5, minutes=-30))),
    ],
    "dates": [date.min, date.max],
    "times": [time(0), time(23, 59, 59, 1), time(12, tzinfo=UTC)],
    "timedeltas": [timedelta(0), timedelta(days=-1, microseconds=1), timedelta.max],
    "decimals": [Decimal("0"), Decimal("1.10"), Decimal("-1E+30"), Decimal(10) ** 28],
    "uuids": [UUID(int=0), UUID(int=2**128 - 1)],
}


class Data(StoragePromises):
    """Names, payloads and metadata round trip."""

    @pytest.mark.parametrize("name", NAMES)
    def test_any_name_is_good_for_a_session_a_trigger_and_a_task(
        self, store: Store, name: str
    ) -> None:
        session, task = SessionDriver(store, uid=name), f"t{name}"[:200]
        session.configure({task: {"after": [name], "andEvery": "go"}, "t_next": {"after": [task]}})
        session.fire("go")
        assert session.fire(name, event_id=f"id {name}"[:200]).scheduled == [f"{task}#0"]
        assert session.fire(name, event_id=f"id {name}"[:200]).status == "duplicate"
        assert session.run(f"{task}#0").scheduled == ["t_next#0"]
        assert session.fired() == ["go", name, task]
        assert [each.uid for each in store.sessions()] == [name]
        assert [each.task for each in store.instances(name, task=task)] == [task]
        assert store.delete(name)

    def test_names_are_never_taken_for_one_another(self, store: Store) -> None:
        names = [*NAMES, "X", "x ", "GRÖSSE", "%", "__", "*", "n" * 199, "x:y", "x/y"]
        for number, name in enumerate(names):
            session = SessionDriver(store, uid=name)
            for trigger in names:
                session.fire(trigger, {"n": number})
            assert len(session.header.latest) == len(names)
        assert sorted(names) == [each.uid for each in store.sessions()]
        for number, name in enumerate(names):
            session = SessionDriver(store, uid=name)
            assert session.fired() == names
            assert store.payloads(name, [0]) == {0: b'{"n":%d}' % number}

    def test_neighbouring_names_do_not_run_together(self, store: Store) -> None:
        """Keys made by joining names must keep (a, b:c) and (a:b, c) apart."""
        for uid, trigger in (("a", "b:c"), ("a:b", "c"), ("a", "b"), ("a/b", "c"), ("a#b", "c#0")):
            SessionDriver(store, uid).fire(trigger, event_id=f"{uid}:{trigger}")
        assert SessionDriver(store, "a").fired() == ["b:c", "b"]
        assert SessionDriver(store, "a:b").fired() == ["c"]
        session = SessionDriver(store, "tasks")
        session.configure({"t#1": {"andEvery": "go"}, "t": {"andEvery": "go"}})
        session.fire("go")
        session.run("t#1#0")
        assert session.statuses() == {"t#0": "scheduled", "t#1#0": "finished"}

    @pytest.mark.parametrize("kind", PAYLOADS)
    def test_payloads_come_back_equal_and_of_the_same_type(
        self, session: SessionDriver, kind: str
    ) -> None:
        kwargs = {"value": PAYLOADS[kind], "nested": {"deeper": [{"value": PAYLOADS[kind]}]}}
        params = {"elsewhere": kwargs}
        session.configure(t_a={"after": ["go"], "withParams": params}, t_b={"after": ["t_a"]})
        session.fire("go", kwargs)
        claimed = session.claim("t_a#0")
        assert_identical(claimed.kwargs(), {"go": kwargs, "elsewhere": kwargs})
        session.finish(claimed, kwargs)
        assert_identical(session.claim("t_b#0").kwargs(), {"t_a": kwargs})

    def test_everything_is_as_it_was_after_a_restart(
        self, session: SessionDriver, reopened: Reopen
    ) -> None:
        session.configure(t_x={"after": ["go"], "andEvery": "page"}, t_y={"after": ["t_x"]})
        session.fire("go", PAYLOADS, event_id="first")
        session.fire("page")
        session.run("t_x#0", PAYLOADS)
        session.fire("page")
        session.fail_now("t_x#1", {"error": "broken"})
        before, due = session.image(), session.store.next_due()
        session.store = reopened(session.store)
        assert session.image() == before
        assert session.store.next_due() == due
        assert_identical(session.kwargs("t_y#0"), {"t_x": PAYLOADS})
        assert session.fire("go", PAYLOADS, event_id="first").status == "duplicate"
        assert session.claim("t_y#0").instance.status == "running"

    def test_a_payload_as_large_as_the_limit(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["go"]})
        text = "ü" * ((Limits().kwargs_bytes - len('{"text":""}')) // len("ü".encode()))
        session.fire("go", {"text": text})
        assert session.kwargs("t_x#0") == {"go": {"text": text}}

    def test_what_was_loaded_is_the_callers_own(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["a", "b"]})
        session.fire("a", {"n": 1})
        before = session.image()
        header, instances, events = session.image()
        header.latest.clear()
        header.counts["t_x"][0] = 99
        instances[0].taken.clear()
        instances[0].status = "finished"
        events[0].trigger = "changed"
        loaded = session.instance("t_x#0")
        loaded.taken["b"] = [7]
        assert session.image() == before
        assert session.fire("b").scheduled == ["t_x#0"]

    def test_unknown_payload_numbers_are_left_out(self, session: SessionDriver) -> None:
        session.fire("a", {"n": 1})
        store, uid = session.store, session.uid
        assert store.payloads(uid, [0, 1, 99]) == {0: b'{"n":1}'}
        assert store.payloads(uid, []) == {}
        assert store.payloads("another", [0]) == {}

    def test_many_payloads_at_once(self, session: SessionDriver) -> None:
        session.configure({f"t_{n}": {"after": [f"go {n}"]} for n in range(3)})
        session.configure(t_all={"after": [f"go {n}" for n in range(1_200)]})
        for number in range(1_200):
            session.fire(f"go {number}", {"n": number})
        kwargs = session.claim("t_all#0").kwargs()
        assert [kwargs[f"go {number}"]["n"] for number in range(1_200)] == list(range(1_200))

    def test_events_are_read_in_parts(self, session: SessionDriver) -> None:
        for number in range(7):
            session.fire(f"e{number}")
        store, uid = session.store, session.uid

        def part(start: int, limit: int | None) -> list[int]:
            return [event.number for event in store.events(uid, start, limit)]

        assert part(0, 3) == [0, 1, 2]
        assert part(3, 3) == [3, 4, 5]
        assert part(6, 3) == [6]
        assert part(7, 3) == []
        assert part(2, None) == [2, 3, 4, 5, 6]
        assert part(0, 0) == []

    def test_a_session_that_never_was_is_empty(self, store: Store) -> None:
        session = SessionDriver(store, "never")
        assert not session.exists
        assert session.statuses() == {}
        assert session.events() == []
        assert not store.delete("never")
        assert store.sessions() == []
        assert store.next_due() is None


def assert_identical(found: Any, expected: Any, path: str = "kwargs") -> None:
    """Equal, and of the same type at every level."""
    assert type(found) is type(expected), f"{path}: {type(found)} is not {type(expected)}"
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), path
        for key, value in expected.items():
            assert_identical(found[key], value, f"{path}[{key!r}]")
    elif isinstance(expected, list):
        assert len(found) == len(expected), path
        for index, value in enumerate(expected):
            assert_identical(found[index], value, f"{path}[{index}]")
    else:
        assert found == expected, path
        assert repr(found) == repr(expected), path  # -0.0 equals 0.0, 1.1 equals 1.10
