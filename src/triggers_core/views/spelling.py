"""Near-duplicate names: pairs that look like one name and a typing error."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher
from itertools import combinations
from typing import Final

_SHORTEST: Final = 5  # letters: shorter words are one letter away from far too many others
_OPPOSITES: Final = ("un", "in", "im", "ir", "il", "de", "re", "dis", "non", "pre", "t_", "not")
"""What two names may differ by at their beginning and both be meant: locked, unlocked."""


def alike(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of names that differ by one slip, or by nothing but case, blanks and punctuation.

    A slip is a letter too many, too few or wrong, or two that have changed places (Damerau's, which
    make up four in five misspellings). Names that differ in a digit (``page1``, ``page2``) or in
    a capital that counts on (``stepA``, ``stepB``) are meant.

    Example::

        alike(["pageReceived", "pageRecieved", "paid"])  # [('pageReceived', 'pageRecieved')]
    """
    buckets: dict[str, set[str]] = {}
    for name in names:
        plain = _plain(name)
        keys = {"=" + plain}
        if len(plain) >= _SHORTEST:
            # Names one slip apart share what is left when the place of the slip is taken out.
            keys |= {plain[:at] + plain[at + 1 :] for at in range(len(plain))} | {plain}
        for key in keys:
            buckets.setdefault(key, set()).add(name)
    pairs = {
        tuple(sorted(pair))
        for bucket in buckets.values()
        if len(bucket) > 1
        for pair in combinations(bucket, 2)
    }
    return sorted(
        (one, other)
        for one, other in pairs
        if _one_slip(_plain(one), _plain(other)) and not _meant(one, other)
    )


def _one_slip(one: str, other: str) -> bool:
    """Whether two that share what is left without a letter each differ by one slip."""
    if len(one) != len(other):
        return True
    differ = [at for at, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
    if len(differ) < 2:
        return True
    first, last = differ[0], differ[-1]
    return last == first + 1 and one[first] == other[last] and one[last] == other[first]


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _meant(one: str, other: str) -> bool:
    """Whether two names that are close differ on purpose."""
    if _plain(one) == _plain(other):
        return one in (f"t_{other}", f"T_{other}") or other in (f"t_{one}", f"T_{one}")
    left, right = one.casefold(), other.casefold()
    if any(left == prefix + right or right == prefix + left for prefix in _OPPOSITES):
        return True
    changed = []
    for kind, a, b, c, d in SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        if kind != "equal":
            changed.append((one[a:b], other[c:d]))
    if any(letter.isdigit() for pair in changed for letter in "".join(pair)):
        return True
    # stepA and stepB; but PAGERECEIVED is shouted, not counted.
    return len(changed) == 1 and all(
        len(part) == 1 and part.isupper() and not name.isupper()
        for part, name in zip(changed[0], (one, other), strict=True)
    )
