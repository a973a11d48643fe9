"""What `explain` says of the language of conditions, word by word: whole texts, and as data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from textwrap import dedent
from typing import Any

import pytest

from triggers_core.engine.attempts import Retry
from triggers_core.engine.protocol import Rules
from triggers_core.explain import explain, rule_of
from triggers_core.limits import Limits
from triggers_core.storages.memory import MemoryStorage, MemoryStore
from triggers_core.testing import SessionDriver, VirtualClock

MINUTE, HOUR, DAY = 60, 3_600, 86_400


class Told(SessionDriver):
    """A session on a clock of its own: it begins at 12:00 on January 1st, 2026."""

    def __init__(self) -> None:
        self.clock = VirtualClock(1_767_268_800.0)
        self.memory = MemoryStore(self.clock)
        super().__init__(self.memory)

    @property
    def storage(self) -> MemoryStorage:
        return MemoryStorage(self.uid, self.memory)

    def after(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def text(self, task: str = "t_x") -> str:
        """What is said of one task, without its rule and what stands above it."""
        lines = str(explain(self.storage, task)).splitlines()
        begin = next(n for n, line in enumerate(lines) if line.startswith(f"{task}: "))
        return "\n".join(line.removeprefix("  ") for line in lines[begin + 1 :])

    def data(self, task: str = "t_x") -> Any:
        """The task as data, as JSON has it."""
        [told] = json.loads(json.dumps(explain(self.storage, task).data))["tasks"]
        return told


@pytest.fixture
def session() -> Told:
    return Told()


def is_told(session: Told, text: str, task: str = "t_x") -> None:
    assert session.text(task) == dedent(text).strip()


# -- rules -----------------------------------------------------------------------------------------

RULES: list[tuple[Mapping[str, Any], str]] = [
    ({"after": ["a", "b"], "unless": ["c"]}, "after a and b, unless c, run x"),
    ({"after": "a", "andEvery": "b"}, "after a, and every b, run x"),
    ({"after": ["a b", ["c", "d"]]}, "after 'a b' and (c and d), run x"),
    ({"after": {"anyOf": ["a", "b"]}}, "after a or b, run x"),
    ({"after": ["a", {"anyOf": ["b", "c", "d"]}]}, "after a and (b, c or d), run x"),
    ({"after": {"atLeast": 2, "of": ["a", "b", "c"]}}, "after 2 of a, b and c, run x"),
    (
        {"after": {"anyOf": [["a", "b"], {"atLeast": 2, "of": ["c", "d", "e"]}]}},
        "after (a and b) or (2 of c, d and e), run x",
    ),
    ({"andEvery": {"anyOf": ["a", "b"]}}, "every a or b, run x"),
    ({"after": {"atLeast": 3, "of": "a"}}, "after 3 of a, run x"),
    (
        {"after": ["a", {"atLeast": "a.items", "of": "b"}]},
        "after a and as many of b as a.items says, run x",
    ),
    (
        {"after": {"trigger": "a", "as": "k", "where": {"s": ["u", "v"], "n": {"atLeast": 1}}}},
        "after a as k (s is 'u' or 'v' and n is at least 1), run x",
    ),
    (
        {
            "after": {
                "trigger": "a",
                "where": {
                    "n": {"moreThan": 1, "atMost": 5, "not": [2, 3]},
                    "m": {"lessThan": 1.5},
                    "p": {"given": True},
                    "q": {"given": False},
                },
            }
        },
        "after a (n is more than 1 and at most 5 and not 2 or 3 and m is less than 1.5 and p is"
        " given and q is not given), run x",
    ),
    ({"after": "a", "keeping": "latest"}, "after a, keeping the latest of a, run x"),
    (
        {"after": ["a", "b"], "keeping": {"a": "latest", "b": "all"}},
        "after a and b, keeping the latest of a and all of b, run x",
    ),
    ({"after": "a", "everyTime": True}, "after a, every time, run x"),
    ({"after": "a", "waiting": "2 days"}, "after a, waiting 2 days, run x"),
    (
        {"after": "a", "waiting": {"time": 90, "atMost": "1 hour"}},
        "after a, waiting 90 seconds (1 hour at most), run x",
    ),
    ({"after": "a", "waiting": {"until": "a.at"}}, "after a, waiting until a.at, run x"),
    ({"after": "a", "within": 0.5}, "after a, within 0.5 seconds, run x"),
    (
        {"after": ["a", "b"], "within": {"of": "b", "time": "36 hours"}},
        "after a and b, within 36 hours of b, run x",
    ),
    (
        {"after": "a", "otherwise": "none"},
        "after a, run x; fire none when late, failed, skipped or called off",
    ),
    (
        {"after": "a", "within": 1, "otherwise": {"late": "l", "calledOff": "c"}},
        "after a, within 1 second, run x; fire l when late and c when called off",
    ),
]


@pytest.mark.parametrize(("task", "rule"), RULES, ids=[rule for _, rule in RULES])
def test_rules(session: Told, task: Mapping[str, Any], rule: str) -> None:
    assert rule_of(session.parse({"t_x": {**task, "run": "x"}}).tasks["t_x"]) == rule


def test_a_rule_shows_no_secrets(session: Told) -> None:
    where = {"login.token": "tok_1", "password": {"not": ["hunter2", None]}}
    task = session.parse({"t_x": {"after": {"trigger": "a", "where": where}, "run": "x"}})
    rule = rule_of(task.tasks["t_x"])
    assert rule == "after a (login.token is *** and password is not *** or None), run x"


# -- trees -----------------------------------------------------------------------------------------


def test_nested_lists(session: Told) -> None:
    session.configure(t_x={"after": ["a", {"anyOf": [["b", "c"], "d"]}]})
    session.fire("a")
    session.fire("c")
    session.after(MINUTE)
    is_told(
        session,
        """
        1 instance, unstarted.
        - t_x#0: waits for b or d.
            [ ] all of these:
                [x] a, since 12:00:00 UTC (1 minute)
                [ ] one of these:
                    [ ] all of these:
                        [ ] b
                        [x] c, since 12:00:00 UTC (1 minute)
                    [ ] d
        """,
    )
    condition = session.data()["instances"][0]["condition"]
    assert (condition["has"], condition["needs"], condition["holds"]) == (1, 2, False)
    either = condition["of"][1]
    assert (either["has"], either["needs"], len(either["of"])) == (0, 1, 2)
    assert session.data()["waits_for"] == ["b", "d"]


def test_at_least_so_many_of_several(session: Told) -> None:
    session.configure(t_x={"after": {"atLeast": 3, "of": ["ann", "bob", "cy", "dee"]}})
    session.fire("bob")
    is_told(
        session,
        """
        1 instance, unstarted.
        - t_x#0: waits for 2 of ann, cy and dee.
            [ ] 3 of these, 1 so far:
                [ ] ann
                [x] bob, since 12:00:00 UTC (0 seconds)
                [ ] cy
                [ ] dee
        """,
    )


def test_so_many_events_of_a_trigger(session: Told) -> None:
    session.configure(t_x={"after": ["placed", {"atLeast": 5, "of": "packed"}]})
    session.fire("placed")
    for _ in range(3):
        session.after(MINUTE)
        session.fire("packed")
    session.after(MINUTE)
    is_told(
        session,
        """
        1 instance, unstarted.
        - t_x#0: waits for 2 more of packed.
            [ ] all of these:
                [x] placed, since 12:00:00 UTC (4 minutes)
                [ ] packed: 3 of 5, the latest since 12:03:00 UTC (1 minute)
        """,
    )
    [_, packed] = session.data()["instances"][0]["condition"]["of"]
    assert (packed["has"], packed["needs"], packed["keep"]) == (3, 5, "count")


NAMED = {"after": ["placed", {"atLeast": "placed.items", "of": "packed"}]}


def test_a_number_that_no_event_has_named(session: Told) -> None:
    session.configure(t_x=NAMED)
    session.fire("packed")
    is_told(
        session,
        """
        1 instance, unstarted.
        - t_x#0: waits for placed and as many of packed as placed.items says.
            [ ] all of these:
                [ ] placed
                [ ] packed: 1 of ?, since 12:00:00 UTC (0 seconds)
        """,
    )
    assert session.data()["instances"][0]["condition"]["of"][1]["needs"] is None
    session.fire("placed", {"items": 5})
    assert "[ ] packed: 1 of 5, since" in session.text()


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"items": True}, "placed came with items True, which is no count"),
        ({}, "placed came without items"),
    ],
)
def test_an_event_that_names_no_number(session: Told, kwargs: Any, said: str) -> None:
    session.configure(t_x=NAMED)
    session.fire("placed", kwargs)
    is_told(
        session,
        f"""
        1 instance, unstarted.
        - t_x#0: waits for as many of packed as placed.items says.
            [ ] all of these:
                [x] placed, since 12:00:00 UTC (0 seconds)
                [ ] packed: 0 of ?: {said}
        """,
    )


def test_where(session: Told) -> None:
    where = {"status": "succeeded", "amount": {"atLeast": 100}}
    session.configure(t_x={"after": ["placed", {"trigger": "paid", "where": where}]})
    session.fire("placed")
    session.fire("paid", {"status": "failed"})
    session.after(MINUTE)
    is_told(
        session,
        """
        1 instance, unstarted.
        - t_x#0: waits for paid (status is 'succeeded' and amount is at least 100).
            [ ] all of these:
                [x] placed, since 12:00:00 UTC (1 minute)
                [ ] paid (status is 'succeeded' and amount is at least 100): \
