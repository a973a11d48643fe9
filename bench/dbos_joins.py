"""The joins of `join_load` with DBOS: a workflow for each, which receives three topics.

Run by `bench_joins` with an interpreter that has DBOS: ``dbos_joins.py URL SECONDS ALONE``. What it
measured is the last line of its output, as JSON.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from dbos import DBOS, SetWorkflowID
from join_load import PATIENCE, TOPICS, Load


@DBOS.workflow()
def join() -> None:
    """Receive each topic, whatever comes first; then the body."""
    for topic in TOPICS:
        if DBOS.recv(topic, timeout_seconds=PATIENCE) is None:
            return
    assert DBOS.workflow_id is not None
    load.body(DBOS.workflow_id)


def begin(key: str) -> None:
    """A message can only be sent to a workflow that is there."""
    with SetWorkflowID(key):
        DBOS.start_workflow(join)


def send(key: str, topic: str) -> None:
    """The same payload as in `bench_joins`."""
    DBOS.send(key, PAYLOAD, topic)


PAYLOAD = {"order": 7, "note": "x" * 100}
load = Load(begin, send)


def main() -> None:
    """Measure."""
    url, seconds, alone = sys.argv[1:]
    DBOS(config={"name": "joins", "system_database_url": url, "log_level": "ERROR"})
    DBOS.launch()
    joined = load.measure(float(seconds), int(alone))
    DBOS.destroy()
    print(json.dumps(asdict(joined)))


if __name__ == "__main__":
    main()
