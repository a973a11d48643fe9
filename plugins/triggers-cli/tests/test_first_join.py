"""`docs/start/first-join.md`, as it is typed: from an empty folder to a join that is killed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from cli_golden import normalised
from cli_process import TRIGGERS
from doc_pages import DOCS, Command, Page

PAGE = Page(DOCS / "start" / "first-join.md")
KILLED = "kill -9"
PATIENCE = 240.0  # seconds until something that hangs fails the test


def environment() -> dict[str, str]:
    ours = {name: text for name, text in os.environ.items() if not name.startswith("TRIGGER")}
    path = os.pathsep.join([str(Path(TRIGGERS).parent), ours.get("PATH", "")])
    # As in the page: nothing else is installed.
    return {**ours, "PATH": path, "TRIGGER_AUTOLOAD": "false"}


def commands(page: Page) -> list[Command]:
    """What is typed once everything is installed."""
    typed = list(page.commands)
    [installed] = [at for at, each in enumerate(typed) if "pip install" in each.line]
    return typed[installed + 1 :]


def without_this_place(text: str) -> str:
    """Times and processes taken out; each line by itself."""
    text = re.sub(r"ends in \d+ \w+", "ends in a while", text)
    text = re.sub(r"the SQLite file \S+/triggers.db", "the SQLite file …/triggers.db", text)
    text = re.sub(r"(?<=\S) {2,}(?=\S)", " ", text)  # columns are as wide as what is in them
    return normalised(re.sub(r"[\w.-]+:\d+(?=,|\) was lost)", "host:4242", text))


def assert_like(printed: str, expected: str, line: str) -> None:
    """That the output is as the page says, which leaves out what stands for a line ``…``."""
    parts = without_this_place(expected).split("\n…\n")
    pattern = "\n.*\n".join(re.escape(each) for each in parts)
    assert re.fullmatch(pattern, without_this_place(printed), re.DOTALL), f"{line}:\n{printed}"


def run(line: str, folder: Path) -> str:
    """What a terminal shows; with ``--wait``, sorted by who wrote it."""
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if "--wait" in line else subprocess.STDOUT,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )
    return by_writer(done.stderr or "", done.stdout) if "--wait" in line else done.stdout


def by_writer(errors: str, output: str) -> str:
    """Errors, then what the body prints, then the command: with ``--wait``, threads race for it."""
    shown = errors.splitlines(keepends=True)
    # The log is written by the thread that runs the body, this line by the command.
    shown.sort(key=lambda each: not each.endswith("runs in this process …\n"))
    lines = output.splitlines(keepends=True)
    lines.sort(key=lambda each: not re.match(r"order:\d+: shipping", each))
    return "".join(shown + lines)


def test_the_join(tmp_path: Path) -> None:
    PAGE.write_files(tmp_path)
    typed = commands(PAGE)
    end = next(at for at, each in enumerate(typed) if "serve.py" in each.line)
    for command in typed[:end]:
        printed = run(command.line, tmp_path)
        if command.line == "python webhook.py":
            # Its body runs in a thread: what both print may mix, an end of line being its own.
            assert all(each in printed for each in command.output.splitlines()), printed
            assert len(printed) == len(command.output)
        else:
            expected = command.output
            if "--wait" in command.line:
                expected = by_writer(*errors_apart(expected))
            assert_like(printed, expected, command.line)
    assert end > 10


def errors_apart(expected: str) -> tuple[str, str]:
    lines = expected.splitlines(keepends=True)
    errors = [each for each in lines if each.startswith("ERROR") or each.endswith("…\n")]
    return "".join(errors), "".join(each for each in lines if each not in errors)


@contextmanager
def server(line: str, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The second terminal: what runs in it, and the file with what it prints."""
    variables = dict(re.findall(r"(\w+)=(\S+) ", line))
    log = folder / "terminal.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "serve.py"],
            cwd=folder,
            env={**environment(), **variables},
            stdout=file,
            stderr=file,
        )
    try:
        yield process, log
    finally:
        process.kill()
        process.wait()


def wait_for(log: Path, text: str) -> None:
    end = time.monotonic() + PATIENCE
    while without_this_place(text) not in without_this_place(log.read_text()):
        assert time.monotonic() < end, f"{text!r} is not in {log.read_text()!r}"
        time.sleep(0.05)


@pytest.mark.slow
def test_it_is_killed(tmp_path: Path) -> None:
    PAGE.write_files(tmp_path)
    typed = commands(PAGE)
    begin = next(at for at, each in enumerate(typed) if "serve.py" in each.line)
    [attempt] = re.findall("second terminal says `(.+)`", PAGE.text)
    killed = 0
    with ExitStack() as terminal:
        for command in typed[begin:]:
            if "serve.py" in command.line:
                process, log = terminal.enter_context(server(command.line, tmp_path))
                wait_for(log, command.output)
            elif command.line.startswith(KILLED):
                process.kill()
                process.wait()
                killed += 1
            else:
                if "explain" in command.line and not killed:
                    wait_for(log, attempt)
                printed = run(command.line, tmp_path)
                while "explain" in command.line and killed and "running since" in printed:
                    printed = run(command.line, tmp_path)  # it has said what it does, and ends soon
                if "explain" in command.line and not killed:
                    assert f":{process.pid}, attempt 1" in printed
                assert_like(printed, command.output, command.line)
    assert killed == 1
