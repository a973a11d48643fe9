"""``hold_turnstile.py FILE UID``: fires ``held``, but never gets to the end of its commit."""

from __future__ import annotations

import sys

from gate import wait_for_go

from triggers_core.engine.commands import Fire
from triggers_core.engine.protocol import CommandSteps, Rules
from triggers_core.storages.sqlite import SqliteStore

path, uid = sys.argv[1:]


class Holds(Fire):
    """Waits in the middle of its transaction."""

    def decide(self, uid: str, rules: Rules) -> CommandSteps[None]:
        plan = yield from super().decide(uid, rules)
        wait_for_go("in the middle of a commit")
        return plan


with SqliteStore(path) as store:
    store.commit(uid, Holds(trigger="held", payload=b"{}", event_id="held"), Rules())