paid came 12:00:00 UTC (1 minute ago) with status 'failed', not 'succeeded'
        """,
    )
    [_, paid] = session.data()["instances"][0]["condition"]["of"]
    assert paid["failed"] == {
        "event": 1,
        "at": 1_767_268_800.0,
        "path": "status",
        "given": True,
        "found": "'failed'",
        "expected": "'succeeded'",
    }


@pytest.mark.parametrize(
    ("test", "kwargs", "said"),
    [
        ("b", {"s": "a"}, "with s 'a', not 'b'"),
        (["b", 1], {"s": None}, "with s None, not 'b' or 1"),
        ({"atLeast": 3, "lessThan": 9}, {"s": 9}, "with s 9, not less than 9"),
        ({"not": "a"}, {"s": "a"}, "with s 'a', which it must not be"),
        ({"given": False}, {"s": "a"}, "with s, which must not be given"),
        ({"given": True}, {}, "without s"),
        ("b", {}, "without s"),
        ("b", {"s": "u" * 200}, f"with s '{'u' * 28}…{'u' * 29}', not 'b'"),
    ],
)
def test_the_test_that_failed(session: Told, test: Any, kwargs: Any, said: str) -> None:
    leaf = {"trigger": "a", "where": {"s": test}}
    session.configure(t_x={"after": ["go", leaf]})
    session.fire("go")
    session.fire("a", kwargs)
    assert session.text().endswith(f"a came 12:00:00 UTC (0 seconds ago) {said}")


def test_secrets_of_events_are_masked(session: Told) -> None:
    leaf = {"trigger": "a", "where": {"login.api_key": "k1"}}
    session.configure(t_x={"after": ["go", leaf]})
    session.fire("go")
    session.fire("a", {"login": {"api_key": "hunter2"}})
    assert session.text().endswith(" with login.api_key ***, not ***")
    assert "hunter2" not in json.dumps(session.data())


def test_two_leaves_of_one_trigger_have_keys(session: Told) -> None:
    late = {"trigger": "paid", "where": {"late": True}, "as": "late"}
    session.configure(t_x={"after": ["paid", late]})
    session.fire("paid", {"late": False})
    is_told(
        session,
        """
        1 instance, unstarted.
        - t_x#0: waits for paid as late (late is True).
            [ ] all of these:
                [x] paid, since 12:00:00 UTC (0 seconds)
                [ ] paid as late (late is True): paid came 12:00:00 UTC (0 seconds ago) \
