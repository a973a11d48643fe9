"""Real event logs, replayed, against an independent oracle: every instance, not only the totals."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from applications import STORAGES, application
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded_logs import LOGS, recorded_log, reference

from triggers_core import Application, TaskContext, TriggerTask, trigger_task
from triggers_core.backtest import BacktestResult, LoggedEvent, backtest
from triggers_core.engine.protocol import Query
from triggers_core.exceptions import InvalidConfiguration, InvalidEvent
from triggers_core.storages.base import Store
from triggers_core.tasks import registry
from triggers_core.testing import oracle, sample_log
from triggers_core.testing.replays import Log, SampleLog, check_totals, instances_of

SAMPLE = Path(__file__).parent / "data" / "sample_log.jsonl.gz"
SMALL = {"t_ship": {"after": ["paid", "packed"], "run": "shop.Ship"}}


@pytest.fixture(params=STORAGES)
def app(request: pytest.FixtureRequest, fast_dir: Path) -> Iterator[Application]:
    with application(request.param, fast_dir) as app:
        yield app


def replay(app: Application, log: Log, events: Any = None, **options: Any) -> BacktestResult:
    chosen = log.events() if events is None else events
    return backtest(log.config, chosen, app.store, app=app, **options)


def everything(store: Store) -> list[Any]:
    return [
        (
            each,
            store.load(each.uid, Query()).header,
            store.events(each.uid),
            store.instances(each.uid),
        )
        for each in store.sessions()
    ]


def event(trigger: str, session: str = "order:1", **more: Any) -> dict[str, Any]:
    return {"session": session, "trigger": trigger, **more}


# -- our own log ----------------------------------------------------------------------------------


@pytest.mark.parametrize("configuration", sample_log.CONFIGURATIONS)
def test_every_instance_of_the_sample_is_the_oracles(app: Application, configuration: str) -> None:
    log = SampleLog(configuration)
    result = replay(app, log, stuck_at_most=10_000)
    check_totals(result, log)
    assert instances_of(result.store) == log.instances()
    assert result.duplicates == 0
    check_stuck(result, log)


def test_the_sample_is_made_as_it_was() -> None:
    """The file is what everybody's tests have seen; the script makes the same, on any Python."""
    lines = gzip.decompress(SAMPLE.read_bytes()).decode().splitlines()
    assert [json.loads(line) for line in lines] == sample_log.events()
    assert SAMPLE.stat().st_size < 100_000


def test_the_sample_holds_what_logs_hold() -> None:
    """Else its replays would prove less than they seem to."""
    events = sample_log.events()
    sessions = {each["session"] for each in events}
    assert (len(sessions), len(events)) == (400, 3_100)
    first = {(each["session"], each["trigger"]): each["n"] for each in reversed(events)}
    overtaken = [
        uid
        for uid in sessions
        if first.get((uid, "payment / received"), len(events)) < first[uid, "order placed"]
    ]
    assert overtaken, "payments that overtake their order"
    found = [
        each
        for config in sample_log.CONFIGURATIONS.values()
        for each in oracle.instances(config, events).values()
    ]
    for status in ("finished", "abandoned", "unstarted"):
        assert sum(each["status"] == status for each in found) > 500, status
    assert sample_log.events(10) == [
        {**each, "n": place}
        for place, each in enumerate(e for e in events if e["session"] <= "order:0010")
    ]


def test_a_sample_is_written_by_the_module(tmp_path: Path) -> None:
    sample_log.write(tmp_path / "log.gz")
    assert gzip.decompress((tmp_path / "log.gz").read_bytes()) == gzip.decompress(
        SAMPLE.read_bytes()
    )


# -- the recorded logs ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOGS)
def test_every_instance_is_the_oracles(app: Application, name: str) -> None:
    log = recorded_log(name)
    result = replay(app, log, stuck_at_most=10_000)
    check_totals(result, log)
    assert instances_of(result.store) == log.instances()
    assert result.duplicates == 0
    check_stuck(result, log)


