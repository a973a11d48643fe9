"""Errors of the codec: why a value cannot be part of a payload, and where in it the value is."""

from __future__ import annotations

from collections.abc import Iterator

from triggers_core.exceptions import InvalidPayload, LimitExceeded
from triggers_core.limits import Limits
from triggers_core.texts import short_repr


class Refused(Exception):
    """Why a value is refused; collects the way to it while the walk unwinds, innermost first."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        self.keys: list[object] = []

    def passes(self, source: object, key: object) -> None:
        self.keys.append(key)

    def error(self, root: str, limits: Limits) -> InvalidPayload | LimitExceeded:
        path = path_to(root, reversed(self.keys))
        return InvalidPayload(f"{path}: {self.reason}", path)


class TooLarge(Refused):
    """There is less room than needed: by `-room` bytes or more."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room


class TooDeep(Refused):
    """`held` is nested too deeply, perhaps because it holds itself."""

    def __init__(self, held: object) -> None:
        super().__init__()
        self.held = held
        self.turn: int = 0  # keys in one turn of the circle

    def passes(self, source: object, key: object) -> None:
        super().passes(source, key)
        if source is self.held:  # show the way into the circle and one turn, not all of them
            self.turn = self.turn or len(self.keys)
            del self.keys[: -self.turn]

    def error(self, root: str, limits: Limits) -> LimitExceeded:
        path = path_to(root, reversed(self.keys))
        most = limits.kwargs_depth
        if self.turn:
            reason, fix = "a circular reference, endlessly nested", "remove it"
        else:
            reason, fix = f"nested {most + 1} levels deep or more", "flatten it or raise the limit"
        return LimitExceeded(f"{path}: {reason}, but the limit kwargs_depth is {most}; {fix}")


def path_to(root: str, keys: Iterator[object]) -> str:
    """Return the path from the payload to a value: `kwargs['a'][3]`."""
    return root + "".join(f"[{short_repr(key)}]" for key in keys)


def a_kind(value: object) -> str:
    """Return what kind of thing a value is, for a message: `a set`, `an object`."""
    name = type(value).__name__
    return f"{'an' if name[:1] in 'aeiouAEIOU' else 'a'} {name}"
