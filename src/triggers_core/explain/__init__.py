"""What a task has, what it waits for, and why it did not run: in words, and as data.

`reading` loads what is told, `telling` and `instances` say it, `progress` measures conditions,
`rules` puts a configuration into words; `data` is what comes of it.
"""

from __future__ import annotations

from triggers_core.explain.data import (
    Answer,
    Explanation,
    FailedTest,
    InstanceExplained,
    Part,
    Seen,
    TaskExplained,
    Unheard,
    Unusable,
)
from triggers_core.explain.instances import holder_of
from triggers_core.explain.reading import Ask, explain
from triggers_core.explain.rules import rule_of

__all__ = [
    "Answer",
    "Ask",
    "Explanation",
    "FailedTest",
    "InstanceExplained",
    "Part",
    "Seen",
    "TaskExplained",
    "Unheard",
    "Unusable",
    "explain",
    "holder_of",
    "rule_of",
]