def check_stuck(result: BacktestResult, log: Log) -> None:
    """The sessions that wait are those with an unstarted instance or a task without any."""
    waiting = {
        session
        for session, by_task in log.totals()["per_session"].items()
        if log.config.keys() - by_task or any(unstarted for *_, unstarted in by_task.values())
    }
    assert {each.uid for each in result.stuck} == waiting
    assert len(result.stuck) == len(waiting)
    moments = [each.waiting_since or 0.0 for each in result.stuck]
    assert moments == sorted(moments)


def test_sessions_do_not_see_each_other(app: Application) -> None:
    log = recorded_log("receipt_sample")
    by_session: dict[str, list[dict[str, Any]]] = {}
    for position, line in enumerate(log.events()):
        by_session.setdefault(line["session"], []).append({**line, "id": str(position)})
    shuffled, seeded = [], random.Random(7)
    while by_session:
        session = seeded.choice(sorted(by_session))
        shuffled.append(by_session[session].pop(0))
        if not by_session[session]:
            del by_session[session]
    assert instances_of(replay(app, log, shuffled).store) == log.instances()


NAMES = ["t_a", "t_b", "t_c", "t_d", "t_e"]


def tasks_of(position: int) -> st.SearchStrategy[dict[str, Any]]:
    some = st.sampled_from([*"pqr", *NAMES[:position] * 3])
    rest = {
        "unless": st.just([]) | st.lists(some, unique=True, min_size=1, max_size=2),
        "run": st.just("app.Any"),
    }
    first = st.lists(some, unique=True, min_size=1, max_size=2)
    with_after = st.fixed_dictionaries({"after": first, "andEvery": st.none() | some, **rest})
    return with_after | st.fixed_dictionaries({"after": st.just([]), "andEvery": some, **rest})


TASKS_OF = {name: tasks_of(position) for position, name in enumerate(NAMES)}


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    """Five tasks in any order; each waits for triggers and, so that there is an end, for
    tasks before it in the alphabet."""
    config = {name: draw(TASKS_OF[name]) for name in NAMES}
    return {name: config[name] for name in draw(st.permutations(NAMES))}


@settings(max_examples=300, deadline=None, derandomize=False, print_blob=True)
@given(configurations(), st.lists(st.sampled_from("pqr"), max_size=20))
def test_any_configuration_does_what_the_oracle_says(
    config: dict[str, Any], triggers: list[str]
) -> None:
    events = [event(trigger, "any") for trigger in triggers]
    assert instances_of(backtest(config, events).store) == oracle.instances(config, events)


@settings(max_examples=300, deadline=None, derandomize=False, print_blob=True)
@given(configurations(), st.lists(st.sampled_from("pqr"), max_size=20))
def test_any_configuration_does_what_the_recorded_logs_oracle_says(
    config: dict[str, Any], triggers: list[str]
) -> None:
    events = [event(trigger, "any") for trigger in triggers]
    expected = reference(config, triggers, "any")
    assert instances_of(backtest(config, events).store) == expected
    assert oracle.instances(config, events) == expected


# -- replaying again ------------------------------------------------------------------------------


def test_a_second_replay_changes_nothing(app: Application) -> None:
    log = recorded_log("receipt_sample")
    first = replay(app, log)
    stored = everything(first.store)
    again = replay(app, log)
    assert again.duplicates == again.events == first.events
    assert (again.sessions, again.tasks) == (first.sessions, first.tasks)
    assert everything(again.store) == stored


def test_a_replay_that_was_interrupted_is_completed_by_the_same_call(app: Application) -> None:
    log = recorded_log("receipt_sample")

    def interrupt(done: int) -> None:
        if done == 400:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replay(app, log, progress=interrupt)
    assert instances_of(app.store) != log.instances()
    completed = replay(app, log)
    assert completed.duplicates == 400
    assert instances_of(completed.store) == log.instances()


