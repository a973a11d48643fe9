"""What is done is told at once; what goes on is told where somebody looks."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cli_process import Cli, feed

SLOW = """
import os
import time
from pathlib import Path
from triggers_core import TriggerTask

class Slow(TriggerTask):
    name = "slow.Slow"

    def _run(self, context):
        if Path("hurry").exists():
            return None
        if Path("broken").exists():
            raise ValueError("broken")
        Path("begun").touch()
        time.sleep(600)
"""


@pytest.fixture
def slow(cli: Cli) -> Cli:
    """A folder with a task that does not end before anybody gives up."""
    cli.write("slow.py", SLOW)
    cli.write("flow.json", {"t_slow": {"after": ["go"], "run": "slow.Slow"}})
    cli.environment["TRIGGER_IMPORTS"] = "slow"
    return cli


def interrupted(cli: Cli, *arguments: str) -> tuple[str, str]:
    """Run a command, wait until it has told something, and press Ctrl-C; its output."""
    process = subprocess.Popen(
        cli.command(*arguments),
        cwd=cli.folder,
        env={**cli.environment, "PYTHONFAULTHANDLER": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    # Else a line that is missing would be waited for. The signal makes it tell where it stands.
    guard = threading.Timer(240, process.send_signal, [signal.SIGABRT])
    guard.start()
    first = process.stdout.readline()
    goes_on = process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    guard.cancel()
    assert process.returncode == 130, err
    assert "What runs here is given up" in err
    assert "Traceback" not in err
    return first, goes_on


def test_what_is_done_is_told_before_the_wait(slow: Cli) -> None:
    slow("configure", "o", "flow.json", code=0)
    (slow.folder / "broken").touch()
    slow("fire", "o", "go", "--wait", code=1)
    (slow.folder / "broken").unlink()
    first, goes_on = interrupted(slow, "replay", "o", "t_slow#0", "--wait")
    assert first == "replayed: t_slow#0 runs again as t_slow#1\n"
    assert goes_on == "t_slow#1 runs in this process …\n"


def test_what_is_recovered_is_told_before_the_wait(slow: Cli) -> None:
    slow("configure", "o", "flow.json", code=0)
    slow("fire", "o", "go", code=0)  # overdue at once, since no worker was told about it
    first, goes_on = interrupted(slow, "recover", "--wait")
    assert first == "recovered: session o\n"
    assert goes_on == "t_slow#0 runs in this process …\n"


def test_a_configuration_is_told_before_the_wait(slow: Cli) -> None:
    slow("fire", "o", "go", code=0)
    first, goes_on = interrupted(slow, "configure", "o", "flow.json", "--wait")
    assert first == "configured: session o has 1 task\n"
    assert goes_on == "t_slow#0 runs in this process …\n"


def on_terminal(cli: Cli, *arguments: str) -> str:
    """What a command shows at a terminal."""
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        cli.command(*arguments),
        cwd=cli.folder,
        env={**cli.environment, "TERM": "xterm", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=end,
        stderr=end,
    )
    os.close(end)
    shown = b""
    try:
        while chunk := os.read(terminal, 65_536):
            shown += chunk
    except OSError:  # Linux says EIO when the other end is closed
        pass
    assert process.wait(240) == 0
    os.close(terminal)
    return shown.decode()


MANY = """
import sys
from triggers_core import Application
from triggers_core.settings import Settings

settings = Settings.isolated(TRIGGER_STORAGE_OPTIONS={"path": sys.argv[1]}, TRIGGER_PLUGINS=[])
app = Application("many", settings)

def some():
    for number in range(1_200):
        app.manager(f"order:{number:04}").fire("paid")

app.store.together(some)
"""


@pytest.fixture
def many(cli: Cli) -> Cli:
    """1,200 sessions."""
    cli.write("many.py", MANY)
    path = Path(cli.folder, "triggers.db")
    subprocess.run([sys.executable, "many.py", str(path)], cwd=cli.folder, check=True)
    return cli


def test_prune_tells_how_far_it_is_on_a_terminal(many: Cli) -> None:
    shown = on_terminal(many, "prune", "--older-than", "0s", "--yes")
    assert " of 1,200 sessions erased" in shown
    assert shown.endswith("erased: 1,200 sessions\r\n")
    assert "There are no sessions" in many("sessions", "--all").out


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_prune_tells_nothing_of_the_kind_elsewhere(many: Cli, options: tuple[str, ...]) -> None:
    told = many("prune", "--older-than", "0s", "--yes", *options, code=0)
    assert told.err == ""
    assert "\x1b" not in told.out
    if options:
        assert told.json == {"erased": 1_200}


def test_a_backtest_tells_how_far_it_is_on_a_terminal(cli: Cli) -> None:
    cli.write("flow.json", {"t_x": {"after": ["go", "paid"], "run": "x"}})
    events = [f'{{"session": "o{number % 50}", "trigger": "go"}}\n' for number in range(20_000)]
    cli.write("log.jsonl", "".join(events))
    shown = on_terminal(cli, "backtest", "flow.json", "log.jsonl")
    assert re.search(r"\x1b\[2K\d+%, [\d,]+ events, [\d,]+ a second, \d+ \w+ left", shown)
    assert "\x1b" not in shown.rpartition("\r\x1b[2K")[2], "it is gone in the end"


def test_a_running_instance_tells_where_it_runs(slow: Cli) -> None:
    slow("configure", "o", "flow.json", code=0)
    process = subprocess.Popen(
        slow.command("fire", "o", "go", "--wait"),
        cwd=slow.folder,
        env=slow.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        process.stdout.readline()
        while not (slow.folder / "begun").exists():
            assert process.poll() is None
        shown = slow("show", "o", "t_slow#0", code=0).out
        data = slow("show", "o", "t_slow#0", "--json", code=0).json
    finally:
        process.kill()
        process.communicate()
    assert data["holder"].endswith(f":{process.pid}")
    assert f"  runs in: {data['holder']}\n" in shown
    assert " UTC (in " in shown.partition("lease ends: ")[2].splitlines()[0]


def test_moments_are_told_alike(orders: Cli) -> None:
    feed(orders, "o", 1, "--wait")
    shown = orders("show", "o", "t_ship#0").out
    [ended] = [line for line in shown.splitlines() if line.startswith("  ended: ")]
    clock = ended.split()[1]
    assert f"finished {clock} UTC (" in orders("explain", "o", "t_ship").out
    assert ended.split()[2] == "UTC"
    machine = orders("show", "o", "t_ship#0", "--json").json["ended_at"]
    assert machine.endswith("+00:00")
