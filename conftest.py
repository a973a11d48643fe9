"""For the tests of the core and of every plugin."""

import signal

import pytest
from hypothesis import HealthCheck, settings

# No test asserts a duration, and a busy machine is no bug.
settings.register_profile("triggers", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("triggers")

# A shell ignores SIGINT for what it runs in the background, and tests would hand that on.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Trace bytecodes first: processes that had run for long were seen to spin in it (3.11)."""
    items.sort(key=lambda item: "traces" not in item.keywords)


def pytest_addoption(parser: pytest.Parser) -> None:
    """For `nox -s browser`."""
    parser.addoption("--renew", action="store_true", help="make the pictures of the docs anew")