with late False, not True
        """,
    )
    session.fire("paid", {"late": True})
    assert session.data()["instances"][0]["has"] == [
        {"trigger": "paid", "event": 0, "at": 1_767_268_800.0},
        {"trigger": "paid", "event": 1, "at": 1_767_268_800.0, "key": "late"},
    ]


def test_keeping(session: Told) -> None:
    keeping = {"price": "latest", "note": "all"}
    session.configure(t_x={"after": ["price", "note", "go"], "keeping": keeping})
    for trigger in ("note", "price", "note"):
        session.fire(trigger)
        session.after(MINUTE)
    is_told(
        session,
        """
        1 instance, unstarted.
        - t_x#0: waits for go.
            [ ] all of these:
                [x] price, since 12:01:00 UTC (2 minutes)
                [x] note: 2 events, the latest since 12:02:00 UTC (1 minute)
                [ ] go
        """,
    )


def test_a_record_that_begins_later_than_the_session(session: Told) -> None:
    session.configure(t_y={"after": ["go"]})
    for _ in range(3):
        session.fire("packed")
    session.configure(t_x={"after": ["go", {"atLeast": 4, "of": "packed"}]})
    session.fire("packed")
    is_told(
        session,
        """
        1 instance, unstarted.
        - t_x#0: waits for go and 3 more of packed.
            [ ] all of these:
                [ ] go
                [ ] packed: 1 of 4, since 12:00:00 UTC (0 seconds): what was fired before event 3 \
