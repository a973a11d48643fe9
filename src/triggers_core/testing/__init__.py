"""What tests of applications and plugins build on. Needs pytest.

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
"""

from __future__ import annotations

import pytest

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

from triggers_core.testing.clock import VirtualClock  # noqa: E402
from triggers_core.testing.crash import Crash, CrashingStore, CrashPoints  # noqa: E402
from triggers_core.testing.driver import SessionDriver  # noqa: E402
from triggers_core.testing.invariants import check_session, check_store  # noqa: E402
from triggers_core.testing.runner_contract import RunnerContract  # noqa: E402
from triggers_core.testing.storage_contract import StorageContract  # noqa: E402
from triggers_core.testing.suite import Suite  # noqa: E402

__all__ = [
    "Crash",
    "CrashPoints",
    "CrashingStore",
    "RunnerContract",
    "SessionDriver",
    "StorageContract",
    "Suite",
    "VirtualClock",
    "check_session",
    "check_store",
]
