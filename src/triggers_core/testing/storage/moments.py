"""Moments and spans: what falls due, earliest first, and the events that instances refer to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from triggers_core import payloads
from triggers_core.engine.attempts import BodyFire
from triggers_core.engine.machine import Draft
from triggers_core.engine.protocol import MOST_DUE, CommandSteps, Query, Rules, Snapshot
from triggers_core.engine.records import Extent, Instance, Status
from triggers_core.engine.waits import is_moment, wait_keys
from triggers_core.limits import Limits
from triggers_core.testing.clock import VirtualClock
from triggers_core.testing.driver import SessionDriver
from triggers_core.testing.storage.base import Reopen, StoragePromises

LARGE = {"what": "x" * 6_000}
"""Kwargs that a session cannot hold in one small value."""


class ByHand:
    """A command that changes instances as it is told to, not as the language has it."""

    def __init__(self, change: Callable[[Draft], None], *names: str) -> None:
        self.change: Callable[[Draft], None] = change
        self.names: tuple[str, ...] = names

    def decide(self, uid: str, rules: Rules) -> CommandSteps[Any]:
        draft = Draft((yield Query(instances=self.names)), rules)
        self.change(draft)
        return draft.plan(None)


class Ask:
    """A command that asks one thing after another, and writes nothing but a new version."""

    def __init__(self, *queries: Query) -> None:
        self.queries = queries

    def decide(self, uid: str, rules: Rules) -> CommandSteps[list[Snapshot]]:
        draft = Draft((yield Query()), rules)
        answers: list[Snapshot] = []
        for query in self.queries:
            answers.append((yield query))
        return draft.plan(answers)


def put_off(draft: Draft, instance: Instance, due_at: float | None) -> None:
    """Let an unstarted instance fall due at a moment."""
    draft.touch(instance)
    instance.met = True  # as if it were held: a deadline would have to follow from its task
    instance.due_at = due_at
    header = draft.header
    if due_at is not None and (header.next_moment is None or due_at < header.next_moment):
        header.next_moment = due_at


def new_instance(draft: Draft, task: str) -> Instance:
    """An unstarted instance of a task, part of the session."""
    instance = draft.new_instance(draft.configuration.tasks[task])
    draft.add(instance)
    return instance


def due(session: SessionDriver, *moments: float, task: str = "t_x") -> None:
    """Create an unstarted instance of a task for each of some moments."""

    def create(draft: Draft) -> None:
        for moment in moments:
            put_off(draft, new_instance(draft, task), moment)

    session.commit(ByHand(create))


def move(session: SessionDriver, name: str, due_at: float | None) -> None:
    """Let an instance fall due at another moment."""
    task, _, number = name.rpartition("#")
    session.commit(ByHand(lambda d: put_off(d, d.instance(task, int(number)), due_at), name))


def names(snapshot: Snapshot) -> list[str]:
    """The instances of an answer, in its order."""
    return list(snapshot.instances)


class Moments(StoragePromises):
    """`Query.moments`, `Query.numbers`, `Query.payloads`."""

    @pytest.fixture(params=["small", "large"])
    def waiting(self, session: SessionDriver, request: pytest.FixtureRequest) -> SessionDriver:
        """A session with a configuration; nothing waits in it yet."""
        session.configure(t_x={"after": ["a", "b"]}, t_y={"after": ["b"]}, t_sum={"after": ["sum"]})
        if request.param == "large":
            session.fire("filler", LARGE)
        return session

    # -- moments ----------------------------------------------------------------------------------

    def test_a_newer_event_rewrites_no_instance_that_is_held(self, session: SessionDriver) -> None:
        session.configure(
            t_save={"after": ["page"], "keeping": "latest", "waiting": 60}, t_go={"after": ["go"]}
        )
        session.fire("page")
        session.fire("go")
        claimed, held = session.claim("t_go#0"), session.instance("t_save#0")
        session.finish(claimed, fires=[BodyFire(trigger="page", payload=b"{}")])
        assert session.instance("t_save#0") == held, "it is looked at when its hold ends"

    def test_what_falls_due_comes_earliest_first(
        self, waiting: SessionDriver, clock: VirtualClock
    ) -> None:
        now = clock()
        due(waiting, now + 3, now + 1, now + 2)
        due(waiting, now + 1.5, task="t_y")
        for moment, expected, following in (
            (0.5, [], 1),
            (1, ["t_x#1"], 1.5),
            (2.5, ["t_x#1", "t_y#0", "t_x#2"], 3),
            (99, ["t_x#1", "t_y#0", "t_x#2", "t_x#0"], None),
        ):
            found = waiting.store.load(waiting.uid, Query(moments=now + moment))
            assert names(found) == expected
            assert found.next_moment == (None if following is None else now + following)

    def test_to_the_microsecond(self, waiting: SessionDriver, clock: VirtualClock) -> None:
        moment = clock() + 0.000_007
        due(waiting, moment)
        before = waiting.store.load(waiting.uid, Query(moments=clock() + 0.000_006))
        assert (names(before), before.next_moment) == ([], moment)
        assert names(waiting.store.load(waiting.uid, Query(moments=moment))) == ["t_x#0"]

    def test_nothing_falls_due(self, waiting: SessionDriver, clock: VirtualClock) -> None:
        waiting.fire("a")
        found = waiting.store.load(waiting.uid, Query(moments=clock() + 1e9))
        assert (found.instances, found.next_moment) == ({}, None)
        assert waiting.store.load("another", Query(moments=clock())).next_moment is None

    @pytest.mark.parametrize(
        ("amounts", "expected"),
        [
            ((MOST_DUE,), 1),
            ((MOST_DUE, 1), 1),
            ((MOST_DUE + 1, 1), 1),
            ((MOST_DUE - 1, 1, 1), 2),
            ((MOST_DUE - 1, 500, 500), 2),
            ((1, 1, 1), 3),
        ],
    )
    def test_no_more_than_needed_and_no_moment_is_split(
        self,
        session: SessionDriver,
        clock: VirtualClock,
        amounts: tuple[int, ...],
        expected: int,
    ) -> None:
        session.configure(t_x={"after": ["a", "b"]})
        due(session, *(clock() + at for at, n in enumerate(amounts) for _ in range(n)))
        found = session.store.load(session.uid, Query(moments=clock() + 10))
        assert len(found.instances) == sum(amounts[:expected])
        following = clock() + expected if expected < len(amounts) else None
        assert found.next_moment == following
        assert session.store.delete(session.uid), "a recount of so many would take long"

    def test_an_instance_that_moves_leaves_nothing_behind(
        self, waiting: SessionDriver, clock: VirtualClock
    ) -> None:
        now = clock()
        due(waiting, now + 1, now + 2, now + 3)
        move(waiting, "t_x#0", now + 9)
        move(waiting, "t_x#1", None)
        found = waiting.store.load(waiting.uid, Query(moments=now + 5))
        assert (names(found), found.next_moment) == (["t_x#2"], now + 9)
        waiting.commit(ByHand(lambda d: d.schedule(d.instance("t_x", 2)), "t_x#2"))
        found = waiting.store.load(waiting.uid, Query(moments=now + 5))
        assert (names(found), found.next_moment) == ([], now + 9)
        assert waiting.store.delete(waiting.uid)
        waiting.configure(t_x={"after": ["a", "b"]})
        assert waiting.store.load(waiting.uid, Query(moments=now + 99)).instances == {}

    def test_an_instance_that_will_not_fall_due_any_more(
        self, waiting: SessionDriver, clock: VirtualClock
    ) -> None:
        due(waiting, clock() + 1)
        assert waiting.store.next_due() == pytest.approx(1)
        move(waiting, "t_x#0", None)
        assert waiting.store.next_due() is None
        found = waiting.store.load(waiting.uid, Query(moments=clock() + 5))
        assert (found.instances, found.next_moment) == ({}, None)

    def test_what_an_older_process_left_in_the_index_is_passed_over(
        self, waiting: SessionDriver, clock: VirtualClock
    ) -> None:
        """It knows nothing of moments: it schedules and moves instances, and their entries stay."""
        now = clock()
        due(waiting, now + 1, now + 2, now + 3, now + 4)

        def older(draft: Draft) -> None:
            moved = draft.instance("t_x", 1)
            put_off(draft, moved, now + 50)
            draft.schedule(draft.instance("t_x", 0))
            for instance in (moved, draft.instance("t_x", 0)):
                change = draft.touch(instance)
                for waits in ("waits_before", "waits_after"):
                    known = {key for key in getattr(change, waits) if not is_moment(key)}
                    setattr(change, waits, frozenset(known))

        waiting.commit(ByHand(older, "t_x#0", "t_x#1"))
        found = waiting.store.load(waiting.uid, Query(moments=now + 3))
        assert (names(found), found.next_moment) == (["t_x#2"], now + 4)
        assert waiting.store.delete(waiting.uid), "its index is not what `check_store` expects"

    def test_they_come_along_with_other_instances(
        self, waiting: SessionDriver, clock: VirtualClock
    ) -> None:
        now = clock()
        waiting.fire("a")
        due(waiting, now + 1, now + 2)
        due(waiting, now + 1, task="t_y")
        query = Query(moments=now + 1, triggers=("a",), instances=("t_x#2",), unstarted=("t_y",))
        found = waiting.store.load(waiting.uid, query)
        assert set(found.instances) == {"t_x#1", "t_y#0", "t_x#2"}
        assert found.next_moment == now + 2
        found = waiting.store.load(waiting.uid, Query(moments=now + 1, unstarted=("t_x",)))
        assert set(found.instances) == {"t_x#0", "t_x#1", "t_y#0", "t_x#2"}

    def test_a_change_that_asks_more_than_once(
        self, waiting: SessionDriver, clock: VirtualClock
    ) -> None:
        now = clock()
        for _ in range(4):  # the later ones may know the session from those before
            due(waiting, now + 1, now + 2)
            due(waiting, now + 1, task="t_y")
            first, second, again = waiting.commit(
                Ask(Query(moments=now), Query(moments=now + 1, triggers=("b",)), Query(moments=now))
            )
            assert (names(first), first.next_moment) == ([], now + 1)
            moments = {each.due_at for each in second.instances.values()}
            assert now + 1 in moments
            assert second.next_moment == now + 2
            assert (names(again), again.next_moment) == ([], now + 1)
        count = 4
        found = waiting.store.load(waiting.uid, Query(moments=now + 1))
        assert len(found.instances) == 2 * count

    def test_moments_survive_a_restart(
        self, waiting: SessionDriver, clock: VirtualClock, reopened: Reopen
    ) -> None:
        due(waiting, clock() + 1, clock() + 2)
        waiting.store = reopened(waiting.store)
        found = waiting.store.load(waiting.uid, Query(moments=clock() + 1))
        assert (names(found), found.next_moment) == (["t_x#0"], clock() + 2)

    def test_a_session_that_grows_keeps_its_moments(
        self, session: SessionDriver, clock: VirtualClock
    ) -> None:
        session.configure(t_x={"after": ["a", "b"]}, t_y={"after": ["b"]})
        due(session, clock() + 1, clock() + 3)
        session.fire("filler", LARGE)
        due(session, clock() + 2)
        found = session.store.load(session.uid, Query(moments=clock() + 2))
        assert (names(found), found.next_moment) == (["t_x#0", "t_x#2"], clock() + 3)

    # -- events by number -------------------------------------------------------------------------

    def test_events_by_their_numbers(self, waiting: SessionDriver) -> None:
        for n in range(5):
            waiting.fire("tick", {"n": n})
        events = {event.number: event for event in waiting.events()}
        asked = tuple(events)[-4::2]
        query = Query(numbers=(*asked, 99, -1, 1 << 40))
        assert waiting.store.load(waiting.uid, query).numbered == {n: events[n] for n in asked}
        for _ in range(3):
            first, second = waiting.commit(Ask(query, Query(numbers=(0, asked[0], 99))))
            assert first.numbered == {n: events[n] for n in asked}
            assert second.numbered == {n: events[n] for n in (0, asked[0])}
        assert waiting.store.load("another", query).numbered == {}

    def test_the_events_within_the_spans_of_an_instance(self, waiting: SessionDriver) -> None:
        for n, trigger in enumerate(("even", "b", *("even", "odd") * 5)):
            waiting.fire(trigger, {"n": n})
        events = waiting.events()
        first = events[-12].number
        taken = self._fan_in(waiting, first)
        query = Query(instances=("t_sum#0",), payloads=True)
        expected = {each.number: each for each in events if first <= each.number <= first + 8}
        assert waiting.store.load(waiting.uid, query).numbered == expected, "while it waits"
        waiting.commit(ByHand(lambda d: d.schedule(d.instance("t_sum", 0)), "t_sum#0"))
        assert waiting.store.load(waiting.uid, query).numbered == expected
        more = Query(instances=("t_sum#0",), payloads=True, numbers=(first + 11, first, 99))
        found = waiting.store.load(waiting.uid, more).numbered
        assert found == {**expected, first + 11: events[-1]}
        claimed = waiting.claim("t_sum#0")
        assert waiting.store.load(waiting.uid, query).numbered == expected
        assert claimed.kwargs() == taken
        waiting.heartbeat(claimed)
        assert waiting.finish(claimed).outcome.instance.status is Status.FINISHED
        assert waiting.store.load(waiting.uid, query).numbered == expected
        assert waiting.kwargs("t_sum#0") == taken

    def _fan_in(self, session: SessionDriver, first: int) -> dict[str, Any]:
        """Let ``t_sum#0`` hold events: one taken by itself, and some in extents."""
        where = payloads.encode({"n": 4}, Limits())

        def create(draft: Draft) -> None:
            instance = new_instance(draft, "t_sum")
            instance.taken = {"b": [first + 1]}
            instance.extents = {
                "evens": Extent(amount=3, first=first, last=first + 8, trigger="even"),
                "four": Extent(
                    amount=1,
                    first=first + 2,
                    last=first + 6,
                    trigger="even",
                    where=msgspec.Raw(where),
                ),
                "none": Extent(amount=0, first=-1, last=-1, trigger="odd"),
                "stop": Extent(
                    amount=1, first=first + 11, last=first + 11, trigger="odd", unless=True
                ),
            }
            draft.touch(instance).waits_after = wait_keys(
                draft.configuration.tasks["t_sum"], instance
            )

        session.commit(ByHand(create))
        return {
            "b": {"n": 1},
            "evens": [{"n": 0}, {"n": 2}, {"n": 4}],
            "four": [{"n": 4}],
            "none": [],
        }
