"""A fire within `atomic()` is part of it, on each kind of database."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from django.db import InternalError, OperationalError, connections, transaction

from triggers_core import Application, TriggerManager
from triggers_core.exceptions import (
    CannotJoin,
    HookFailed,
    NestedCommit,
    StorageError,
    TaskNameFired,
    TransactionConflict,
)
from triggers_core.runners.manual import ManualRunner
from triggers_core.settings import Settings
from triggers_core.testing.driver import SessionDriver, rules_with
from triggers_core.testing.interruptions import Interruption, in_another_thread
from triggers_core.testing.invariants import check_store
from triggers_django import DjangoStore, transactions, writing


class Shop:
    """An application on one store, and what it dispatched."""

    def __init__(self, store: DjangoStore) -> None:
        self.store, self.alias = store, store.alias
        settings = Settings.isolated(TRIGGER_PLUGINS=[])
        self.app = Application("shop", settings, store=store, runner=ManualRunner)

    def order(self, number: int = 1) -> TriggerManager:
        return self.app.manager(f"order:{number}")

    def configured(self, number: int = 1) -> TriggerManager:
        manager = self.order(number)
        manager.update_configuration({"t_ship": {"andEvery": "paid", "run": "shop.Ship"}})
        return manager

    @property
    def dispatched(self) -> list[str]:
        runner = self.app.runner()
        assert isinstance(runner, ManualRunner)
        return [f"{each.uid} {each.instance}" for each in runner.messages]

    def fired(self, number: int = 1) -> list[str]:
        return [each.trigger for each in self.store.events(f"order:{number}")]


@pytest.fixture
def shop(databases_of_each_kind: Any, make_django_store: Callable[..., Any]) -> Iterator[Shop]:
    shop = Shop(make_django_store(databases_of_each_kind)())
    yield shop
    check_store(shop.store)
    shop.app.close()


@pytest.fixture(params=["postgresql", "mariadb"])
def server_shop(
    request: pytest.FixtureRequest, make_django_store: Callable[..., Any]
) -> Iterator[Shop]:
    """Where a transaction locks rows: SQLite has one lock for all."""
    shop = Shop(make_django_store(request.getfixturevalue(request.param))())
    yield shop
    check_store(shop.store)
    shop.app.close()


def test_a_fire_is_stored_and_dispatched_with_its_transaction(shop: Shop) -> None:
    order = shop.configured()
    with transaction.atomic(using=shop.alias):
        order.fire("paid", {"amount": 1})
        order.fire("paid", {"amount": 2})
        assert shop.fired() == ["paid", "paid"], "reads within see what was written"
        assert order.storage["t_ship#1"].kwargs == {"paid": {"amount": 2}}
        assert in_a_thread(shop.fired) == [], "nobody else does"
        assert shop.dispatched == []
    assert shop.dispatched == ["order:1 t_ship#0", "order:1 t_ship#1"]
    assert in_a_thread(shop.fired) == ["paid", "paid"]


def test_a_roll_back_takes_back_fire_and_dispatch(shop: Shop) -> None:
    shop.configured()
    with rolled_back(shop.alias):
        shop.order().fire("paid")
        shop.order(2).fire("paid")
    assert (shop.fired(), shop.dispatched) == ([], [])
    assert not shop.order(2).storage.exists
    shop.order().fire("paid")
    assert shop.dispatched == ["order:1 t_ship#0"]


def test_a_savepoint_takes_back_what_is_within(shop: Shop) -> None:
    shop.configured()
    shop.configured(2)
    with transaction.atomic(using=shop.alias):
        shop.order().fire("paid", {"kept": True})
        with rolled_back(shop.alias):
            shop.order().fire("paid")
            shop.order(2).fire("paid")
            shop.order(3).fire("paid")
        shop.order(2).fire("packed")
        with transaction.atomic(using=shop.alias):
            shop.order(2).fire("paid")
    assert (shop.fired(), shop.fired(2), shop.fired(3)) == (["paid"], ["packed", "paid"], [])
    assert shop.dispatched == ["order:1 t_ship#0", "order:2 t_ship#0"]


def test_a_refusal_leaves_the_transaction_usable(shop: Shop) -> None:
    order = shop.configured()
    with transaction.atomic(using=shop.alias):
        with pytest.raises(TaskNameFired):
            order.fire("t_ship")
        with pytest.raises(TaskNameFired):
            shop.configured(2).fire("t_ship")
        assert not transaction.get_rollback(using=shop.alias)
        order.fire("paid")
    assert shop.fired() == ["paid"]
    assert shop.order(2).storage.configuration.tasks.keys() == {"t_ship"}


def test_transactions_by_the_store(shop: Shop) -> None:
    with shop.store.transaction() as connection:
        assert connection is connections[shop.alias]
        shop.order(1).fire("paid")
        with shop.store.transaction():
            shop.order(2).fire("paid")
    with rolled_back(shop.alias), shop.store.transaction():
        shop.order(1).fire("paid")
    assert (shop.fired(1), shop.fired(2)) == (["paid"], ["paid"])


def test_joining_names_what_cannot_be_joined(shop: Shop) -> None:
    order = shop.configured()
    connection = connections[shop.alias]
    with transaction.atomic(using=shop.alias):
        order.using(connection).fire("paid")
        assert shop.dispatched == []
    assert shop.dispatched == ["order:1 t_ship#0"]
    with pytest.raises(CannotJoin, match=r"the storage's option using='default'"):
        order.using(connections["default"])
    with pytest.raises(CannotJoin, match="that of another thread"):
        in_a_thread(lambda: order.using(connection))
    with pytest.raises(CannotJoin, match=r"hand over django\.db\.connection"):
        order.using(object())


def test_when_a_transaction_is_lost_already(shop: Shop) -> None:
    order = shop.configured()
    with transaction.atomic(using=shop.alias):
        transaction.set_rollback(True, using=shop.alias)
        with pytest.raises(TransactionConflict, match="can only be rolled back"):
            order.fire("paid")
    assert shop.fired() == []


def test_without_autocommit_nobody_knows_when_it_ends(shop: Shop) -> None:
    order = shop.configured()
    transaction.set_autocommit(False, using=shop.alias)
    try:
        with pytest.raises(StorageError, match=r"autocommit is off .* use transaction\.atomic"):
            order.fire("paid")
    finally:
        transaction.rollback(using=shop.alias)
        transaction.set_autocommit(True, using=shop.alias)
    order.fire("paid")
    assert shop.fired() == ["paid"]


def test_a_change_within_a_change_is_refused(shop: Shop) -> None:
    session = SessionDriver(shop.store, "order:1")

    def hook(session_view: object, plan: object) -> None:
        session.store.events("order:1")  # to look is fine
        SessionDriver(shop.store, "order:2").fire("paid")

    session.rules = rules_with("nested", hook)
    with pytest.raises(HookFailed) as raised:
        session.fire("paid")
    assert isinstance(raised.value.__cause__, NestedCommit)
    session.rules = rules_with("none", lambda *_: None)
    session.fire("packed")
    assert shop.fired() == ["packed"]


def test_what_interrupts_a_change_ends_the_transaction(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a configuration was looked for, within what is to be written as a whole."""

    def interrupted(*_: object) -> None:
        raise Interruption

    def configure() -> None:
        with transaction.atomic(using=shop.alias):
            try:
                shop.configured()
            finally:
                assert connections[shop.alias].closed_in_transaction, "nobody can go on with it"

    monkeypatch.setattr(writing, "_save_events", interrupted)
    with pytest.raises(Interruption):
        configure()
    monkeypatch.undo()
    assert not shop.order().storage.exists
    shop.configured()


