"""On which storages pytest runs a test that uses the fixture `triggers`.

First one wins: ``parametrize("triggers", [...], indirect=True)`` on the test, the marker
`triggers_storage`, the option ``--triggers-storage``, the ini option of the same name, memory.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Any, Final

import pytest

FIXTURE: Final = "triggers"
MARKER: Final = "triggers_storage"
DEFAULT: Final = "memory"

_HELP: Final = (
    "what the sessions of tests with the fixture `triggers` are kept in: memory (the default),"
    " sqlite, and what installed plugins offer: redis, postgres, celery (a worker, and Redis)."
    " Several, separated by commas or by repeating the option: each test runs once for each"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--triggers-storage`` and the ini option `triggers_storage`."""
    group = parser.getgroup("triggers", "workflows (triggers-core)")
    group.addoption(
        "--triggers-storage", action="append", default=[], metavar="NAME[,NAME...]", help=_HELP
    )
    parser.addini(MARKER, f"{_HELP[0].upper()}{_HELP[1:]}", type="args", default=[])


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and refuse names that nobody offers before any test runs."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(name, ...): run this test of the fixture `triggers` on these storages, whatever"
        " --triggers-storage says",
    )
    _check(chosen(config), pytest.UsageError)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say what is used, if it is not memory alone."""
    names = chosen(config)
    return None if names in ([], [DEFAULT]) else f"triggers: storages {', '.join(names)}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once for each storage; its id shows which, unless nobody has chosen any."""
    if FIXTURE not in metafunc.fixturenames or _parametrized(metafunc.definition):
        return
    marked = _marked(metafunc.definition)
    if marked is not None:
        _check(marked, pytest.Collector.CollectError)
    names = chosen(metafunc.config) if marked is None else marked
    if names:
        metafunc.parametrize(FIXTURE, names, indirect=True)


def pytest_unconfigure() -> None:
    """Stop the servers that the tests have used."""
    providers = sys.modules.get("triggers_core.testing.kit.providers")
    if providers is not None:
        providers.end_run()


def chosen(config: pytest.Config) -> list[str]:
    """The names on the command line, else those of the ini file; each once."""
    given = _split(config.getoption("--triggers-storage"))
    return given or _split(config.getini(MARKER))


def storage_of(request: pytest.FixtureRequest) -> str:
    """The storage for one test.

    Where a test is not parametrised (it asks for the fixture by `getfixturevalue`, or is the method
    of a `unittest.TestCase`) the first one counts.
    """
    name = getattr(request, "param", None)
    if name is None:
        names = _marked(request.node) or chosen(request.config) or [DEFAULT]
        name = names[0]
    return str(name)


def _split(texts: Iterable[str]) -> list[str]:
    names = (name for text in texts for name in re.split(r"[,\s]+", text))
    return list(dict.fromkeys(name for name in names if name))


def _marked(node: pytest.Item | Any) -> list[str] | None:
    marker = node.get_closest_marker(MARKER)
    return None if marker is None else _split(marker.args)


def _parametrized(node: pytest.Item | Any) -> bool:
    for marker in node.iter_markers("parametrize"):
        names = marker.args[0] if marker.args else marker.kwargs.get("argnames", ())
        if FIXTURE in (_split([names]) if isinstance(names, str) else names):
            return True
    return False


def _check(names: list[str], error: type[Exception]) -> None:
    if not set(names) - {DEFAULT}:
        return
    from triggers_core.exceptions import UnknownKey
    from triggers_core.testing.kit.providers import check_name  # what pytest loads is kept small

    for name in names:
        try:
            check_name(name)
        except UnknownKey as problem:
            raise error(f"--triggers-storage: {problem}") from None
