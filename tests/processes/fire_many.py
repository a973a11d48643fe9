"""``fire_many.py FILE UID ME COUNT``: fires ``ME:0``, ``ME:1``, … and prints what it dispatched."""

from __future__ import annotations

import sys

from gate import collecting_manager, wait_for_go

path, uid, me, count = sys.argv[1:]
manager, runner = collecting_manager(path, uid)
assert manager.storage.exists
wait_for_go()
for number in range(int(count)):
    assert manager.fire(f"{me}:{number}").status == "recorded"
for message in runner.messages:
    print(message.instance)