is not counted
        """,
    )


def test_a_new_task_that_has_not_begun(session: Told) -> None:
    session.configure(t_y={"after": ["go"]})
    session.fire("placed", {"items": 2})
    session.fire("paid", {"ok": True})
    paid = {"trigger": "paid", "where": {"ok": True}}
    session.configure(t_x={"after": [*NAMED["after"], paid]})
    is_told(
        session,
        """
        It has not begun: it waits for 2 of packed and paid (ok is True). (placed fired before the \
task was configured, and will count.)
          [ ] all of these:
              [x] placed, since 12:00:00 UTC (0 seconds)
              [ ] packed: 0 of 2
              [ ] paid (ok is True): what was fired before event 2 is not counted
        """,
    )
    assert session.data()["waits_for"] == ["packed", "paid"]


def test_the_leaves_of_and_every_have_room_for_one_event(session: Told) -> None:
    pages = {"after": ["page"], "andEvery": {"anyOf": ["page", "sheet"]}}
    session.configure(t_x=pages)
    session.fire("page")
    session.fire("sheet")
    assert session.text().splitlines()[2].endswith("- t_x#1: waits for page.")


def test_a_task_with_and_every_that_has_not_begun(session: Told) -> None:
    session.configure(t_y={"after": ["never"]})
    session.fire("page")
    session.fire("sheet")
    session.configure(t_x={"after": ["go"], "andEvery": {"anyOf": ["page", "sheet"]}})
    is_told(
        session,
        """
        It has not begun: it waits for go. (sheet fired before the task was configured, and will \
count.)
          [ ] all of these:
              [ ] go
              [x] one of these:
                  [ ] page
                  [x] sheet, since 12:00:00 UTC (0 seconds)
        """,
    )


# -- rounds ----------------------------------------------------------------------------------------


def test_every_time(session: Told) -> None:
    session.configure(t_x={"after": ["edited", "saved"], "everyTime": True})
    session.fire("edited")
    session.fire("saved")
    session.finish(session.claim("t_x#0"))
    is_told(
        session,
        """
        1 instance, finished. The next one begins with edited or saved.
        - t_x#0: finished 12:00:00 UTC (0 seconds ago).
        """,
    )
    session.fire("edited")
    is_told(
        session,
        """
        2 instances: 1 unstarted, 1 finished.
        - t_x#0: finished 12:00:00 UTC (0 seconds ago).
        - t_x#1: waits for the next time: for saved; has edited, since 12:00:00 UTC (0 seconds).
        """,
    )
    assert [each["idle"] for each in session.data()["instances"]] == [False, True]


def test_what_failed_before_a_round_is_not_told(session: Told) -> None:
    paid = {"trigger": "paid", "where": {"ok": True}}
    session.configure(t_x={"after": {"anyOf": [["edited", paid], "go"]}, "everyTime": True})
    session.fire("edited")
    session.fire("paid", {"ok": False})
    assert session.text().count("with ok False, not True") == 1
    session.fire("go")
    session.fire("edited")
    assert session.text().count("with ok False, not True") == 0


# -- time ------------------------------------------------------------------------------------------


def test_held_back(session: Told) -> None:
    session.configure(
        t_x={"after": ["placed"], "unless": [{"anyOf": ["paid", "cancelled"]}], "waiting": "2 days"}
    )
    session.fire("placed")
    session.after(HOUR)
    is_told(
        session,
        """
        1 instance, unstarted.
        - t_x#0: held back until 2026-01-03 (in 1 day), 2 days after placed; \
