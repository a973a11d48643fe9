"""``backtest``, through the executable: real logs, formats, interruptions, memory."""

from __future__ import annotations

import csv
import gzip
import json
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from cli_golden import compare
from cli_process import Cli

DATA = Path(__file__, "../../../../../shared/data").resolve()

needs_data = pytest.mark.skipif(not DATA.exists(), reason="the recorded event logs are not here")

FLOW = {
    "t_ship": {"after": ["paid", "packed"], "unless": ["cancelled"], "run": "shop.Ship"},
    "t_mail": {"after": ["t_ship"], "run": "shop.Mail"},
}
EVENTS = [
    {"session": "o1", "trigger": "packed", "ts": "2026-01-01", "kwargs": {"a": 1}},
    {"session": "o2", "trigger": "paid"},
    {"session": "o1", "trigger": "paid", "kwargs": {"order": 1}, "id": "bank:1"},
    {"session": "o1", "trigger": "paid", "kwargs": {"order": 1}, "id": "bank:1"},
    {"session": "o2", "trigger": "cancelled"},
    {"session": "o3", "trigger": "paid", "kwargs": {"order": 13}},
]
EXPECTED = {
    "sessions": 3,
    "events": 6,
    "tasks": {
        "t_ship": {"run": 1, "abandoned": 1, "unstarted": 1},
        "t_mail": {"run": 1, "abandoned": 0, "unstarted": 0},
    },
}


def jsonl(events: Iterable[Any]) -> str:
    return "".join(json.dumps(event) + "\n" for event in events)


@pytest.fixture
def log(cli: Cli) -> Cli:
    """A folder with a configuration and a log."""
    cli.write("flow.json", FLOW)
    cli.write("events.jsonl", jsonl(EVENTS))
    return cli


def totals(name: str) -> Any:
    expected = json.loads((DATA / name / "expected.json").read_text())
    return {name: expected[name] for name in ("sessions", "tasks")}


def of(told: Any) -> Any:
    return {name: told[name] for name in ("sessions", "tasks")}


# -- what it says ----------------------------------------------------------------------------------


def test_json_and_nothing_else(log: Cli) -> None:
    told = log("backtest", "flow.json", "events.jsonl", "--json", code=0)
    assert told.json == EXPECTED
    assert list(told.json) == list(EXPECTED)
    assert told.err == ""
    assert sorted(each.name for each in log.folder.iterdir()) == ["events.jsonl", "flow.json"]


def test_what_a_person_reads(log: Cli) -> None:
    told = log("backtest", "flow.json", "events.jsonl", code=0)
    compare("backtest.txt", told.out + told.err)


def test_what_the_log_does_not_hold(log: Cli) -> None:
    log.write("flow.json", {"t_x": {"after": ["payed", "T02 Check"], "run": "x"}})
    told = log("backtest", "flow.json", "events.jsonl", code=0)
    assert told.out.endswith("\nNot once in this log: 'T02 Check' and payed\n")


def test_what_tasks_fire_otherwise_need_not_be_in_the_log(log: Cli) -> None:
    t_x = {"after": ["paid", "shipped"], "otherwise": {"failed": "broken"}, "run": "x"}
    t_y = {"after": [{"anyOf": ["broken", "payed"]}], "run": "x"}
    log.write("flow.json", {"t_x": t_x, "t_y": t_y})
    told = log("backtest", "flow.json", "events.jsonl", code=0)
    assert told.out.endswith("\nNot once in this log: payed and shipped\n")


def test_how_to_look_at_one(log: Cli) -> None:
    told = log("backtest", "flow.json", "events.jsonl", "--storage", "sqlite:b.db", code=0)
    command = told.err.splitlines()[-1].split()
    assert command == ["triggers", "explain", "--storage", "sqlite:b.db", "o3"]
    assert "waits for packed" in log(*command[1:], code=0).out


@needs_data
def test_the_receipt_log(cli: Cli) -> None:
    log = DATA / "receipt"
    told = cli("backtest", str(log / "config.json"), str(log / "events.jsonl.gz"), "--json").json
    assert of(told) == totals("receipt")
    assert told["events"] == 8577


# -- time ------------------------------------------------------------------------------------------

