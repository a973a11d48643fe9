"""``fire_once.py FILE UID TRIGGER``: fires once it may."""

from __future__ import annotations

import sys

from gate import fire, wait_for_go

from triggers_core.storages.sqlite import SqliteStore

path, uid, trigger = sys.argv[1:]
with SqliteStore(path) as store:
    store.sessions()
    wait_for_go()
    fire(store, uid, trigger)
