"""The runner `celery`, against the contract of all runners: a real broker, and a worker process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest
from celery_fleet import Fleet, until

from triggers_core.application import Application
from triggers_core.testing import RunnerContract


@pytest.fixture(scope="module")
def contract_fleet(
    tmp_path_factory: pytest.TempPathFactory, broker_databases: Iterator[str]
) -> Iterator[Fleet]:
    """A fleet with one prefork worker, which knows the tasks of the contract."""
    fleet = Fleet(tmp_path_factory.mktemp("contract"), next(broker_databases))
    fleet.configure(TRIGGER_IMPORTS=["triggers_core.testing.bodies"])
    with fleet.worker("-c", "2"):
        yield fleet
    fleet.close()


class TestCelery(RunnerContract):
    lacks: ClassVar = {"here": "bodies run in Celery's workers"}

    @pytest.fixture
    def app(self, contract_fleet: Fleet) -> Iterator[Application]:
        """The one of all tests: the worker has it, too. Each finds it without sessions."""
        app = contract_fleet.application
        clock = app.store.clock
        yield app
        app.store.clock = clock
        for session in app.store.sessions():
            app.store.delete(session.uid)

    @pytest.fixture
    def settle(self, contract_fleet: Fleet) -> Callable[[], None]:
        return lambda: until(lambda: _is_idle(contract_fleet), "the worker to be done")


def _is_idle(fleet: Fleet) -> bool:
    """Whether the worker has done all that was sent, cascades included.

    It is if it neither has nor does anything, before and after a task that was sent last, and has
    begun nothing else in between: what was sent earlier would have come first.
    """
    worker = fleet.celery_app.control.inspect(["w0@tests"], timeout=30)

    def begun() -> dict[str, int]:
        (stats,) = worker.stats().values()
        total: dict[str, int] = stats["total"]
        return total

    def has_nothing() -> bool:
        return not any((*worker.reserved().values(), *worker.active().values()))

    if not has_nothing():
        return False
    before = begun()
    expected = {**before, _LAST: before.get(_LAST, 0) + 1}
    fleet.celery_app.send_task(_LAST, retry=False)
    until(lambda: begun().get(_LAST) == expected[_LAST])
    return has_nothing() and begun() == expected


_LAST = "celery.accumulate"  # one of Celery's own, which does nothing
