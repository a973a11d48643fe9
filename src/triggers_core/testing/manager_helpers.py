"""What the runner contract does to a session, and asks of it, by short names."""

from __future__ import annotations

from collections import Counter
from typing import Any

from triggers_core import payloads
from triggers_core.application import Application
from triggers_core.engine.commands import Fire
from triggers_core.engine.names import new_id
from triggers_core.manager import TriggerManager
from triggers_core.running.messages import Message
from triggers_core.tasks import TriggerTask
from triggers_core.testing.bodies import RAN

Tasks = tuple[type[TriggerTask], dict[str, Any]]


def configure(manager: TriggerManager, **tasks: Tasks) -> None:
    """Give a session tasks: name → (body, directives)."""
    manager.update_configuration(
        {name: {"run": body.name, **directives} for name, (body, directives) in tasks.items()}
    )


def fire_silently(app: Application, manager: TriggerManager, scheduled: str) -> Message:
    """Fire ``go`` so that an instance is scheduled and nobody hears of it; returns its message."""
    fire = Fire(trigger="go", payload=b"{}", event_id=new_id())
    plan = manager.storage.store.commit(manager.uid, fire, app.rules)
    assert [each.name for each in plan.scheduled] == [scheduled]
    return message_about(manager, scheduled)


def message_about(manager: TriggerManager, instance: str) -> Message:
    """The message about the first attempt at an instance."""
    header = manager.storage.header
    assert header is not None
    return Message(manager.app.name, manager.uid, header.generation, instance, 1)


def statuses(manager: TriggerManager) -> dict[str, str]:
    """Instance → status."""
    return {name: each.status.value for name, each in manager.storage.instances.items()}


def results(manager: TriggerManager) -> list[dict[str, Any] | None]:
    """What the instances returned."""
    return [instance.result for instance in manager.storage.instances.values()]


def triggers(manager: TriggerManager) -> list[str]:
    """The triggers of all events, in order."""
    return [event.trigger for event in manager.storage.events]


def ran(manager: TriggerManager) -> Counter[str]:
    """Instance → how often its body began."""
    events = [event for event in manager.storage.events if event.trigger == RAN]
    encoded = manager.storage.store.payloads(manager.uid, [event.number for event in events])
    return Counter(str(payloads.decode(payload)["instance"]) for payload in encoded.values())
