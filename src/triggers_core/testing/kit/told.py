"""Values that know what they are about, so that a failed assertion can say why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

Why = Callable[[], str]


class Count(int):
    """A number of times; compares and counts as any other number.

    Example::

        assert s.ran("t_ship") == 1
    """

    _what: str
    _why: Why

    @classmethod
    def of(cls, number: int, what: str, why: Why) -> Self:
        """:param what: what was counted, such as ``t_ship ran``."""
        count = cls(number)
        count._what, count._why = what, why
        return count

    def triggers_told(self) -> list[str]:
        """What it is about, and why: lines for the report of a failed assertion."""
        times = "once" if self == 1 else "never" if not self else f"{int(self)} times"
        return [f"{self._what} {times}", *self._why().splitlines()]


class Word(str):
    """A status; compares as any other text.

    Example::

        assert s.status("t_ship") == "finished"
    """

    __slots__ = ("_what", "_why")
    _what: str
    _why: Why

    @classmethod
    def of(cls, word: str, what: str, why: Why) -> Self:
        """:param what: what has this status, such as ``t_ship#0``."""
        text = cls(word)
        text._what, text._why = what, why
        return text

    def triggers_told(self) -> list[str]:
        """What it is about, and why: lines for the report of a failed assertion."""
        return [f"{self._what} is {self}", *self._why().splitlines()]
