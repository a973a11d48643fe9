"""Where the nodes of a graph are drawn: in layers, from left to right along its lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

Line = tuple[str, str]
"""From one node to another."""


def layers_of(nodes: Sequence[str], lines: Iterable[Line]) -> list[list[str]]:
    """The nodes by layer: each right of everything that leads to it, circles apart.

    Of a circle, the line that closes it when one follows the lines from the first node on is left
    out of account. Within a layer, nodes stand near those that lead to them.

    Example::

        layers_of(["a", "b", "t"], [("a", "t"), ("b", "t")])  # [["a", "b"], ["t"]]
    """
    after: dict[str, list[str]] = {node: [] for node in nodes}
    for source, target in lines:
        if target not in after[source]:
            after[source].append(target)
    order = _without_circles(nodes, after)
    layer = dict.fromkeys(nodes, 0)
    before: dict[str, list[str]] = {node: [] for node in nodes}
    for node in order:
        for each in after[node]:
            before[each].append(node)
            layer[each] = max(layer[each], layer[node] + 1)
    _pull_right(order, after, before, layer)
    found: list[list[str]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for node in nodes:
        found[layer[node]].append(node)
    place = {node: float(index) for inside in found for index, node in enumerate(inside)}
    for inside in found[1:]:
        inside.sort(key=lambda node: _middle(before[node] or [node], place))
        place.update((node, float(index)) for index, node in enumerate(inside))
    return found


def _without_circles(nodes: Sequence[str], after: dict[str, list[str]]) -> list[str]:
    """Take the lines that close circles out of `after`; the nodes, each before its targets."""
    done: list[str] = []
    state: dict[str, int] = {}  # 1: on the way, 2: done
    for start in nodes:
        if start in state:
            continue
        state[start] = 1
        way = [(start, iter(list(after[start])))]
        while way:
            node, targets = way[-1]
            target = next(targets, None)
            if target is None:
                state[node] = 2
                done.append(node)
                way.pop()
            elif state.get(target) == 1:
                after[node].remove(target)
            elif target not in state:
                state[target] = 1
                way.append((target, iter(list(after[target]))))
    return done[::-1]


def _pull_right(
    order: Sequence[str],
    after: Mapping[str, list[str]],
    before: Mapping[str, list[str]],
    layer: dict[str, int],
) -> None:
    """Bring what nothing leads to next to the first node that it leads to."""
    for node in order:
        if not before[node] and after[node]:
            layer[node] = min(layer[each] for each in after[node]) - 1


def _middle(nodes: Sequence[str], place: Mapping[str, float]) -> float:
    return sum(place[each] for each in nodes) / len(nodes)