paid or cancelled would call it off before.
        """,
    )
    assert session.data()["instances"][0]["held_until"] == 1_767_268_800.0 + 2 * DAY
    session.after(2 * DAY)
    is_told(
        session,
        """
        1 instance, unstarted.
        - t_x#0: held back until 12:00:00 UTC (1 hour ago), 2 days after placed: \
the next sweep or change schedules it.
        """,
    )
    session.fire("paid")
    is_told(
        session,
        """
        1 instance, scheduled.
        - t_x#0: scheduled since 12:00:00 UTC (1 hour); no worker has claimed it yet. Should its \
message be lost, another is sent in 1 minute. paid came too late to call it off, 13:00:00 UTC \
(0 seconds ago).
        """,
    )


def test_what_a_hold_counts_from(session: Told) -> None:
    after = ["placed", {"atLeast": 2, "of": "packed"}]
    session.configure(t_x={"after": after, "waiting": "5 minutes"})
    for trigger in ("packed", "placed", "packed", "packed"):
        session.fire(trigger)
        session.after(MINUTE)
    is_told(
        session,
        """
        1 instance, unstarted.
        - t_x#0: held back until 12:07:00 UTC (in 3 minutes), 5 minutes after 12:02:00 UTC.
            [x] all of these:
                [x] placed, since 12:01:00 UTC (3 minutes)
                [x] packed: 2 of 2
        """,
    )


def test_a_newer_event_moves_the_end(session: Told) -> None:
    waiting = {"time": "5 minutes", "atMost": "7 minutes"}
    session.configure(
        t_x={"after": ["edited"], "keeping": "latest", "waiting": waiting, "everyTime": True}
    )
    session.fire("edited")
    session.after(MINUTE)
    session.fire("edited")
    assert session.text().endswith(
        "held back until 12:06:00 UTC (in 5 minutes), 5 minutes after edited."
    )
    session.after(3 * MINUTE)
    session.fire("edited")
    assert session.text().endswith(
        "held back until 12:07:00 UTC (in 3 minutes), 7 minutes at most after edited."
    )


def test_until(session: Told) -> None:
    session.configure(t_x={"after": ["placed"], "waiting": {"until": "placed.shipOn"}})
    session.fire("placed", {"shipOn": "2026-01-01T15:00:00Z"})
    is_told(
        session,
        """
        1 instance, unstarted.
        - t_x#0: held back until 15:00:00 UTC (in 3 hours), as placed.shipOn says.
        """,
    )


def test_an_until_that_says_nothing_usable(session: Told) -> None:
    session.configure(t_x={"after": ["placed", "paid"], "waiting": {"until": "placed.shipOn"}})
    session.fire("placed", {"shipOn": "soon"})
    session.fire("paid")
    is_told(
        session,
        """
        1 instance, unstarted.
        - t_x#0: waits for a moment in placed.shipOn.
            [ ] all of these:
                [ ] placed, since 12:00:00 UTC (0 seconds): placed came with shipOn 'soon', which \
