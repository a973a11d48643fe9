"""A configuration as a graph, also drawn by Mermaid: triggers lead to tasks, tasks to tasks.

Between them stand gates, for what is more than a list: any of, so many of, all of.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any, Final

import msgspec

from triggers_core.engine.conditions import CALLED_OFF, REASONS, Group, Leaf
from triggers_core.engine.configuration import Configuration, Task
from triggers_core.views.wording import leaf_text, rule_notes

_ESCAPED = {character: f"#{ord(character)};" for character in '#"<>&`\\;'}
"""Mermaid writes these by their number: in a label they would be quotes, markup or markdown."""

_BARE: Final = {"after": "-->", "andEvery": "==>", "unless": "-.->", "unless all": "-.->"}
_ARROWS: Final = {
    "after": "-->",
    "andEvery": "== every ==>",
    "unless": "-. unless .->",
    "unless all": "-. unless all .->",
}
"""Directive → its arrow, without and with its name."""


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """A group of conditions."""

    id: str
    task: str
    text: str
    """Such as ``any of`` or ``2 of 3``."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What leads from a trigger or a gate to a gate or a task."""

    source: Leaf | Gate
    target: Task | Gate
    directive: str
    """``after``, ``andEvery``, ``unless``, or ``unless all`` where there are several."""


def mermaid(configuration: Configuration) -> str:
    """The flowchart. Bold arrows are `andEvery`, dotted ones `unless` or `otherwise`.

    Example::

        print(mermaid(parse_configuration({"t_ship": {"after": ["paid"], "run": "shop.Ship"}})))
    """
    ids = _ids(configuration)
    lines = ["flowchart LR"]
    for name, node in ids.items():
        task = configuration.tasks.get(name)
        shape = f'(["{_label(name)}"])'
        if task is not None:
            notes = [task.run, *rule_notes(task.rule)]
            small = "".join(f"<br/><small>{_label(note)}</small>" for note in notes)
            shape = f'["{_label(name)}{small}"]'
        lines.append(f"    {node}{shape}")
    drawn = lines_of(configuration)
    gates = [each.source for each in drawn if isinstance(each.source, Gate)]
    lines += [f'    {gate.id}{{{{"{_label(gate.text)}"}}}}' for gate in gates]
    for line in drawn:
        source = line.source.id if isinstance(line.source, Gate) else ids[line.source.trigger]
        target = line.target.id if isinstance(line.target, Gate) else ids[line.target.name]
        lines.append(f"    {source} {_arrow(line)} {target}")
    for task in configuration.tasks.values():
        for trigger, reasons in otherwise_of(task).items():
            lines.append(f"    {ids[task.name]} -. {_reasons(reasons)} .-> {ids[trigger]}")
    return "\n".join(lines)


def graph_data(configuration: Configuration) -> dict[str, Any]:
    """The same as nodes and edges, for programs.

    Edges lead from a trigger to a task; where there are gates, `from_gate` and `to_gate` stand in
    place of `from` and `to`.
    """
    drawn = lines_of(configuration)
    data: dict[str, Any] = {
        "tasks": [_task_data(task) for task in configuration.tasks.values()],
        "triggers": [name for name in _ids(configuration) if name not in configuration.tasks],
        "edges": [_line_data(line) for line in drawn],
    }
    for task in configuration.tasks.values():
        data["edges"] += [
            {"from": task.name, "to": trigger, "directive": "otherwise", "why": reasons}
            for trigger, reasons in otherwise_of(task).items()
        ]
    gates = [each.source for each in drawn if isinstance(each.source, Gate)]
    if gates:
        data["gates"] = [{"id": each.id, "task": each.task, "text": each.text} for each in gates]
    return {**data, "mermaid": mermaid(configuration)}


# -- lines -----------------------------------------------------------------------------------------


def lines_of(configuration: Configuration) -> list[Line]:
    """What leads to the tasks: to each, first what it requires, then what calls it off."""
    numbers = count()
    lines: list[Line] = []
    for task in configuration.tasks.values():
        rule = task.rule
        every = _every_member(rule.required)
        words = ["andEvery" if member is every else "after" for member in rule.required.members]
        lines += _lines(task, rule.required, words, numbers)
        if rule.unless is not None:
            amount = len(rule.unless.members)
            word = "unless" if amount == 1 else "unless all"
            lines += _lines(task, rule.unless, [word] * amount, numbers)
    return lines


