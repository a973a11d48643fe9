"""Outlines: the tree of a condition as lines of text."""

from __future__ import annotations

from triggers_core.explain.data import Part, Unusable
from triggers_core.explain.times import Times
from triggers_core.texts import count, names


def outline(part: Part, times: Times) -> list[str]:
    """A condition line by line: ``[x]`` marks what holds.

    Example::

        [ ] all of these:
            [x] placed, since 12:00:00 UTC (5 minutes)
            [ ] packed: 3 of 5
    """
    mark = "[x]" if part.holds else "[ ]"
    if not part.of:
        return [f"{mark} {said_part(part, times)}"]
    lines = [f"{mark} {said_part(part, times)}:"]
    for each in part.of:
        lines += [f"    {line}" for line in outline(each, times)]
    return lines


def said_part(part: Part, times: Times) -> str:
    """A leaf or a group alone, in words: ``packed: 3 of 5``, ``one of these``."""
    return _group(part) if part.of else _leaf(part, times)


def says_more_than_names(part: Part) -> bool:
    """Whether an outline tells more than which triggers a condition has and lacks."""
    if part.of:
        groups = any(each.of for each in part.of) or part.needs != len(part.of)
        return groups or any(says_more_than_names(each) for each in part.of)
    told = part.where, part.failed, part.unusable, part.too_late, part.begins_with, part.key
    return any(told) or part.keep in ("all", "count")


def _group(part: Part) -> str:
    if part.needs == len(part.of):
        return "all of these"
    if part.needs == 1:
        return "one of these"
    return f"{part.needs:,} of these, {part.has:,} so far"


def _leaf(part: Part, times: Times) -> str:
    text, counted = name_of(part), part.keep == "count"
    if counted:
        text += f": {part.has:,} of {'?' if part.needs is None else f'{part.needs:,}'}"
    elif part.keep == "all" and part.has:
        text += f": {count(part.has, 'event')}"
    if part.since is not None and part.has:
        text += f", {'the latest ' if part.has > 1 else ''}{times.since(part.since)}"
    remarks = []
    if part.unusable is not None:
        remarks.append(said_unusable(part.unusable, "count" if counted else "moment"))
    if part.failed is not None:
        came = f"{names([part.trigger])} came {times.at(part.failed.at)}"
        remarks.append(f"{came} {part.failed}")
    if part.too_late is not None:
        came = times.at(part.too_late.at)
        remarks.append(f"{names([part.too_late.trigger])} came too late, {came}")
    if part.begins_with:
        remarks.append(f"what was fired before event {part.begins_with:,} is not counted")
    return f"{text}: {'; '.join(remarks)}" if remarks else text


def name_of(part: Part) -> str:
    """A leaf's trigger, its key if that is another, and its tests."""
    text = names([part.trigger])
    if part.key:
        text += f" as {names([part.key])}"
    return f"{text} ({part.where})" if part.where else text


def said_unusable(unusable: Unusable, what: str) -> str:
    """What an event says that is of no use.

    :param what: what it should name: ``count`` or ``moment``.
    """
    event = names([unusable.trigger])
    if not unusable.given:
        return f"{event} came without {unusable.path}"
    no = "no count" if what == "count" else "no moment with an offset from UTC"
    return f"{event} came with {unusable.path} {unusable.found}, which is {no}"
