"""What a session waits for, and what an instance failed of: what the fleet is grouped by."""

from __future__ import annotations

from typing import Final

from triggers_core import payloads
from triggers_core.engine.configuration import Configuration
from triggers_core.engine.records import NOTHING, Header, Instance, Status
from triggers_core.engine.standing import lacking, prospect

_LONGEST: Final = 200  # characters, so that a database can index it whole: as of any name


def missing_triggers(header: Header, configuration: Configuration) -> tuple[str, ...]:
    """The triggers that the unstarted instances of a session lack, sorted; as many as fit.

    At least one, and no more than make 200 characters with a separator between them.

    As far as the header tells, so that it costs nothing to know: an instance that cannot use what
    other instances of its task have taken may lack more. Empty when nothing unstarted waits for an
    event.
    """
    found: set[str] = set()
    latest, rounds = header.latest, header.rounds
    for name in header.counts:
        idle = rounds[name].idle if name in rounds else 0
        task = configuration.tasks.get(name)
        if task is None or header.count(name, Status.UNSTARTED) <= idle:
            continue
        rule = task.rule
        if rule.plain:  # as below, in a tenth of the time
            found.update(trigger for trigger in rule.required.triggers if trigger not in latest)
            continue
        missing = lacking(rule, prospect(name, rule, header), header)
        if missing is not None:
            found.update(missing.triggers)
    if len(found) < 2:
        return tuple(found)
    triggers = sorted(found)
    while len(triggers) > 1 and sum(map(len, triggers)) + len(triggers) - 1 > _LONGEST:
        triggers.pop()
    return tuple(triggers)


def error_type(instance: Instance) -> str:
    """The type of the error that a failed instance has in its metadata; empty when it has none."""
    if instance.metadata is NOTHING:
        return ""
    error = payloads.decode(bytes(instance.metadata)).get("error")
    found = error.get("type") if isinstance(error, dict) else None
    if not isinstance(found, str):
        return ""
    return "".join(character for character in found if character.isprintable())[:_LONGEST]
