"""The storage `memory`: all or nothing whatever interrupts it, and nothing kept for nobody."""

from __future__ import annotations

import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from triggers_core.engine.commands import Fire
from triggers_core.engine.protocol import Query, Rules
from triggers_core.exceptions import NestedCommit, UnknownSchema
from triggers_core.storages import due_order, memory
from triggers_core.storages.memory import MemoryStore
from triggers_core.testing import VirtualClock
from triggers_core.testing.driver import SessionDriver
from triggers_core.testing.invariants import check_store
from triggers_core.testing.storage.moments import due, move

FILES = {memory.__file__, due_order.__file__}


class Interrupted(BaseException):
    """What a signal handler raises."""


@contextmanager
def interrupted_at(step: int) -> Iterator[None]:
    """Raise before the bytecode of this number that the storage's modules execute."""
    left = step

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in FILES:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise Interrupted
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def a_session() -> SessionDriver:
    """A session in which four instances wait, two of them for a moment, and one is running."""
    session = SessionDriver(MemoryStore(VirtualClock()))
    session.configure(t_x={"after": ["a"], "andEvery": "b"}, t_y={"andEvery": "c"})
    session.fire("b")
    session.fire("b")
    session.fire("c", event_id="given")
    session.claim("t_y#0")
    due(session, 1e9 + 3, 1e9 + 2)
    return session


CHANGES: dict[str, Callable[[SessionDriver], object]] = {
    "fire": lambda session: session.fire("a", event_id="now"),
    "first due": lambda session: due(session, 1e9 + 1, 1e9 + 2, 1e9 + 9),
    "put off": lambda session: move(session, "t_x#2", 1e9 + 1),
    "never due": lambda session: move(session, "t_x#3", None),
    "configure": lambda session: session.configure(t_z={"after": ["c"]}),
    "delete": lambda session: session.store.delete(session.uid),
    "prune": lambda session: session.store.prune(-1, resolved_only=False),
}


@pytest.mark.traces
@pytest.mark.parametrize("change", list(CHANGES))
def test_an_interrupted_change_is_stored_or_not(
    change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due_order, "_LONGEST", 2)
    whole = a_session()
    untouched = _facts(whole)
    CHANGES[change](whole)
    done, outcomes, step = _facts(whole), set(), 0
    while True:
        session = a_session()
        try:
            with interrupted_at(step):
                CHANGES[change](session)
        except Interrupted:
            step += 1
        else:
            break
        facts = _facts(session)
        assert facts in (untouched, done), f"half of it, at step {step}"
        outcomes.add(facts == done)
        check_store(session.store)
        store = session.store
        assert isinstance(store, MemoryStore)
        assert set(store._configurations) == {s.config for s in _headers(session)}
        session.fire("after")
    assert outcomes == {True, False}, "it was interrupted before and after it counted"
    assert step > 100


def _headers(session: SessionDriver) -> list[Any]:
    header = session.store.load(session.uid, Query()).header
    return [] if header is None else [header]


def _facts(session: SessionDriver) -> Any:
    """A session without what is random in it."""
    snapshot = session.store.load(session.uid, Query(all_events=True, event_ids=("given", "now")))
    if snapshot.header is None:
        return None
    return (
        snapshot.header.version,
        snapshot.header.config,
        list(snapshot.configuration.tasks),
        [(event.number, event.trigger) for event in snapshot.events],
        sorted(snapshot.known),
        list(session.store.load(session.uid, Query(moments=2e9)).instances),
        [(each.name, each.status, each.taken) for each in session.store.instances(session.uid)],
    )


def test_a_handler_that_changes_the_session_in_the_middle_of_a_decision() -> None:
    session = a_session()

    class Handled:
        def decide(self, uid: str, rules: Rules) -> Any:
            fire = Fire(trigger="a", payload=b"{}", event_id="outer", given_id=True)
            steps = fire.decide(uid, rules)
            plan = yield from steps
            if not fired:
                fired.append(session.fire("b", event_id="inner"))
            return plan

    fired: list[Any] = []
    session.commit(Handled())
    assert [event.id for event in session.events()][-2:] == ["inner", "outer"]
    assert [event.number for event in session.events()] == list(range(5))
    check_store(session.store)