# -- several transactions --------------------------------------------------------------------------


def test_a_session_that_two_make_at_the_same_time(server_shop: Shop) -> None:
    """The second one waits for the first, and then goes on with its session, in its transaction."""
    shop = server_shop

    def second(own: bool) -> None:
        if own:
            shop.order().fire("packed")
            return
        with transaction.atomic(using=shop.alias):
            shop.order(7).fire("before")
            shop.order().fire("packed")
            assert shop.fired() == ["paid", "packed"]

    for own in (True, False):
        with ThreadPoolExecutor(1) as pool:
            with transaction.atomic(using=shop.alias):
                shop.order().fire("paid")
                waiting = pool.submit(closing(second), own)
                until_somebody_waits(shop.alias)
            waiting.result()
        assert shop.fired() == ["paid", "packed"]
        shop.store.delete("order:1")
    assert shop.fired(7) == ["before"]


def test_opposite_orders_one_succeeds_and_one_is_told(server_shop: Shop) -> None:
    shop = server_shop
    for number in (1, 2):
        shop.configured(number)
    both = threading.Barrier(2)

    def work(first: int, second: int) -> str:
        try:
            with transaction.atomic(using=shop.alias):
                shop.order(first).fire("paid", {"by": first})
                both.wait()
                shop.order(second).fire("paid", {"by": first})
        except TransactionConflict as error:
            return str(error)
        return "stored"

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(closing(work), (1, 2), (2, 1)))
    outcomes.remove("stored")
    [told] = outcomes
    assert "run the whole of it again" in told
    assert (shop.fired(1), shop.fired(2)) == (["paid"], ["paid"])
    assert len(shop.dispatched) == 2


