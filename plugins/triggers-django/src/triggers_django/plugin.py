"""The plugin `django`: hooks for every process in which the distribution is installed.

It imports nothing of Django before a body runs in a process that has it set up.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from typing import Any

from triggers_core import TaskContext, hookimpl


@hookimpl
def body_context(context: TaskContext) -> AbstractContextManager[Any] | None:
    """Close the connections that have become unusable or too old, around each body."""
    apps: Any = sys.modules.get("django.apps")
    if apps is None or not apps.apps.ready:
        return None
    from triggers_django.connections import BodyConnections  # needs Django's settings

    return BodyConnections()
