"""A configuration drawn as SVG, by the state of a session: no script, no style, all text escaped.

Colours come from classes (``state-failed``, ``line-unless``, …) of the page that holds the drawing;
what they say is written beside them, too. Without such a page, it is black on white.
"""

from __future__ import annotations

from html import escape
from typing import Final, NamedTuple
from unicodedata import east_asian_width

import msgspec

from triggers_core.engine.conditions import CALLED_OFF, REASONS, Leaf
from triggers_core.engine.configuration import Configuration
from triggers_core.engine.records import Header, Status
from triggers_core.redaction import mask_url
from triggers_core.texts import count
from triggers_core.views.graph import Gate, lines_of, otherwise_of
from triggers_core.views.layers import layers_of
from triggers_core.views.wording import leaf_text, rule_notes

MOST_NODES: Final = 200
MOST_LINES: Final = 500
"""What is larger is not drawn: nobody could read it."""

_LETTER, _LINE = 7.3, 17.0  # pixels of a letter, and of a line of text, at 13 pixels
_PAD, _GAP_X, _GAP_Y, _EDGE = 9.0, 84.0, 16.0, 12.0
_LONGEST: Final = 30  # letters of a text in a node; its title has all of them
_LABEL: Final = 24

_STATES: Final = (
    (Status.FAILED, "✗"),
    (Status.RUNNING, "▶"),
    (Status.SCHEDULED, "▷"),
    (Status.UNSTARTED, "…"),
    (Status.FINISHED, "✓"),
    (Status.SKIPPED, "»"),
    (Status.REPLAYED, "↻"),
    (Status.ABANDONED, "–"),
)
"""What a task with several instances is coloured by: the first that there is. And its sign."""
_SAID: Final = {Status.UNSTARTED: "waiting"}


class _Node(msgspec.Struct, kw_only=True):
    kind: str
    state: str
    lines: list[str]
    title: str
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    height: float = 0.0


class _Line(msgspec.Struct, frozen=True, kw_only=True):
    source: str
    target: str
    kind: str
    label: str = ""
    title: str = ""


class Drawing(NamedTuple):
    """A graph, or why there is none."""

    svg: str
    """An element ``<svg …>``; empty when it was not drawn…"""
    note: str
    """…and then, a sentence that says why."""


def draw(configuration: Configuration, header: Header | None = None) -> Drawing:
    """A configuration as an SVG element; with a header, coloured and labelled by its session.

    More than `MOST_NODES` nodes or `MOST_LINES` lines are not drawn.

    Example::

        Path("shop.svg").write_text(draw(manager.storage.configuration).svg)
    """
    nodes, lines = _graph(configuration, header)
    if not nodes:
        return Drawing("", "There are no tasks to draw.")
    if len(nodes) > MOST_NODES or len(lines) > MOST_LINES:
        size = f"{count(len(nodes), 'node')} and {count(len(lines), 'line')}"
        note = f"The graph has {size}: too many to be read. The tasks are listed one by one."
        return Drawing("", note)
    width, height = _place(nodes, lines)
    drawn = [_draw_line(line, nodes, height) for line in lines]
    drawn += [_draw_node(node) for node in nodes.values()]
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    tasks = count(len(configuration.tasks), "task")
    drawing = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="graph" role="img" {size}'
        ' font-family="system-ui, sans-serif" font-size="13">'
        f"<title>The graph of {tasks}</title>"
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7"'
        ' markerHeight="7" orient="auto-start-reverse"><path class="arrow" d="M0 0 8 4 0 8z"/>'
        f"</marker></defs>{''.join(drawn)}</svg>"
    )
    return Drawing(drawing, "")


def svg(configuration: Configuration, header: Header | None = None) -> str:
    """As `draw`; empty where nothing is drawn."""
    return draw(configuration, header).svg


# -- what is drawn ---------------------------------------------------------------------------------


def _graph(
    configuration: Configuration, header: Header | None
) -> tuple[dict[str, _Node], list[_Line]]:
    """Nodes by a key of their kind: a name is data, and may look like anything."""
    nodes: dict[str, _Node] = {}
    lines: list[_Line] = []
    tasks = configuration.tasks

    def key_of(name: str) -> str:
        key = f"t:{name}"
        if key not in nodes:
            nodes[key] = _trigger(name, header)
        return key

    for name, task in tasks.items():
        state, said = _task_state(name, header)
        texts = [name, *([said] if said else []), *rule_notes(task.rule)]
        title = f"Task {name}, which runs {task.run}{f': {said}' if said else ''}"
        nodes[f"t:{name}"] = _Node(kind="task", state=state, lines=texts, title=title)
    for line in lines_of(configuration):
        if isinstance(line.source, Gate):
            gate = line.source
            source, label = f"g:{gate.id}", ""
            title = f"{gate.text}, for {gate.task}"
            nodes[source] = _Node(kind="gate", state="none", lines=[gate.text], title=title)
        else:
            source, label = key_of(line.source.trigger), mask_url(leaf_text(line.source))
        to_gate = isinstance(line.target, Gate)
        target = f"g:{line.target.id}" if isinstance(line.target, Gate) else f"t:{line.target.name}"
        words = [] if line.directive == "after" or to_gate else [_word(line.directive)]
        lines.append(
            _Line(
                source=source,
                target=target,
                kind=line.directive.removesuffix(" all"),
                label=", ".join(filter(None, [*words, label])),
                title=_line_title(line.source, line.directive),
            )
        )
    for task in tasks.values():
        for trigger, reasons in otherwise_of(task).items():
            label = "otherwise" if len(reasons) == len(REASONS) else ", ".join(map(_why, reasons))
            lines.append(
                _Line(
                    source=f"t:{task.name}",
                    target=key_of(trigger),
                    kind="otherwise",
                    label=label,
                    title=f"{task.name} fires {trigger}: {label}",
                )
            )
    return nodes, lines


