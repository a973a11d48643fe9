"""What tests of applications and plugins build on. Needs pytest.

For workflows:

- `Triggers`: what the fixture `triggers` gives; `SessionUnderTest`: one of its sessions.
- `TriggerManagerTestCaseMixin`: assertions for `unittest`.

For storages, runners and other plugins:

- `VirtualClock`: time that passes when told to.
- `StorageContract`, `RunnerContract`: suites that a plugin derives its tests from.
- `check_session`, `check_store`: whether all that a store keeps agrees with itself.
- `SessionDriver`: a session driven command by command.
- `CrashingStore`, `CrashPoints`: a process that dies at the operation that you choose; and in
  `triggers_core.testing.crash_scenario`, a survey of all of them.

In modules of their own, for who needs them:

- `triggers_core.testing.model`: takes a storage and an independent specification through random
  histories. Needs hypothesis.
- `triggers_core.testing.sample_log`: a log of 3,000 events, and what `triggers_core.testing.oracle`
  says that becomes of every instance; `triggers_core.testing.replays` reads the same from a store.
- `triggers_core.testing.fake_distributions`: installed distributions with entry points.
- `triggers_core.testing.server_process`: a server of one's own, on a free port.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

try:
    import pytest
except ModuleNotFoundError as error:
    error.add_note("triggers_core.testing needs it: python -m pip install 'triggers-core[testing]'")
    raise

if TYPE_CHECKING:
    from triggers_core.testing.clock import VirtualClock
    from triggers_core.testing.driver import SessionDriver
    from triggers_core.testing.faults import Crash, CrashingStore, CrashPoints
    from triggers_core.testing.invariants import check_session, check_store
    from triggers_core.testing.kit import SessionUnderTest, TriggerManagerTestCaseMixin, Triggers
    from triggers_core.testing.runner_contract import RunnerContract
    from triggers_core.testing.storage_contract import StorageContract
    from triggers_core.testing.suite import Suite

# Before the modules are imported: pytest shows the values in their assertions, as in test files.
pytest.register_assert_rewrite(
    *(
        f"{__name__}.{module}"
        for module in (
            *("crash_scenario", "driver", "invariants", "model", "replays"),
            *("runner_contract", "storage", "storage_contract", "suite"),
        )
    )
)

_HOMES = {
    "Crash": "faults",
    "CrashPoints": "faults",
    "CrashingStore": "faults",
    "RunnerContract": "runner_contract",
    "SessionDriver": "driver",
    "SessionUnderTest": "kit",
    "StorageContract": "storage_contract",
    "Suite": "suite",
    "TriggerManagerTestCaseMixin": "kit",
    "Triggers": "kit",
    "VirtualClock": "clock",
    "check_session": "invariants",
    "check_store": "invariants",
}
"""Name → its module, which is loaded on first use: pytest loads this package wherever it is
installed."""

__all__ = [
    "Crash",
    "CrashPoints",
    "CrashingStore",
    "RunnerContract",
    "SessionDriver",
    "SessionUnderTest",
    "StorageContract",
    "Suite",
    "TriggerManagerTestCaseMixin",
    "Triggers",
    "VirtualClock",
    "check_session",
    "check_store",
]


def __getattr__(name: str) -> Any:
    try:
        module = import_module(f"{__name__}.{_HOMES[name]}")
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = globals()[name] = getattr(module, name)
    return value