DEADLINE = {
    "t_ship": {
        "after": ["paid", "packed"],
        "within": "14 days",
        "otherwise": {"late": "shipLate"},
        "run": "shop.Ship",
    },
    "t_remind": {"after": ["paid"], "unless": ["packed"], "waiting": "2 days", "run": "shop.Mail"},
    "t_excuse": {"after": ["shipLate"], "run": "shop.Mail"},
}
TIMED = """\
ts,session,trigger
2026-01-02T09:00:00Z,o1,paid
1767344400,o2,paid
2026-01-03 09:00,o1,packed
20260112,o3,paid
"""


def timed(cli: Cli, *more: str, name: str = "events.csv") -> dict[str, Any]:
    told = cli("backtest", "flow.json", name, "--json", *more, code=0).json
    return {task: list(numbers.values()) for task, numbers in told["tasks"].items()}


def test_time_passes_between_events_and_until(log: Cli) -> None:
    log.write("flow.json", DEADLINE)
    log.write("events.csv", TIMED)
    # run, abandoned, late, unstarted
    assert timed(log) == {
        "t_ship": [1, 0, 0, 2],
        "t_remind": [1, 1, 0, 1],
        "t_excuse": [0, 0, 0, 0],
    }
    for until in ("2026-01-20", "1768867200", "2026-01-20T01:00+01:00"):
        assert timed(log, "--until", until) == {
            "t_ship": [1, 1, 1, 1],
            "t_remind": [2, 1, 0, 0],
            "t_excuse": [1, 0, 0, 0],
        }
    assert timed(log, "--until", "2025-01-01") == timed(log)
    shown = log("backtest", "flow.json", "events.csv", "--until", "2026-03-01", code=0).out
    lines = shown.splitlines()
    assert lines[2].split() == ["TASK", "RUN", "ABANDONED", "LATE", "UNSTARTED"]
    assert lines[3].split() == ["t_ship", "1", "2", "2", "0"]


def test_the_same_from_json_lines(log: Cli) -> None:
    log.write("flow.json", DEADLINE)
    log.write("events.csv", TIMED)
    rows = [line.split(",") for line in TIMED.splitlines()[1:]]
    events = [{"ts": ts, "session": uid, "trigger": trigger} for ts, uid, trigger in rows]
    log.write("timed.jsonl", jsonl([events[0], {**events[1], "ts": 1767344400.0}, *events[2:]]))
    assert timed(log, name="timed.jsonl") == timed(log)


@pytest.mark.parametrize(
    ("ts", "told"),
    [
        ({}, "line 2: it has no `ts`, and t_ship.within tells time: give each event the time"),
        ({"ts": "soon"}, "line 2: ts: expected seconds since 1970, or ISO 8601 text"),
        ({"ts": True}, "line 2: ts: expected seconds since 1970"),
        ({"ts": {"$date": 1}}, "line 2: ts: expected seconds since 1970"),
        ({"ts": 1767344400000}, "it looks like milliseconds, divide it by 1,000"),
        ({"ts": -1}, "does not lie between the years 1970 and 9999"),
        ({"ts": 10**400}, "does not lie between the years 1970 and 9999"),
    ],
)
def test_a_bad_time_is_named(log: Cli, ts: Any, told: str) -> None:
    log.write("flow.json", DEADLINE)
    events = [{"ts": 1, "session": "o", "trigger": "paid"}, {"session": "o", "trigger": "packed"}]
    log.write("e.jsonl", jsonl([events[0], {**events[1], **ts}]))
    assert told in log("backtest", "flow.json", "e.jsonl", code=2).err
    log.write("flow.json", FLOW)
    # Who tells no time does not look at it.
    assert log("backtest", "flow.json", "e.jsonl", "--json", code=0).json["events"] == 2


def test_until_has_to_be_a_time_and_to_matter(log: Cli) -> None:
    wrong = log("backtest", "flow.json", "events.jsonl", "--until", "soon", code=2)
    assert "Invalid value for '--until': TIME: expected seconds since 1970" in wrong.err
    idle = log("backtest", "flow.json", "events.jsonl", "--until", "2026-01-01", "--json", code=0)
    assert "--until has no effect: no task has waiting or within" in idle.err
    assert idle.json == EXPECTED


# -- formats ---------------------------------------------------------------------------------------


def as_csv(path: Path, delimiter: str = ",") -> None:
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["ts", "Session", "trigger", "kwargs", "id", "comment"])
        for e in EVENTS:
            kwargs = json.dumps(e["kwargs"]) if "kwargs" in e else ""
            writer.writerow([e.get("ts", ""), e["session"], e["trigger"], kwargs, e.get("id"), ""])


