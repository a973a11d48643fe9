"""An independent specification of a session, and a state machine that compares a storage with it.

Needs hypothesis: ``pip install triggers-core[testing]``. The specification itself is
`triggers_core.testing.model.session` (the fire rule, configurations, operators) and
`triggers_core.testing.model.attempts` (workers and the sweep): plain dicts and lists, which share
no code with the engine.
"""

from __future__ import annotations

from triggers_core.testing.model.machine import OpenStore, compare_with_model

__all__ = ["OpenStore", "compare_with_model"]
