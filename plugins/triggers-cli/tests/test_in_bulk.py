"""Commands about many sessions: replay, skip and configure by a filter; overview, find."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest
from cli_process import Cli, statuses

from triggers_core.storages.sqlite import SqliteStore
from triggers_core.testing import SessionDriver, check_store


@pytest.fixture
def many(orders: Cli) -> Cli:
    """Nine orders: six have failed, of two tasks and two errors; three wait."""
    with SqliteStore(orders.folder / "orders.db") as store:
        for number in range(6):
            task, error = ("t_mail", "t_ship")[number % 2], ("SMTPError", "OSError")[number // 3]
            session = SessionDriver(store, f"order:{number}")
            session.configure({task: {"after": ["go"], "run": "shop.Thank"}})
            session.fire("go", event_id=f"shop:{number}")
            session.fail_now(f"{task}#0", {"error": {"type": error, "message": "no"}})
        for number in range(6, 9):
            session = SessionDriver(store, f"order:{number}")
            session.configure(t_ship={"after": ["paid", "packed"], "run": "shop.Ship"})
            session.fire("paid", {"order": number})
    return orders


def whole(cli: Cli) -> None:
    with SqliteStore(cli.folder / "orders.db") as store:
        check_store(store)


def test_replay_by_a_filter(many: Cli) -> None:
    told = many("replay", "--task", "t_mail", "--error", "SMTPError", "--dry-run", code=0)
    assert "order:0" in told.out
    assert told.out.endswith("dry run: 2 failed instances would be replayed\n")
    told = many("replay", "--task", "t_mail", "--error", "SMTPError", "--yes", code=0)
    assert told.out == "replayed: 2 instances\n"
    assert statuses(many, "order:0") == {"t_mail#0": "replayed", "t_mail#1": "scheduled"}
    assert statuses(many, "order:4") == {"t_mail#0": "failed"}, "of another error"
    assert many("replay", "--prefix", "order:1", "--yes", "--json", code=0).json == {
        "replayed": 1,
        "refused": 0,
        "problems": [],
    }
    assert many("replay", "--all", "--yes", code=0).out == "replayed: 3 instances\n"
    assert "no such failed instance" in many("replay", "--all", "--yes", code=0).out
    whole(many)


def test_it_asks_after_it_has_shown_what_it_means(many: Cli) -> None:
    told = many("replay", "--all", stdin="n\n", code=1)
    assert "and 1 more" in told.out
    assert "Replay 6 failed instances? Continue? [y/N]" in told.err
    assert statuses(many, "order:0") == {"t_mail#0": "failed"}
    assert "pass --yes" in many("replay", "--all", code=2).err
    assert many("replay", "--all", stdin="y\n", code=0).out.endswith("replayed: 6 instances\n")


def test_a_dry_run_as_json(many: Cli) -> None:
    told = many("skip", "--error", "OSError", "--dry-run", "--json", code=0).json
    assert (told["dry_run"], told["instances"], told["more"]) == (True, 3, False)
    assert [each["uid"] for each in told["examples"]] == ["order:3", "order:4", "order:5"]
    assert many("replay", "--older", "1h", "--dry-run", "--json", code=0).json["instances"] == 0


def test_skip_by_a_filter(many: Cli) -> None:
    assert many("skip", "--task", "t_ship", "--yes", code=0).out == "skipped: 3 instances\n"
    assert statuses(many, "order:1") == {"t_ship#0": "skipped"}
    assert "skipped: 3" in many("skip", "--all", "--cascade", "--yes", code=0).out
    assert "t_mail" in many("events", "order:0").out, "the cascade has fired"
    whole(many)


def test_a_session_that_cannot_be_read_keeps_nobody_from_the_others(many: Cli) -> None:
    with closing(sqlite3.connect(many.folder / "orders.db")) as connection, connection:
        connection.execute("UPDATE sessions SET header = x'00' WHERE uid = 'order:2'")
    told = many("replay", "--all", "--yes", code=1)
    assert told.out.startswith("replayed: 5 instances\n")
    assert "order:2 t_mail#0: " in told.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["replay"], "name a session, or choose with"),
        (["replay", "order:1", "--task", "t_mail"], "leave UID away"),
        (["replay", "order:1", "--dry-run"], "leave UID away"),
        (["replay", "--task", "t_mail", "--wait", "--yes"], "--wait is for the instances of one"),
        (["replay", "--all", "--kwargs", "{}", "--yes"], "--kwargs is for the instances of one"),
        (["replay", "--older", "soon"], "soon"),
        (["skip"], "name a session, or choose with"),
        (["skip", "order:1", "--prefix", "o"], "leave UID away"),
        (["configure", "flow.json"], "name a session and a configuration"),
        (["configure", "order:1", "flow.json", "--where-prefix", "o"], "name no UID"),
        (["configure", "flow.json", "--where-prefix", "o", "--wait"], "--wait is for one session"),
        (["configure", "flow.json", "--where-prefix", ""], "name a configuration or a prefix"),
    ],
)
def test_what_cannot_be_meant(many: Cli, arguments: list[str], said: str) -> None:
    many.write("flow.json", {"t_x": {"after": ["go"], "run": "shop.Thank"}})
    assert said in many(*arguments, code=2).err


def test_who_acts_is_recorded(many: Cli) -> None:
    def by(uid: str) -> Any:
        return many("show", uid, "t_mail#0", "--json", code=0).json["acted_by"]

    many("replay", "order:0", "t_mail#0", "--by", "alice", code=0)
    many("skip", "--prefix", "order:2", "--yes", code=0, TRIGGERS_BY="bob")
    many("skip", "order:4", "--all", "--yes", code=0)
    assert (by("order:0"), by("order:2")) == ("alice", "bob")
    assert by("order:4"), "the user of the operating system"
    assert "--by" in many("replay", "order:0", "--all", "--by", "a\nb", code=2).err


def test_what_has_failed_is_completed(many: Cli) -> None:
    def offered(line: str) -> set[str]:
        asked = {"_TRIGGERS_COMPLETE": "bash_complete", "COMP_LINE": line, "COMP_WORDBREAKS": ""}
        return set(many(**asked).out.splitlines())

    assert offered(" replay --task ") == {"plain,t_mail", "plain,t_ship"}
    assert offered(" skip --error S") == {"plain,SMTPError"}
    assert offered(" configure order:1") == {"plain,order:1"}
    assert offered(" configure --where-prefix o fl") == {"file,fl"}


# -- configurations --------------------------------------------------------------------------------

NEW = {"t_ship": {"after": ["paid"], "run": "shop.Ship"}}


def test_configure_many_by_prefix(many: Cli) -> None:
    many.write("new.json", NEW)
    many("close", "order:8", "--by", "carol", "--yes", code=0)
    assert many("show", "order:8", "--json", code=0).json["closed_by"] == "carol"
    where = ("configure", "new.json", "--where-prefix", "order:")
    told = many(*where, "--dry-run", code=0)
    assert "dry run: of 8 open sessions, 8 would change; nothing is stored" in told.out
    assert "to run now: 2 instances" in told.out
    assert "1 are closed" in told.out
    data = many(*where, "--dry-run", "--json", code=0).json
    assert (data["sessions"], data["change"], data["closed"]) == (8, 8, 1)
    assert data["instances"]["scheduled"] == 2
    assert statuses(many, "order:6") == {"t_ship#0": "unstarted"}
    asked = many(*where, stdin="n\n", code=1)
    assert "Configure 8 open sessions? Continue?" in asked.err
    told = many(*where, "--yes", code=0, TRIGGERS_BY="bob")
    assert many("show", "order:6", "--json", code=0).json["configured_by"] == "bob"
    assert told.out.startswith("configured: 8 sessions\n  moved: ")
    assert statuses(many, "order:6") == {"t_ship#0": "scheduled"}
    again = many(*where, "--yes", "--json", code=0).json
    assert (again["done"], again["unchanged"], again["closed"]) == (0, 8, 1)
    whole(many)


def test_configure_many_by_configuration(many: Cli) -> None:
    many.write("new.json", NEW)
    listed = many("configurations", "--json", code=0).json
    assert [each["sessions"] for each in listed] == [3, 3, 3]
    assert sorted(each["tasks"] for each in listed) == [["t_mail"], ["t_ship"], ["t_ship"]]
    [waits] = [each["address"] for each in listed if each["example"] == "order:6"]
    assert waits in many("configurations", code=0).out
    where = ("configure", "new.json", "--where-configuration", waits)
    told = many(*where, "--look-at", "1", "--dry-run", "--json", code=0).json
    assert (told["sessions"], told["more"]) == (1, True)
    assert many(*where, "--yes", "--json", code=0).json["done"] == 3
    assert many(*where, "--yes", "--json", code=0).json["done"] == 0, "none has it any more"
    whole(many)


# -- looking ---------------------------------------------------------------------------------------


def test_an_overview(many: Cli) -> None:
    told = many("overview", code=1).out
    assert "FAILED  TASK    ERROR" in told
    assert "3  packed  " in told
    data = many("overview", "--json", code=1).json
    assert [(each["trigger"], each["sessions"]) for each in data["waiting"]] == [("packed", 3)]
    assert sum(each["instances"] for each in data["failed"]) == 6
    many("skip", "--all", "--yes", code=0)
    assert "FAILED" not in many("overview", code=0).out
    many("prune", "--older-than", "0s", "--unresolved", "--yes", code=0)
    assert many("overview", code=0).out.startswith("Nothing is stuck in the SQLite file")


def test_find(many: Cli) -> None:
    def found(text: str) -> dict[str, Any]:
        data: dict[str, Any] = many("find", text, "--json", code=0).json
        return {name: each for name, each in data.items() if each and name != "text"}

    assert [each["uid"] for each in found("order:3")["sessions"]] == ["order:3"]
    assert len(found("order")["sessions"]) == 9
    assert found("shop:4") == {"events": [{"uid": "order:4", "number": 0}]}
    assert [each["trigger"] for each in found("pack")["waiting"]] == ["packed"]
    assert {each["task"] for each in found("t_mail")["failed"]} == {"t_mail"}
    assert {each["error"] for each in found("SMTP")["failed"]} == {"SMTPError"}
    waiting = {each["uid"] for each in found("waiting")["stuck"]}
    assert waiting >= {"order:6", "order:7", "order:8"}
    assert "order:4  " in many("find", "shop:4", code=0).out
    assert "packed" in many("find", "packed", code=0).out
    assert "There are more" in many("find", "order", "--limit", "2", code=0).err
    assert "is called nowhere" in many("find", "nowhere", code=1).out
