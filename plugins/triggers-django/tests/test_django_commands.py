"""`manage.py triggers`, `manage.py check`, discovery: a project as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from django_projects import CONFIGURATION, TASKS, Project


@pytest.fixture(scope="module")
def project(project_folder: Path) -> Project:
    project = Project(project_folder)
    project.write("shop/trigger_tasks.py", TASKS)
    project.settings(CONFIGURATION)
    project.settings('TRIGGER_STORAGE_TYPE = "sqlite"')
    project.settings('TRIGGER_STORAGE_OPTIONS = {"path": BASE_DIR / "sessions.db"}')
    project.manage("triggers", "fire", "order:0", "noticed")
    return project


def test_the_whole_command_line_is_there(project: Project) -> None:
    told = project.manage("triggers", "--help").stdout
    assert told.startswith("Usage: manage.py triggers [OPTIONS] COMMAND")
    for command in ("sessions", "explain", "replay", "check", "prune"):
        assert f"  {command} " in told
    assert project.manage("help", "triggers").stdout == told
    assert "triggers-cli" in project.manage("triggers", "--version").stdout


def test_a_join_from_the_command_line(project: Project) -> None:
    project.manage("triggers", "fire", "order:1", "paid", "--kwargs", '{"amount": 42}')
    told = project.manage("triggers", "explain", "order:1").stdout
    assert "t_ship#0" in told
    assert "packed" in told
    fired = project.manage("triggers", "fire", "order:1", "packed", "--wait", "--json").stdout
    [ship] = json.loads(fired)["instances"]
    assert (ship["name"], ship["status"]) == ("t_ship#0", "finished")
    assert ship["result"] == {"shipped": ["packed", "paid"]}


def test_exit_codes_and_colours(project: Project) -> None:
    ended = project.manage("triggers", "show", "nobody", code=1)
    assert "there is no session 'nobody'" in ended.stderr
    assert "`manage.py triggers sessions --all`" in ended.stderr
    ended = project.manage("triggers", "sesions", code=2)
    assert "did you mean 'sessions'?" in ended.stderr
    assert "manage.py triggers --help" in ended.stderr
    coloured = project.manage("triggers", "plugins", FORCE_COLOR="1").stdout
    assert "\x1b[" in coloured
    assert (
        "\x1b[" not in project.manage("triggers", "plugins", "--no-color", FORCE_COLOR="1").stdout
    )


def test_djangos_own_options_stay_djangos(project: Project) -> None:
    for option in (("--settings", "mysite.settings"), ("--settings=mysite.settings",)):
        told = project.manage("triggers", "settings", *option, "--json").stdout
        [storage] = [each for each in json.loads(told) if each["name"] == "TRIGGER_STORAGE_TYPE"]
        assert storage["value"] == "sqlite"
        assert "TRIGGERS_SETTINGS_MODULE" not in storage["origin"]


def test_call_command(project: Project) -> None:
    printed = project.python("""
        from django.core.management import CommandError, call_command
        call_command("triggers", "plugins", "--json")
        try:
            call_command("triggers", "show", "nobody")
        except CommandError as error:
            print("code", error.returncode)
    """)
    assert '"django"' in printed
    assert printed.endswith("code 1\n")


def test_nothing_is_imported_or_started_before_it_is_needed(project: Project) -> None:
    printed = project.python("""
        import sys, threading
        print("shop.trigger_tasks" in sys.modules, threading.active_count())
        from triggers_core import get_trigger_manager
        manager = get_trigger_manager("order:2")
        print("shop.trigger_tasks" in sys.modules, threading.active_count())
    """)
    assert printed == "False 1\nTrue 1\n"


def test_a_command_that_fires_sweeps_nothing(project: Project) -> None:
    printed = project.python("""
        import threading
        from triggers_core import get_trigger_manager
        manager = get_trigger_manager("order:3")
        manager.fire("paid"), manager.fire("packed")
        manager.join()
        print(manager.storage["t_ship#0"].status.value)
        print(sorted(each.name for each in threading.enumerate() if "sweep" in each.name))
        from triggers_core.application import default_application
        default_application.start()
        print(sorted(each.name for each in threading.enumerate() if "sweep" in each.name))
    """)
    assert printed == "finished\n[]\n['triggers-sweep']\n"


def test_a_server_sweeps_from_its_first_request_on(project: Project) -> None:
    printed = project.python("""
        import io, threading
        from django.core.handlers.wsgi import WSGIHandler
        from django.test import Client

        def sweeps():
            return any(each.name == "triggers-sweep" for each in threading.enumerate())

        Client().get("/", headers={"host": "localhost"})
        print("client", sweeps())
        environ = {
            "REQUEST_METHOD": "GET", "PATH_INFO": "/", "SERVER_NAME": "localhost",
            "SERVER_PORT": "80", "wsgi.input": io.BytesIO(),
        }
        WSGIHandler()(environ, lambda *_: None).close()
        print("server", sweeps())
    """)
    assert printed == "client False\nserver True\n"