def _every_member(required: Group) -> Leaf | Group | None:
    """The member of a required condition that is its `andEvery`."""
    for member in required.members:
        if isinstance(member, Leaf) and member.every:
            return member
    last = required.members[-1]
    return last if all(leaf.every for leaf in last.leaves) else None


def _lines(
    target: Task | Gate, group: Group, words: list[str], numbers: Iterator[int]
) -> Iterator[Line]:
    for member, word in zip(group.members, words, strict=True):
        if isinstance(member, Leaf):
            yield Line(source=member, target=target, directive=word)
            continue
        task = target.task if isinstance(target, Gate) else target.name
        gate = Gate(id=f"g{next(numbers)}", task=task, text=_gate_text(member))
        yield Line(source=gate, target=target, directive=word)
        inner = "unless" if word.startswith("unless") else "after"
        yield from _lines(gate, member, [inner] * len(member.members), numbers)


def _gate_text(group: Group) -> str:
    if group.all:
        return "all of"
    return "any of" if group.any else f"{group.least:,} of {len(group.members):,}"


def otherwise_of(task: Task) -> dict[str, list[str]]:
    """Trigger → why a task fires it when it does not come to a success."""
    found: dict[str, list[str]] = {}
    for why in REASONS:
        if (trigger := task.rule.otherwise.get(why)) is not None:
            found.setdefault(trigger, []).append(why)
    return found


# -- as data ---------------------------------------------------------------------------------------


def _task_data(task: Task) -> dict[str, Any]:
    data: dict[str, Any] = {"name": task.name, "run": task.run}
    if notes := rule_notes(task.rule):
        data["notes"] = notes
    return data


def _line_data(line: Line) -> dict[str, Any]:
    data: dict[str, Any] = {}
    leaf = line.source
    if isinstance(leaf, Gate):
        data["from_gate"] = leaf.id
    else:
        data["from"] = leaf.trigger
    if isinstance(line.target, Gate):
        data["to_gate"] = line.target.id
    else:
        data["to"] = line.target.name
    data["directive"] = line.directive.removesuffix(" all")
    if isinstance(leaf, Leaf):
        if leaf.key != leaf.trigger:
            data["key"] = leaf.key
        if leaf.where is not None:
            data["where"] = leaf.where.written
        if leaf.count is not None:
            data["count"] = leaf.count if isinstance(leaf.count, int) else str(leaf.count)
        if leaf.required and leaf.keep in ("latest", "all"):
            data["keeping"] = leaf.keep
    return data


# -- as Mermaid ------------------------------------------------------------------------------------


def _arrow(line: Line) -> str:
    told = leaf_text(line.source) if isinstance(line.source, Leaf) else ""
    if isinstance(line.target, Gate):
        bare, word = _BARE[line.directive], ""
    elif not told:
        return _ARROWS[line.directive]
    else:
        bare = _BARE[line.directive]
        word = {"after": "", "andEvery": "every"}.get(line.directive, line.directive)
    label = ", ".join(filter(None, (word, told)))
    return f'{bare}|"{_label(label)}"|' if label else bare


def _reasons(reasons: list[str]) -> str:
    if len(reasons) == len(REASONS):
        return "otherwise"
    return ", ".join("called off" if why == CALLED_OFF else why for why in reasons)


def _ids(configuration: Configuration) -> dict[str, str]:
    """Name → node: names are data, and no identifiers of Mermaid's."""
    names: dict[str, None] = {}
    for task in configuration.tasks.values():
        names.update(dict.fromkeys(leaf.trigger for leaf in task.rule.leaves.values()))
        names[task.name] = None
        names.update(dict.fromkeys(otherwise_of(task)))
    return {name: f"n{number}" for number, name in enumerate(names)}


def _label(text: str) -> str:
    return "".join(_ESCAPED.get(character, character) for character in text)
