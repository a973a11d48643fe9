"""How a process sees that it runs an application's tests, and a connection that it is in one."""

from __future__ import annotations

import sys

from django.db.backends.base.base import BaseDatabaseWrapper


def in_tests() -> bool:
    """Whether Django's test environment is set up, by whatever runs the tests."""
    # `setup_test_environment` makes the outbox, and its counterpart takes it away again.
    return hasattr(sys.modules.get("django.core.mail"), "outbox")


def wrapped_by_test(connection: BaseDatabaseWrapper) -> bool:
    """Whether a connection is in the transaction that `TestCase` will roll back."""
    return any(map(_of_test, connection.atomic_blocks))


def only_wrapped_by_test(connection: BaseDatabaseWrapper) -> bool:
    """Whether it is in no other one: what is done there would be committed, but for the test."""
    return wrapped_by_test(connection) and all(map(_of_test, connection.atomic_blocks))


def _of_test(block: object) -> bool:
    # Django's own mark, by which it lets `durable` blocks be within a test's ones.
    return getattr(block, "_from_testcase", False)
