"""All guards. One is added where the code that it stands in is, and named as its promise is."""

from __future__ import annotations

from mutations.attempt_guards import ATTEMPTS
from mutations.event_guards import EVENTS
from mutations.guard import Guard
from mutations.running_guards import RUNNING
from mutations.storage_guards import STORAGES

GUARDS: tuple[Guard, ...] = (*ATTEMPTS, *EVENTS, *RUNNING, *STORAGES)