def _trigger(name: str, header: Header | None) -> _Node:
    fired = header is not None and name in header.latest
    said = "✓ fired" if fired else "not fired yet"
    texts = [name] if header is None else [name, said]
    title = f"Trigger {name}{f': {said}' if header is not None else ''}"
    state = "none" if header is None else "fired" if fired else "unfired"
    return _Node(kind="trigger", state=state, lines=texts, title=title)


def _task_state(task: str, header: Header | None) -> tuple[str, str]:
    """The state by which a task is coloured, and how many of its instances are where."""
    if header is None:
        return "none", ""
    found = [
        (status, sign, amount) for status, sign in _STATES if (amount := header.count(task, status))
    ]
    if not found:
        return "none", "not begun"
    told = [
        f"{sign} {amount:,} {_SAID.get(status, status.value)}" for status, sign, amount in found
    ]
    more = f", {len(told) - 2} more" if len(told) > 2 else ""
    return found[0][0].value, f"{', '.join(told[:2])}{more}"


def _line_title(source: Leaf | Gate, directive: str) -> str:
    name = source.text if isinstance(source, Gate) else source.trigger
    return f"{_word(directive)} {name}"


def _word(directive: str) -> str:
    return "every" if directive == "andEvery" else directive


def _why(reason: str) -> str:
    return "called off" if reason == CALLED_OFF else reason


# -- where -----------------------------------------------------------------------------------------


def _place(nodes: dict[str, _Node], lines: list[_Line]) -> tuple[float, float]:
    """Give every node its place; the size of the whole."""
    for node in nodes.values():
        longest = max(_width(_cut(text, _LONGEST)) for text in node.lines)
        node.width = longest + 2 * _PAD + (10 if node.kind != "task" else 0)
        node.height = len(node.lines) * _LINE + _PAD
    layers = layers_of(list(nodes), [(line.source, line.target) for line in lines])
    heights = [
        sum(nodes[key].height for key in layer) + _GAP_Y * (len(layer) - 1) for layer in layers
    ]
    tallest, x = max(heights), _EDGE
    for layer, height in zip(layers, heights, strict=True):
        y = _EDGE + (tallest - height) / 2
        wide = max(nodes[key].width for key in layer)
        for key in layer:
            node = nodes[key]
            node.x, node.y = x + (wide - node.width) / 2, y
            y += node.height + _GAP_Y
        x += wide + _GAP_X
    back = any(nodes[each.target].x <= nodes[each.source].x for each in lines)
    return x - _GAP_X + _EDGE, tallest + 2 * _EDGE + (40 if back else 0)


def _width(text: str) -> float:
    letters = sum(2 if east_asian_width(each) in "WF" else 1 for each in text)
    return letters * _LETTER


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


# -- as SVG ----------------------------------------------------------------------------------------


def _draw_line(line: _Line, nodes: dict[str, _Node], height: float) -> str:
    source, target = nodes[line.source], nodes[line.target]
    x1, y1 = source.x + source.width, source.y + source.height / 2
    x2, y2 = target.x, target.y + target.height / 2
    if x2 > x1:
        bend = max(24.0, (x2 - x1) / 2)
        path = f"M{x1:.1f} {y1:.1f}C{x1 + bend:.1f} {y1:.1f} {x2 - bend:.1f} {y2:.1f} "
        label_x, label_y = (x1 + x2) / 2, (y1 + y2) / 2 - 4
    else:  # back, below everything
        low = height - 4
        path = f"M{x1:.1f} {y1:.1f}C{x1 + 60:.1f} {low:.1f} {x2 - 60:.1f} {low:.1f} "
        label_x, label_y = (x1 + x2) / 2, low - 12
    path += f"{x2:.1f} {y2:.1f}"
    dashes = {"unless": ' stroke-dasharray="5 4"', "otherwise": ' stroke-dasharray="1 4"'}
    wide = 2.4 if line.kind == "andEvery" else 1.3
    label = ""
    if line.label:
        text = escape(_cut(line.label, _LABEL))
        label = (
            f'<text class="label" x="{label_x:.1f}" y="{label_y:.1f}" font-size="11"'
            f' text-anchor="middle">{text}</text>'
        )
    return (
        f'<g class="line line-{line.kind}"><title>{escape(line.title)}</title>'
        f'<path d="{path}" fill="none" stroke="black" stroke-width="{wide}"'
        f'{dashes.get(line.kind, "")} marker-end="url(#arrow)"/>{label}</g>'
    )


def _draw_node(node: _Node) -> str:
    round_by = {"task": 4.0, "gate": 2.0}.get(node.kind, node.height / 2)
    dashed = ' stroke-dasharray="4 3"' if node.state == "unfired" or node.kind == "gate" else ""
    middle = node.x + node.width / 2
    texts = "".join(
        f'<tspan class="text-{min(index, 1)}" x="{middle:.1f}"'
        f' y="{node.y + _PAD / 2 + index * _LINE + 13:.1f}">{escape(_cut(text, _LONGEST))}</tspan>'
        for index, text in enumerate(node.lines)
    )
    return (
        f'<g class="node {node.kind} state-{node.state}"><title>{escape(node.title)}</title>'
        f'<rect x="{node.x:.1f}" y="{node.y:.1f}" width="{node.width:.1f}"'
        f' height="{node.height:.1f}" rx="{round_by:.1f}" fill="white" stroke="black"{dashed}/>'
        f'<text text-anchor="middle">{texts}</text></g>'
    )
