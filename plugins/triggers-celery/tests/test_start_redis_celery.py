"""`docs/start/redis-and-celery.md`, as it is typed, on servers of this test."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from doc_pages import DOCS, Page

PAGE = Page(DOCS / "start" / "redis-and-celery.md")
TASK = Page(DOCS / "start" / "first-join.md").files["shop.py"]
PATIENCE = 60.0  # seconds until something that hangs fails the test
SERVER = "localhost:6379"

pytest.importorskip("triggers_cli")
pytestmark = pytest.mark.slow


def environment() -> dict[str, str]:
    ours = {name: text for name, text in os.environ.items() if not name.startswith("TRIGGER")}
    return {**ours, "TRIGGER_AUTOLOAD": "false"}


@contextmanager
def worker(folder: Path, **variables: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The worker of the second terminal, and the file with what it prints."""
    log = folder / f"worker{len(variables)}.log"
    [typed_worker] = re.findall(r"^\$ SLOW=5 (celery .*)$", PAGE.text, re.MULTILINE)
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *typed_worker.split()],
            cwd=folder,
            env={**environment(), **variables},
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        yield process, log
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 9)
        process.wait()


def wait_for(log: Path, text: str) -> None:
    end = time.monotonic() + PATIENCE
    while text not in log.read_text():
        assert time.monotonic() < end, f"{text!r} is not in {log.read_text()!r}"
        time.sleep(0.05)


def typed(line: str, folder: Path) -> str:
    assert line.startswith("triggers ")
    command = f"{sys.executable} -m triggers_cli {line.removeprefix('triggers ')}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )
    return done.stdout


def comparable(text: str) -> list[str]:
    """Its lines, without times; in which order errors and output come is up to the terminal."""
    # A worker may be faster than the command that tells of it.
    text = text.replace("t_ship#0  running\n", "t_ship#0  scheduled\nLeft to the workers.\n")
    text = re.sub(r"\d\d:\d\d:\d\d UTC \(\d+ \w+\)", "a while ago", text)
    return sorted(text.strip().splitlines())


def test_the_join(tmp_path: Path, broker_databases: Iterator[str]) -> None:
    sessions, broker = next(broker_databases), next(broker_databases)
    for name, text in {**PAGE.files, "shop.py": TASK}.items():
        here = text.replace(f"redis://{SERVER}/0", sessions).replace(f"redis://{SERVER}/1", broker)
        (tmp_path / name).write_text(here)
    commands = [each for each in PAGE.commands if each.line.startswith("triggers")]
    assert len(commands) == 6
    with worker(tmp_path, SLOW="5") as (process, log):
        for command in commands:
            printed = typed(command.line, tmp_path)
            assert comparable(printed) == comparable(command.output), command.line
        assert "order:1: shipping, attempt 1" in log.read_text()
        wait_for(log, "order:4: shipping, attempt 1")
        [kill] = [each.line for each in PAGE.commands if each.line.startswith("kill")]
        subprocess.run(["bash", "-c", kill], cwd=tmp_path, check=True)
        assert process.wait(PATIENCE) == -9
    lost, again = PAGE.fences("text")[0].splitlines()
    with worker(tmp_path) as (_, log):
        wait_for(log, again)
        assert lost.partition(" (")[0] in log.read_text()
