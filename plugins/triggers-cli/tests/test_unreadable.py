"""Sessions that cannot be read harm no other; a file of somebody else gets no files beside it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cli_forks import Forks
from cli_process import Cli, feed, open_shop

HEADERS = {
    "damaged": b"\xff not a header",
    "newer": b'{"generation":"g","schema":99}',
}


@pytest.fixture(scope="module")
def three_orders(
    tmp_path_factory: pytest.TempPathFactory, base_environment: dict[str, str], forks: Forks | None
) -> Path:
    """A file with three sessions, which is made once."""
    cli = Cli(tmp_path_factory.mktemp("three"), base_environment, forks)
    orders = open_shop(cli, "orders.db")
    for uid in ("order:1", "order:2", "order:3"):
        feed(orders, uid, 1, "--wait")
    return orders.folder / "orders.db"


@pytest.fixture(params=HEADERS)
def one_bad(orders: Cli, three_orders: Path, request: pytest.FixtureRequest) -> Cli:
    """Three sessions, the middle one of which cannot be read."""
    for file in three_orders.parent.glob(f"{three_orders.name}*"):
        shutil.copy(file, orders.folder)
    with closing(sqlite3.connect(orders.folder / "orders.db")) as connection, connection:
        changed = connection.execute(
            "UPDATE sessions SET header = ?, failed = 1 WHERE uid = 'order:2'",
            (HEADERS[request.param],),
        )
        assert changed.rowcount == 1
    return orders


def test_the_others_are_listed_and_it_is_named(one_bad: Cli) -> None:
    told = one_bad("sessions", "--all", code=1)
    assert "order:1 " in told.out
    assert "order:3 " in told.out
    assert "order:2" not in told.out
    assert told.err.count("order:2") == 1
    assert "Traceback" not in told.err


def test_a_health_check_does_not_call_it_well(one_bad: Cli) -> None:
    told = one_bad("sessions", "--failed", "--json", code=1)
    assert told.json == []
    assert "order:2" in told.err


@pytest.mark.parametrize(
    "line",
    [
        ("show", "order:2"),
        ("explain", "order:2"),
        ("events", "order:2"),
        ("fire", "order:2", "paid"),
        ("close", "order:2", "--yes"),
        ("replay", "order:2", "t_mail#0"),
        ("recover", "order:2"),
    ],
)
def test_what_is_asked_of_it_is_refused_by_name(one_bad: Cli, line: tuple[str, ...]) -> None:
    told = one_bad(*line, code=1)
    assert "order:2" in told.err
    assert "Traceback" not in told.err


def test_the_others_go_on(one_bad: Cli) -> None:
    one_bad("show", "order:1", code=0)
    one_bad("recover", code=0)
    told = one_bad("prune", "--older-than", "0s", "--yes", "--unresolved")
    assert told.code in (0, 1)
    assert "Traceback" not in told.err
    assert "There is no session" not in told.err


def test_it_can_be_deleted(one_bad: Cli) -> None:
    one_bad("delete", "order:2", "--yes", code=0)
    assert one_bad("sessions", "--all", code=0).err.count("order:2") == 0


LOOKS = [
    ("sessions",),
    ("sessions", "--all"),
    ("show", "order:1"),
    ("explain", "order:1"),
    ("events", "order:1"),
    ("prune", "--older-than", "1d", "--dry-run"),
]


def _state(folder: Path) -> dict[str, tuple[int, int, int]]:
    return {
        each.name: (each.stat().st_uid, each.stat().st_gid, each.stat().st_mode)
        for each in folder.iterdir()
        if each.name.startswith("orders.db")
    }


@pytest.mark.parametrize("line", LOOKS)
def test_looking_at_a_file_of_somebody_else(orders: Cli, line: tuple[str, ...]) -> None:
    feed(orders, "order:1", 1, "--wait")
    database = orders.folder / "orders.db"
    for each in orders.folder.glob("orders.db-*"):
        each.unlink()
    if os.geteuid() == 0:
        os.chown(database, 12_345, 12_345)  # root may do anything: only the owner tells it apart
    else:
        database.chmod(0o444)
        orders.folder.chmod(0o555)
    before = _state(orders.folder)
    assert list(before) == ["orders.db"]
    try:
        told = orders(*line, PYTHONDONTWRITEBYTECODE="1")
    finally:
        orders.folder.chmod(0o755)
    assert told.code == 0, told
    assert _state(orders.folder) == before
