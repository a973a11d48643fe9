"""The base of the contract suites: classes full of tests, to be derived from by plugins' tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar


class Suite:
    """Tests that are collected in subclasses only, and there by the usual prefix ``Test``.

    No ABC: pytest collects nothing, silently, from a class that leaves an abstract method out.
    No plain ``__test__ = False`` either: subclasses would inherit it and be left out as silently.
    """

    __test__: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__test__ = cls.__name__.startswith("Test")

    def test_no_promise_is_overridden(self) -> None:
        overridden = sorted(_overridden_promises(type(self)))
        assert not overridden, (
            f"{type(self).__name__} replaces promises of its contract: {', '.join(overridden)};"
            " name your own tests otherwise, and state what your plugin cannot do by the"
            " contract's capabilities"
        )


def _overridden_promises(suite: type[Suite]) -> Iterator[str]:
    """Names of tests that a class outside this package defines over one inside it."""
    package = __name__.rpartition(".")[0]
    ours = [base for base in suite.__mro__ if base.__module__.startswith(package)]
    promises = {name for base in ours for name in vars(base) if name.startswith("test_")}
    for base in suite.__mro__:
        if base not in ours:
            yield from (name for name in vars(base) if name in promises)