def test_events_with_an_id_of_their_own_count_once(app: Application) -> None:
    log = recorded_log("receipt_sample")
    lines = [{**line, "id": str(position)} for position, line in enumerate(log.events())]
    delivered = [line for line in lines for _ in range(2)] + lines[:50]
    result = replay(app, log, delivered)
    assert result.events == len(delivered)
    assert result.duplicates == len(lines) + 50
    assert instances_of(result.store) == log.instances()


def test_an_id_belongs_to_its_session(app: Application) -> None:
    events = [event("paid", uid, id="e1") for uid in ("order:1", "order:2")]
    result = backtest(SMALL, events, app.store, app=app)
    assert (result.sessions, result.events, result.duplicates) == (2, 2, 0)


# -- its interface --------------------------------------------------------------------------------


def test_progress_is_told_of_every_event_and_the_log_is_read_as_it_goes(app: Application) -> None:
    read, told = [], []

    def lines() -> Iterator[dict[str, Any]]:
        for trigger in ("paid", "packed", "paid"):
            read.append(trigger)
            yield event(trigger)

    def progress(done: int) -> None:
        told.append((done, len(read)))

    backtest(SMALL, lines(), app.store, app=app, progress=progress)
    assert told == [(1, 1), (2, 2), (3, 3)]


def test_without_a_storage_it_replays_in_memory() -> None:
    result = backtest(SMALL, [LoggedEvent(session="a", trigger="paid"), event("packed", "a")])
    assert result.store.key == "memory"
    assert (result.tasks["t_ship"].run, result.stuck) == (1, [])


def test_it_takes_the_storage_of_a_session_for_its_store(app: Application) -> None:
    result = backtest(SMALL, [event("paid"), event("packed")], app.storage("any"), app=app)
    assert result.store is app.store
    assert [each.uid for each in app.store.sessions()] == ["order:1"]


BAD = {
    "no session": ({"trigger": "paid"}, "missing required field `session`"),
    "no trigger": ({"session": "order:1"}, "missing required field `trigger`"),
    "a trigger that is no text": (event("paid") | {"trigger": 7}, "`$.trigger`"),
    "an empty trigger": (event(""), "trigger: expected 1 to 200 printable characters"),
    "a trigger with a line break": (event("a\nb"), "trigger: expected 1 to 200 printable"),
    "an empty session": (event("paid", ""), "session: expected 1 to 200 printable characters"),
    "kwargs that are no mapping": (event("paid", kwargs=[1]), "`$.kwargs`"),
    "kwargs that cannot be stored": (event("paid", kwargs={"a": {"b": {1}}}), "kwargs['a']['b']"),
    "an id that is reserved": (event("paid", id="~1"), "begins with ~"),
    "a task's name": (event("t_ship"), "'t_ship' is a task"),
    "an id of another event": (event("packed", id="e1"), "'e1' was used for 'paid'"),
    "an id of another payload": (event("paid", id="e1", kwargs={"a": 1}), "another payload"),
    "no mapping": (["paid"], "Expected `object`, got `array`"),
}


@pytest.mark.parametrize(("bad", "message"), BAD.values(), ids=BAD.keys())
def test_a_bad_event_is_named_by_its_place(app: Application, bad: Any, message: str) -> None:
    events = [event("paid", id="e1"), bad, event("packed")]
    with pytest.raises(InvalidEvent) as caught:
        backtest(SMALL, events, app.store, app=app)
    assert str(caught.value).startswith("event 1 of the log: ")
    assert message in str(caught.value)
    assert [each.trigger for each in app.store.events("order:1")] == ["paid"]
    assert len(app.store.sessions()) == 1


def test_a_bad_configuration_stores_nothing(app: Application) -> None:
    with pytest.raises(InvalidConfiguration, match=r"t_ship\.after: expected a list"):
        backtest({"t_ship": {"after": 3, "run": "x"}}, [event("paid")], app.store, app=app)
    assert app.store.sessions() == []


