"""Short ways to write guards down."""

from __future__ import annotations

from mutations.guard import Edit, Guard

ENGINE = "src/triggers_core/engine"
_MEMORY = "tests/test_storage_contract.py::TestMemory::test_"


def engine(
    name: str,
    promise: str,
    module: str,
    old: str,
    new: str,
    *tests: str,
    also: tuple[Edit, ...] = (),
) -> Guard:
    """A guard in a module of the engine; tests without a file are promises of the contract."""
    found = tuple(each if "/" in each else _MEMORY + each for each in tests)
    return Guard(name, promise, (Edit(f"{ENGINE}/{module}.py", old, new), *also), found)
