"""What a person sees at a terminal: the recorded session of the documentation, and the demo."""

from __future__ import annotations

import difflib

import pytest
from cli_golden import normalised
from cli_process import SHOP, Cli

pytest.importorskip("pty", reason="pseudo-terminals are a thing of POSIX")

from cli_session import EVENTS, FILE, FLOW, PYPROJECT, record

documented = pytest.mark.skipif(not FILE.exists(), reason="the documentation is not here")


@documented
def test_the_session_in_the_documentation(cli: Cli) -> None:
    shown = normalised(record(cli.folder.resolve(), cli.environment))
    expected = FILE.read_text("utf-8")
    # Word by word: how long something took decides where lines end and how wide a column is.
    if shown.split() != expected.split():
        difference = difflib.unified_diff(expected.splitlines(), shown.splitlines(), lineterm="")
        told = "python plugins/triggers-cli/tests/cli_session.py writes the file anew"
        pytest.fail("\n".join([told, *difference]))


@documented
def test_the_documentation_shows_what_the_session_needs() -> None:
    page = FILE.with_name("cli.md").read_text("utf-8")
    assert f"```python\n{SHOP.strip()}\n```" in page
    assert f"```toml\n{PYPROJECT}```" in page
    session = FILE.read_text("utf-8")
    assert f"$ cat flow.json\n{FLOW}" in session
    assert f"$ cat events.csv\n{normalised(EVENTS)}" in session


def test_demo(cli: Cli) -> None:
    told = cli("demo", code=0).out
    assert "the worker is killed (SIGKILL) in the middle of t_ship#0" in told
    assert "t_ship#0 finished: attempt 2, same idempotency key" in told
    assert "5 events: 0 lost, 0 done twice. Ship's body ran 2 times with one key" in told
    assert "abandoned: cancelled fired" in told
    assert list(cli.folder.iterdir()) == []


def test_demo_to_look_around_in(cli: Cli) -> None:
    told = cli("demo", "--json", "--keep", "demo.db", code=0).json
    assert told == {
        "ok": True,
        "events": 5,
        "lost": 0,
        "double": 0,
        "executions": 2,
        "parcels": 1,
    }
    assert "name a new one" in cli("demo", "--keep", "demo.db", code=2).err
    shown = cli("show", "--storage", "sqlite:demo.db", "order:1", "--json", code=0).json
    assert shown["tasks"]["t_mail"]["finished"] == 1
