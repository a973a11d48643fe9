"""The way of an order, from the command line: fed, and looked at."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest
from cli_process import Cli, feed, statuses

# -- fire and configure ----------------------------------------------------------------------------


def test_fire_begins_a_session(orders: Cli) -> None:
    fired = orders("fire", "order:1", "paid", "--kwargs", '{"order": 1}', code=0)
    assert fired.out == "recorded: paid is event 0 of session order:1\n"
    assert f"A new session in the SQLite file {orders.folder / 'orders.db'}" in fired.err
    assert (orders.folder / "orders.db").exists()


def test_fire_leaves_the_work_to_the_workers(orders: Cli) -> None:
    feed(orders, "order:1", 1)
    told = orders("fire", "order:1", "packed", "--json", code=0).json
    assert (told["status"], told["scheduled"]) == ("recorded", [])
    assert statuses(orders, "order:1") == {"t_ship#0": "scheduled"}


def test_fire_tells_what_it_would_do(orders: Cli) -> None:
    orders("configure", "order:1", "shop:FLOW", code=0)
    orders("fire", "order:1", "paid", "--kwargs", '{"order": 1}', code=0)
    would = ("fire", "order:1", "packed", "--dry-run")
    assert orders(*would, code=0).out == "would schedule: t_ship#0, by packed in session order:1\n"
    told = orders(*would, "--json", code=0).json
    assert (told["dry_run"], told["scheduled"]) == (True, ["t_ship#0"])
    nothing = orders("fire", "order:1", "pakced", "--dry-run", code=0)
    assert nothing.out == "would schedule: nothing, by pakced in session order:1\n"
    assert "did you mean 'packed'?" in nothing.err
    assert len(orders("events", "order:1", "--json", code=0).json) == 1
    assert "--dry-run schedules nothing" in orders(*would, "--wait", code=2).err


def test_a_fire_that_is_only_tried_begins_no_session(orders: Cli) -> None:
    orders("fire", "order:1", "paid", "--dry-run", code=1)
    assert not (orders.folder / "orders.db").exists()


def test_work_that_was_left_is_due_at_once(orders: Cli) -> None:
    """A worker's sweep takes it when it looks next, and not when a message would be repeated."""
    from triggers_core.storages.sqlite import SqliteStore

    feed(orders, "order:1", 1)
    with SqliteStore(orders.folder / "orders.db") as store:
        assert [each.instance for each in store.due()] == ["t_ship#0"]


def test_fire_and_wait(orders: Cli) -> None:
    feed(orders, "order:1", 1)
    told = orders("fire", "order:1", "packed", "--wait", "--json", code=0).json
    assert told["scheduled"] == []
    feed(orders, "order:2", 2)
    orders("recover", "order:2", "--wait", code=0)
    assert statuses(orders, "order:2") == {"t_ship#0": "finished", "t_mail#0": "finished"}
    assert statuses(orders, "order:1") == {"t_ship#0": "scheduled"}, "work of others is left alone"


def test_what_was_waited_for_is_told(orders: Cli) -> None:
    orders("configure", "order:1", "shop:FLOW", code=0)
    orders("fire", "order:1", "paid", "--kwargs", '{"order": 1}', code=0)
    told = orders("fire", "order:1", "packed", "--wait", code=0)
    assert told.out == (
        "recorded: packed is event 1 of session order:1\n"
        '  t_ship#0  finished  {"parcel": 1}\n'
        '  t_mail#0  finished  {"mailed": true}\n'
    )


def test_to_wait_for_a_failure_is_1(orders: Cli) -> None:
    orders("configure", "order:13", "shop:FLOW", code=0)
    orders("fire", "order:13", "paid", "--kwargs", '{"order": 13}', code=0)
    told = orders("fire", "order:13", "packed", "--wait", "--json", code=1).json
    assert [each["status"] for each in told["instances"]] == ["finished", "failed"]
    assert told["instances"][1]["error"] == "ValueError: no mail server at smtp://mailer:***@mail"


def test_nothing_is_run_by_a_process_that_does_not_know_the_task(orders: Cli) -> None:
    orders("configure", "order:1", "shop:FLOW", code=0)
    refused = orders("fire", "order:1", "paid", "--wait", TRIGGER_IMPORTS="", code=2)
    assert "t_ship would have to run here: no task named 'shop.Ship'" in refused.err
    assert "--no-wait" in refused.err
    assert orders("events", "order:1", "--json").json == []


SLOW = """
import time
from triggers_core import TriggerTask

class Slow(TriggerTask):
    name = "slow.Slow"

    def _run(self, context):
        print("in the body", flush=True)
        time.sleep(600)
"""


