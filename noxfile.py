"""The project's chores: ``python -m pip install nox``, then ``python -m nox -s NAME``.

Without ``-s``, the sessions that a change must pass run: lint, types and tests. What follows ``--``
is handed on: ``python -m nox -s tests -- -k sqlite -x``. ``python -m nox -l`` lists the sessions.
"""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import nox
from nox.project import dependency_groups, load_toml
from packaging.requirements import Requirement

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "tests"]

ROOT = Path()  # nox works in the folder of this file
TEMPLATE = ROOT / "plugins" / "_template"
STORAGE = ROOT / "examples" / "directory_storage"
PLUGINS = sorted(file.parent for file in ROOT.glob("plugins/triggers-*/pyproject.toml"))

KNOWN_TYPES = 0.99
"""The part of the public API whose types pyright has to know without guessing."""

QUICK = "not slow and not long and not browser"
"""What is no part of the sessions `slow` and `browser`."""

HANG = 600
"""Seconds after which a test counts as hung; far above what any test takes."""


def group(name: str, folder: Path = ROOT) -> tuple[str, ...]:
    """Return the requirements of a dependency group of `folder`'s pyproject.toml, if it has it.

    Read here, not by ``pip install --group``: that needs pip 25.1, and Python 3.11 may bring 23.2.
    """
    project = load_toml(folder / "pyproject.toml")
    return dependency_groups(project, name) if name in project.get("dependency-groups", {}) else ()


def lower_bounds() -> Iterator[str]:
    """The oldest supported version of what the core, its extra `testing` and the plugins need."""
    for folder in (ROOT, *PLUGINS):
        project = load_toml(folder / "pyproject.toml")["project"]
        extras = project.get("optional-dependencies", {})
        for line in (*project["dependencies"], *extras.get("testing", ())):
            requirement = Requirement(line)
            if not requirement.name.startswith("triggers-"):
                [bound] = [each for each in requirement.specifier if each.operator == ">="]
                yield f"{requirement.name}=={bound.version}"


def install(
    session: nox.Session, *requirements: str, plugins: bool = True, testing: bool = False
) -> None:
    """Install the core, its plugins and `requirements`: in one go, so that pip sees every bound."""
    core = f"{ROOT}[testing]" if testing else str(ROOT)
    folders = [core, *(str(folder) for folder in PLUGINS if plugins)]
    editable = [part for folder in folders for part in ("-e", folder)]
    session.install(*editable, *requirements)


def tests_of(*folders: Path) -> list[str]:
    """What their groups `tests` need, but for what is ours: that is installed from here."""
    lines = [line for folder in folders for line in group("tests", folder)]
    return list(dict.fromkeys(line for line in lines if not line.startswith("triggers-")))


def install_for_tests(session: nox.Session, *requirements: str) -> None:
    """Install everything that the tests of the core and of all plugins need."""
    install(session, *tests_of(ROOT, *PLUGINS), *requirements, testing=True)


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
    pytest(session, "-n", "2", "--dist", "worksteal", "-m", QUICK)


@nox.session
def slow(session: nox.Session) -> None:
    """Run the tests that compute for long, then those that kill processes, one at a time."""
    install_for_tests(session)
    pytest(session, "-n", "2", "--dist", "worksteal", "--durations=20", "-m", "long and not slow")
    pytest(session, "--durations=20", "-m", "slow and not fleet")


@nox.session
def browser(session: nox.Session) -> None:
    """Use the pages in Chromium, of the system's packages; ``-- --renew`` renews their pictures."""
    install_for_tests(session)
    pytest(session, "--durations=10", "-rs", "-m", "browser")


@nox.session
def fleet(session: nox.Session) -> None:
    """Kill a fleet of Celery workers through a whole event log: minutes, and a line at the end."""
    install_for_tests(session)
    pytest(session, "-m", "fleet", "-s")


