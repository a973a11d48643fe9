"""Records a session at a pseudo-terminal, as text: ``docs/cli-session.txt``.

To write it anew: ``python plugins/triggers-cli/tests/cli_session.py``.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from cli_golden import normalised
from cli_process import SHOP, TRIGGERS

FILE = Path(__file__, "../../../../docs/cli-session.txt").resolve()
COLUMNS, LINES = 100, 40

FLOW = """\
{
  "t_ship": {"after": ["paid", "packed"], "unless": ["cancelled"], "run": "shop.Ship"},
  "t_mail": {"after": ["t_ship"], "run": "shop.Mail"},
  "t_thank": {"after": ["t_mial"], "run": "shop.Thank"}
}
"""
EVENTS = """\
session,trigger,ts,kwargs
order:1,packed,2026-01-02T09:00:00Z,
order:1,paid,2026-01-02T09:05:00Z,"{""order"": 1}"
order:2,paid,2026-01-02T09:06:00Z,"{""order"": 2}"
order:3,packed,2026-01-02T09:07:00Z,
order:2,cancelled,2026-01-02T09:08:00Z,
"""
PYPROJECT = """\
[tool.triggers]
imports = ["shop"]
plugins = []
storage_options = { path = "shop.db" }
"""

STEPS = [
    ("cat flow.json", ""),
    ("triggers check flow.json", ""),
    ("sed -i s/t_mial/t_mail/ flow.json", ""),
    ("triggers check flow.json --strict && echo ready", ""),
    ("cat events.csv", ""),
    ("triggers backtest flow.json events.csv", ""),
    ("triggers configure order:13 flow.json", ""),
    ("triggers fire order:13 paid --kwargs '{\"order\": 13}' --event-id bank:77", ""),
    ("triggers fire order:13 paid --kwargs '{\"order\": 13}' --event-id bank:77", ""),
    ("triggers explain order:13 t_ship", ""),
    ("triggers fire order:13 packed --wait 2> shop.log", ""),
    ("triggers sessions", ""),
    ("triggers explain order:13 t_mail", ""),
    ("triggers events order:13", ""),
    ('triggers replay order:13 t_mail#0 --kwargs \'{"t_ship": {"parcel": 14}}\' --wait', ""),
    ("triggers show order:13", ""),
    ("triggers delete order:13", "y\n"),
]
"""What is typed, and what is answered."""

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# How far something is: the line is erased, and written anew, until it is erased for good.
_PROGRESS = re.compile(r"(?:\r\x1b\[2K[^\r\n]+)+\r\x1b\[2K")


def record(folder: Path, environment: Mapping[str, str]) -> str:
    """Type the steps at a terminal in a folder.

    :returns: what it shows, without colours, and without how far it was in between.
    """
    for name, text in (
        ("flow.json", FLOW),
        ("events.csv", EVENTS),
        ("shop.py", SHOP),
        ("pyproject.toml", PYPROJECT),
    ):
        (folder / name).write_text(text)
    path = os.pathsep.join([str(Path(TRIGGERS).parent), environment.get("PATH", os.defpath)])
    settings = {**environment, "PATH": path, "TERM": "xterm-256color"}
    settings.pop("TRIGGER_PLUGINS", None)
    shown = []
    for typed, answer in STEPS:
        shown.append(f"$ {typed}\n{_run(typed, answer, folder, settings)}")
    return "\n".join(shown).replace(str(folder), "/srv/shop")


def _run(typed: str, answer: str, folder: Path, environment: Mapping[str, str]) -> str:
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    process = subprocess.Popen(
        ["sh", "-c", typed],
        cwd=folder,
        env=environment,
        stdin=end,
        stdout=end,
        stderr=end,
        start_new_session=True,
    )
    os.close(end)
    if answer:
        os.write(terminal, answer.encode())
    text = b"".join(_chunks(terminal)).decode()
    process.wait()
    os.close(terminal)
    return _readable(text, answer)


def _chunks(terminal: int) -> Iterator[bytes]:
    try:
        while chunk := os.read(terminal, 65_536):
            yield chunk
    except OSError:  # Linux says EIO when the other end is closed
        return


def _readable(text: str, answer: str) -> str:
    text = _ESCAPES.sub("", _PROGRESS.sub("", text)).replace("\r\n", "\n")
    if answer and text.startswith(answer):
        # The terminal echoed what was typed before the question was there: it belongs behind it.
        text = text.removeprefix(answer).replace("[y/N]: ", f"[y/N]: {answer}", 1)
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def main() -> None:
    """Write the file."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TRIGGER", "NO_COLOR"))}
    with tempfile.TemporaryDirectory() as folder:
        FILE.write_text(normalised(record(Path(folder).resolve(), kept)), "utf-8")


if __name__ == "__main__":
    main()
