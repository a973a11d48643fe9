"""Over the wire: what a receiver of OTLP, another process, has been sent."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import BatchSpanProcessor

exporters = pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter")

SCRIPT = Path(__file__).with_name("otlp_receiver.py")
PRODUCER, CONSUMER = 4, 5  # in OTLP


@pytest.fixture
def receiver() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, str(SCRIPT)], stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.communicate()


def test_a_join_arrives_with_its_links(
    receiver: subprocess.Popen[str], make: Any, telemetry: Any
) -> None:
    assert receiver.stdout is not None
    port = int(receiver.stdout.readline())
    exporter = exporters.OTLPSpanExporter(endpoint=f"http://127.0.0.1:{port}/v1/traces")
    telemetry.tracers.add_span_processor(BatchSpanProcessor(exporter))
    manager = make("sqlite", body=lambda context: None).manager("order:42")
    manager.update_configuration({"t": {"after": ["a", "b", "c"], "run": "body"}})
    for trigger in "abc":
        manager.fire(trigger)
    assert manager.join(120)
    assert telemetry.tracers.force_flush(30_000)
    spans = [json.loads(receiver.stdout.readline()) for _ in telemetry.spans]
    by_name = {each["name"]: each for each in spans}
    assert sorted(by_name) == ["configure", "fire a", "fire b", "fire c", "run t"]
    assert {each["scope"] for each in spans} == {"triggers"}
    fires = [by_name[f"fire {trigger}"] for trigger in "abc"]
    assert [each["kind"] for each in fires] == [PRODUCER] * 3
    assert by_name["run t"]["kind"] == CONSUMER
    assert by_name["run t"]["links"] == [each["ids"] for each in fires]
    assert "triggers.outcome" in by_name["run t"]["attributes"]
