"""What is said to who runs a command in the wrong folder, without imports, or without workers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from cli_process import Cli

from triggers_cli.main import run

PROJECT = """
[tool.triggers]
imports = ["tasks"]

[tool.triggers.configuration.t_ship]
after = ["paid"]
run = "tasks.ship"
"""
TASKS = """
from triggers_core import trigger_task

@trigger_task(name="tasks.ship")
def ship(context):
    pass
"""
TENANTS = """
from triggers_core import hookimpl
from triggers_core.registries import storage_backends

@hookimpl
def storage_load(uid):
    return storage_backends.get("sqlite", uid, path="tenant.db")
"""
ISOLATED = """
from triggers_core import Application
from triggers_core.settings import Settings

app = Application("own", Settings.isolated(
    TRIGGER_STORAGE_OPTIONS={"path": "own.db"}, TRIGGER_PLUGINS=[]))
"""
AWAY = """
from triggers_core.application import default_application
from triggers_core.registries import task_runners
from triggers_core.runners.base import TaskRunner

class Away(TaskRunner):
    executes_here = False

    def dispatch(self, manager, message, task):
        pass

task_runners.register("away", Away)
default_application.configure(TRIGGER_RUNNER="away")
"""


def project(cli: Cli) -> Cli:
    cli.write("pyproject.toml", PROJECT)
    cli.write("tasks.py", TASKS)
    return cli


def below(cli: Cli) -> Cli:
    """The same, in a folder in which nothing is."""
    folder = cli.folder / "below"
    folder.mkdir()
    return Cli(folder, cli.environment)


def test_a_storage_that_is_new(cli: Cli) -> None:
    first = project(cli)("fire", "order:1", "paid", code=0)
    assert f"in the SQLite file {cli.folder}/triggers.db, which is new" in first.err
    assert "which is new" not in cli("fire", "order:2", "paid", code=0).err


def test_a_storage_that_a_plugin_chose_is_new_once(cli: Cli) -> None:
    project(cli).write("tenants.py", TENANTS)

    def told(uid: str) -> str:
        return cli("fire", uid, "paid", code=0, TRIGGER_PLUGINS='["tenants"]').err

    assert f"{cli.folder}/tenant.db, which is new" in told("order:1")
    assert "which is new" not in told("order:2")


def test_below_the_folder_of_the_settings(cli: Cli) -> None:
    elsewhere = below(project(cli))
    told = elsewhere("sessions", code=1).err
    assert f"no SQLite file {cli.folder}/triggers.db (it is the default" in told
    cli("fire", "order:1", "paid", code=0)
    told = elsewhere("explain", "order:1", code=0).out
    assert told.startswith("Session order:1: 1 event, 1 instance scheduled.")
    second = elsewhere("fire", "order:2", "paid", "--wait", code=0)
    assert "which is new" not in second.err
    assert "t_ship#0  finished" in second.out
    uids = {each["uid"] for each in cli("sessions", "--all", "--json", code=0).json}
    assert uids == {"order:1", "order:2"}
    assert list(elsewhere.folder.iterdir()) == []


def test_below_with_a_path_of_the_settings(cli: Cli) -> None:
    elsewhere = below(project(cli))
    options = 'storage_options = { path = "data/shop.db" }'
    cli.write("pyproject.toml", PROJECT.replace("[tool.triggers]", f"[tool.triggers]\n{options}"))
    (cli.folder / "data").mkdir()
    told = elsewhere("fire", "order:1", "paid", code=0).err
    assert f"in the SQLite file {cli.folder}/data/shop.db, which is new" in told
    assert cli("explain", "order:1", code=0).out.startswith("Session order:1: 1 event")
    assert list(elsewhere.folder.iterdir()) == []


def test_below_with_a_path_of_the_environment(cli: Cli) -> None:
    elsewhere = below(project(cli))
    given = {"TRIGGER_STORAGE_OPTIONS": '{"path": "here.db"}'}
    told = elsewhere("fire", "order:1", "paid", code=0, **given).err
    assert f"in the SQLite file {elsewhere.folder}/here.db, which is new" in told
    told = cli("sessions", code=1, **given).err
    assert f"no SQLite file {cli.folder}/here.db" in told
    assert "run it" not in told
    (elsewhere.folder / "here.db").unlink()
    told = elsewhere("sessions", code=1, **given).err
    assert told.rstrip().endswith(f"pyproject.toml is in {cli.folder}: run it there")
    told = elsewhere("sessions", "--storage", f"sqlite:{cli.folder}/here.db", code=1).err
    assert "run it" not in told
    elsewhere("fire", "order:1", "paid", "--storage", "sqlite:typed.db", code=0)
    assert (elsewhere.folder / "typed.db").exists()


def test_below_and_options_without_a_path(cli: Cli) -> None:
    elsewhere = below(project(cli))
    given = {"TRIGGER_STORAGE_OPTIONS": '{"synchronous": "NORMAL"}'}
    told = elsewhere("fire", "order:1", "paid", code=0, **given).err
    assert f"in the SQLite file {cli.folder}/triggers.db, which is new" in told


def test_below_and_a_module_of_the_same_name(cli: Cli) -> None:
    elsewhere = below(project(cli))
    elsewhere.write("tasks.py", "1 / 0")
    elsewhere.write("mine.py", "FLOW = {'t_x': {'after': ['go'], 'run': 'tasks.ship'}}")
    told = elsewhere("fire", "order:1", "paid", "--wait", code=0).out
    assert "t_ship#0  finished" in told, "the names in the file mean what is beside it"
    assert elsewhere("configure", "order:2", "mine:FLOW", code=0).err == ""
    (cli.folder / "tasks.py").unlink()
    told = elsewhere("fire", "order:1", "paid", "--wait", code=2).err
    assert "a module cannot be imported: ZeroDivisionError" in told


def test_a_pyproject_that_cannot_be_read(cli: Cli) -> None:
    cli.write("pyproject.toml", "[tool.triggers")
    elsewhere = below(cli)
    assert "pyproject.toml cannot be read" in elsewhere("sessions", code=2).err
    elsewhere.write("own.py", ISOLATED)
    told = elsewhere("--app", "own", "sessions", code=1).err
    assert f"no SQLite file {elsewhere.folder}/own.db" in told, "it does not ask for the settings"
    cli.write("pyproject.toml", "[tool.other]")
    told = elsewhere("sessions", code=1).err
    assert f"no SQLite file {elsewhere.folder}/triggers.db" in told


def test_no_settings_at_all(cli: Cli) -> None:
    told = cli("fire", "order:1", "paid", code=0).err
    assert "no settings that are found from here name any" in told


def test_in_a_django_project(cli: Cli) -> None:
    cli.write("manage.py", "")
    assert "python manage.py triggers" in cli("sessions", code=1).err


def test_in_a_django_project_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "manage.py").touch()
    monkeypatch.chdir(tmp_path)
    sessions = ["--storage", "sqlite:nothing.db", "sessions"]
    assert run(sessions, prog_name="manage.py triggers") == 1
    assert "In a Django project" not in capsys.readouterr().err


def test_what_a_check_could_not_look_for(cli: Cli) -> None:
    project(cli)
    assert cli("check", "pyproject.toml", code=0).err == ""
    cli.write("pyproject.toml", PROJECT.replace("imports", "plugins"))
    told = cli("check", "pyproject.toml", code=0, TRIGGER_PLUGINS="[]").err
    assert "What `run` names was not looked for" in told


def test_nobody_takes_what_is_waited_for(cli: Cli) -> None:
    cli.write("away.py", AWAY)
    waited = ("--app", "away", "fire", "order:1", "paid", "--wait", "--timeout", "5.1")
    told = project(cli)(*waited, code=1).err
    assert "No worker has taken it yet" in told
    assert told.index("No worker") < told.index("The time is up")


def test_hints_name_the_command_as_it_was_called(monkeypatch: pytest.MonkeyPatch) -> None:
    from triggers_cli.state import again

    monkeypatch.setattr(sys, "argv", ["manage.py", "triggers", "replay", "--all"])
    assert again("manage.py triggers") == "manage.py triggers replay --all"
    monkeypatch.setattr(sys, "argv", ["/venv/bin/triggers", "replay", "order 1"])
    assert again("triggers") == "triggers replay 'order 1'"
