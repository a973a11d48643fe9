"""``replay_log.py FOLDER FILE``: replays the log in a folder, and prints how far it has come."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

from triggers_core import Application
from triggers_core.backtest import backtest
from triggers_core.settings import Settings
from triggers_core.storages.sqlite import SqliteStore

folder, file = Path(sys.argv[1]), sys.argv[2]
config = json.loads((folder / "config.json").read_text("utf-8"))
app = Application("replay", Settings.isolated(TRIGGER_PLUGINS=[]))
print(0, flush=True)
with (
    gzip.open(folder / "events.jsonl.gz", "rt", encoding="utf-8") as lines,
    SqliteStore(file) as store,
):
    events = map(json.loads, lines)
    backtest(config, events, store, app=app, progress=lambda done: print(done, flush=True))
