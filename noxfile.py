"""The project's chores: ``python -m pip install nox``, then ``python -m nox -s NAME``.

Without ``-s``, the sessions that a change must pass run: lint, types and tests. What follows ``--``
is handed on: ``python -m nox -s tests -- -k sqlite -x``. ``python -m nox -l`` lists the sessions.
"""

from __future__ import annotations

from pathlib import Path

import nox
from nox.project import dependency_groups, load_toml

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "tests"]

ROOT = Path()  # nox works in the folder of this file
TEMPLATE = ROOT / "plugins" / "_template"
PLUGINS = sorted(file.parent for file in ROOT.glob("plugins/triggers-*/pyproject.toml"))

OLDEST_PLUGGY = "1.6.0"
"""The lower bound in pyproject.toml; newer releases pass arguments to hooks differently."""

HANG = 300
"""Seconds after which a test counts as hung; far above what any test takes."""


def group(name: str, folder: Path = ROOT) -> tuple[str, ...]:
    """Return the requirements of a dependency group of `folder`'s pyproject.toml, if it has it.

    Read here, not by ``pip install --group``: that needs pip 25.1, and Python 3.11 may bring 23.2.
    """
    project = load_toml(folder / "pyproject.toml")
    return dependency_groups(project, name) if name in project.get("dependency-groups", {}) else ()


def install(session: nox.Session, *requirements: str, plugins: bool = True) -> None:
    """Install the core, its plugins and `requirements`: in one go, so that pip sees every bound."""
    folders = [ROOT, *(PLUGINS if plugins else [])]
    editable = [part for folder in folders for part in ("-e", str(folder))]
    session.install(*editable, *requirements)


def install_for_tests(session: nox.Session, *requirements: str) -> None:
    """Install everything that the tests of the core and of all plugins need."""
    groups = [
        line
        for folder in (ROOT, *PLUGINS)
        for line in group("tests", folder)
        if not line.startswith("triggers-")  # ours are installed from here
    ]
    install(session, *dict.fromkeys(groups), *requirements)


def pytest(session: nox.Session, *arguments: str) -> None:
    """Run pytest, with what the command line adds last, so that it wins."""
    # By a thread: the alarm that would be used else is one that tests set and clear themselves.
    limits = (f"--timeout={HANG}", "--timeout-method=thread")
    session.run("python", "-m", "pytest", *limits, *arguments, *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """Run the questionnaire example on nothing but the core."""
    install(session, plugins=False)
    session.run("python", "examples/questionnaire.py", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests of the core and of every plugin, except the slow ones."""
    install_for_tests(session)
    # worksteal: what the tests of a file share is made once, and no process waits at the end.
    pytest(session, "-n", "2", "--dist", "worksteal", "-m", "not slow")


@nox.session
def slow(session: nox.Session) -> None:
    """Run the tests that kill processes and run fleets of them, one at a time."""
    install_for_tests(session)
    pytest(session, "-m", "slow and not fleet")


@nox.session
def fleet(session: nox.Session) -> None:
    """Kill a fleet of Celery workers through a whole event log: minutes, and a line at the end."""
    install_for_tests(session)
    pytest(session, "-m", "fleet", "-s")


@nox.session
def pluggy16(session: nox.Session) -> None:
    """Run the tests about plugins, and those of the plugins, on the oldest pluggy supported."""
    install_for_tests(session, f"pluggy=={OLDEST_PLUGGY}")
    # -k looks at paths too, so that all of plugins/ is in.
    pytest(session, "-n", "2", "-m", "not slow", "-k", "plugin or hook")


@nox.session
def coverage(session: nox.Session) -> None:
    """Run the tests and report the lines and branches of the core that none of them reached."""
    install_for_tests(session)
    pytest(session, "-n", "2", "-m", "not slow", "--cov", "--cov-report=term-missing")


@nox.session
def template(session: nox.Session) -> None:
    """Run the tests of the plugin template: what authors copy has to work."""
    if not (TEMPLATE / "pyproject.toml").exists():
        session.skip("plugins/_template is not there")
    requirements = dict.fromkeys((*group("tests"), *group("tests", TEMPLATE)))
    install(session, "-e", str(TEMPLATE), *requirements, plugins=False)
    pytest(session, str(TEMPLATE / "tests"))


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting with ruff; ``-- --fix`` also repairs what it can."""
    session.install(*group("lint"))
    fix = "--fix" in session.posargs
    session.run("ruff", "check", *session.posargs, ".")
    session.run("ruff", "format", *([] if fix else ["--check", "--diff"]), ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of the core and of every plugin with mypy --strict."""
    install_for_tests(session, *group("types"))  # triggers_core.testing imports pytest
    sources = [str(folder / "src") for folder in (ROOT, *PLUGINS)]
    session.run("mypy", "--strict", *session.posargs, *sources)


@nox.session
def bench(session: nox.Session) -> None:
    """Run every bench/bench_*.py; what follows ``--`` goes to each of them."""
    files = sorted(ROOT.glob("bench/bench_*.py"))
    if not files:
        session.skip("bench/ has no bench_*.py")
    install_for_tests(session)
    for file in files:
        session.run("python", str(file), *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into docs/_build/html; a warning is an error."""
    if not (ROOT / "docs" / "conf.py").exists():
        session.skip("docs/conf.py is not there")
    install(session, *group("docs"))
    session.run(
        *("sphinx-build", "-W", "--keep-going", "-b", "html"),
        *session.posargs,
        *("docs", "docs/_build/html"),
    )