@pytest.mark.parametrize("name", ["e.csv", "e.tsv", "e.csv.gz", "e.jsonl.gz", "e", "e.log.gz"])
def test_formats(log: Cli, name: str) -> None:
    path = log.folder / name
    if ".csv" in name or ".tsv" in name or name == "e.log.gz":
        as_csv(path, "\t" if ".tsv" in name else ",")
    else:
        path.write_text(
            "\n" + jsonl(EVENTS).replace("\n", "\r\n\r\n") if name == "e" else jsonl(EVENTS)
        )
    if name == "e":
        path.write_text(jsonl(EVENTS).replace("\n", "\r\n\r\n"))
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(path.read_bytes()))
    assert log("backtest", "flow.json", name, "--json", code=0).json == EXPECTED


def test_standard_input(log: Cli) -> None:
    told = log("backtest", "flow.json", "-", "--json", stdin=jsonl(EVENTS), code=0)
    assert told.json == EXPECTED
    assert "cannot both be" in log("backtest", "-", "-", code=2).err


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("e.jsonl", '{"session": "a", "trigger": "b"}\n{"session": ', "e.jsonl, line 2: not JSON"),
        ("e.jsonl", "[1]", "line 1: expected an object with session and trigger, got list"),
        ("e.jsonl", '{"session": "a"}', "line 1: Object missing required field `trigger`"),
        ("e.jsonl", '{"session": 1, "trigger": "b"}', "line 1: Expected `str`, got `int`"),
        ("e.jsonl", '\n\n{"session": "", "trigger": "b"}', "line 3: session: expected 1 to 200"),
        ("e.jsonl", '{"session": "a", "trigger": "t_ship"}', "line 1: 't_ship' is a task"),
        ("e.jsonl", '{"session":"a","trigger":"b","kwargs":{"x":NaN}}', "kwargs['x']: nan"),
        ("e.csv", "session,event\na,b\n", "line 1: no column trigger: the first line has to name"),
        ("e.csv", "session,trigger\na,b,c\n", "line 2: 3 columns; the first line names 2"),
        ("e.csv", "session,trigger,kwargs\na,b,{\n", "line 2: kwargs are not JSON"),
        ("e.csv", 'session,trigger\n"a,b\n', "not CSV"),
    ],
)
def test_a_bad_line_is_named(log: Cli, name: str, content: str, told: str) -> None:
    log.write(name, content)
    failed = log("backtest", "flow.json", name, "--json", code=2)
    assert told in failed.err
    assert failed.out == ""


