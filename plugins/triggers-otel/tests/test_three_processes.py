"""A join of three events that three processes have fired, run by a fourth."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from triggers_core.testing import check_store

SCRIPT = Path(__file__).with_name("otel_shop.py")
TRIGGERS = ("paid", "packed", "approved")


def test_one_span_with_three_links(make: Any, telemetry: Any, tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    fired = [fire(path, trigger) for trigger in TRIGGERS]
    spans = {}
    for trigger, process in zip(TRIGGERS, fired, strict=True):
        printed, complaints = process.communicate(timeout=300)
        assert process.returncode == 0, complaints
        by_name = {each["name"]: each for each in json.loads(printed)}
        # The first of them sets the session up; the others find it as they want it.
        assert [name for name in by_name if name != "configure"] == [f"fire {trigger}", "request"]
        span = by_name[f"fire {trigger}"]
        assert span["parent_id"] == by_name["request"]["context"]["span_id"]
        spans[trigger] = int(span["context"]["trace_id"], 16), int(span["context"]["span_id"], 16)

    app = make(
        "sqlite", settings={"TRIGGER_TIMING": {"redispatch_after": 0.001}}, **{"shop.ship": ship}
    )
    manager = app.manager("order:42")
    while not manager.storage["t_ship#0"].resolved:
        app.recover()  # nobody has claimed what the three have left behind
        assert manager.join(120)
    span = telemetry.span("run t_ship")
    links = {
        each.attributes["messaging.destination.name"]: (
            each.context.trace_id,
            each.context.span_id,
        )
        for each in span.links
    }
    assert len(span.links) == 3
    assert links == spans
    traces = {trace_id for trace_id, _ in spans.values()} | {span.context.trace_id}
    assert len(traces) == 4, "each process began a trace of its own"
    check_store(app.store)


def fire(path: Path, trigger: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(SCRIPT), str(path), trigger],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ship(context: Any) -> dict[str, Any]:
    return dict(context.trigger_kwargs["paid"])
