"""What holds for every command: options, help, colour, exit codes, start-up, other's commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from cli_process import Cli

from triggers_cli.groups import OWN
from triggers_cli.main import cli as root
from triggers_core.testing.fake_distributions import FakeDistributions

# -- help ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OWN)
def test_every_command_explains_itself(name: str) -> None:
    import click

    command = root.get_command(click.Context(root), name)
    assert command is not None
    with click.Context(
        command, info_name=name, parent=click.Context(root, info_name="triggers")
    ) as ctx:
        text = command.get_help(ctx)
    assert "Example:\n" in text
    assert f"triggers {name}" in text.partition("Example:")[2]
    assert "--json" in text
    told = OWN[name][1].rstrip(".")
    assert told in " ".join(text.split()), "the list of commands says the same"


def test_help(cli: Cli) -> None:
    text = cli("--help", code=0).out
    for name, (_, told) in OWN.items():
        assert f"{name} " in text
        assert told in " ".join(text.split())
    assert "130  interrupted" in text
    assert cli(code=2).err == text


def test_version(cli: Cli) -> None:
    import triggers_cli
    import triggers_core

    told = f"triggers-cli {triggers_cli.__version__}, triggers-core {triggers_core.__version__}\n"
    assert cli("--version", code=0).out == told


def test_python_m(cli: Cli) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "triggers_cli", "--version"],
        env=cli.environment,
        cwd=cli.folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert done.stdout.startswith("triggers-cli ")


def test_a_command_that_does_not_exist(cli: Cli) -> None:
    assert "there is no command 'sesions': did you mean 'sessions'?" in cli("sesions", code=2).err
    assert "`triggers --help` lists them" in cli("xyzzy", code=2).err


# -- options ---------------------------------------------------------------------------------------


def test_options_before_and_after_the_command(shop: Cli) -> None:
    shop("--storage", "sqlite:a.db", "fire", "o", "paid", code=0)
    shop("fire", "o", "paid", "--storage", "sqlite:b.db", code=0)
    assert {each.name for each in shop.folder.glob("*.db")} == {"a.db", "b.db"}
    before = shop("--storage", "sqlite:a.db", "--json", "events", "o", code=0).json
    after = shop("events", "o", "--storage", "sqlite:b.db", "--json", code=0).json
    assert len(before) == len(after) == 1
    assert shop("--storage", "sqlite:x.db", "sessions", "--storage", "sqlite:a.db").code == 0


@pytest.mark.parametrize("text", ["", ":x", "sqlite", "sqlite:", "redis:"])
def test_a_storage_that_is_none(cli: Cli, text: str) -> None:
    assert "expected TYPE:VALUE" in cli("sessions", "--storage", text, code=2).err


@pytest.mark.parametrize(
    ("text", "key", "options"),
    [
        ("sqlite:a b.db", "sqlite", {"path": "a b.db"}),
        ("sqlite:C:/x.db", "sqlite", {"path": "C:/x.db"}),
        ("redis://h:1/0", "redis", {"url": "redis://h:1/0"}),
        ("rediss://h", "redis", {"url": "rediss://h"}),
        ("redis:redis://h", "redis", {"url": "redis://h"}),
        ("postgres://h/db", "postgres", {"url": "postgres://h/db"}),
        ("memory", "memory", {}),
    ],
)
def test_what_a_storage_means(text: str, key: str, options: dict[str, str]) -> None:
    from triggers_cli.state import read_storage

    assert read_storage(text) == (key, options)


def test_the_memory_of_another_process(cli: Cli) -> None:
    told = cli("sessions", "--storage", "memory", code=1)
    assert "its sessions live inside the application's process" in told.err


APP = """
from triggers_core import Application, hookimpl
from triggers_core.settings import Settings

class Marks:
    @hookimpl
    def before_commit(self, session, plan):
        pass

app = Application("shop", Settings.isolated(
    TRIGGER_STORAGE_OPTIONS={"path": "app.db"}, TRIGGER_PLUGINS=[],
    TRIGGER_TIMING={"sweep": 7.0}))
