"""A guard, and what it would be to be without it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Edit:
    """A change of a source file: a text that is in it once, and what stands there instead.

    :ivar file: from the repository's root.
    """

    file: str
    old: str
    new: str

    def applied(self, text: str) -> str:
        """The file's text with the change.

        :raises ValueError: the old text is not there, or more than once.
        """
        found = text.count(self.old)
        if found != 1:
            raise ValueError(
                f"{self.file}: expected this once, found it {found} times; say in the table of"
                f" guards (tests/mutations) how it reads now:\n{self.old}"
            )
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Guard:
    """Something in the code that keeps a promise, and the tests that must notice its absence.

    :ivar name: unique in the table.
    :ivar promise: what would no longer be true.
    :ivar edits: take the guard out, so that the code still runs.
    :ivar tests: ids for pytest, seconds in all; at least one of them has to fail.
    """

    name: str
    promise: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]
