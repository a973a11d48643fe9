"""Sessions to fire into: with many finished instances, or with many that wait for another trigger.

Thousands of instances are made with hundreds in one commit, by the state machine itself, so that
what is stored is what as many fires and finishes would have left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from triggers_core import payloads
from triggers_core.application import Application
from triggers_core.engine.fire_rule import fire
from triggers_core.engine.machine import Draft, cascade_of
from triggers_core.engine.names import new_id
from triggers_core.engine.protocol import CommandSteps, Query, Rules
from triggers_core.engine.records import Event, Status
from triggers_core.limits import Limits
from triggers_core.manager import TriggerManager
from triggers_core.runners.manual import ManualRunner
from triggers_core.settings import Settings
from triggers_core.storages.base import Store

KWARGS: dict[str, Any] = {
    "responses": {
        "applicant": "Ada Lovelace",
        "email": "ada@example.org",
        "page": 3,
        "answers": ["yes", "no", "no", "rather not say", None, 42, 36.6],
        "comment": "The engine might compose elaborate pieces of music of any degree.",
        "consent": True,
    },
    "source": {"browser": "Firefox", "locale": "en-GB", "embedded": False},
}
"""The payload of every fire: a page of a questionnaire, about 300 bytes."""

PAYLOAD = payloads.encode(KWARGS, Limits())

CONFIGURATION = {
    "t_once": {"after": ["noted", "never"], "run": "bench.Task"},
    "t_wait": {"after": ["approved"], "andEvery": "waits", "run": "bench.Task"},
    "t_run": {"after": ["ready"], "andEvery": "runs", "run": "bench.Task"},
}

KINDS = {
    "noted": "nothing ready: recorded only",
    "waits": "nothing ready: an instance begins to wait",
    "runs": "an instance is scheduled",
}
"""Trigger → what firing it does, in every session made here and as often as it is fired."""

BATCH = 250
"""Fires in one commit."""


@dataclass(frozen=True)
class Population:
    """How many instances a session holds before it is timed."""

    finished: int = 0
    waiting: int = 0

    def __str__(self) -> str:
        if self.waiting:
            return f"{self.waiting:,} waiting"
        return f"{self.finished:,} finished"

    @property
    def renewable(self) -> bool:
        """Whether it is small enough to be made anew for every round."""
        return self.finished + self.waiting <= 100


class Grow(msgspec.Struct, kw_only=True):
    """Many fires of one trigger in one commit; what they schedule finishes at once."""

    trigger: str
    times: int
    payload: bytes = PAYLOAD

    def decide(self, uid: str, rules: Rules) -> CommandSteps[None]:
        """Decide them one after the other, as so many commits would."""
        draft = Draft((yield Query()), rules)
        for _ in range(self.times):
            fire(draft, Event(id=new_id(), trigger=self.trigger, payload=msgspec.Raw(self.payload)))
            for instance in draft.scheduled:
                draft.set_status(instance, Status.FINISHED)
                instance.result = fire(draft, cascade_of(instance, b"{}")).number
            draft.scheduled.clear()
        return draft.plan(None)


def application(storage: str, store: Store | None = None, **options: Any) -> Application:
    """An application without plugins and with room for every instance.

    :param store: in place of the one that the options name.
    """
    settings = Settings.isolated(
        TRIGGER_STORAGE_TYPE=storage,
        TRIGGER_STORAGE_OPTIONS=options,
        TRIGGER_LIMITS={"instances": 10_000_000},
        TRIGGER_PLUGINS=[],
        TRIGGER_AUTOLOAD=False,
    )
    app = Application("bench", settings, store=store)
    app.use_runner(ManualRunner(app, keep=0))
    return app


def make_session(app: Application, population: Population) -> TriggerManager:
    """A new session of that population, in which `KINDS` holds."""
    manager = app.manager(f"applicant:{new_id()[:12]}")
    manager.update_configuration(CONFIGURATION)
    manager.fire("noted", KWARGS)
    manager.fire("ready", KWARGS)
    grow(manager, "runs", population.finished)
    grow(manager, "waits", population.waiting)
    return manager


def grow(manager: TriggerManager, trigger: str, times: int, batch: int = BATCH) -> None:
    """Fire one trigger so often, many fires in one commit; see `Grow`."""
    for done in range(0, times, batch):
        manager.commit(Grow(trigger=trigger, times=min(batch, times - done)))
