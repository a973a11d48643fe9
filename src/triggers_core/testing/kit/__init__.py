"""The test kit for workflows: what the pytest fixture `triggers` gives, and a mixin for `unittest`.

`workbench` is the fixture's value, `session` one session in a test; `places` where they live.
"""

from __future__ import annotations

from triggers_core.testing.kit.case import TriggerManagerTestCaseMixin
from triggers_core.testing.kit.places import Place, open_place
from triggers_core.testing.kit.session import SessionUnderTest
from triggers_core.testing.kit.workbench import Triggers

__all__ = ["Place", "SessionUnderTest", "TriggerManagerTestCaseMixin", "Triggers", "open_place"]
