"""Acting on many failed instances at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from triggers_core import Application
from triggers_core.exceptions import InvalidArgument, InvalidName, StorageError
from triggers_core.methods import bulk
from triggers_core.methods.bulk import Selection
from triggers_core.runners.manual import ManualRunner
from triggers_core.settings import Settings
from triggers_core.storages.memory import MemoryStore
from triggers_core.testing import SessionDriver, VirtualClock
from triggers_core.testing.invariants import check_store


class Goes(MemoryStore):
    """A store that goes away after so many commits."""

    left = 1_000_000

    def commit(self, *arguments: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise StorageError("the server is away")
        return super().commit(*arguments)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def store(clock: VirtualClock) -> Goes:
    """Twelve failures: every third a KeyError, two tasks by turns, a second apart."""
    store = Goes(clock)
    for number in range(12):
        fail(store, f"order:{number:02}", "t_mail" if number % 2 else "t_ship", error(number))
        clock.advance(1)
    return store


@pytest.fixture
def app(store: Goes) -> Iterator[Application]:
    app = Application(
        "bulk", Settings.isolated(TRIGGER_PLUGINS=[]), store=store, runner=ManualRunner
    )
    yield app
    app.close()


def error(number: int) -> str:
    return "SMTPError" if number % 3 else "KeyError"


def fail(store: MemoryStore, uid: str, task: str, error: str) -> None:
    session = SessionDriver(store, uid)
    session.configure({task: {"andEvery": "go"}})
    number = len(session.fire("go").scheduled) - 1
    session.fail_now(f"{task}#{number}", {"error": {"type": error}})


def act(app: Application, selection: Selection, **options: Any) -> bulk.Progress:
    *_, last = [bulk.Progress(), *bulk.act_on_failed(app, selection, bulk.replay, **options)]
    return last


def failed(store: MemoryStore) -> list[str]:
    return [each.uid for each in store.failed_instances(limit=None)]


@pytest.mark.parametrize(
    ("selection", "numbers"),
    [
        (Selection(), [*range(12)]),
        (Selection(task="t_mail"), [1, 3, 5, 7, 9, 11]),
        (Selection(error="KeyError"), [0, 3, 6, 9]),
        (Selection(task="t_mail", error="KeyError"), [3, 9]),
        (Selection(older_than=8.5), [0, 1, 2, 3]),
        (Selection(older_than=0), [*range(12)]),
        (Selection(prefix="order:1"), [10, 11]),
        (Selection(prefix="invoice:"), []),
        (Selection(task="t_mail", older_than=6, prefix="order:0"), [1, 3, 5]),
    ],
)
def test_what_is_meant_is_replayed_and_nothing_else(
    app: Application, store: Goes, selection: Selection, numbers: list[int]
) -> None:
    uids = [f"order:{number:02}" for number in numbers]
    before = failed(store)
    seen = bulk.preview(store, selection)
    assert (seen.instances, seen.more) == (len(uids), False)
    assert [each.uid for each in seen.examples] == uids[:5]
    assert failed(store) == before, "to look changes nothing"
    assert act(app, selection).done == len(uids)
    assert failed(store) == [uid for uid in before if uid not in uids]
    check_store(store)


@pytest.mark.parametrize("age", [-1, float("nan"), float("inf")])
def test_an_age_is_a_number_of_seconds(age: float) -> None:
    with pytest.raises(InvalidArgument, match="older_than"):
        Selection(older_than=age)


def test_a_preview_looks_at_no_more_than_it_is_told_to(store: Goes) -> None:
    seen = bulk.preview(store, Selection(), most=4)
    assert (seen.instances, seen.more, len(seen.examples)) == (4, True, 4)
    last = bulk.preview(store, Selection(prefix="order:11"), most=11)
    assert (last.instances, last.more) == (0, True)
    assert bulk.preview(store, Selection(), most=12).more is False


def test_it_is_stopped_and_goes_on(app: Application, store: Goes) -> None:
    going = bulk.act_on_failed(app, Selection(), bulk.replay)
    for _ in range(5):
        progress = next(going)
    assert (progress.done, progress.uid, progress.instance) == (5, "order:04", "t_ship#0")
    going.close()
    assert len(failed(store)) == 7
    assert act(app, Selection()).done == 7
    assert failed(store) == []
    for number in range(12):
        assert len(store.instances(f"order:{number:02}")) == 2, "each was replayed once"


def test_others_replay_at_the_same_time(app: Application, store: Goes) -> None:
    """Whoever comes second leaves it, and counts it."""
    ours, theirs = (bulk.act_on_failed(app, Selection(), bulk.replay) for _ in range(2))
    turns = [next(each) for _ in range(6) for each in (ours, theirs)]
    rest = [*ours, *theirs]
    mine, other = turns[0], turns[1]
    assert len(rest) == 11
    # The first was replayed when the second of them began to look.
    assert (mine.done + other.done, mine.refused + other.refused) == (12, 11)
    assert (mine.problems, other.problems) == ([], []), "that is no problem"
    assert all(len(store.instances(f"order:{each:02}")) == 2 for each in range(12))


def test_a_deleted_session_keeps_nobody_from_the_others(app: Application, store: Goes) -> None:
    going = bulk.act_on_failed(app, Selection(), bulk.replay)
    next(going)
    store.delete("order:01")
    *_, last = going
    assert (last.done, last.refused, last.problems) == (11, 1, [])


def test_a_session_that_cannot_be_read_is_told_of(app: Application, store: Goes) -> None:
    going = bulk.act_on_failed(app, Selection(), bulk.replay)
    next(going)
    store._sessions["order:03"].header = b"damaged"
    *_, last = going
    assert (last.done, last.refused) == (11, 1)
    [problem] = last.problems
    assert problem.startswith("order:03 t_mail#0: ")


def test_the_storage_goes_away_and_comes_back(app: Application, store: Goes) -> None:
    store.left = 4
    going = bulk.act_on_failed(app, Selection(), bulk.replay)
    progress = [next(going) for _ in range(4)][-1]
    with pytest.raises(StorageError, match="the server is away"):
        next(going)
    assert (progress.done, progress.refused) == (4, 0)
    assert len(failed(store)) == 8
    store.left = 1_000_000
    assert act(app, Selection()).done == 8
    check_store(store)


def test_what_fails_again_meanwhile_is_left_for_the_next_time(
    app: Application, store: Goes, clock: VirtualClock
) -> None:
    done = 0
    for progress in bulk.act_on_failed(app, Selection(), bulk.replay):
        clock.advance(1)
        session = SessionDriver(store, progress.uid)
        name = f"{progress.instance.partition('#')[0]}#1"
        session.fail_now(name, {"error": {"type": "KeyError"}})
        done = progress.done
    assert done == 12
    assert len(failed(store)) == 12


def test_whoever_acts_is_recorded(app: Application, store: Goes) -> None:
    act(app, Selection(prefix="order:01"), by="alice")
    [first, _] = store.instances("order:01")
    assert first.acted_by == "alice"
    with pytest.raises(InvalidName):
        act(app, Selection(), by="a\nb")
    assert len(failed(store)) == 11


def test_many_are_skipped(app: Application, store: Goes) -> None:
    *_, last = bulk.act_on_failed(app, Selection(task="t_mail"), bulk.skip)
    assert last.done == 6
    statuses = {each.status.value for each in store.instances("order:01")}
    assert (statuses, len(failed(store))) == ({"skipped"}, 6)


def test_more_than_a_page(app: Application, store: Goes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "_PAGE", 5)
    assert bulk.preview(store, Selection()).instances == 12
    assert act(app, Selection()).done == 12
    assert failed(store) == []


def test_an_error_is_meant_by_its_class_alone(store: Goes) -> None:
    def meant(error: str) -> str | None:
        return bulk.with_whole_error(store, Selection(error=error)).error

    fail(store, "a", "t_mail", "smtplib.SMTPException")
    assert meant("SMTPException") == "smtplib.SMTPException"
    assert meant("smtplib.SMTPException") == "smtplib.SMTPException"
    assert meant("SMTPError") == "SMTPError", "as it is known"
    assert meant("Unknown") == "Unknown"
    fail(store, "b", "t_mail", "other.SMTPException")
    with pytest.raises(InvalidArgument, match=r"other\.SMTPException or smtplib\.SMTPException"):
        meant("SMTPException")