app.plugins.register(Marks(), "marks")
not_one = 1
"""


def test_an_application_of_ones_own(shop: Cli) -> None:
    shop.write("my_app.py", APP)
    for path in ("my_app", "my_app:app"):
        shop("--app", path, "fire", "o", "paid", code=0)
    shop("configure", "o", "shop:FLOW", TRIGGERS_APP="my_app", code=0)
    told = shop("--app", "my_app", "fire", "o", "packed", code=0)
    assert "A running worker of the application takes this within 7 s" in told.err
    assert (shop.folder / "app.db").exists()
    assert not (shop.folder / "triggers.db").exists()
    # A session that needs a plugin of the application's is not changed without it.
    refused = shop("fire", "o", "paid", "--storage", "sqlite:app.db", code=1)
    assert "requires the plugin marks" in refused.err
    shop("--app", "my_app", "--storage", "sqlite:app.db", "fire", "o", "paid", code=0)


def test_what_is_typed_wins_over_the_environment(shop: Cli) -> None:
    shop.write("my_app.py", APP)
    shop("--app", "my_app", "fire", "o", "paid", TRIGGERS_APP="nothing", code=0)
    shop("fire", "o", "paid", "--app", "my_app", TRIGGERS_APP="nothing", code=0)


def test_an_application_that_is_none(shop: Cli) -> None:
    shop.write("my_app.py", APP)
    shop.write("broken.py", "1 / 0")
    assert "No module named 'nothing'" in shop("sessions", "--app", "nothing", code=2).err
    assert "ZeroDivisionError" in shop("sessions", "--app", "broken", code=2).err
    assert "has no attribute 'ap'" in shop("sessions", "--app", "my_app:ap", code=2).err
    told = shop("sessions", "--app", "my_app:not_one", code=2).err
    assert "expected a triggers_core.Application, it is a int" in told


def test_a_module_that_configures_the_default_application(shop: Cli) -> None:
    shop.write(
        "site_setup.py",
        "from triggers_core import configure\n"
        "configure(TRIGGER_STORAGE_OPTIONS={'path': 'site.db'})\n",
    )
    shop("--app", "site_setup", "fire", "o", "paid", code=0)
    assert (shop.folder / "site.db").exists()


def test_a_settings_module(shop: Cli) -> None:
    shop.write("my_settings.py", "TRIGGER_STORAGE_OPTIONS = {'path': 's.db'}\n")
    shop("--settings", "my_settings", "fire", "o", "paid", code=0)
    assert (shop.folder / "s.db").exists()
    told = shop("sessions", "--settings", "my_setings", code=2)
    assert "settings module my_setings" in told.err
    wrong = shop("sessions", TRIGGER_STORAGE_OPTIONS='{"pth": "x"}', code=2)
    assert "TRIGGER_STORAGE_OPTIONS (environment variable TRIGGER_STORAGE_OPTIONS)" in wrong.err
    wrong = shop("sessions", TRIGGER_STORAGE_TYPE="sqlight", code=2)
    assert "there is no storage 'sqlight': did you mean 'sqlite'?" in wrong.err


# -- settings, plugins -----------------------------------------------------------------------------


def test_settings(cli: Cli) -> None:
    cli.write("pyproject.toml", '[tool.triggers]\nstorage_options = {path = "p.db"}\n')
    cli.environment["TRIGGER_PLUGIN_OPTIONS"] = '{"x": {"password": "hunter2"}}'
    told = {each["name"]: each for each in cli("settings", "--json", code=0).json}
    assert told["TRIGGER_STORAGE_OPTIONS"]["value"] == {"path": f"{cli.folder}/p.db"}
    assert told["TRIGGER_STORAGE_OPTIONS"]["origin"].startswith("pyproject.toml [tool.triggers]")
    assert told["TRIGGER_RUNNER"]["origin"] == "default"
    assert "hunter2" not in cli("settings", code=0).out
    named = cli("settings", "--storage", "sqlite:q.db", "--json", code=0).json
    origins = {each["name"]: each["origin"] for each in named}
    assert origins["TRIGGER_STORAGE_TYPE"] == "--storage"


def test_plugins(cli: Cli) -> None:
    cli.write(
        "audit.py",
        "from triggers_core import hookimpl\n\n@hookimpl\ndef post_commit(manager, changes): ...\n",
    )
    installed = {each.name for each in entry_points(group="triggers.plugins")}
    listed = cli("plugins", code=0).out
    assert all(name in listed for name in installed or {"There are no plugins with hooks"})
    table = cli("plugins", TRIGGER_PLUGINS="audit,no:retry", code=0).out.splitlines()
    assert table[1].split() == ["1", "audit", "loaded", "audit", "post_commit"]
    told = cli("plugins", "--json", TRIGGER_PLUGINS="audit", code=0).json
    assert told[0]["hooks"] == ["post_commit"]
    missing = cli("plugins", TRIGGER_PLUGINS="auditt", code=1)
    assert missing.err.startswith("Error: plugin 'auditt'")


def test_a_plugin_that_cannot_be_loaded(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    FakeDistributions(folder).add("triggers-bad", {"aaa": "nowhere"})
    told = cli("plugins", PYTHONPATH=str(folder), TRIGGER_PLUGINS='["*"]', code=1)
    (row,) = [line for line in told.out.splitlines() if " aaa " in line]
    assert row.split()[:5] == ["-", "aaa", "failed", "triggers-bad", "1.0"]
    assert "No module named 'nowhere'" in row


# -- commands of other distributions ---------------------------------------------------------------

COMMANDS = """
import click
from triggers_cli import State, command

