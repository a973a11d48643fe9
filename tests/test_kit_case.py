"""The test kit for `unittest`: assertions under the names of version 2."""

from __future__ import annotations

import unittest
from collections.abc import Callable
from typing import Any

import pytest

from triggers_core import Application
from triggers_core.runners import ManualRunner
from triggers_core.settings import Settings
from triggers_core.storages.memory import MemoryStore
from triggers_core.testing import TriggerManagerTestCaseMixin

CONFIG = {
    "t_ship": {"after": ["paid", "packed"], "unless": ["cancelled"], "run": "shop.Ship"},
    "t_mail": {"after": ["t_ship"], "run": "shop.Mail"},
    "t_ask": {"andEvery": "asked", "run": "shop.Ask"},
}


class ShopTest(TriggerManagerTestCaseMixin, unittest.TestCase):
    __test__ = False  # run below

    def setUp(self) -> None:
        self.session = self.triggers.session(CONFIG)
        self.manager = self.session.manager

    def test_finished(self) -> None:
        self.assertUnresolvedTasks(["t_ask", "t_mail", "t_ship"])
        self.session.returns("t_ship", {"parcel": 7})
        self.session.fire("paid")
        self.assertInstanceUnstarted(instance_name="t_ship#0")
        self.assertInstanceMissing(instance_name="t_mail#0")
        self.assertUnresolvedInstances(instance_names=["t_ship#0"])
        self.session.fire("packed")
        self.assertInstanceFinished("t_ship#0")
        self.assertInstanceFinished(instance_name="t_ship#0", expected_result={"parcel": 7})
        self.assertUnresolvedTasks(task_names=["t_ask"])

    def test_failed(self) -> None:
        self.session.fails("t_ask", ConnectionError("no network"), times=2)
        self.session.skips("t_ask")
        self.session.fire("asked")
        self.assertInstanceFailed("t_ask#0")
        self.assertInstanceFailed(instance_name="t_ask#0", exc_type=ConnectionError)
        self.manager.replay_failed_instance("t_ask#0")
        self.assertInstanceReplayed("t_ask#0")
        self.assertInstanceFailed("t_ask#1", "ConnectionError")
        self.manager.replay_failed_instance("t_ask#1")
        self.assertInstanceSkipped("t_ask#2")

    def test_abandoned(self) -> None:
        self.session.fire("paid")
        self.session.fire("cancelled")
        self.assertInstanceAbandoned("t_ship#0")


@pytest.mark.parametrize("name", ["test_finished", "test_failed", "test_abandoned"])
def test_the_assertions(name: str) -> None:
    result = unittest.TestResult()
    ShopTest(name).run(result)
    assert result.wasSuccessful(), result.errors + result.failures


@pytest.fixture
def case() -> TriggerManagerTestCaseMixin:
    """A case on a manager of any application, with a waiting, a finished and a failed instance."""
    case = TriggerManagerTestCaseMixin()
    app = Application(
        "shop", Settings.isolated(TRIGGER_PLUGINS=[]), store=MemoryStore(), runner=ManualRunner
    )
    case.manager = app.manager("order:1")
    case.manager.update_configuration(CONFIG)
    case.manager.fire("paid")
    case.manager.fire("asked")
    return case


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda case: case.assertInstanceFinished("t_ship#0"), "finished, but it is unstarted"),
        (lambda case: case.assertInstanceFinished("t_mail#0"), "it has not been created"),
        (lambda case: case.assertInstanceMissing("t_ship#0"), "but it is unstarted"),
        (lambda case: case.assertInstanceAbandoned("t_ship#0"), "to be abandoned"),
        (lambda case: case.assertInstanceReplayed("t_ship#0"), "to be replayed"),
        (lambda case: case.assertInstanceSkipped("t_ship#0"), "to be skipped"),
        (lambda case: case.assertUnresolvedTasks([]), "The unresolved tasks"),
        (lambda case: case.assertUnresolvedInstances(["t_ship#0"]), "The unresolved instances"),
        (lambda case: case.assertInstanceUnstarted("t_mail#0"), "to be unstarted"),
    ],
)
def test_a_failed_assertion_explains(
    case: Any, wrong: Callable[[TriggerManagerTestCaseMixin], None], told: str
) -> None:
    with pytest.raises(AssertionError, match=told) as caught:
        wrong(case)
    assert "waits for packed" in str(caught.value)


def test_another_error_than_expected(case: TriggerManagerTestCaseMixin) -> None:
    case.manager.join()  # no code defines shop.Ask
    case.manager.fail_instance("t_ask#0", "nobody knows it")
    with pytest.raises(AssertionError, match="to fail with ValueError, but"):
        case.assertInstanceFailed("t_ask#0", ValueError)


def test_another_result_than_expected() -> None:
    class Wrong(ShopTest):
        def test_result(self) -> None:
            self.session.fire("asked")
            self.assertInstanceFinished("t_ask#0", {"n": 1})

    result = unittest.TestResult()
    Wrong("test_result").run(result)
    [(_, told)] = result.failures
    assert "{} != {'n': 1}" in told
