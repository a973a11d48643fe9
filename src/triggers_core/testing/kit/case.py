"""For `unittest`: assertions about instances, under the names that they had in version 2."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any
from unittest import TestCase

from triggers_core.engine.records import Status
from triggers_core.exceptions import InstanceNotFound
from triggers_core.manager import TriggerManager
from triggers_core.storages.session import TaskInstance
from triggers_core.testing.kit.workbench import Triggers


class TriggerManagerTestCaseMixin(TestCase):
    """Assertions about the instances of `self.manager`, which any manager may be.

    `self.triggers` is what the fixture `triggers` is for pytest, made when it is first used.

    Example::

        class ShipTest(TriggerManagerTestCaseMixin, TestCase):
            def setUp(self):
                self.session = self.triggers.session(CONFIG)
                self.manager = self.session.manager

            def test_ships(self):
                self.session.fire("paid")
                self.session.fire("packed")
                self.assertInstanceFinished("t_ship#0", {})
    """

    manager: TriggerManager

    @cached_property
    def triggers(self) -> Triggers:
        """An isolated application with a virtual clock, until the end of the test."""
        return self.enterContext(Triggers())

    def assertInstanceStatus(self, instance_name: str, expected_status: str) -> None:
        """The instance is there, and has a status."""
        found = self._instance(instance_name)
        if found is None:
            self.fail(
                self._told(
                    f"Expected {instance_name} to be {expected_status}, but it has not been created"
                )
            )
        if found.status != expected_status:
            self.fail(
                self._told(
                    f"Expected {instance_name} to be {expected_status}, but it is {found.status}"
                )
            )

    def assertInstanceAbandoned(self, instance_name: str) -> None:
        """Its `unless` came true, or its time was up, before it could run."""
        self.assertInstanceStatus(instance_name, Status.ABANDONED)

    def assertInstanceFailed(
        self, instance_name: str, exc_type: type[BaseException] | str | None = None
    ) -> None:
        """It failed, with an error of just this type."""
        self.assertInstanceStatus(instance_name, Status.FAILED)
        if exc_type is None:
            return
        error: Mapping[str, Any] = self._there(instance_name).metadata.get("error", {})
        expected = exc_type if isinstance(exc_type, str) else _name_of(exc_type)
        if error.get("type") != expected:
            self.fail(
                self._told(
                    f"Expected {instance_name} to fail with {expected}, but it failed with"
                    f" {error.get('type')}: {error.get('message')}"
                )
            )

    def assertInstanceFinished(
        self, instance_name: str, expected_result: Mapping[str, Any] | None = None
    ) -> None:
        """It finished, with this result if one is given."""
        self.assertInstanceStatus(instance_name, Status.FINISHED)
        if expected_result is not None:
            self.assertEqual(self._there(instance_name).result, dict(expected_result))

    def assertInstanceReplayed(self, instance_name: str) -> None:
        """It failed, and another one was run in its place, by hand or by a retry."""
        self.assertInstanceStatus(instance_name, Status.REPLAYED)

    def assertInstanceSkipped(self, instance_name: str) -> None:
        """It skipped itself, or was skipped by hand."""
        self.assertInstanceStatus(instance_name, Status.SKIPPED)

    def assertInstanceUnstarted(self, instance_name: str) -> None:
        """It is there, and waits for something."""
        self.assertInstanceStatus(instance_name, Status.UNSTARTED)

    def assertInstanceMissing(self, instance_name: str) -> None:
        """It is not there: nothing that it would take has happened."""
        found = self._instance(instance_name)
        if found is not None:
            self.fail(self._told(f"Expected no instance {instance_name}, but it is {found.status}"))

    def assertUnresolvedTasks(self, task_names: Iterable[str]) -> None:
        """These tasks, and no others, have no instance or an unresolved one; in any order."""
        self.manager.join()
        found = sorted(each.name for each in self.manager.get_unresolved_tasks())
        self.assertListEqual(found, sorted(task_names), self._told("The unresolved tasks"))

    def assertUnresolvedInstances(self, instance_names: Iterable[str]) -> None:
        """These instances, and no others, are unresolved; in any order."""
        self.manager.join()
        found = sorted(each.name for each in self.manager.get_unresolved_instances())
        self.assertListEqual(found, sorted(instance_names), self._told("The unresolved instances"))

    def _instance(self, name: str) -> TaskInstance | None:
        self.manager.join()
        try:
            return self.manager.storage[name]
        except InstanceNotFound:
            return None

    def _there(self, name: str) -> TaskInstance:
        return self.manager.storage[name]

    def _told(self, problem: str) -> str:
        return f"{problem}.\n\n{self.manager.explain()}"


def _name_of(kind: type[BaseException]) -> str:
    """What the record of a failure calls a type of errors."""
    name = kind.__qualname__
    return name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}"
