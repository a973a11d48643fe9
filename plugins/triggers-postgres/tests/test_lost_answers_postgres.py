"""Answers that are lost on the way, each in turn: no change is made twice, none is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from triggers_core.engine.commands import Close
from triggers_core.testing import SessionDriver, VirtualClock, check_store
from triggers_core.testing.history import every_change, outcome_of
from triggers_postgres import PostgresStore
from triggers_postgres.exchange import Exchange
from triggers_postgres.steps import Last

Remake = Callable[..., PostgresStore]


class Lost:
    """Cuts the connection when the n-th answer has come, and nobody has seen it.

    The server has carried out what was sent by then, and committed it if it was the last.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read, self.lose, self.answers = 0, 0, Exchange.answers

        def answers(exchange: Exchange, *batch: Any, **options: Any) -> Any:
            rows = self.answers(exchange, *batch, **options)
            self.read += 1
            if self.read == self.lose:
                exchange.connection.pgconn.finish()
                raise psycopg.OperationalError("the connection was cut")
            return rows

        monkeypatch.setattr(Exchange, "answers", answers)

    def next_time(self, number: int) -> None:
        self.read, self.lose = 0, number


def life(session: SessionDriver) -> list[Any]:
    """Everything that can happen to a session once; what each change said of itself."""
    said = every_change(session)
    session.commit(Close())
    other = SessionDriver(session.store, "order:2")
    other.fire("go")
    said.append(session.store.delete(other.uid))
    said.append(session.store.delete(other.uid))
    return said


def test_nothing_is_made_twice_or_lost(remake: Remake, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = Lost(monkeypatch)
    with remake(VirtualClock()) as store:
        lost.next_time(0)
        expected_said = life(SessionDriver(store))
        count = lost.read
        expected = outcome_of(store, "order:1")
    assert count > 40
    for number in range(1, count + 1):
        with remake(VirtualClock()) as store:
            lost.next_time(number)
            said = life(SessionDriver(store))
            assert lost.read > number
            lost.next_time(0)
            assert outcome_of(store, "order:1") == expected, f"answer {number}"
            assert said == expected_said, f"answer {number}"
            check_store(store)
    print(f"\n{count} answers, each lost once: 0 doubled, 0 lost changes")


@pytest.mark.parametrize("change", ["fire", "finish", "fail", "replay"])
def test_changes_of_others_meanwhile_hide_nothing(
    remake: Remake, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    store = remake()
    with store, PostgresStore(store.url, store.schema, num_workers=1) as others_store:
        mine, others = SessionDriver(store), SessionDriver(others_store)
        mine.configure(t_x={"andEvery": "go"}, t_y={"andEvery": "t_x"})
        mine.fire("go")
        mine.fire("go")
        mine.fail_now("t_x#1")
        claimed = mine.claim("t_x#0")
        changes: dict[str, Callable[[], Any]] = {
            "fire": lambda: mine.fire("other").status,
            "finish": lambda: mine.finish(claimed).scheduled,
            "fail": lambda: mine.fail(claimed).instance.status,
            "replay": lambda: mine.replay("t_x#1").instance.status,
        }
        version, answers = mine.header.version, Exchange.answers

        def lose_the_last_answer(exchange: Exchange, batch: Any, last: bool = False) -> Any:
            rows = answers(exchange, batch, last)
            if not isinstance(batch, Last):
                return rows
            monkeypatch.undo()
            others.fire("noise")
            others.fire("noise")
            raise psycopg.OperationalError("the answer to a commit was lost")

        monkeypatch.setattr(Exchange, "answers", lose_the_last_answer)
        said = changes[change]()
        assert Exchange.answers is answers, "an answer was lost"
        expected = {
            "fire": "recorded",
            "finish": ["t_y#0"],
            "fail": "failed",
            "replay": "replayed",
        }
        assert said == expected[change]
        assert mine.header.version == version + 3
        assert mine.fired().count("other") == (change == "fire")


def test_what_others_stored_in_its_place_is_not_taken_for_it(
    remake: Remake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is cut before the change is sent: its event's number goes to another one."""
    store = remake()
    with store, PostgresStore(store.url, store.schema, num_workers=1) as others_store:
        mine, others = SessionDriver(store), SessionDriver(others_store)
        mine.fire("begun")
        answers = Exchange.answers

        def cut_before_the_last(exchange: Exchange, batch: Any, last: bool = False) -> Any:
            if not isinstance(batch, Last):
                return answers(exchange, batch, last)
            monkeypatch.undo()
            exchange.connection.pgconn.finish()
            others.fire("noise")
            raise psycopg.OperationalError("the connection was cut")

        monkeypatch.setattr(Exchange, "answers", cut_before_the_last)
        assert mine.fire("mine").number == 2
        assert mine.fired() == ["begun", "noise", "mine"]