@pytest.fixture
def slow(orders: Cli) -> Cli:
    """A session whose task does not end before anybody gives up."""
    orders.write("slow.py", SLOW)
    orders.write("flow.json", {"t_slow": {"after": ["go"], "run": "slow.Slow"}})
    orders.environment["TRIGGER_IMPORTS"] = "slow"
    orders("configure", "o", "flow.json", code=0)
    return orders


def test_ctrl_c_while_waiting(slow: Cli) -> None:
    process = subprocess.Popen(
        slow.command("fire", "o", "go", "--wait"),
        cwd=slow.folder,
        env=slow.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    # What is done already is told at once, before or after the body's own line.
    told = "".join(process.stdout.readline() for _ in range(2))  # a thread's may be in between
    assert "in the body" in told
    assert "recorded: go is event 0 of session o\n" in told
    process.send_signal(signal.SIGINT)
    _, told = process.communicate()
    assert process.returncode == 130
    assert "What runs here is given up: when its lease runs out, a worker tries again." in told
    assert "Traceback" not in told
    assert statuses(slow, "o") == {"t_slow#0": "running"}


def test_the_time_is_up(slow: Cli) -> None:
    told = slow("fire", "o", "go", "--wait", "--timeout", "0.01", code=1)
    assert "The time is up." in told.err
    assert "t_slow#0" in told.out


def test_a_repeated_event(orders: Cli) -> None:
    again = ("fire", "order:1", "paid", "--event-id", "bank:1")
    assert orders(*again, "--json", code=0).json["status"] == "recorded"
    assert orders(*again, code=0).out.startswith("duplicate: nothing has changed; see event 0")
    conflict = orders(*again, "--kwargs", '{"order": 1}', code=2)
    assert "event id 'bank:1' was used for 'paid' with another payload" in conflict.err
    once = orders("fire", "order:1", "paid", "--once", "--json", code=0).json
    assert once["status"] == "already fired"
    assert len(orders("events", "order:1", "--json").json) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["", "paid"], "uid: expected 1 to 200 printable characters, got ''"),
        (["order:1", "x" * 201], "trigger: expected 1 to 200"),
        (["order:1", "t_ship"], "'t_ship' is a task"),
        (["order:1", "paid", "--kwargs", "{"], "it is not JSON: "),
        (["order:1", "paid", "--kwargs", "[]"], "has to be an object"),
        (["order:1", "paid", "--kwargs", '{"a": NaN}'], "kwargs['a']: nan cannot be stored"),
        (["order:1", "paid", "--kwargs", "@missing.json"], "missing.json cannot be read"),
        (["order:1", "paid", "--event-id", "~1"], "begins with ~"),
        (["order:1"], "Missing argument 'TRIGGER'"),
    ],
)
def test_bad_input_is_2_and_stores_nothing(orders: Cli, arguments: list[str], told: str) -> None:
    orders("configure", "order:1", "shop:FLOW", code=0)
    refused = orders("fire", *arguments, code=2)
    assert told in refused.err
    assert orders("events", "order:1", "--json").json == []


def test_kwargs_from_a_file(orders: Cli) -> None:
    orders.write("order.json", {"order": 7, "lines": [1, 2], "big": 12345678901234567890123})
    orders("fire", "order:1", "paid", "--kwargs", "@order.json", code=0)
    (event,) = orders("events", "order:1", "--json", code=0).json
    assert event["kwargs"] == {"order": 7, "lines": [1, 2], "big": 12345678901234567890123}


def test_configure_says_what_it_changed(orders: Cli) -> None:
    assert orders("configure", "order:1", "shop:FLOW", code=0).out.startswith("configured: ")
    assert orders("configure", "order:1", "shop:FLOW", code=0).out.startswith("unchanged: ")
    orders.write("bad.json", {"t_x": {"after": 3, "run": "x"}})
    refused = orders("configure", "order:1", "bad.json", code=2)
    assert "t_x.after: expected a list of trigger names" in refused.err
    orders.write("odd.json", {"t_x": {"after": ["a"], "unless": ["a"], "run": "shop.Ship"}})
    assert "1 warning: triggers check odd.json" in orders("configure", "order:1", "odd.json").err


# -- looking changes nothing -----------------------------------------------------------------------

LOOKS = [
    ["sessions"],
    ["sessions", "--all"],
    ["show", "order:1"],
    ["explain", "order:1"],
    ["events", "order:1"],
    ["recover"],
    ["replay", "order:1", "--all"],
    ["skip", "order:1", "--all"],
    ["fail", "order:1", "t_x#0"],
    ["close", "order:1"],
    ["delete", "order:1", "--yes"],
    ["prune", "--older-than", "1d"],
]