is no moment with an offset from UTC
                [x] paid, since 12:00:00 UTC (0 seconds)
        """,
    )
    assert session.data()["waits_for"] == ["placed"]


def test_a_deadline_that_comes(session: Told) -> None:
    session.configure(t_x={"after": ["placed", "paid"], "within": "15 minutes"})
    session.fire("placed")
    session.after(5 * MINUTE)
    is_told(
        session,
        """
        1 instance, unstarted.
        - t_x#0: waits for paid; has placed, since 12:00:00 UTC (5 minutes). It is late from \
12:15:00 UTC (in 10 minutes) on, 15 minutes after placed.
        """,
    )
    assert session.data()["instances"][0]["deadline"] == 1_767_268_800.0 + 15 * MINUTE
    session.after(15 * MINUTE)
    assert session.text().endswith(
        "Its 15 minutes were over 12:15:00 UTC (5 minutes ago): the next sweep or change finds it"
        " late."
    )


def test_a_deadline_that_counts_from_another_event(session: Told) -> None:
    within = {"of": "paid", "time": "3 days"}
    session.configure(t_x={"after": ["placed", "paid", "packed"], "within": within})
    session.fire("placed")
    assert session.text().endswith("(0 seconds). Its 3 days begin with paid.")
    session.after(HOUR)
    session.fire("paid")
    assert session.text().endswith("It is late from 2026-01-04 (in 3 days) on, 3 days after paid.")


def test_late(session: Told) -> None:
    session.configure(
        t_x={
            "after": ["placed", {"trigger": "paid", "where": {"ok": True}}],
            "within": "5 minutes",
            "otherwise": {"late": "notPaid"},
        }
    )
    session.fire("placed")
    session.after(6 * MINUTE)
    session.fire("paid", {"ok": True})
    session.after(MINUTE)
    is_told(
        session,
        """
        1 instance, abandoned.
        - t_x#0: late: its 5 minutes were over 12:05:00 UTC (2 minutes ago), and it waited for \
paid (ok is True). notPaid was fired for it.
            [ ] all of these:
                [x] placed, since 12:00:00 UTC (7 minutes)
                [ ] paid (ok is True): paid came too late, 12:06:00 UTC (1 minute ago)
        """,
    )
    instance = session.data()["instances"][0]
    assert instance["reason"] == "late"
    assert instance["otherwise"] == {"trigger": "notPaid", "fired": True, "problem": ""}
    too_late = instance["condition"]["of"][1]["too_late"]
    assert too_late == {"trigger": "paid", "event": 2, "at": 1_767_268_800.0 + 6 * MINUTE}


def test_what_came_before_a_task_was_replaced_is_not_too_late(session: Told) -> None:
    session.configure(t_x={"after": ["placed", "paid"]})
    session.fire("placed")
    session.fire("packed")
    session.after(HOUR)
    session.configure(t_x={"after": ["placed", "packed"], "within": "5 minutes"})
    assert session.data()["instances"][0]["reason"] == "late"
    assert "too late" not in json.dumps(session.data())
    assert "too_late" not in json.dumps(session.data())


# -- no success ------------------------------------------------------------------------------------


def test_called_off(session: Told) -> None:
    unless = [{"anyOf": ["cancelled", {"atLeast": 2, "of": "refused"}]}]
    session.configure(
        t_x={"after": ["placed", "paid"], "unless": unless, "otherwise": {"calledOff": "gone"}}
    )
    session.fire("placed")
    for _ in range(2):
        session.fire("refused")
        session.after(MINUTE)
    is_told(
        session,
        """
        1 instance, abandoned.
        - t_x#0: abandoned: refused fired 2 times, the latest 12:01:00 UTC (1 minute ago), before \
