"""What is nearly right is told: triggers nobody waits for, imports that exit, damaged logs."""

from __future__ import annotations

import gzip
import json

import pytest
from cli_process import Cli

LINE = json.dumps({"session": "o1", "trigger": "paid"}) + "\n"


def test_a_trigger_that_no_task_waits_for(shop: Cli) -> None:
    shop("configure", "order:1", "shop:FLOW", code=0)
    told = shop("fire", "order:1", "payd", code=0)
    assert told.out.startswith("recorded: payd is event 0")
    assert "No task of this session waits for 'payd': did you mean 'paid'?" in told.err
    assert shop("fire", "order:1", "payd", "--json", code=0).json["waited_for"] is False
    assert shop("fire", "order:1", "paid", code=0).err.count("did you mean") == 0


EXITS = {
    "exits": "import sys\nCONFIG = {}\nsys.exit(0)\n",
    "raises": "class Odd(BaseException): ...\nraise Odd('x')\n",
}


@pytest.mark.parametrize("module", EXITS)
@pytest.mark.parametrize(
    "line",
    [
        ("--app", "MODULE", "sessions"),
        ("--settings", "MODULE", "fire", "o", "paid"),
        ("check", "MODULE:CONFIG"),
        ("configure", "o", "MODULE:CONFIG"),
    ],
)
def test_a_module_that_ends_the_program(cli: Cli, module: str, line: tuple[str, ...]) -> None:
    cli.write(f"{module}.py", EXITS[module])
    told = cli(*(each.replace("MODULE", module) for each in line))
    assert told.code in (1, 2)
    assert f"{module}.py:" in told.err or f"settings module {module} " in told.err
    assert not (cli.folder / "triggers.db").exists()


@pytest.mark.parametrize("module", EXITS)
def test_tasks_that_end_the_program(cli: Cli, module: str) -> None:
    cli.write(f"{module}.py", EXITS[module])
    told = cli("fire", "o", "paid", "--wait", TRIGGER_IMPORTS=module, code=2)
    assert "a module cannot be imported" in told.err
    assert not (cli.folder / "triggers.db").exists()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("e.jsonl", b'{"session": "a", "session": "b", "trigger": "x"}', "stands twice"),
        ("e.jsonl", b'{"session": "a", "trigger": "x", "kwargs": {"k": 1, "k": 2}}', "'k' stands"),
        ("e.csv", b"session,trigger,Trigger\na,b,c\n", "two columns are named 'trigger'"),
        ("e.jsonl", b"PK\x03\x04", "a zip archive: unpack it first"),
        pytest.param(
            *("e.jsonl", b" " * 16_000_002, "more than 16,000,000 characters"), id="blanks"
        ),
        pytest.param(
            *("e.csv", b'session,trigger\n"' + b"a\n" * 8_100_000, "16,000,000 characters"),
            id="a quote",
        ),
        (
            "e.gz",
            gzip.compress(gzip.compress(LINE.encode(), mtime=0), mtime=0),
            "packed by gzip twice",
        ),
        ("e.jsonl", b"false\n", "expected an object with session and trigger, got bool"),
    ],
)
def test_logs_that_are_none(cli: Cli, name: str, content: bytes, told: str) -> None:
    cli.write("flow.json", {"t": {"after": ["paid"], "run": "x"}})
    (cli.folder / name).write_bytes(content)
    assert told in cli("backtest", "flow.json", name, code=2).err


def test_no_generated_id_looks_like_an_option() -> None:
    from triggers_core.engine.names import new_id

    made = [new_id() for _ in range(2_000)]  # one in 64 would, by chance
    assert {len(each) for each in made} == {16}
    assert not [each for each in made if each.startswith("-")]
    assert len(set(made)) == len(made)