@pytest.mark.parametrize("arguments", LOOKS, ids=" ".join)
def test_a_file_that_does_not_exist_is_told_and_not_made(cli: Cli, arguments: list[str]) -> None:
    missing = cli(*arguments, code=1)
    assert f"there is no SQLite file {cli.folder / 'triggers.db'}" in missing.err
    assert "it is the default" in missing.err
    elsewhere = cli(*arguments, TRIGGER_STORAGE_OPTIONS='{"path": "x.db"}', code=1)
    assert "x.db (it comes from environment variable TRIGGER_STORAGE_OPTIONS)" in elsewhere.err
    assert "(it comes from --storage)" in cli(*arguments, "--storage", "sqlite:y.db", code=1).err
    assert list(cli.folder.iterdir()) == []


def test_an_empty_file_is_no_storage(cli: Cli) -> None:
    cli.write("triggers.db", "")
    assert "there is no SQLite file" in cli("sessions", code=1).err
    assert (cli.folder / "triggers.db").read_bytes() == b""


def test_a_file_of_others_is_left_alone(cli: Cli) -> None:
    cli.write("triggers.db", "something else")
    assert "not a database" in cli("sessions", code=1).err
    assert (cli.folder / "triggers.db").read_text() == "something else"


@pytest.mark.parametrize("arguments", LOOKS[2:5] + LOOKS[6:11], ids=" ".join)
def test_a_session_that_does_not_exist(orders: Cli, arguments: list[str]) -> None:
    orders("fire", "order:2", "paid", code=0)
    missing = orders(*arguments, code=1)
    assert "there is no session 'order:1' in the SQLite file" in missing.err
    as_json = orders(*arguments, "--json", code=1)
    assert json.loads(as_json.err)["error"] == "SessionNotFound"
    assert as_json.out == ""


@pytest.mark.parametrize(
    "arguments", [["sessions"], ["show", "o"], ["explain", "o"], ["events", "o"]], ids=" ".join
)
def test_looking_runs_nothing(orders: Cli, arguments: list[str]) -> None:
    """Due work is left: a runner here would take it away from the workers."""
    feed(orders, "o", 1)
    before = orders("events", "o", "--json").json
    orders(*arguments)
    assert orders("events", "o", "--json").json == before
    assert statuses(orders, "o") == {"t_ship#0": "scheduled"}


# -- show, events, sessions ------------------------------------------------------------------------


def test_show(failed: Cli) -> None:
    shown = failed("show", "order:13", code=1)
    assert (
        "TASK    FAILED  FINISHED\nt_ship       0         1\nt_mail       1         0" in shown.out
    )
    assert "t_mail#0    failed  ValueError: no mail server at smtp://mailer:***@mail" in shown.out
    data = failed("show", "order:13", "--json", code=1).json
    assert data["tasks"]["t_mail"]["failed"] == 1
    assert data["unresolved"] == [{"name": "t_mail#0", "status": "failed"}]
    assert data["fired"] == ["paid", "packed", "t_ship"]


def test_show_an_instance(failed: Cli) -> None:
    shown = failed("show", "order:13", "t_mail#0", code=1)
    assert shown.out.startswith("t_mail#0: failed\n")
    assert '    t_ship: {"parcel": 13}\n' in shown.out
    assert 'raise ValueError("no mail server' in failed("show", "order:13", "t_mail#0").out
    finished = failed("show", "order:13", "t_ship#0", "--json", code=0).json
    assert finished["kwargs"] == {"paid": {"order": 13}, "packed": {}}
    assert finished["result"] == {"parcel": 13}
    missing = failed("show", "order:13", "t_ship#4", code=1)
    assert "there is no instance t_ship#4; t_ship has 1 so far" in missing.err
    assert "expected a task's name, '#'" in failed("show", "order:13", "t_ship", code=1).err


def test_secrets_are_masked_unless_asked_for(orders: Cli) -> None:
    kwargs = {"password": "hunter2", "url": "https://me:hunter2@host", "order": 1}
    orders("fire", "o", "paid", "--kwargs", json.dumps(kwargs), code=0)
    orders("configure", "o", "shop:FLOW", code=0)
    for look in (("events", "o"), ("show", "o", "t_ship#0")):
        for more in ((), ("--json",)):
            assert "hunter2" not in orders(*look, *more, code=0).out
            assert "hunter2" in orders(*look, "--secrets", *more, code=0).out


