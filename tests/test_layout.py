"""The rules of the layout (CONTRIBUTING.md, "The layout"): who may import whom."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import triggers_core

ROOT = Path(triggers_core.__file__).parents[1]
PLUGINS = sorted(Path(__file__).parents[1].glob("plugins/triggers-*/src/triggers_*"))

BELOW_THE_ENGINE = {"exceptions", "failures", "limits", "payloads", "texts"}
"""All that the engine may import of the core: it has no I/O, no clock and no thread."""

IMPURE = {"time", "threading", "asyncio", "socket", "sqlite3", "subprocess", "logging.handlers"}

ABOVE_THE_MANAGER = {"backtest", "manager", "testing"}


def modules(package: Path) -> dict[str, Path]:
    """Name → file."""
    found = {}
    for file in package.rglob("*.py"):
        parts = file.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def statements(node: ast.AST, types: bool) -> Iterator[ast.stmt]:
    """Every import, those within functions too; those for type checkers if `types`."""
    for each in ast.iter_child_nodes(node):
        if isinstance(each, ast.Import | ast.ImportFrom):
            yield each
        elif isinstance(each, ast.If) and ast.unparse(each.test) == "TYPE_CHECKING" and not types:
            for other in each.orelse:
                yield from statements(other, types)
        else:
            yield from statements(each, types)


def imports(package: Path, types: bool = False) -> dict[str, set[str]]:
    """Module → the modules that it imports, whatever they belong to."""
    known = modules(package)
    found: dict[str, set[str]] = {}
    for name, file in known.items():
        uses = found[name] = set()
        for each in statements(ast.parse(file.read_text("utf-8")), types):
            if isinstance(each, ast.Import):
                uses.update(alias.name for alias in each.names)
            elif isinstance(each, ast.ImportFrom) and each.module:
                for alias in each.names:
                    inner = f"{each.module}.{alias.name}"
                    uses.add(inner if inner in known else each.module)
        uses.discard(name)
    return found


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """The modules that import each other, directly or through others."""
    reached: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        left = [start]
        while left:
            for each in graph[left.pop()] & graph.keys():
                if each not in seen:
                    seen.add(each)
                    left.append(each)
        reached[start] = seen
    return [
        {each for each in reached[name] if name in reached[each]}
        for name in graph
        if name in reached[name]
    ]


def rooms(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The graph of the core with each package as one: what a newcomer sees."""
    result: dict[str, set[str]] = {}
    for name, uses in graph.items():
        room = room_of(name)
        if room is not None:
            others = {room_of(each) for each in uses if each.startswith("triggers_core")}
            result.setdefault(room, set()).update(o for o in others if o is not None)
            result[room].discard(room)
    return result


def room_of(name: str) -> str | None:
    parts = name.split(".")
    if parts[0] != "triggers_core" or len(parts) < 2 or parts[1] == "testing":
        return None
    return parts[1]


def floors(graph: dict[str, set[str]]) -> int:
    height: dict[str, int] = {}

    def of(name: str) -> int:
        if name not in height:
            height[name] = 1 + max((of(each) for each in graph[name]), default=0)
        return height[name]

    return max(of(name) for name in graph)


@pytest.fixture(scope="module")
def core() -> dict[str, set[str]]:
    return imports(ROOT / "triggers_core")


def test_the_engine_is_pure_and_imports_nothing_above_it() -> None:
    for name, uses in imports(ROOT / "triggers_core", types=True).items():
        if name.startswith("triggers_core.engine"):
            ours = {room_of(each) for each in uses if each.startswith("triggers_core.")}
            assert ours <= BELOW_THE_ENGINE | {"engine"}, name
            assert not uses & IMPURE, name


def test_storages_know_no_application(core: dict[str, set[str]]) -> None:
    above = {"application", "manager", "running", "runners", "tasks", "plugins", "settings"}
    for name, uses in core.items():
        if name.startswith("triggers_core.storages."):
            assert not {room_of(each) for each in uses} & above, name


def test_nothing_below_imports_the_manager(core: dict[str, set[str]]) -> None:
    for name, uses in core.items():
        if room_of(name) not in ABOVE_THE_MANAGER | {None}:
            assert "triggers_core.manager" not in uses, name


def test_views_show_what_storages_hold(core: dict[str, set[str]]) -> None:
    below = {"engine", "exceptions", "explain", "payloads", "redaction", "storages", "texts"}
    for name, uses in core.items():
        if name.startswith("triggers_core.views."):
            ours = {room_of(each) for each in uses if each.startswith("triggers_core.")}
            assert ours <= below | {"views"}, name


@pytest.mark.parametrize("package", [ROOT / "triggers_core", *PLUGINS], ids=lambda each: each.name)
def test_no_circles(package: Path) -> None:
    assert circles(imports(package)) == []


def test_there_are_few_floors(core: dict[str, set[str]]) -> None:
    assert floors(rooms(core)) <= 12
    assert len(list((ROOT / "triggers_core").glob("*.py"))) <= 16
