"""Triggers that have fired and that no task waits for: slips of the pen, mostly."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Final

from triggers_core.engine.configuration import Configuration
from triggers_core.engine.records import Event, Header, Source
from triggers_core.explain.data import Unheard
from triggers_core.explain.times import Times
from triggers_core.texts import count, names, nearest

MAX_SHOWN: Final = 5  # described one by one; the rest is counted


def candidates(configuration: Configuration, header: Header) -> dict[str, int]:
    """Fired triggers that nobody waits for, and the numbers of their latest events."""
    expected = _expected(configuration)
    return {
        trigger: number
        for trigger, number in header.latest.items()
        if not any(trigger in names for names in expected)
    }


def find_unheard(
    configuration: Configuration, header: Header, events: Mapping[int, Event]
) -> list[Unheard]:
    """Triggers of the application that no task of the session names."""
    found = []
    for number in candidates(configuration, header).values():
        event = events.get(number)
        unheard = None if event is None else unheard_event(configuration, event)
        if unheard is not None:
            found.append(unheard)
    return sorted(found, key=lambda each: (each.did_you_mean is None, each.event))


def unheard_event(configuration: Configuration, event: Event) -> Unheard | None:
    """An event of the application that no task of the session names; None if it is no such one."""
    if not configuration.tasks or event.source is Source.PLUGIN:
        return None
    if any(event.trigger in names for names in _expected(configuration)):
        return None
    alike = _alike(event.trigger, configuration.listeners)
    return Unheard(
        trigger=event.trigger,
        event=event.number,
        at=event.at,
        did_you_mean=alike or nearest(event.trigger, configuration.listeners),
        looks_alike=alike is not None,
    )


def _expected(configuration: Configuration) -> tuple[Container[str], ...]:
    return configuration.listeners, configuration.tasks, configuration.otherwise


def said_unheard(unheard: Unheard) -> str:
    """That nobody waits for it, and what may have been meant."""
    text = "no task waits for it"
    if unheard.looks_alike:
        return (
            f"{text}: it looks like {names([unheard.did_you_mean or ''])}, and is another name"
            f" ({unheard.trigger!a}, not {unheard.did_you_mean!a})."
        )
    if unheard.did_you_mean is not None:
        return f"{text}: did you mean {names([unheard.did_you_mean])}?"
    return f"{text}."


def about_unheard(unheard: Sequence[Unheard], times: Times) -> list[str]:
    """A sentence each, for the first of them."""
    said = []
    for each in unheard[:MAX_SHOWN]:
        fired = f"{names([each.trigger])} fired {times.at(each.at)}"
        said.append(f"{fired}, and {said_unheard(each)}")
    if len(unheard) > MAX_SHOWN:
        more = unheard[MAX_SHOWN:]
        said.append(f"And {count(len(more), 'more trigger')} that no task waits for.")
    return said


def _alike(name: str, known: Iterable[str]) -> str | None:
    """The known name that looks the same, if any."""
    looks = _looks(name)
    return next((each for each in known if each != name and _looks(each) == looks), None)


def _looks(name: str) -> str:
    """What a reader sees of a name: no invisible characters, one form of each letter."""
    import unicodedata  # a library of its own, 4 ms: most sessions have no look-alikes to compare

    folded = unicodedata.normalize("NFKC", name)
    visible = "".join(each for each in folded if unicodedata.category(each) not in ("Cf", "Mn"))
    return " ".join(visible.split())
