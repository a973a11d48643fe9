"""What pytest says of contract suites: a line for each at the end, and errors where nothing ran."""

from __future__ import annotations

import inspect
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from triggers_core.testing.suite import Suite, promise_of

PROPERTY: Final = "triggers_contract"
"""The user property of a report that says which suite it belongs to; workers of xdist send it."""

_NOT_OFFERED: Final = "Skipped: not offered: "
_NAMED: Final = 3  # failed promises on a line; the failures themselves are above it


# -- collection -----------------------------------------------------------------------------------


def check_collectable(collector: Any, name: str, suite: type[Suite]) -> None:
    """Refuse a class of which pytest would collect nothing, silently.

    :raises pytest.Collector.CollectError: it is one, with the cure.
    """
    if suite.__module__ != collector.obj.__name__:
        return  # imported from where it is collected itself, or a base
    if not suite.__test__ and not suite.__subclasses__():
        raise collector.CollectError(
            f"{name} derives from a contract and nothing of it is collected: call it Test{name},"
            " or derive a class from it whose name begins with Test"
        )
    if suite.__test__ and inspect.isabstract(suite):
        left = ", ".join(sorted(suite.__abstractmethods__))  # type: ignore[attr-defined]
        raise collector.CollectError(
            f"{name} is abstract, and pytest collects nothing of it: it lacks {left}"
        )
    if suite.__test__ and not collector.funcnamefilter("test_the_suite_is_whole"):
        raise collector.CollectError(
            f"{name}: the option python_functions of this run leaves all promises out: they begin"
            " with test_"
        )


def mark_promises(items: Iterable[pytest.Item]) -> None:
    """Note in each test of a suite which one it belongs to, and how many there are."""
    found: dict[type[Suite], list[pytest.Function]] = {}
    for item in items:
        suite = getattr(item, "cls", None)
        if isinstance(suite, type) and issubclass(suite, Suite):
            assert isinstance(item, pytest.Function)
            if item.originalname in suite.promises:
                found.setdefault(suite, []).append(item)
    for suite, tests in found.items():
        missing = len(suite.promises) - len({each.originalname for each in tests})
        value = json.dumps([suite.called(), suite.__qualname__, len(tests), missing])
        for item in tests:
            item.user_properties.append((PROPERTY, value))


# -- the end of a run -----------------------------------------------------------------------------


@dataclass
class Tally:
    """What became of the tests of one suite."""

    name: str
    total: int
    not_asked: int
    """Promises of which the run wants nothing."""
    passed: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    """Test → its promise."""
    not_offered: dict[str, str] = field(default_factory=dict)
    """Test → capability and reason."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Test → reason."""

    def add(self, report: pytest.TestReport) -> None:
        test = report.nodeid
        if report.failed or ("xfail" in report.keywords and report.outcome == "skipped"):
            self.passed.discard(test)
            self.failed[test] = promise_of(test.rpartition("::")[2])
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
            if reason.startswith(_NOT_OFFERED):
                self.not_offered[test] = reason.removeprefix(_NOT_OFFERED)
            else:
                self.skipped[test] = reason.removeprefix("Skipped: ")
        elif report.when == "call":
            self.passed.add(test)

    def line(self) -> str:
        """``storage redis: 233/245, 12 not offered: transactions (…)``."""
        parts = [f"{self.name}: {len(self.passed)}/{self.total}"]
        if self.failed:
            named = list(dict.fromkeys(self.failed.values()))
            more = f"; and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
            parts.append(f"{len(self.failed)} failed: {'; '.join(named[:_NAMED])}{more}")
        parts += _reasons("not offered", self.not_offered.values())
        parts += _reasons("skipped", self.skipped.values())
        ended = self.passed | self.failed.keys() | self.not_offered.keys() | self.skipped.keys()
        if len(ended) < self.total:
            parts.append(f"{self.total - len(ended)} not run")
        if self.not_asked:
            parts.append(f"{self.not_asked} promises not collected")
        return ", ".join(parts)


def _reasons(what: str, reasons: Iterable[str]) -> Iterator[str]:
    for reason, amount in Counter(reasons).items():
        capability, colon, why = reason.partition(": ")
        said = f"{capability} ({why})" if colon else reason
        yield f"{amount} {what}: {said}"


def tallies(stats: Mapping[str, Sequence[Any]]) -> list[Tally]:
    """What became of each suite of a run.

    :param stats: category → reports, as pytest's terminal reporter has them.
    """
    found: dict[tuple[str, str], Tally] = {}
    for report in (each for reports in stats.values() for each in reports):
        # What was deselected is listed there as well, as items.
        properties = report.user_properties if isinstance(report, pytest.TestReport) else ()
        value = dict(properties).get(PROPERTY)
        if value is not None:
            name, qualname, total, missing = json.loads(str(value))
            place = f"{report.nodeid.partition('::')[0]}::{qualname}"
            found.setdefault((name, place), Tally(name, total, missing)).add(report)
    return [found[key] for key in sorted(found)]


def write(reporter: pytest.TerminalReporter) -> None:
    """Write a line for each suite of a run; nothing if there was none."""
    found = tallies(reporter.stats)
    if found:
        reporter.section("contracts")
        for each in found:
            reporter.write_line(each.line(), red=bool(each.failed))
