"""`docs/start/fastapi.md`, as it is typed."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

import pytest
from doc_pages import DOCS, Page

PAGE = Page(DOCS / "start" / "fastapi.md")
PATIENCE = 240.0  # seconds until a server that hangs fails the test

pytest.importorskip("fastapi")


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """``uvicorn web:app`` on a free port; its address."""
    ours = {name: text for name, text in os.environ.items() if not name.startswith("TRIGGER")}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "web:app", "--port", "0"],
            cwd=folder,
            env={**ours, "TRIGGER_AUTOLOAD": "false"},
            stdout=log,
            stderr=log,
        )
    try:
        until = time.monotonic() + PATIENCE
        while not (
            address := re.search(r"http://[\d.]+:\d+", told := (folder / "server.log").read_text())
        ):
            assert server.poll() is None, told
            assert time.monotonic() < until, told
            time.sleep(0.05)
        yield address[0]
    finally:
        server.terminate()
        server.wait(PATIENCE)


def post(address: str, body: str) -> str:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(address, body.encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return str(answer.read().decode())
    except URLError as error:  # the assertion shows it
        return repr(error)


def test_the_join(tmp_path: Path) -> None:
    PAGE.write_files(tmp_path)
    [*posts] = [each for each in PAGE.commands if each.line.startswith("post ")]
    with served(tmp_path) as address:
        for command in posts:
            _, place, option, body = shlex.split(command.line)
            assert (place.partition("/")[0], option) == ("localhost:8000", "-d")
            assert post(f"{address}/{place.partition('/')[2]}", body) + "\n" == command.output
    assert [json.loads(each.output)["status"] for each in posts].count("duplicate") == 1
    [explained] = [each.output for each in PAGE.commands if "triggers explain" in each.line]
    check = "from triggers_core import get_trigger_manager as g; print(g('order:42').explain())"
    printed = subprocess.run(
        [sys.executable, "-c", check],
        cwd=tmp_path,
        env={**os.environ, "TRIGGER_AUTOLOAD": "false"},
        capture_output=True,
        encoding="utf-8",
        check=True,
    ).stdout
    assert printed.split("t_ship#0: ")[0] == explained.split("t_ship#0: ")[0]
    assert "t_ship#0: finished" in printed
