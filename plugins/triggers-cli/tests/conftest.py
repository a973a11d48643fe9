"""A folder of its own for each test, and an environment that says nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Under importlib, test files reach the helper modules beside them only through the path.
sys.path.insert(0, str(Path(__file__).parent))

from cli_forks import Forks
from cli_process import Cli, feed, open_shop

_LEFT_OUT = ("TRIGGER", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "PYTHONDONTWRITEBYTECODE")


@pytest.fixture(scope="session")
def bytecode(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder for compiled modules: hundreds of processes would compile the same ones."""
    return str(tmp_path_factory.mktemp("bytecode"))


@pytest.fixture(scope="session")
def base_environment(bytecode: str) -> dict[str, str]:
    """What is set for every command, unless a test sets more."""
    kept = {name: each for name, each in os.environ.items() if not name.startswith(_LEFT_OUT)}
    return {**kept, "TRIGGER_PLUGINS": "[]", "PYTHONPYCACHEPREFIX": bytecode}


@pytest.fixture(scope="session")
def forks(base_environment: dict[str, str]) -> Iterator[Forks | None]:
    """None where processes do not fork: there, each command starts the executable."""
    if not hasattr(os, "fork"):
        yield None
        return
    forks = Forks(base_environment)
    yield forks
    forks.close()


@pytest.fixture
def cli(tmp_path: Path, base_environment: dict[str, str], forks: Forks | None) -> Cli:
    """The command line in an empty folder."""
    return Cli(tmp_path, base_environment, forks)


@pytest.fixture
def shop(cli: Cli) -> Cli:
    """A folder with an application: tasks that the settings import."""
    return open_shop(cli)


@pytest.fixture
def orders(cli: Cli) -> Cli:
    """A shop whose storage is a file that does not exist yet."""
    return open_shop(cli, "orders.db")


@pytest.fixture
def failed(orders: Cli) -> Cli:
    """A session whose t_mail#0 has failed."""
    feed(orders, "order:13", 13, "--wait")
    return orders