@nox.session
def mutations(session: nox.Session) -> None:
    """Take each guard of the protocol out of the code in turn: tests have to fail every time."""
    install_for_tests(session)
    session.run("python", "-m", "mutations.run", *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session
def survivors(session: nox.Session) -> None:
    """Try random mutants of the engine, for half an hour; show those that no test notices."""
    install_for_tests(session, *group("mutants"))
    session.run("python", "-m", "mutations.sample", *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session
def fuzz(session: nox.Session) -> None:
    """Compare the engine with the oracle of the language on fresh scenarios, 10,000 at a time."""
    install_for_tests(session)
    session.env["TRIGGERS_WORDS_SEED"] = "fresh"
    pytest(session, "-n", "2", "--dist", "worksteal", "-k", "as_the_oracle", "tests/test_words.py")


@nox.session
def oldest(session: nox.Session) -> None:
    """Run the tests about plugins, and those of the plugins, on the oldest versions supported."""
    if sys.version_info >= (3, 14):
        session.skip("there is no wheel of the oldest msgspec for this Python")
    install_for_tests(session, *lower_bounds())
    # -k looks at paths too, so that all of plugins/ is in. Where a signal handler interrupts an old
    # redis-py in its own code, its own error comes out: nothing that a lower bound promises.
    # What tests our own code alone is left to the session tests: variants of a contract, and the
    # models, which an old Hypothesis takes minutes for.
    ours = ("TestSpread", "TestOverflowing", "model_says", "sweeps_decide")
    which = " and not ".join(("(plugin or hook)", *ours))
    pytest(session, "-n", "2", "-m", f"{QUICK} and not traces", "-k", which)


@nox.session
def coverage(session: nox.Session) -> None:
    """Run the core's tests; the lines and branches that they reach must not become fewer."""
    install_for_tests(session)
    pytest(session, "-n", "2", "-m", QUICK, "--cov", "--cov-report=term-missing", "tests")


@nox.session
def template(session: nox.Session) -> None:
    """Run the tests of the plugin template: what authors copy has to work."""
    if not (TEMPLATE / "pyproject.toml").exists():
        session.skip("plugins/_template is not there")
    install(session, "-e", str(TEMPLATE), *tests_of(ROOT, TEMPLATE), plugins=False, testing=True)
    pytest(session, str(TEMPLATE / "tests"))


@nox.session
def dist(session: nox.Session) -> None:
    """Build every distribution into dist/, as a release does, and look at what is in it."""
    session.install(*group("dist"))
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    for folder in (ROOT, *PLUGINS):
        session.run("python", "-m", "build", "--no-isolation", "--outdir", "dist", str(folder))
    files = sorted((ROOT / "dist").iterdir())
    session.run("twine", "check", "--strict", *map(str, files))
    licence = (ROOT / "LICENSE").read_bytes()
    for file in files:
        if licence not in contents(file, "LICENSE"):
            session.error(f"{file} is without the text of the licence")
    if len(files) != 2 * (1 + len(PLUGINS)):
        session.error(f"{len(files)} files were built: a wheel or an sdist is missing")


def contents(archive: Path, name: str) -> list[bytes]:
    """The contents of the files of a name in a wheel or an sdist."""
    if archive.suffix == ".whl":
        with ZipFile(archive) as wheel:
            return [wheel.read(each) for each in wheel.namelist() if Path(each).name == name]
    with tarfile.open(archive) as sdist:
        found = [sdist.extractfile(each) for each in sdist if Path(each.name).name == name]
        return [file.read() for file in found if file is not None]


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting with ruff, and spelling; ``-- --fix`` also repairs style.

    The plugin template also has to pass ruff's defaults: whoever copies it has not our settings.
    """
    session.install(*group("lint"))
    fix = "--fix" in session.posargs
    session.run("ruff", "check", *session.posargs, ".")
    session.run("ruff", "format", *([] if fix else ["--check", "--diff"]), ".")
    with session.chdir(TEMPLATE):
        session.run("ruff", "check", "--isolated", ".")
        session.run("ruff", "format", "--isolated", "--check", "--diff", ".")
    texts = [str(file) for file in sorted(ROOT.glob("*.md"))]
    session.run("codespell", *texts, "docs", "src", "plugins", "examples", "bench")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of everything with mypy --strict, and of the public API with pyright too."""
    install_for_tests(session, *group("types"))  # triggers_core.testing imports pytest
    sources = [str(folder / "src") for folder in (ROOT, *PLUGINS, STORAGE)]
    session.run("mypy", "--strict", *session.posargs, *sources, "tests/typing")
    session.env["PYRIGHT_PYTHON_IGNORE_WARNINGS"] = "1"  # of newer ones, which it would ask for
    session.run("pyright", "tests/typing")
    # pyright itself answers 1 for anything below 100 %.
    verify = ("pyright", "--verifytypes", "triggers_core", "--ignoreexternal")
    told = session.run(*verify, "--outputjson", silent=True, success_codes=[0, 1])
    complete = json.loads(told)["typeCompleteness"]["completenessScore"]
    session.log(f"triggers_core: {complete:.2%} of what is public has a known type")
    if complete < KNOWN_TYPES:
        session.run(*verify)  # says what is missing


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
    """Build the documentation into docs/_build/html; a warning is an error. Then look at it.

    It is searched and, where the system has Chromium, has to fit a telephone.
    """
    install(session, *group("docs"), testing=True)
    # -E: what is generated changes with the code, and not with its page.
    session.run(
        *("sphinx-build", "-E", "-W", "--keep-going", "-b", "html"),
        *session.posargs,
        *("docs", "docs/_build/html"),
    )
    checks = ("tests/site/reference.py", "tests/site/search.py", "tests/site/narrow.py")
    session.run("python", "-m", "pytest", "-rs", "-p", "no:cacheprovider", *checks)
