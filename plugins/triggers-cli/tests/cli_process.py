"""The command line, run as a person would."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cli_forks import AT_MOST, Forks

TRIGGERS = shutil.which("triggers", path=str(Path(sys.executable).parent)) or "triggers"
"""The console script of the environment that runs the tests."""

SHOP = """
from triggers_core import TriggerTask

FLOW = {
    "t_ship": {"after": ["paid", "packed"], "unless": ["cancelled"], "run": "shop.Ship"},
    "t_mail": {"after": ["t_ship"], "run": "shop.Mail"},
}


class Ship(TriggerTask):
    name = "shop.Ship"

    def _run(self, context):
        return {"parcel": context.trigger_kwargs["paid"]["order"]}


class Mail(TriggerTask):
    name = "shop.Mail"

    def _run(self, context):
        if context.trigger_kwargs["t_ship"]["parcel"] == 13:
            raise ValueError("no mail server at smtp://mailer:s3cret@mail")
        return {"mailed": True}


class Thank(TriggerTask):
    name = "shop.Thank"

    def _run(self, context):
        return None
"""


class Result:
    """What a command printed, and its exit code."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def __repr__(self) -> str:
        return f"exit {self.code}\n--- stdout\n{self.out}--- stderr\n{self.err}"


class Cli:
    """Runs ``triggers`` in a folder.

    :param forks: forks processes in place of starting the executable, which is started all the
        same where it makes a difference: variables that Python reads when it starts.

    Example::

        assert cli("show", "order:1").code == 1
    """

    def __init__(
        self, folder: Path, environment: Mapping[str, str], forks: Forks | None = None
    ) -> None:
        self.folder, self.forks = folder, forks
        self.environment = dict(environment)

    def command(self, *arguments: str) -> list[str]:
        return [TRIGGERS, *arguments]

    def __call__(
        self, *arguments: str, stdin: str = "", code: int | None = None, **environment: str
    ) -> Result:
        """Run a command.

        :param code: the exit code that it must have.
        :param environment: more variables.
        """
        result = self._run(self.command(*arguments), {**self.environment, **environment}, stdin)
        if result.code == 2:
            assert "Traceback" not in result.err, result
        if code is not None:
            assert result.code == code, result
        return result

    def _run(self, command: list[str], environment: dict[str, str], stdin: str) -> Result:
        forks = self.forks
        if (
            forks is not None
            and _at_start(environment) == _at_start(forks.environment)
            and len(stdin.encode()) <= AT_MOST
        ):
            return Result(forks.run(command, self.folder, environment, stdin))
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=300,
        )
        return Result(done)

    def write(self, name: str, content: Any) -> str:
        """Write a file: text as it is, anything else as JSON."""
        text = content if isinstance(content, str) else json.dumps(content)
        (self.folder / name).write_text(text, "utf-8")
        return name


def _at_start(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that Python reads when it starts."""
    names = ("PYTHON", "LC_", "LANG")
    return {name: each for name, each in environment.items() if name.startswith(names)}


def open_shop(cli: Cli, storage: str = "") -> Cli:
    """Write an application, tasks that the settings import, and name the file of its storage."""
    cli.write("shop.py", SHOP)
    cli.environment["TRIGGER_IMPORTS"] = "shop"
    if storage:
        cli.environment["TRIGGER_STORAGE_OPTIONS"] = json.dumps({"path": storage})
    return cli


def feed(orders: Cli, uid: str, order: int, *more: str) -> None:
    """Fire what an order needs, and run it."""
    orders("configure", uid, "shop:FLOW", code=0)
    orders("fire", uid, "paid", "--kwargs", json.dumps({"order": order}), code=0)
    orders("fire", uid, "packed", *more)


def statuses(cli: Cli, uid: str) -> dict[str, str]:
    events = cli("explain", uid, "--json").json
    return {each["name"]: each["status"] for task in events["tasks"] for each in task["instances"]}
