"""``open_files.py ME FILE...``: opens each file at the same moment as others, and fires into it."""

from __future__ import annotations

import sys

from gate import fire, wait_for_go

from triggers_core.storages.sqlite import SqliteStore

me, *files = sys.argv[1:]
for file in files:
    wait_for_go(file)
    with SqliteStore(file) as store:
        if int(me) % 2:
            store.sessions()  # a file may be read before it is written
        fire(store, "shared", f"opened by {me}")
