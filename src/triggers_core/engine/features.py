"""Features: the words of the language beyond the first version, and who understands them.

A session's `requires` names those that its configuration uses, with the version that introduced
them (``feature:any-of>=0.2``), so that an older process can say what to install.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

FEATURE: Final = "feature:"
"""How a session's `requires` tells features of the core from plugins."""

FEATURES: Final[Mapping[str, str]] = dict.fromkeys(
    (
        "any-of",
        "as",
        "at-least",
        "every-time",
        "keeping",
        "lists",
        "otherwise",
        "waiting",
        "where",
        "within",
    ),
    "0.2",
)
"""Feature → the version of triggers-core that introduced it; all that this one understands."""


def requirement(feature: str) -> str:
    """A feature as `requires` names it.

    Example::

        requirement("any-of")  # "feature:any-of>=0.2"
    """
    version = FEATURES.get(feature)
    return f"{FEATURE}{feature}>={version}" if version else f"{FEATURE}{feature}"


UNDERSTOOD: Final = frozenset(map(requirement, FEATURES))
"""The features that this process knows, as `requires` names them."""


def is_understood(required: str) -> bool:
    """Whether what a session requires is a feature that this process knows, as it knows it."""
    return required in UNDERSTOOD


def unknown_features(requires: Iterable[str]) -> dict[str, str]:
    """What a session requires of the core and this process does not understand.

    A known feature with another version counts as unknown: its shape may have changed.

    :return: feature → the version to install; an empty text where the session does not say.
    """
    found = {}
    for each in sorted(requires):
        if each.startswith(FEATURE):
            feature, _, version = each.removeprefix(FEATURE).partition(">=")
            if not is_understood(each):
                found[feature] = version
    return found


def newest(versions: Iterable[str]) -> str:
    """The newest of several versions; an empty text when none is known."""
    return max((each for each in versions if each), key=_order, default="")


def _order(version: str) -> list[int]:
    return [int(part) if part.isdecimal() else 0 for part in version.split(".")]
