"""A real fleet, killed all the time, ends as if nothing had happened to it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest
import redis
from celery_fleet import statuses, until
from fleet_chaos import POINTS, Chaos, ChaosFleet, PostgresChaos

from triggers_core.engine.records import Source
from triggers_core.storages.base import Store
from triggers_core.testing.invariants import check_store
from triggers_core.testing.replays import Log, RecordedLog, SampleLog, instances_of
from triggers_postgres import PostgresStore
from triggers_postgres.testing import PostgresServer
from triggers_postgres.testing import find_server as find_postgres
from triggers_redis.testing import RedisServer, find_server

RECORDED = Path(__file__, "../../../../../shared/data").resolve()
"""Logs of real events, beside the repository."""

pytestmark = pytest.mark.slow  # each takes all cores of a small machine for many seconds

LONG = [pytest.mark.fleet]
if find_spec("pytest_timeout") is not None:
    LONG.append(pytest.mark.timeout(1_800))


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that has everything on disk before it answers."""
    try:
        find_server()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    (tmp_path / "redis").mkdir()
    server = RedisServer(tmp_path / "redis", fsync="always")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[PostgresServer]:
    """Likewise, of PostgreSQL."""
    try:
        find_postgres()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    with PostgresServer(tmp_path / "postgres", durable=True) as server:
        yield server


def log_of(name: str) -> Log:
    """The sample stands in for the short log, so that the test runs everywhere."""
    if name == "receipt_sample" and not (RECORDED / name).exists():
        return SampleLog(sessions=100)
    return RecordedLog(RECORDED / name)