def test_events(failed: Cli) -> None:
    table = failed("events", "order:13", code=0).out.splitlines()
    assert table[0].split() == ["#", "RECORDED", "TRIGGER", "FIRED", "BY", "KWARGS"]
    assert table[3].endswith('t_ship   t_ship#0     {"parcel": 13}')
    data = failed("events", "order:13", "--json", code=0).json
    assert [(e["number"], e["trigger"], e["source"], e["cause"]) for e in data] == [
        (0, "paid", "application", None),
        (1, "packed", "application", None),
        (2, "t_ship", "instance", "t_ship#0"),
    ]


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ([], [0, 1, 2, 3, 4]),
        (["--limit", "2"], [3, 4]),
        (["--start", "1"], [1, 2, 3, 4]),
        (["--start", "1", "--limit", "2"], [1, 2]),
        (["--start", "9"], []),
        (["--trigger", "b"], [1, 3]),
        (["--trigger", "a", "--limit", "2"], [2, 4]),
        (["--trigger", "a", "--start", "1", "--limit", "1"], [2]),
        (["--trigger", "c"], []),
    ],
)
def test_which_events(orders: Cli, options: list[str], numbers: list[int]) -> None:
    from triggers_core.application import Application
    from triggers_core.settings import Settings

    path = {"path": str(orders.folder / "orders.db")}
    settings = Settings.isolated(TRIGGER_STORAGE_OPTIONS=path, TRIGGER_PLUGINS=[])
    app = Application("test", settings)
    for trigger in "ababa":
        app.manager("o").fire(trigger)
    app.close()
    found = orders("events", "o", "--json", *options, code=0).json
    assert [each["number"] for each in found] == numbers
    assert orders("events", "o", *options, code=0).out


def test_sessions(failed: Cli) -> None:
    feed(failed, "order:1", 1, "--wait")
    failed("fire", "order:2", "paid", code=0)
    stuck = failed("sessions", code=1).out.splitlines()
    assert [line.split()[0] for line in stuck] == ["SESSION", "order:13", "order:2"]
    every = failed("sessions", "--all", "--json", code=1).json
    assert [each["uid"] for each in every] == ["order:1", "order:13", "order:2"]
    assert [each["failed"] for each in every] == [0, 1, 0]
    assert [each["uid"] for each in failed("sessions", "--failed", "--json").json] == ["order:13"]
    waiting = failed("sessions", "--waiting", "--json", code=1).json
    assert {each["uid"] for each in waiting} == {"order:13", "order:2"}
    page = failed("sessions", "--all", "--limit", "1", "--after", "order:1", code=1)
    assert "order:13" in page.out
    assert "order:2" not in page.out
    assert "There are more: --limit 5" in page.err


def test_nothing_stuck_is_0(orders: Cli) -> None:
    feed(orders, "order:1", 1, "--wait")
    assert orders("sessions", code=0).out.startswith("Nothing is stuck in the SQLite file ")
    assert orders("sessions", "--json", code=0).json == []


def test_overdue_sessions(orders: Cli, tmp_path: Path) -> None:
    """An instance that nobody claimed, though two sweeps have passed over it."""
    from triggers_core.application import Application
    from triggers_core.settings import Settings
    from triggers_core.storages.sqlite import SqliteStorage, SqliteStore

    feed(orders, "order:now", 1)
    past = SqliteStore(tmp_path / "orders.db", clock=lambda: 1_700_000_000.0)
    settings = Settings.isolated(TRIGGER_PLUGINS=[], TRIGGER_RUNNER_OPTIONS={"sweep": False})
    app = Application("test", settings)
    flow = {"t_x": {"after": ["go"], "run": "x"}}
    from triggers_core.engine.commands import Configure, Fire

    storage = SqliteStorage.on(past, "order:past")
    past.commit(storage.uid, Configure(configuration=app.parse(flow)), app.rules)
    past.commit(storage.uid, Fire(trigger="go", payload=b"{}", event_id="1"), app.rules)
    past.close()
    told = orders("sessions", "--json", code=1).json
    assert [(each["uid"], each["overdue"]) for each in told] == [("order:past", 1)]
    assert len(orders("sessions", "--overdue", "--json", code=1).json) == 1
    assert orders("sessions", "--failed", "--json", code=0).json == []


def test_names_are_data(orders: Cli) -> None:
    """Blanks, wide characters, markup and marks that turn text around."""
    uid, trigger = "订单 / [bold]42[/bold]", "T02 Check \u202ereceipt"
    orders.write("flow.json", {"t_übung": {"after": [trigger, "x"], "run": "shop.Ship"}})
    orders("configure", uid, "flow.json", code=0)
    orders("fire", uid, trigger, "--kwargs", r'{"note": "\u001b[2J\u009b"}', code=0)
    for arguments in (["sessions"], ["show", uid], ["explain", uid], ["events", uid]):
        shown = orders(*arguments).out
        assert "订单 / [bold]42[/bold]" in shown or arguments[0] == "events"
        assert not {"\x1b", "\x9b", "\u202e"} & set(shown)
    (event,) = orders("events", uid, "--json", code=0).json
    assert event["trigger"] == trigger
    assert event["kwargs"] == {"note": "\x1b[2J\x9b"}