# -- with bodies ----------------------------------------------------------------------------------


def test_bodies_run_once_an_instance_and_see_its_kwargs(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "declared", {})
    log = recorded_log("receipt_sample")
    lines, expected = log.events(), log.instances()
    seen: dict[tuple[str, str], list[Any]] = {}

    def body(context: TaskContext) -> dict[str, Any]:
        key = (context.manager.uid, context.instance.name)
        seen.setdefault(key, []).append(context.trigger_kwargs)
        return {"by": f"task:{context.instance.name}"}

    for task in log.config.values():
        trigger_task(name=task["run"])(body)
    result = replay(app, log, run=True)
    check_totals(result, log)
    assert instances_of(result.store) == expected
    assert seen == {
        key: [
            {
                trigger: {"by": origin} if isinstance(origin, str) else lines[origin]["kwargs"]
                for trigger, origin in each["kwargs_from"].items()
            }
        ]
        for key, each in expected.items()
        if each["status"] == "finished"
    }


def test_an_interrupted_replay_with_bodies_is_completed_by_the_same_call(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "declared", {})
    log = recorded_log("receipt_sample")
    ran: list[str] = []

    def body(context: TaskContext) -> None:
        ran.append(f"{context.manager.uid} {context.instance.name}")
        if len(ran) == 300:
            raise KeyboardInterrupt  # the process goes down in the middle of a body

    for task in log.config.values():
        trigger_task(name=task["run"])(body)
    with pytest.raises(KeyboardInterrupt):
        replay(app, log, run=True)
    assert instances_of(replay(app, log, run=True).store) == log.instances()
    assert len(ran) == len(set(ran)) + 1  # only the body that was cut off ran again
    assert ran.count(ran[299]) == 2


def test_a_body_may_fire_fail_and_skip(app: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "declared", {})

    class Fires(TriggerTask):
        name = "shop.Fires"

        def _run(self, context: TaskContext) -> None:
            context.fire("told", {"by": "t_fires"})

    class Fails(TriggerTask):
        name = "shop.Fails"

        def _run(self, context: TaskContext) -> None:
            raise ValueError("out of paper")

    class Skips(TriggerTask):
        name = "shop.Skips"

        def _run(self, context: TaskContext) -> None:
            raise self.skip({"reason": json.dumps(context.trigger_kwargs)})

    config = {
        "t_fires": {"after": ["go"], "run": "shop.Fires"},
        "t_fails": {"after": ["told"], "run": "shop.Fails"},
        "t_skips": {"after": ["told"], "run": "shop.Skips"},
        "t_after": {"after": ["t_fails"], "run": "shop.Fires"},
    }
    result = backtest(config, [event("go")], app.store, app=app, run=True)
    found = {instance.name: instance for instance in app.storage("order:1").instances.values()}
    assert {name: each.status.value for name, each in found.items()} == {
        "t_fires#0": "finished",
        "t_fails#0": "failed",
        "t_skips#0": "skipped",
    }
    assert found["t_fails#0"].metadata["error"]["message"] == "out of paper"
    assert found["t_skips#0"].metadata == {"reason": '{"told": {"by": "t_fires"}}'}
    totals = {name: (each.run, each.failed) for name, each in result.tasks.items()}
    assert totals == {
        "t_fires": (1, 0),
        "t_fails": (0, 1),
        "t_skips": (1, 0),
        "t_after": (0, 0),
    }
    assert backtest(config, [event("go")], app.store, app=app, run=True).duplicates == 1


def test_a_task_that_nobody_knows_fails_in_a_replay_with_bodies(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "declared", {})
    flow = {"t_ship": {"after": ["paid"], "run": "shop.Nowhere"}}
    app.settings.configure(TRIGGER_RUNNER="threading")
    result = backtest(flow, [event("paid")], app.store, app=app, run=True)
    assert result.tasks["t_ship"].failed == 1  # no other process could know it
