"""The base of the contract suites: classes full of tests, to be derived from by plugins' tests."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

import pytest

from triggers_core.exceptions import TriggersError
from triggers_core.texts import did_you_mean

T = TypeVar("T")

_PACKAGE = __name__.rpartition(".")[0]


class SuiteMisused(TriggersError, TypeError):
    """A class derived from a contract hides one of its promises, or says what nobody can mean.

    Raised where the class is made, so that pytest reports its file as an error.
    """


def needs(capability: str) -> Callable[[T], T]:
    """Mark a test, or all tests of a theme, as being about something that not everybody offers."""

    def mark(tested: T) -> T:
        if isinstance(tested, type):
            for name, function in vars(tested).items():
                if name.startswith("test_"):
                    function.needs = capability
        else:
            tested.needs = capability  # type: ignore[attr-defined]
        return tested

    return mark


def promise_of(test: str) -> str:
    """The promise that a test stands for, in words: its name says it."""
    name, bracket, parameters = test.partition("[")
    return name.removeprefix("test_").replace("_", " ") + (f" [{parameters}" if bracket else "")


class Suite:
    """Tests that are collected in subclasses only, and there by the usual prefix ``Test``.

    No ABC: pytest collects nothing, silently, from a class that leaves an abstract method out.
    No plain ``__test__ = False`` either: subclasses would inherit it and be left out as silently.
    """

    __test__: ClassVar[bool] = False

    subject: ClassVar[str] = ""
    """What the suite is about: ``storage``, ``runner``."""
    name: ClassVar[str] = ""
    """How the report calls who is tested: ``redis``. By default what follows ``Test`` in the name
    of the class."""
    capabilities: ClassVar[Mapping[str, str]] = {}
    """What not everybody offers: capability → what that means."""
    lacks: ClassVar[Mapping[str, str]] = {}
    """The capabilities that yours does not offer: capability → why not, which the report shows. Any
    other has to hold."""
    to_override: ClassVar[frozenset[str]] = frozenset({"name", "lacks"})
    """What a derived class may define anew; everything else of the suite's is as it is."""
    promises: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """Name → test, as they were when the suite was made."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if _is_ours(cls):
            own = {name: each for name, each in vars(cls).items() if name.startswith("test_")}
            inherited = [base.promises for base in cls.__bases__ if issubclass(base, Suite)]
            cls.promises = MappingProxyType({k: v for d in (*inherited, own) for k, v in d.items()})
            cls.__test__ = False
            return
        cls.__test__ = cls.__name__.startswith("Test")
        problems = [*cls.tampered_with(), *_unclear(cls)]
        if problems:
            raise SuiteMisused(f"{cls.__module__}.{cls.__qualname__}: {'; '.join(problems)}")

    @classmethod
    def tampered_with(cls) -> Iterator[str]:
        """What keeps the class from being the whole suite, with the cure; nothing, as a rule."""
        ours = {name for base in cls.__mro__ if _is_ours(base) for name in vars(base)}
        for base in cls.__mro__:
            if not _is_ours(base) and base is not object:
                names = sorted(ours.intersection(vars(base)) - cls.to_override)
                for name in (each for each in names if not each.startswith("_")):
                    kind = "the promise" if name in cls.promises else "the suite's own"
                    yield (
                        f"{base.__name__} replaces {kind} {name}: name what is your own"
                        " otherwise, and say in `lacks` what yours does not offer, and why"
                    )
                if "__init__" in vars(base):
                    yield f"{base.__name__} has an __init__, and pytest collects no such class"
        for name, test in cls.promises.items():
            if getattr(cls, name, None) is not test and not any(
                name in vars(base) for base in cls.__mro__ if not _is_ours(base)
            ):
                yield f"the promise {name} was removed or replaced: leave the suite as it is"

    @classmethod
    def called(cls) -> str:
        """How the report calls the suite: ``storage redis``."""
        words = cls.name or _words(cls.__name__.removeprefix("Test"))
        return f"{cls.subject} {words}".strip()

    @pytest.fixture(autouse=True)
    def promise(self, request: pytest.FixtureRequest) -> str:
        """Names the promise in the report of a failure; skips what is not offered."""
        sentence = promise_of(request.node.name)
        explained = inspect.getdoc(request.function)
        text = f"{type(self).called()}: {sentence}" + (f"\n{explained}" if explained else "")
        if request.node.originalname in self.promises:
            request.node.add_report_section("setup", "promise", text)
        needed = getattr(request.function, "needs", None)
        if needed is not None and needed in self.lacks:
            pytest.skip(f"not offered: {needed}: {self.lacks[needed]}")
        return sentence

    def undeclared(self, capability: str, cure: str) -> str:
        """What to say of a capability that is neither offered nor declared as missing."""
        return (
            f"{type(self).__name__} says nothing of {capability!r}"
            f" ({self.capabilities[capability]}): {cure},"
            f' or say in the class why there is none: lacks = {{"{capability}": "…"}}'
        )

    def test_the_suite_is_whole(self) -> None:
        """No promise was replaced or removed after the class was made."""
        problems = list(self.tampered_with())
        assert not problems, "; ".join(problems)


Suite.promises = MappingProxyType({"test_the_suite_is_whole": Suite.test_the_suite_is_whole})


def _is_ours(suite: type) -> bool:
    return suite.__module__ == _PACKAGE or suite.__module__.startswith(f"{_PACKAGE}.")


def _unclear(suite: type[Suite]) -> Iterator[str]:
    """What is wrong with the capabilities that a class says it lacks."""
    for name, reason in suite.lacks.items():
        if name not in suite.capabilities:
            yield f"lacks: no capability {name!r}{did_you_mean(name, suite.capabilities)}"
        elif not isinstance(reason, str) or not reason.strip():
            yield f"lacks: expected the reason why there is no {name!r}, got {reason!r}"


def _words(name: str) -> str:
    """``SpreadRedis`` → ``spread redis``."""
    return "".join(f" {each.lower()}" if each.isupper() else each for each in name).strip()