def test_threads_wait_for_each_other_up_to_the_end_of_a_write() -> None:
    """Also once a change is decided: what another one wrote then would be overwritten."""
    others: list[threading.Thread] = []

    def clock() -> float:
        if decided and not others:
            others.append(threading.Thread(target=session.fire, args=("b",)))
            others[0].start()
            others[0].join(0.25)
        return 1e9

    class Fires:
        def decide(self, uid: str, rules: Rules) -> Any:
            fire = Fire(trigger="a", payload=b"{}", event_id="e")
            plan = yield from fire.decide(uid, rules)
            decided.append(plan)
            return plan

    decided: list[Any] = []
    session = SessionDriver(MemoryStore(clock))
    session.commit(Fires())
    others[0].join()
    assert session.fired() == ["a", "b"]


def test_a_handler_in_the_middle_of_a_write_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    session = a_session()
    write = memory._Session.write

    def slow(self: memory._Session, written: memory._Written) -> None:
        write(self, written)
        signal.raise_signal(signal.SIGUSR1)

    def handler(*_: object) -> None:
        session.fire("inner")

    monkeypatch.setattr(memory._Session, "write", slow)
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(NestedCommit, match="a signal handler cannot use this storage"):
            session.fire("outer")
    finally:
        signal.signal(signal.SIGUSR1, before)
    monkeypatch.undo()
    assert [event.trigger for event in session.events()] == ["b", "b", "c", "outer"]
    check_store(session.store)


def test_configurations_go_with_their_last_session() -> None:
    store = MemoryStore()
    sessions = [SessionDriver(store, f"order:{number}") for number in range(4)]
    for session in sessions:
        session.configure(t_x={"after": ["a"]})
    assert len(store._configurations) == 1
    sessions[0].configure(t_own={"after": ["b"]})
    assert len(store._configurations) == 2
    sessions[0].configure(t_own={"after": ["c"]})
    assert len(store._configurations) == 2, "what it had before is gone"
    for session in sessions[1:]:
        store.delete(session.uid)
    assert len(store._configurations) == 1
    store.prune(-1, resolved_only=False)
    assert (store._configurations, store._users) == ({}, {})


def test_a_lease_of_a_clock_that_was_ahead_is_free() -> None:
    clock = VirtualClock()
    store = MemoryStore(clock)
    store.clock = lambda: clock() + 86_400
    assert store.acquire_lease("sweep", "a", 15)
    store.clock = clock
    assert store.acquire_lease("sweep", "b", 15)
    assert not store.acquire_lease("sweep", "a", 15)


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff", b'{"s":"paused"}', b"[" * 100_000])
def test_a_damaged_record_harms_its_session_alone(damage: bytes) -> None:
    store = MemoryStore(VirtualClock())
    for uid in ("bad", "good"):
        session = SessionDriver(store, uid)
        session.configure(t_x={"andEvery": "a"})
        session.fire("a")
    store._sessions["bad"].instances["t_x", 0] = damage
    with pytest.raises(UnknownSchema, match=r"^bad: the record of an instance cannot be read"):
        store.instances("bad")
    bad, good = SessionDriver(store, "bad"), SessionDriver(store, "good")
    with pytest.raises(UnknownSchema, match=r"^bad: "):
        bad.claim("t_x#0")
    good.claim("t_x#0")
    store._sessions["bad"].header = damage or b"{"
    with pytest.raises(UnknownSchema, match=r"^bad: the session's header cannot be read"):
        bad.fire("a")
    assert [each.uid for each in store.sessions()] == ["good"]
    assert store.delete("bad")
    assert [each.uid for each in store.due()] == []


def test_what_falls_due_is_kept_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due_order, "_LONGEST", 4)
    randomly = random.Random(7)
    order: due_order.DueOrder = []
    expected: set[due_order.Entry] = set()
    for adding in (0.8, 0.1, 0.8):
        for _ in range(300):
            if randomly.random() < adding:
                entry = (str(randomly.randrange(20)), "t_x", randomly.randrange(8))
                due_order.add(order, entry)
                expected.add(entry)
            else:
                entry = randomly.choice([*sorted(expected), ("7", "t_x", 99)])
                due_order.discard(order, entry)
                expected.discard(entry)
            assert list(due_order.entries(order)) == sorted(expected)
            assert all(0 < len(some) <= 4 for some in order)
    assert 10 < len(order) < len(expected)
