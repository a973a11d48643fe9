"""A worker of the application that the environment names; ends with its standard input."""

from __future__ import annotations

import sys

from triggers_core.application import default_application as app

sys.path.insert(0, "")  # the tasks are in the folder
app.import_tasks()
app.start()
print("works", flush=True)
sys.stdin.read()
app.close()
