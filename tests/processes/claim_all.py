"""``claim_all.py FILE UID MESSAGES``: claims by every message, and prints what it got, as JSON."""

from __future__ import annotations

import json
import sys

import msgspec
from gate import collecting_manager, wait_for_go

from triggers_core.running.messages import Message
from triggers_core.running.worker import claim

path, uid, messages = sys.argv[1:]
manager, _ = collecting_manager(path, uid)
mine = {}
wait_for_go()
for message in msgspec.json.decode(messages, type=list[Message]):
    claimed = claim(manager, message)
    if claimed is not None:
        mine[claimed.instance.name] = claimed.instance.token
print(json.dumps(mine))