it could run. gone was fired for it.
        """,
    )
    assert session.data()["instances"][0]["called_off_by"]["has"] == 1


def test_part_of_unless(session: Told) -> None:
    unless = ["refused", {"anyOf": ["cancelled", "moved away"]}]
    session.configure(t_x={"after": ["placed", {"anyOf": ["a", "b"]}], "unless": unless})
    session.fire("placed")
    session.fire("refused")
    first = session.text().splitlines()[1]
    assert first == (
        "- t_x#0: waits for a or b. refused of its unless fired: it is called off once cancelled or"
        " 'moved away' fires, too."
    )


def test_failed_and_skipped(session: Told) -> None:
    session.configure(t_x={"after": ["go"], "otherwise": {"failed": "broken"}})
    session.fire("go")
    session.fail_by_hand("t_x#0")
    told = session.text().splitlines()[1]
    assert told.startswith("- t_x#0: failed 12:00:00 UTC (0 seconds ago)")
    assert told.endswith(" Replay it, or skip it. broken was fired for it.")


def test_an_otherwise_trigger_that_was_dropped(session: Told) -> None:
    session.rules = Rules(limits=Limits(cascade_depth=1))
    session.configure(
        t_y={"after": ["go", "a"], "within": 60, "otherwise": {"late": "yLate"}},
        t_x={"after": ["yLate", "a"], "within": 60, "otherwise": {"late": "xLate"}},
    )
    session.fire("go")
    session.after(HOUR)
    session.fire("other")
    dropped = (
        "xLate could not be fired for it: 2 cascades in a row go back to one event, the limit is 1"
        " (Limits.cascade_depth): look for a cycle in the configuration."
    )
    assert session.text().endswith(f", and it waited for a. {dropped}")
    answer = session.data()["instances"][0]["otherwise"]
    assert (answer["trigger"], answer["fired"]) == ("xLate", False)


def test_a_retry_is_held_back_whatever_its_task_waits_for(session: Told) -> None:
    session.configure(
        t_x={
            "after": [{"trigger": "go", "where": {"n": 1}}],
            "waiting": "1 minute",
            "within": {"of": "go", "time": "1 day"},
            "everyTime": True,
        }
    )
    session.fire("go", {"n": 1})
    session.after(MINUTE)
    session.recover()
    session.fail(session.claim("t_x#0"), retry=Retry(cooldown=30))
    is_told(
        session,
        """
        2 instances: 1 unstarted, 1 replayed. The next one begins with go.
        - t_x#0: failed; replayed as t_x#1, 12:01:00 UTC (0 seconds ago).
        - t_x#1: held back for a retry, which comes in 30 seconds; retry 1, of t_x#0.
        """,
    )
    first, retry = session.data()["instances"]
    assert (first["reason"], retry["condition"], retry["deadline"]) == ("failed", None, None)
    assert not retry["idle"]


def test_whatever_a_task_fires_otherwise_is_heard(session: Told) -> None:
    session.configure(
        t_x={"after": ["placed", "paid"], "within": 60, "otherwise": {"late": "place"}}
    )
    session.fire("placed")
    session.after(HOUR)
    session.fire("other")
    assert [each.trigger for each in explain(session.storage).unheard] == ["other"]


# -- how it reads ----------------------------------------------------------------------------------


def test_it_reads_no_further_than_it_shows(session: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    leaf = {"trigger": "paid", "where": {"ok": True}}
    session.configure(
        t_x={"after": ["placed", leaf, {"atLeast": 1_000, "of": "packed"}], "keeping": "all"}
    )
    session.fire("placed")
    for _ in range(300):
        session.fire("packed")
        session.fire("paid", {"ok": False})
    read: list[int] = []
    by_number = session.store.events_by_number

    def counted(uid: str, numbers: Any) -> Any:
        found = by_number(uid, numbers)
        read.extend(found)
        return found

    monkeypatch.setattr(session.store, "events_by_number", counted)
    monkeypatch.setattr(session.store, "events", lambda *_: pytest.fail("it reads all events"))
    assert "packed: 300 of 1,000" in session.text()
    assert len(read) <= 4


def test_what_has_run_needs_no_further_reading(
    session: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaf = {"trigger": "paid", "where": {"ok": True}}
    session.configure(t_x={"after": {"anyOf": [leaf, "placed"]}})
    session.fire("placed")
    session.fire("paid", {"ok": False})
    read: list[int] = []
    by_number = session.store.events_by_number

    def counted(uid: str, numbers: Any) -> Any:
        found = by_number(uid, numbers)
        read.extend(found)
        return found

    monkeypatch.setattr(session.store, "events_by_number", counted)
    assert "scheduled since" in session.text()
    assert read == [0]