def test_bytes_that_are_no_log(log: Cli) -> None:
    whole = gzip.compress(jsonl(EVENTS * 50).encode())
    (log.folder / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    (log.folder / "latin.jsonl").write_bytes(b'{"session": "\xe9", "trigger": "b"}')
    assert "the gzip file is damaged" in log("backtest", "flow.json", "cut.jsonl.gz", code=2).err
    assert "not UTF-8 text" in log("backtest", "flow.json", "latin.jsonl", code=2).err
    missing = log("backtest", "flow.json", "missing.jsonl", code=2)
    assert "missing.jsonl cannot be read: No such file" in missing.err
    assert "cannot be read" in log("backtest", "flow.json", ".", code=2).err


# -- storages --------------------------------------------------------------------------------------


def test_never_into_the_sessions_of_an_application(log: Cli) -> None:
    log("fire", "o1", "paid", "--storage", "sqlite:orders.db", code=0)
    told = log("backtest", "flow.json", "events.jsonl", "--storage", "sqlite:orders.db", code=2)
    assert "holds sessions of an application" in told.err
    left = log("events", "o1", "--storage", "sqlite:orders.db", "--json", code=0).json
    assert len(left) == 1


def test_the_storage_of_the_settings_is_not_used(log: Cli) -> None:
    log("backtest", "flow.json", "events.jsonl", TRIGGER_STORAGE_OPTIONS='{"path": "x.db"}', code=0)
    assert not (log.folder / "x.db").exists()


def test_one_storage_is_for_one_configuration_and_log(log: Cli) -> None:
    storage = ("--storage", "sqlite:b.db")
    assert log("backtest", "flow.json", "events.jsonl", *storage, "--json").json == EXPECTED
    assert log("backtest", "flow.json", "events.jsonl", *storage, "--json").json == EXPECTED
    log.write("other.json", {"t_x": {"after": ["paid"], "run": "x"}})
    other = log("backtest", "other.json", "events.jsonl", *storage, code=2)
    assert "holds the backtest of another configuration" in other.err
    log.write("events.jsonl", jsonl([{"session": "o1", "trigger": "weighed"}]))
    changed = log("backtest", "flow.json", "events.jsonl", *storage, code=2)
    assert "line 1: event id '0' was used for 'packed'" in changed.err
    assert "Is this the log that" in changed.err


# -- bodies ----------------------------------------------------------------------------------------


def test_run(shop: Cli) -> None:
    events = [
        {"session": str(order), "trigger": trigger, "kwargs": {"order": order}}
        for order in (1, 13)
        for trigger in ("packed", "paid")
    ]
    shop.write("events.jsonl", jsonl(events))
    shop.write("flow.json", FLOW)
    run = ("backtest", "flow.json", "events.jsonl", "--run")
    told = shop(*run, "--json", code=1)
    assert told.json["tasks"]["t_ship"] == {"run": 2, "abandoned": 0, "unstarted": 0}
    assert told.json["tasks"]["t_mail"] == {"run": 1, "abandoned": 0, "unstarted": 0}
    assert json.loads(told.err.splitlines()[-1])["message"] == "1 instance failed"
    assert "t_mail    1          0          0       1" in shop(*run, code=1).out
    unknown = shop(*run, TRIGGER_IMPORTS="", code=2)
    assert "t_ship.run: no task named 'shop.Ship' is defined in this process" in unknown.err


# -- interrupted -----------------------------------------------------------------------------------

PIPE = 65_536  # bytes that a pipe holds; what was written beyond has been read


def interrupt(cli: Cli, arguments: list[str], text: bytes, number: int) -> tuple[int, str]:
    """Feed a command with a part of a log and send it a signal while it waits for more."""
    process = subprocess.Popen(
        cli.command(*arguments),
        cwd=cli.folder,
        env=cli.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin
    process.stdin.write(text)
    process.stdin.flush()  # returns once all but a pipe's worth has been read
    process.send_signal(number)
    code = process.wait()
    process.stdin.close()
    assert process.stdout
    assert process.stderr
    with process.stdout, process.stderr:
        assert process.stdout.read() == b""
        return code, process.stderr.read().decode()


@needs_data
def test_interrupted_twice_and_run_again(cli: Cli) -> None:
    folder = DATA / "receipt_sample"
    text = (folder / "events.jsonl").read_bytes()
    config = str(folder / "config.json")
    arguments = ["backtest", config, "-", "--storage", "sqlite:b.db", "--json"]
    part = text[: 2 * len(text) // 3]
    assert len(part) > 2 * PIPE  # so that more than one buffer of it has been read
    for _ in range(5):  # one that strikes in the middle of a commit undoes the last second
        code, told = interrupt(cli, arguments, part, signal.SIGINT)
        assert code == 130
        assert "The same command completes it:\n  triggers backtest " in told
        assert "Traceback" not in told
        if cli("sessions", "--all", *arguments[3:]).json:
            break
    code, _ = interrupt(cli, arguments, part, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert 0 < len(cli("sessions", "--all", "--limit", "999", *arguments[3:]).json) < 100
    done = cli(*arguments, stdin=text.decode(), code=0).json
    assert of(done) == totals("receipt_sample")
    assert done["events"] == 939


def test_interrupted_without_a_storage(log: Cli) -> None:
    text = jsonl(
        {"session": "o", "trigger": "other", "kwargs": {"n": "x" * 999}} for _ in range(99)
    )
    code, told = interrupt(log, ["backtest", "flow.json", "-"], text.encode(), signal.SIGINT)
    assert code == 130
    assert "Nothing is kept: with --storage sqlite:backtest.db" in told


# -- memory ----------------------------------------------------------------------------------------

_PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peak(cli: Cli, *arguments: str) -> int:
    """The most memory that a command took.

    Measured by a small process of its own: a child begins with the size of whoever forked it.
    """
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, *cli.command(*arguments)],
        cwd=cli.folder,
        env=cli.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def test_memory_does_not_grow_with_the_log(log: Cli) -> None:
    def events(sessions: int) -> Iterable[Any]:
        for number in range(sessions):
            for trigger in ("packed", "paid", "other"):
                yield {"session": f"order:{number}", "trigger": trigger, "kwargs": {"n": number}}

    log.write("short.jsonl", jsonl(events(300)))
    log.write("long.jsonl", jsonl(events(3_000)))
    short = peak(log, "backtest", "flow.json", "short.jsonl", "--json")
    long = peak(log, "backtest", "flow.json", "long.jsonl", "--json")
    assert 0.8 * short < long < 1.2 * short
