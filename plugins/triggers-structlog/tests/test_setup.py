"""`setup` in a program of its own: structlog and logging laid out alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pty = pytest.importorskip("pty", reason="terminals of this system cannot be imitated")

CANARY = "c4n4ry"

PROGRAM = """
import logging
import sys
import structlog
import triggers_structlog
from triggers_core import Application, trigger_task
from triggers_core.exceptions import with_context
from triggers_core.settings import Settings

@trigger_task(name="app.task")
def task(context):
    with context.get_logger_context(context={"order": 42, "api_key": "c4n4ry"}) as log:
        log.info("structured")
        log.debug("too quiet")
        structlog.get_logger("library").info("structured library", token="c4n4ry")
        logging.getLogger("library").warning("plain library %s", {"password": "c4n4ry"},
                                             extra={"secret": "c4n4ry"})
        try:
            raise KeyError("password='c4n4ry'")
        except KeyError:
            logging.getLogger("library").exception("plain exception")
        raise with_context(ValueError("token=c4n4ry"), {"url": "https://u:c4n4ry@h"})

plugins = ["triggers_structlog.plugin"] if sys.argv[2] == "plugin" else []
app = Application("setup", Settings.isolated(
    TRIGGER_STORAGE_TYPE="memory", TRIGGER_PLUGINS=plugins,
    TRIGGER_PLUGIN_OPTIONS={"structlog": {"renderer": sys.argv[1]}},
))
assert triggers_structlog.setup(app)
manager = app.manager("s")
manager.update_configuration({"t": {"after": ["go"], "run": "app.task"}})
manager.fire("go", {"password": "c4n4ry"})
manager.join()
assert "c4n4ry" not in str(manager.explain()) + repr(manager.storage["t#0"].metadata)
structlog.get_logger("outside").info("afterwards")
app.close()
"""


def environment(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    return {**kept, "PYTHONPATH": os.pathsep.join(sys.path), **more}


def output(renderer: str, plugin: str = "plugin") -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, renderer, plugin],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert done.stdout == ""
    return done.stderr


def parsed(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_every_line_is_json_with_the_fields_and_without_secrets() -> None:
    text = output("json")
    assert CANARY not in text
    found = parsed(text)
    assert [line["event"] for line in found] == [
        "structured",
        "structured library",
        "plain library {'password': ***}",
        "plain exception",
        "failed",
        "afterwards",
    ]
    for line in found[:-1]:
        assert line.items() >= {"session": "s", "instance": "t#0", "order": 42}.items()
        assert line["api_key"] == "***"
    assert "instance" not in found[-1]
    assert [line["logger"] for line in found] == [
        *("app.task", "library", "library", "library", "app.task", "outside"),
    ]
    assert found[2]["secret"] == "***"
    assert found[3]["exception"].endswith('KeyError: "password=***"')
    assert found[4]["error_context"] == {"url": "https://u:***@h"}
    assert "ValueError: token=***" in found[4]["exception"]
    assert all("timestamp" in line and "level" in line for line in found)


def test_without_the_plugin_the_core_logger_keeps_its_traceback() -> None:
    text = output("json", plugin="none")
    assert CANARY not in text
    failed = parsed(text)[-2]
    assert failed["event"].startswith("[s t#0] failed: ValueError: token=***")
    assert "Traceback" in failed["exception"]
    assert failed["instance"] == "t#0"


def test_the_console_has_no_colours_in_a_pipe() -> None:
    text = output("console")
    assert CANARY not in text
    assert "\x1b[" not in text
    assert text.count("Traceback (most recent call last)") == 2
    assert "structured library" in text


@pytest.mark.parametrize(("more", "colours"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_the_console_has_colours_on_a_terminal(
    tmp_path: Path, more: dict[str, str], colours: bool
) -> None:
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM, "console", "plugin"],
        env=environment(TERM="xterm", **more),
        stderr=terminal,
    )
    os.close(terminal)
    shown = b""
    try:
        while chunk := os.read(controller, 65_536):
            shown += chunk
    except OSError:  # Linux says so at the end
        pass
    os.close(controller)
    assert process.wait(240) == 0
    assert (b"\x1b[" in shown) is colours
    assert b"structured library" in shown
    assert CANARY.encode() not in shown
