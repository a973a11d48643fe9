"""``fork_and_close.py FILE UID``: a child fires through the store of a parent that closes it."""

from __future__ import annotations

import os
import sys

from gate import fire

from triggers_core.storages.sqlite import SqliteStore

path, uid = sys.argv[1:]
store = SqliteStore.shared(path)
fire(store, uid, "parent")
(child_told, tell_parent), (parent_told, tell_child) = os.pipe(), os.pipe()
child = os.fork()
if not child:
    fire(store, uid, "child, before")
    os.write(tell_parent, b".")
    os.read(parent_told, 1)
    fire(store, uid, "child, after")
    os._exit(0)
os.read(child_told, 1)
store.close()
os.write(tell_child, b".")
assert os.waitpid(child, 0)[1] == 0