@pytest.mark.parametrize(
    ("name", "strikes", "pools"),
    [
        ("receipt_sample", 30, ("prefork", "threads")),
        pytest.param("receipt", 200, ("prefork", "prefork"), marks=LONG),
        pytest.param("receipt_sample", 60, ("threads", "threads"), marks=LONG),
    ],
    ids=["short", "long", "threads"],
)
def test_a_fleet_that_is_killed_all_the_time_loses_and_doubles_nothing(
    tmp_path: Path,
    durable: RedisServer,
    name: str,
    strikes: int,
    pools: tuple[str, str],
    record_property: Callable[[str, object], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = log_of(name)
    fleet = ChaosFleet(tmp_path, durable, log.config, log.events(), pools)
    endure(fleet, Chaos(fleet, seed=strikes), log, strikes, record_property, capsys)


def test_sessions_in_postgresql_that_is_restarted_at_once_are_neither_lost_nor_doubled(
    tmp_path: Path,
    durable: RedisServer,
    database: PostgresServer,
    record_property: Callable[[str, object], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = log_of("receipt_sample")
    fleet = ChaosFleet(
        tmp_path, durable, log.config, log.events(), ("prefork", "threads"), database
    )
    chaos = PostgresChaos(fleet, seed=30)
    endure(fleet, chaos, log, 30, record_property, capsys)
    assert chaos.counts["restart_postgres"] == 2
    with closing(PostgresStore(database.url)) as store:
        check_store(store)


def endure(
    fleet: ChaosFleet,
    chaos: Chaos,
    log: Log,
    strikes: int,
    record_property: Callable[[str, object], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Fire the log at the fleet under strikes; all must be as if nothing had happened."""
    events = log.events()
    try:
        for place in ("worker-0", "worker-1", "fire-0", "fire-1"):
            fleet.put(place)
        chaos.run(len(events), strikes)
        store = fleet.application.store
        until(lambda: not any(each.under_way for each in store.sessions()), "the last instances")

        found, expected = instances_of(store), log.instances()
        lost, doubled = compare(fleet, store, len(events))
        ran = {key for key, each in expected.items() if each["status"] == "finished"}
        extra = len(fleet.lines("bodies")) - len(ran)
        line = (
            f"{len({each['session'] for each in events})} sessions, {len(events)} events,"
            f" {chaos.kills} kills: {lost} lost, {doubled} double commits, {extra} extra"
            f" executions, recovery p99 {recovery(store, chaos.moments):.1f} s"
        )
        record_property("summary", line)
        with capsys.disabled():
            print(f"\n{line}\n{baseline(fleet)}\n{' and '.join(fleet.pools)}: {chaos.counts}")
        assert found == expected
        assert (lost, doubled) == (0, 0)
        assert fleet.lines("lost") == []
        assert {each for [each] in fleet.lines("deaths")} == set(POINTS)
    finally:
        chaos.broker.close()
        fleet.close()


def compare(fleet: ChaosFleet, store: Store, events: int) -> tuple[int, int]:
    """Events that are missing, and outcomes that were committed more than once.

    Twice, that is as two cascades in the session, or under two tokens in two workers.
    """
    fired: Counter[str] = Counter()
    cascades: Counter[tuple[str, str]] = Counter()
    for session in store.sessions():
        for event in store.events(session.uid):
            if event.source is Source.INSTANCE:
                cascades[session.uid, event.cause] += 1
            else:
                fired[event.id] += 1
    tokens = {(uid, instance, token) for uid, instance, token in fleet.lines("finishes")}
    finishes = Counter((uid, instance) for uid, instance, _ in tokens)
    doubled = sum(count > 1 for counts in (fired, cascades, finishes) for count in counts.values())
    return events - len(fired), doubled


def baseline(fleet: ChaosFleet) -> str:
    """What became of Celery's own tasks, sent one with each event, on the same workers.

    Lost is what nobody has run and the broker does not have either. Celery may not make anything of
    what is unacknowledged for an hour, but it is there.
    """
    with redis.Redis.from_url(fleet.broker) as broker:
        until(lambda: not broker.exists("celery"), "the queue")
        kept = [json.loads(each)[0] for each in broker.hvals("unacked")]
        numbers = {each["headers"]["argsrepr"] for each in kept}
    sent = {number for [number] in fleet.lines("plain-sent")}
    ran = [number for [number] in fleet.lines("plain")]
    left = {number for number in sent - set(ran) if f"({number},)" in numbers}
    return (
        f"Celery alone: {len(sent)} tasks, {len(sent - set(ran) - left)} lost, {len(left)} stuck"
        f" until the visibility timeout, {len(ran) - len(set(ran))} extra executions"
    )


def recovery(store: Store, moments: list[float]) -> float:
    """The 99th percentile of the seconds from a strike to the end of what was then under way."""
    seconds = []
    for session in store.sessions():
        begun = [event.at for event in store.events(session.uid)]
        for each in store.instances(session.uid):
            if each.ended_at is not None and each.scheduled_by >= 0:
                since, end = begun[each.scheduled_by], each.ended_at
                seconds += [end - moment for moment in moments if since <= moment <= end]
    return sorted(seconds)[int(len(seconds) * 0.99)] if seconds else 0.0


ONE = {"t_one": {"after": ["go"], "run": "fleet.any"}}


def test_a_message_lost_in_the_pop_is_lost_to_celery_and_not_to_triggers(
    tmp_path: Path, durable: RedisServer
) -> None:
    """Celery has it neither in the queue nor among the unacknowledged: nobody will ever run it."""
    fleet = ChaosFleet(tmp_path, durable, ONE, lease=60.0)
    try:
        fleet.put("worker-0").wait_until_ready()
        die_in_the_pop(fleet, lambda: fleet.celery_app.send_task("fleet.plain", (1,)))
        fleet.celery_app.send_task("fleet.plain", (2,))
        until(lambda: fleet.lines("plain"))
        with redis.Redis.from_url(fleet.broker) as broker:
            until(lambda: not broker.exists("celery", "unacked", "unacked_index"))
        assert fleet.lines("plain") == [[2]]

        manager = fleet.manager("one", ONE)
        die_in_the_pop(fleet, lambda: manager.fire("go"))
        until(lambda: statuses(manager) == {"t_one#0": "finished"})
        assert fleet.lines("bodies") == [["one", "t_one#0", 1]]
    finally:
        fleet.close()


def die_in_the_pop(fleet: ChaosFleet, send: Callable[[], object]) -> None:
    """Send a message, let the worker die with it, and start another worker."""
    (fleet.directory / "die-in-pop").touch()
    send()
    fleet.places["worker-0"].process.wait(60)
    assert fleet.lines("deaths")[-1] == ["in-pop"]
    fleet.put("worker-0").wait_until_ready()


def test_ten_cooldowns_of_ten_visibility_timeouts_are_ten_executions(
    tmp_path: Path,
    durable: RedisServer,
    record_property: Callable[[str, object], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    visibility, sessions = 1.0, 10
    configuration = {"t_cool": {"after": ["go"], "run": "fleet.cools"}}
    fleet = ChaosFleet(tmp_path, durable, configuration, lease=60.0)
    fleet.transport = {"visibility_timeout": visibility}
    try:
        for place in ("worker-0", "worker-1"):
            fleet.put(place).wait_until_ready()
        for number in range(sessions):
            manager = fleet.manager(f"cool:{number}", configuration)
            manager.fire("go", {"cooldown": 10 * visibility})
            fleet.celery_app.send_task("fleet.plain", (number,), countdown=10 * visibility)
        store = fleet.application.store
        done = lambda: all(  # noqa: E731
            store.instances(f"cool:{number}")[-1].status == "finished" for number in range(sessions)
        )
        until(done, "the retries")
        until(lambda: len({number for [number] in fleet.lines("plain")}) == sessions)
        line = (
            f"{sessions} cooldowns of ten visibility timeouts: {len(fleet.lines('bodies'))}"
            f" executions; as Celery's countdown: {len(fleet.lines('plain'))}"
        )
        record_property("summary", line)
        with capsys.disabled():
            print(f"\n{line}")
        executed = sorted(uid for uid, _, _ in fleet.lines("bodies"))
        assert executed == [f"cool:{number}" for number in range(sessions)]
    finally:
        fleet.close()