@command("ping", example="triggers ping")
@click.pass_obj
def ping(state: State) -> None:
    '''Count the sessions.'''
    state.out.data(len(state.store().sessions()))

@click.command()
def plain():
    '''A click command that knows nothing of this one.'''
    click.echo("plain")

not_one = 1
"""


@pytest.fixture
def extended(shop: Cli, tmp_path: Path) -> Cli:
    folder = tmp_path / "site"
    folder.mkdir()
    fake = FakeDistributions(folder)
    fake.add(
        "triggers-ping",
        {"ping": "pinging:ping", "plain": "pinging:plain", "sessions": "pinging:ping"},
        {"pinging": COMMANDS},
        group="triggers.commands",
    )
    fake.add(
        "triggers-broken",
        {"bad": "nowhere:bad", "odd": "pinging:not_one", "twice": "pinging:ping"},
        group="triggers.commands",
    )
    fake.add("triggers-other", {"twice": "pinging:ping"}, group="triggers.commands")
    shop.environment["PYTHONPATH"] = str(folder)
    return shop


def test_a_command_of_another_distribution(extended: Cli) -> None:
    extended("fire", "o", "paid", code=0)
    assert extended("ping", code=0).json == 1
    assert "no SQLite file" in extended("ping", "--storage", "sqlite:x.db", code=1).err
    assert extended("plain", code=0).out == "plain\n"
    assert extended("sessions", code=0).out.startswith("SESSION"), "ours stays"


def test_help_lists_them_and_survives_them(extended: Cli) -> None:
    text = " ".join(extended("--help", code=0).out.split())
    assert "From plugins:" in text
    assert "ping Count the sessions." in text
    assert "bad (the command 'bad' (triggers-broken 1.0, nowhere:bad) cannot be loaded" in text
    assert "odd (the command 'odd'" in text
    assert "provided by triggers-broken 1.0 and by triggers-other 1.0" in text


@pytest.mark.parametrize("name", ["bad", "odd", "twice"])
def test_a_broken_one_says_so(extended: Cli, name: str) -> None:
    told = extended(name, code=1)
    assert f"the command '{name}'" in told.err
    assert "triggers-broken 1.0" in told.err


# -- colour, completion, pipes ---------------------------------------------------------------------


def test_colour(shop: Cli) -> None:
    shop.write("flow.json", {"t_x": {"after": 3, "run": "x"}})
    check = ("check", "flow.json")
    assert "\x1b" not in shop(*check).out
    assert "\x1b[31merror: \x1b[0m" in shop(*check, FORCE_COLOR="1").out
    assert "\x1b" not in shop(*check, "--no-color", FORCE_COLOR="1").out
    assert "\x1b" not in shop(*check, FORCE_COLOR="1", NO_COLOR="1").out
    assert "\x1b" not in shop(*check, "--json", FORCE_COLOR="1").out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shop: Cli, shell: str) -> None:
    script = shop("completion", shell, code=0).out
    assert "_TRIGGERS_COMPLETE" in script
    assert shop("completion", shell, "--json", code=0).json["script"].strip() == script.strip()


def complete(cli: Cli, *words: str) -> list[str]:
    done = cli(_TRIGGERS_COMPLETE="bash_complete", COMP_LINE=f" {' '.join(words)}")
    return [line.partition(",")[2] for line in done.out.split()]


def test_what_is_completed(shop: Cli) -> None:
    shop("fire", "order:1", "paid", code=0)
    shop("fire", "order:2", "paid", code=0)
    shop("fire", "invoice:1", "paid", code=0)
    assert complete(shop, "expl") == ["explain"]
    assert complete(shop, "show", "order") == ["order:1", "order:2"]
    assert complete(shop, "show", "order:2") == ["order:2"]
    assert complete(shop, "--storage", "sqlite:x.db", "show", "o") == []
    assert "--json" in complete(shop, "show", "--j")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away(shop: Cli, unbuffered: str) -> None:
    environment = {**shop.environment, "PYTHONUNBUFFERED": unbuffered}
    command = [*shop.command("settings", "--json"), "--storage", "sqlite:x.db"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        command, cwd=shop.folder, env=environment, stdout=write, stderr=subprocess.PIPE
    )
    os.close(write)
    assert done.returncode == 141
    assert done.stderr == b""


def test_a_terminal_that_knows_no_unicode(shop: Cli) -> None:
    shop("fire", "größe", "paid", code=0)
    ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    assert "gr\\xf6\\xdfe" in shop("sessions", "--all", **ascii_only).out
    assert shop("sessions", "--all", "--json", **ascii_only).json[0]["uid"] == "größe"


# -- start-up --------------------------------------------------------------------------------------


def imported(cli: Cli, *arguments: str) -> set[str]:
    """The modules that a command imports."""
    code = "import sys; from triggers_cli.main import run; code = run(sys.argv[1:])\n"
    code += "print('\\n' + '\\n'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cli.folder,
        env=cli.environment,
        capture_output=True,
        text=True,
    )
    return set(done.stderr.splitlines())


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--version"], {"msgspec", "triggers_core.application", "sqlite3", "asyncio"}),
        (["--help"], {"triggers_core.application", "sqlite3", "asyncio"}),
        (["check", "flow.json"], {"sqlite3", "asyncio"}),
        (["sessions"], {"asyncio"}),
        (["show", "o"], {"asyncio"}),
        (["explain", "o"], {"asyncio"}),
        (["backtest", "flow.json", "events.jsonl"], {"asyncio"}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_heavy_modules_are_left_until_they_are_needed(
    shop: Cli, arguments: list[str], heavy: set[str]
) -> None:
    shop.write("flow.json", {"t_x": {"after": ["go"], "run": "x"}})
    shop.write("events.jsonl", '{"session": "o", "trigger": "go"}\n')
    shop("fire", "o", "paid", code=0)
    modules = imported(shop, *arguments)
    assert "triggers_cli.main" in modules
    assert heavy & modules == set()


def test_errors_as_json(shop: Cli) -> None:
    for arguments, kind in (
        (["--json", "nothing"], "UsageError"),
        (["show", "--json"], "UsageError"),
        (["show", "o", "--json"], "NothingThere"),
    ):
        told = shop(*arguments)
        assert told.out == ""
        error: Any = json.loads(told.err)
        assert error["error"] == kind
        assert error["message"]
