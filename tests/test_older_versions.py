"""What an older version wrote is read, and goes on; what this one writes, an older one refuses.

`data/sqlite_0_1.db.gz` is a file of the version before the language of conditions, with two
sessions: ``held``, in which a retry cools down (no index of moments knows it), and ``plain``.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
from applications import STORAGES, application

from triggers_core import Application
from triggers_core.engine import features
from triggers_core.exceptions import UnknownSchema
from triggers_core.storages.sqlite import SqliteStore
from triggers_core.testing import SessionDriver, VirtualClock, check_store

WRITTEN = 1_000_000_010.0
"""When the old version wrote last; its retry cools down for 300 seconds from then on."""


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(WRITTEN)


@pytest.fixture
def store(tmp_path: Path, clock: VirtualClock) -> Iterator[SqliteStore]:
    data = Path(__file__).parent / "data" / "sqlite_0_1.db.gz"
    path = tmp_path / "old.db"
    path.write_bytes(gzip.decompress(data.read_bytes()))
    with SqliteStore(path, "NORMAL", clock) as store:
        yield store


def test_a_plain_session_goes_on(store: SqliteStore) -> None:
    session = SessionDriver(store, "plain")
    assert session.header.requires == ()
    assert session.statuses() == {"t_ship#0": "unstarted"}
    assert session.fire("packed").scheduled == ["t_ship#0"]
    assert session.kwargs("t_ship#0") == {"paid": {"amount": 5}, "packed": {}}
    session.run_all()
    assert session.fired() == ["paid", "page", "packed", "t_ship"]


def test_a_plain_session_learns_new_words(store: SqliteStore, clock: VirtualClock) -> None:
    session = SessionDriver(store, "plain")
    session.configure(
        t_ship={"after": ["paid", {"atLeast": 2, "of": "packed"}], "within": 60, "otherwise": "x"},
        t_pages={"after": [{"atLeast": 2, "of": "page"}]},
    )
    assert session.header.records
    assert session.fire("packed").scheduled == []
    assert session.fire("packed").scheduled == ["t_ship#0"]
    session.fire("page")
    assert session.fire("page").scheduled == ["t_pages#0"]
    session.configure(t_late={"after": ["paid", "never"], "within": 60, "otherwise": "x"})
    session.fire("paid")
    clock.advance(60)
    session.recover()
    assert session.instance("t_late#0").why == "late"
    assert session.fired()[-1] == "x"


def test_an_old_cooldown_ends_by_a_sweep(store: SqliteStore, clock: VirtualClock) -> None:
    session = SessionDriver(store, "held")
    assert session.header.next_moment is None, "nobody knew of moments"
    clock.advance(299)
    session.recover("t_pay#1")
    assert session.status("t_pay#1") == "unstarted"
    clock.advance(1)
    session.recover()
    assert session.status("t_pay#1") == "scheduled"
    session.run("t_pay#1")
    session.run_all()
    assert session.fire("packed").scheduled == ["t_ship#0"]
    check_store_of(session)


def test_an_old_cooldown_is_called_off(store: SqliteStore, clock: VirtualClock) -> None:
    session = SessionDriver(store, "held")
    session.fire("cancelled")
    assert session.status("t_pay#1") == "abandoned"
    clock.advance(300)
    session.recover()
    assert session.status("t_pay#1") == "abandoned"
    check_store_of(session)


def test_an_old_cooldown_beside_new_words(store: SqliteStore, clock: VirtualClock) -> None:
    session = SessionDriver(store, "held")
    session.configure(
        t_pay={"after": ["placed"], "unless": ["cancelled"], "otherwise": {"failed": "unpaid"}},
        t_wait={"after": ["placed", "never"], "within": 100, "otherwise": {"late": "too_late"}},
    )
    session.fire("placed")
    clock.advance(300)
    session.recover()
    assert session.status("t_pay#1") == "scheduled"
    assert session.instance("t_wait#0").why == "late"
    session.fail_now("t_pay#1")
    assert session.fired()[-2:] == ["too_late", "unpaid"]
    check_store_of(session)


def check_store_of(session: SessionDriver) -> None:
    """The other session waits as it did; all of the store agrees with itself."""
    assert SessionDriver(session.store, "plain").statuses() == {"t_ship#0": "unstarted"}
    check_store(session.store)


# -- the other way around --------------------------------------------------------------------------


@pytest.fixture(params=STORAGES)
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Application]:
    with application(request.param, tmp_path) as app:
        yield app


def test_a_process_that_knows_fewer_words_harms_nothing(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows all words but one, and whoever knows that goes on as if it had never been there."""
    session = SessionDriver(app.store)
    other = SessionDriver(app.store, "order:2")
    session.configure(t_x={"after": ["a", "b"], "within": 60, "otherwise": "late"})
    session.fire("a")
    session.configure(t_y={"after": ["a"]})
    session.fire("a")
    claimed = session.claim("t_y#0")
    before = session.image()
    fewer = features.UNDERSTOOD - {features.requirement("within")}
    with monkeypatch.context() as older:
        older.setattr(features, "UNDERSTOOD", fewer)
        for change in (
            lambda: session.fire("b"),
            lambda: session.configure(t_z={"after": ["a"]}),
            lambda: session.finish(claimed),
            lambda: session.fail(claimed),
            lambda: session.recover("t_x#0", "t_y#0"),
        ):
            with pytest.raises(UnknownSchema, match=r"which knows within: .* to 0\.2 or later"):
                change()
        assert other.fire("a").status == "recorded"
        assert session.image() == before
    session.finish(claimed)
    assert session.fire("b").scheduled == ["t_x#0"]
    check_store(app.store)
