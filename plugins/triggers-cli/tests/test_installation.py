"""What `settings`, `plugins` and --storage tell about an installation, at any width."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest
from cli_process import Cli

from triggers_core.testing.fake_distributions import FakeDistributions

DISK = """
from pathlib import Path
from triggers_core import Application
from triggers_core.registries import storage_backends
from triggers_core.settings import Settings
from triggers_core.storages.session import SessionStorage
from triggers_core.storages.sqlite import SqliteStore


class Disk(SessionStorage):
    @classmethod
    def open_store(cls, folder, synchronous="FULL"):
        return SqliteStore(Path(folder) / "sessions.db", synchronous)


class Bare(SessionStorage):
    @classmethod
    def open_store(cls):
        raise AssertionError


class Strict(SessionStorage):
    @classmethod
    def open_store(cls, url, realm):
        raise AssertionError


for key, kind in {"disk": Disk, "bare": Bare, "strict": Strict}.items():
    storage_backends.register(key, kind)

app = Application("shop", Settings.isolated(TRIGGER_PLUGINS=[]))
"""


@pytest.fixture
def disk(cli: Cli) -> Cli:
    """An application whose module registers storages of its own."""
    cli.write("shop.py", DISK)
    cli.environment["TRIGGERS_APP"] = "shop"
    return cli


def test_the_first_option_of_somebody_elses_storage(disk: Cli) -> None:
    (disk.folder / "here").mkdir()
    disk("fire", "o", "paid", "--storage", "disk:here", code=0)
    assert (disk.folder / "here" / "sessions.db").exists()
    assert (
        disk("sessions", "--all", "--storage", "disk:here", "--json", code=0).json[0]["uid"] == "o"
    )


@pytest.mark.parametrize(
    ("storage", "told"),
    [
        ("bare:5", "the storage 'bare' takes no options: --storage bare"),
        ("memory:5", "the storage 'memory' takes no value"),
        ("strict://host/db", "wants the option 'realm'"),
        ("strict:host", "wants the option 'realm'"),
        ("disc:here", "there is no storage 'disc'"),
    ],
)
def test_values_that_do_not_fit_a_storage(disk: Cli, storage: str, told: str) -> None:
    assert told in disk("sessions", "--storage", storage, code=2).err


def test_settings_that_nobody_reads_are_told(cli: Cli) -> None:
    wrong = {"TRIGGERS_STORAGE_TYPE": "redis"}
    told = cli("settings", code=0, **wrong)
    assert "not read: environment variable TRIGGERS_STORAGE_TYPE" in told.out
    assert "did you mean 'TRIGGER_STORAGE_TYPE'?" in told.out
    listed = cli("settings", "--json", code=0, **wrong).json
    assert [each["name"] for each in listed if each["problem"]] == ["TRIGGERS_STORAGE_TYPE"]
    assert [each for each in cli("settings", "--json", code=0).json if each["problem"]] == []


def test_paths_are_shown_as_paths(cli: Cli) -> None:
    cli.write(
        "conf.py",
        'from pathlib import Path\nTRIGGER_STORAGE_OPTIONS = {"path": Path("/srv") / "shop.db"}\n',
    )
    assert '{"path": "/srv/shop.db"}' in cli("settings", "--settings", "conf", code=0).out


def test_plugins_tells_where_storages_runners_and_managers_come_from(disk: Cli) -> None:
    lines = [line.split() for line in disk("plugins", code=0).out.splitlines()]
    told = {tuple(line[:2]): " ".join(line[2:]) for line in lines if len(line) > 2}
    assert told["storage", "sqlite"].startswith("triggers-core")
    assert told["runner", "threading"].startswith("triggers-core")
    assert told["manager", "default"].endswith("triggers_core.manager:TriggerManager")
    assert told["storage", "disk"] == "registered in code shop:Disk"


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_a_narrow_terminal_breaks_between_words(cli: Cli, columns: int) -> None:
    import fcntl
    import struct
    import termios

    plain_colours = {**cli.environment, "NO_COLOR": "1", "TERM": "xterm"}
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(
        cli.command("settings"), cwd=Path(cli.folder), env=plain_colours, stdout=end, stderr=end
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
    text = shown.decode().replace("\r", "")
    plain = cli("settings", code=0).out
    assert text.split() == [each.rstrip() for each in plain.split()]
    if columns >= 80:
        assert max(len(line) for line in text.splitlines()) <= columns


SHELF = """
import os
from typing import ClassVar
from triggers_core.storages.session import SessionStorage
from triggers_core.storages.sqlite import SqliteStore


class ShelfStore(SqliteStore):
    key = "shelf"

    @property
    def place(self):
        return f"the shelf {os.path.basename(self.file.path)}"


class Shelf(SessionStorage):
    schemes: ClassVar = ("shelves",)

    @classmethod
    def open_store(cls, board):
        return ShelfStore(board + ".shelf")

    @classmethod
    def options_from_text(cls, text):
        return {"board": text.partition(":")[2].strip("/")}
"""


@pytest.fixture
def shelf(cli: Cli, tmp_path: Path) -> Cli:
    """A storage that an installed distribution provides, and that nobody here has heard of."""
    folder = tmp_path / "site"
    folder.mkdir()
    FakeDistributions(folder).add(
        "triggers-shelf",
        {"shelf": "shelves:Shelf"},
        {"shelves": SHELF},
        group="triggers.storages",
    )
    cli.environment["PYTHONPATH"] = str(folder)
    return cli


@pytest.mark.parametrize("text", ["shelf:upper", "shelves://upper"])
def test_a_storage_that_is_known_to_its_distribution_alone(shelf: Cli, text: str) -> None:
    told = shelf("sessions", "--storage", text, code=1).err
    assert "there is no shelf upper.shelf (it comes from --storage)" in told
    assert not (shelf.folder / "upper.shelf").exists()
    shelf("fire", "o", "paid", "--storage", text, code=0)
    assert shelf("sessions", "--all", "--storage", text, "--json", code=0).json[0]["uid"] == "o"
    missing = shelf("show", "p", "--storage", text, code=1).err
    assert "there is no session 'p' in the shelf upper.shelf" in missing


def test_a_backtest_in_a_storage_of_its_own(shelf: Cli) -> None:
    shelf.write("flow.json", {"t_x": {"after": ["go", "paid"], "run": "x"}})
    shelf.write("log.jsonl", '{"session": "o", "trigger": "go"}\n')
    backtest = ("backtest", "flow.json", "log.jsonl", "--storage", "shelf:tests")
    assert "triggers explain --storage shelf:tests o" in shelf(*backtest, code=0).err
    shelf("fire", "o", "paid", "--storage", "shelf:shop", code=0)
    refused = shelf(*backtest[:-1], "shelf:shop", code=2).err
    assert "the shelf shop.shelf holds sessions of an application" in refused
