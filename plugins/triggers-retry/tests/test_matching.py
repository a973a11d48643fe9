"""Which errors a name in `on` and `exceptOn` stands for."""

from __future__ import annotations

import asyncio
import json
import sys
from types import ModuleType

import pytest

from triggers_core.exceptions import (
    InvalidResult,
    MaxRetriesExceeded,
    SoftTimeLimitExceeded,
    TaskFailure,
    TimeLimitExceeded,
    TriggersError,
)
from triggers_retry.matching import check_class_name, named


class Outer:
    class Inner(Exception):
        pass


class Panic(BaseException):
    pass


HERE = __name__

NAMES = [
    (ValueError(), "ValueError", True),
    (ValueError(), "builtins.ValueError", True),
    (ValueError(), "Exception", True),
    (ValueError(), "BaseException", True),
    (ValueError(), "object", True),
    (ValueError(), "TypeError", False),
    (ValueError(), "my.ValueError", False),
    (FileNotFoundError(), "OSError", True),
    (FileNotFoundError(), "IOError", False),  # the class does not know this name of its own
    (FileNotFoundError(), "builtins.IOError", True),
    (json.JSONDecodeError("x", "", 0), "json.JSONDecodeError", True),
    (json.JSONDecodeError("x", "", 0), "json.decoder.JSONDecodeError", True),
    (json.JSONDecodeError("x", "", 0), "JSONDecodeError", True),
    (json.JSONDecodeError("x", "", 0), "json.ValueError", False),
    (TimeoutError(), "asyncio.TimeoutError", True),
    (TimeoutError(), "asyncio.CancelledError", False),
    (Outer.Inner(), "Inner", True),
    (Outer.Inner(), f"{HERE}.Outer.Inner", True),
    (Outer.Inner(), f"{HERE}.Inner", False),
    # What the core raises to end an attempt is known by its own names only.
    (MaxRetriesExceeded(), "Exception", False),
    (MaxRetriesExceeded(), "TriggersError", False),
    (InvalidResult(), "TypeError", False),
    (InvalidResult(), "InvalidResult", True),
    (InvalidResult(), "TaskFailure", True),
    (TaskFailure(), "triggers_core.exceptions.TaskFailure", True),
    (TriggersError(), "Exception", True),
    (TimeLimitExceeded(), "Exception", True),
    (SoftTimeLimitExceeded(), "SoftTimeLimitExceeded", True),
    (SoftTimeLimitExceeded(), "TimeoutError", False),
    # Kept from `except Exception`, not from being tried again.
    (Panic(), "Exception", True),
    (Panic(), "ValueError", False),
    (SystemExit(), "Exception", False),
    (KeyboardInterrupt(), "Exception", False),
    (asyncio.CancelledError(), "Exception", False),
    (SystemExit(), "SystemExit", True),
]


@pytest.mark.parametrize(("error", "name", "matches"), NAMES)
def test_names(error: BaseException, name: str, matches: bool) -> None:
    assert named(error, [name]) == (name if matches else None)


def test_the_first_name_that_fits_is_told() -> None:
    assert named(KeyError(), ["ValueError", "LookupError", "KeyError"]) == "LookupError"
    assert named(KeyError(), []) is None


def test_nothing_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = ModuleType("lazy_module")
    asked: list[str] = []
    lazy.__dict__["__getattr__"] = asked.append  # a module that would import on demand
    monkeypatch.setitem(sys.modules, "lazy_module", lazy)
    before = set(sys.modules)
    assert named(ValueError(), ["lazy_module.ValueError", "antigravity.ValueError"]) is None
    assert not asked
    assert set(sys.modules) == before


@pytest.mark.parametrize("name", ["", "a b", ".Timeout", "requests.", "a..b", "1x", "x-y", "*"])
def test_no_names(name: str) -> None:
    with pytest.raises(ValueError, match="expected the name of an exception class"):
        check_class_name(name)


def test_asyncio_is_loaded_for_the_test_above() -> None:
    assert asyncio.TimeoutError is TimeoutError