def test_sweeps_pass_over_a_session_that_is_being_changed(server_shop: Shop) -> None:
    shop = server_shop
    for number in (1, 2):
        shop.configured(number).fire("paid")
    wait = shop.store.next_due()
    assert wait is not None
    later = DjangoStore(shop.alias, lambda: shop.store.clock() + wait + 10)
    with transaction.atomic(using=shop.alias):
        shop.order(1).fire("noise")
        seen = in_a_thread(lambda: [each.uid for each in later.due()])
        assert seen == ["order:2"]
        assert len(later.due()) == 2, "those of one's own transaction are there"
    assert len(later.due()) == 2


def test_a_transaction_that_sees_the_past_is_not_misled(
    server_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With REPEATABLE READ: either it sees what was committed meanwhile, or it has lost."""
    shop = server_shop
    shop.configured().fire("paid", event_id="e1")
    settings = connections[shop.alias].settings_dict
    level: Any = "repeatable read"
    if shop.alias.startswith("postgresql"):
        import psycopg

        level = psycopg.IsolationLevel.REPEATABLE_READ
    connections[shop.alias].close()
    monkeypatch.setitem(settings, "OPTIONS", {"isolation_level": level})
    try:
        try:
            with transaction.atomic(using=shop.alias):
                assert shop.fired() == ["paid"]
                in_a_thread(lambda: shop.order().fire("paid", event_id="e2"))
                assert shop.fired() == ["paid"], "else this tests nothing"
                assert shop.order().fire("paid", event_id="e2").status == "duplicate"
                shop.order().fire("paid")
        except TransactionConflict:
            assert shop.fired() == ["paid", "paid"]
            shop.order().fire("paid")
    finally:
        connections[shop.alias].close()
    assert shop.fired() == ["paid", "paid", "paid"]
    assert shop.order().storage["t_ship#2"].status == "scheduled"


# -- connections -----------------------------------------------------------------------------------


def test_a_backend_that_was_terminated_is_not_noticed(server_shop: Shop) -> None:
    shop = server_shop
    order = shop.configured()
    for look in (shop.fired, lambda: order.fire("paid")):
        in_a_thread(lambda: terminate_others(shop.alias))
        look()
    assert shop.fired() == ["paid"]
    with rolled_back(shop.alias):
        order.fire("paid")
        in_a_thread(lambda: terminate_others(shop.alias))
        with pytest.raises(StorageError):
            order.fire("paid")
    assert shop.fired() == ["paid"], "the application's transaction is lost"


def test_an_answer_that_was_read_in_part_is_not_waited_for(
    request: pytest.FixtureRequest,
    make_django_store: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The rest of it looks like the beginning of a long answer to what ends the transaction."""
    store = make_django_store(request.getfixturevalue("mariadb"))()
    from pymysql.connections import Connection

    read = Connection._read_bytes

    def interrupted(connection: Any, size: int) -> bytes:
        body = connection._rfile.peek(4)[:4]
        if size > 4 and (body[0], body[3]) == (0, 1):  # a row was changed, within a transaction
            raise Interruption("between the head and the body of an answer")
        answer: bytes = read(connection, size)
        return answer

    assert store.acquire_lease("sweep", "mine", 30)
    with monkeypatch.context() as patch:
        patch.setattr(Connection, "_read_bytes", interrupted)
        with pytest.raises(Interruption):
            in_another_thread(lambda: store.acquire_lease("sweep", "mine", 30), 20)
    assert store.acquire_lease("sweep", "mine", 30)
    store.close()


@pytest.mark.parametrize("own", [True, False], ids=["fire", "transaction"])
def test_what_interrupts_a_commit_comes_out(
    request: pytest.FixtureRequest,
    make_django_store: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    own: bool,
) -> None:
    """The driver closes its connection over it, and Django turns autocommit on there."""
    store = make_django_store(request.getfixturevalue("mariadb"))()
    from pymysql.connections import Connection

    session, commit = SessionDriver(store), Connection.commit
    session.fire("go")

    class Interrupted:
        def __init__(self, file: Any) -> None:
            self.file = file

        def read(self, size: int) -> bytes:
            raise Interruption("while an answer was waited for")

        def close(self) -> None:
            self.file.close()

    def interrupted(connection: Any) -> None:
        monkeypatch.undo()
        connection._rfile = Interrupted(connection._rfile)
        commit(connection)

    def fire() -> None:
        if own:
            monkeypatch.setattr(Connection, "commit", interrupted)
            session.fire("page", event_id="once")
            return
        with store.transaction():
            session.fire("page", event_id="once")
            monkeypatch.setattr(Connection, "commit", interrupted)

    with pytest.raises(Interruption):
        fire()
    session.fire("page", event_id="once")
    assert session.fired() == ["go", "page"]
    store.close()


def test_one_that_waited_for_long_is_replaced_too(
    server_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server was there all the time: it had a lock to wait for."""
    shop = server_shop
    shop.configured()
    monkeypatch.setattr(transactions, "_ABSENCE", 0.2)
    with ThreadPoolExecutor(1) as pool:
        with rolled_back(shop.alias):
            shop.order().fire("paid")
            waiting = pool.submit(closing(shop.order().fire), "packed")
            until_somebody_waits(shop.alias)
            time.sleep(0.3)
            locking = number(shop.alias)
            in_a_thread(lambda: terminate_others(shop.alias, locking))
        assert waiting.result().status == "recorded"
    assert shop.fired() == ["packed"]


@pytest.mark.parametrize("own", [True, False])
def test_a_connection_that_did_not_come_out_of_its_transaction_is_replaced(
    shop: Shop, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would commit nothing any more, and hold what it has locked."""
    order, connection = shop.configured(), connections[shop.alias]
    connection.ensure_connection()
    switch = connection.set_autocommit

    def out_of_step(autocommit: bool, **more: Any) -> None:
        if autocommit:
            monkeypatch.undo()
            raise InternalError("packet sequence number wrong")
        switch(autocommit, **more)

    def fire() -> None:
        if own:
            order.fire("paid")
            return
        with shop.store.transaction():
            order.fire("paid")

    monkeypatch.setattr(connection, "set_autocommit", out_of_step)
    with pytest.raises(StorageError if own else InternalError, match="number wrong"):
        fire()
    order.fire("packed")
    assert in_a_thread(shop.fired)[-1] == "packed"


def test_a_commit_whose_answer_was_lost_is_recognised(server_shop: Shop) -> None:
    shop = server_shop
    order = shop.configured()
    with lost_answers(shop.alias):
        order.fire("paid")
    assert shop.fired() == ["paid"]
    assert shop.dispatched == ["order:1 t_ship#0"]


@contextmanager
def rolled_back(alias: str) -> Iterator[None]:
    try:
        with transaction.atomic(using=alias):
            yield
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass


def closing(work: Callable[..., Any]) -> Callable[..., Any]:
    """Work for a thread, which closes its connections then."""

    def run(*arguments: Any) -> Any:
        try:
            return work(*arguments)
        finally:
            connections.close_all()

    return run


def in_a_thread(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(closing(work)).result()


def until_somebody_waits(alias: str) -> None:
    """Returns when a transaction waits for a lock."""
    waits = {
        "postgresql": "SELECT count(*) FROM pg_locks WHERE NOT granted",
        "mysql": "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
    }

    def look() -> None:
        with connections[alias].cursor() as cursor:
            while True:
                cursor.execute(waits[connections[alias].vendor])
                if cursor.fetchall()[0][0]:
                    return
                threading.Event().wait(0.15)  # MariaDB looks anew when nobody did for 0.1 s

    in_a_thread(look)


def number(alias: str) -> int:
    """Of this thread's connection, by the server."""
    own = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT connection_id()"}
    with connections[alias].cursor() as cursor:
        cursor.execute(own[connections[alias].vendor])
        return int(cursor.fetchone()[0])


def terminate_others(alias: str, but: int = 0) -> None:
    with connections[alias].cursor() as cursor:
        if connections[alias].vendor == "postgresql":
            cursor.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid NOT IN (pg_backend_pid(), %s)",
                [but],
            )
            return
        cursor.execute(
            "SELECT id FROM information_schema.processlist"
            " WHERE db = database() AND id NOT IN (connection_id(), %s)",
            [but],
        )
        for (each,) in cursor.fetchall():
            with suppress(OperationalError):  # it may have gone by itself
                cursor.execute(f"KILL {each}")


@contextmanager
def lost_answers(alias: str) -> Iterator[None]:
    """The next commit is carried out, and its connection breaks before anybody hears of it."""
    connection = connections[alias]
    carry_out, lost = connection._commit, []

    def commit() -> None:
        carry_out()
        if not lost:
            lost.append(True)
            in_a_thread(lambda: terminate_others(alias))
            connection.cursor().execute("SELECT 1")

    connection._commit = commit  # type: ignore[method-assign]
    try:
        yield
        assert lost
    finally:
        del connection._commit
