"""A configuration as a graph, also drawn by Mermaid: triggers lead to tasks, tasks to tasks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from triggers_core.engine.configuration import Configuration, Task

_ESCAPED = {character: f"#{ord(character)};" for character in '#"<>&`\\;'}
"""Mermaid writes these by their number: in a label they would be quotes, markup or markdown."""


def mermaid(configuration: Configuration) -> str:
    """The flowchart. Bold arrows are `andEvery`, dotted ones `unless`.

    Example::

        print(mermaid(parse_configuration({"t_ship": {"after": ["paid"], "run": "shop.Ship"}})))
    """
    ids = _ids(configuration)
    lines = ["flowchart LR"]
    for name, node in ids.items():
        task = configuration.tasks.get(name)
        shape = f'(["{_label(name)}"])'
        if task is not None:
            shape = f'["{_label(name)}<br/><small>{_label(task.run)}</small>"]'
        lines.append(f"    {node}{shape}")
    arrows = {"after": "-->", "andEvery": "== every ==>", "unless": "-. unless .->"}
    for task in configuration.tasks.values():
        for directive, name in edges_of(task):
            arrow = arrows[directive]
            if directive == "unless" and len(task.unless) > 1:
                arrow = "-. unless all .->"
            lines.append(f"    {ids[name]} {arrow} {ids[task.name]}")
    return "\n".join(lines)


def graph_data(configuration: Configuration) -> dict[str, Any]:
    """The same as nodes and edges, for programs."""
    return {
        "tasks": [{"name": task.name, "run": task.run} for task in configuration.tasks.values()],
        "triggers": [name for name in _ids(configuration) if name not in configuration.tasks],
        "edges": [
            {"from": name, "to": task.name, "directive": directive}
            for task in configuration.tasks.values()
            for directive, name in edges_of(task)
        ],
        "mermaid": mermaid(configuration),
    }


def edges_of(task: Task) -> Iterator[tuple[str, str]]:
    """What leads to a task: (directive, trigger)."""
    yield from (("after", name) for name in task.after)
    if task.and_every is not None:
        yield "andEvery", task.and_every
    yield from (("unless", name) for name in task.unless)


def _ids(configuration: Configuration) -> dict[str, str]:
    """Name → node: names are data, and no identifiers of Mermaid's."""
    names: dict[str, None] = {}
    for task in configuration.tasks.values():
        names.update(dict.fromkeys(name for _, name in edges_of(task)))
        names[task.name] = None
    return {name: f"n{number}" for number, name in enumerate(names)}


def _label(text: str) -> str:
    return "".join(_ESCAPED.get(character, character) for character in text)
