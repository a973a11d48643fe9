"""The dashboard and the alert rules speak of what the Prometheus exporter shows, of all of it."""

from __future__ import annotations

import json
import re
import urllib.request
from importlib.resources import files
from typing import Any

import pytest
import yaml
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import start_http_server
from prometheus_client.parser import text_string_to_metric_families

from triggers_core.engine.attempts import Claim
from triggers_core.runners.manual import ManualRunner
from triggers_core.storages.memory import MemoryStore
from triggers_core.testing import VirtualClock
from triggers_otel import OpenTelemetry

FOLDER = files("triggers_otel") / "dashboard"
WORD = re.compile(r"\b(?:triggers|messaging)_\w+")


@pytest.fixture
def scraped(make: Any, telemetry: Any) -> dict[str, set[str]]:
    """Name of a sample → its labels, after everything that is counted has happened once."""
    provider = MeterProvider([PrometheusMetricReader()])
    clock = VirtualClock(1_000_000.0)
    parts = {"store": MemoryStore(clock), "runner": ManualRunner}
    app = make(parts=parts, body=lambda context: None)
    app.plugins.unregister(telemetry.plugin)
    app.plugins.register(OpenTelemetry(telemetry.tracers, provider), "otel")
    manager = app.manager("s")
    tasks: dict[str, Any] = {"t": {"after": ["a"]}, "u": {"after": ["a", "never"]}}
    manager.update_configuration({name: {**each, "run": "body"} for name, each in tasks.items()})
    manager.fire("a")
    generation = manager.storage.header.generation
    manager.commit(Claim(instance="t#0", attempt=1, generation=generation))
    clock.advance(61)
    manager.recover()
    assert manager.join(30)
    server, thread = start_http_server(0, "127.0.0.1")
    try:
        address = f"http://127.0.0.1:{server.server_port}/metrics"
        with urllib.request.urlopen(address, timeout=60) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        provider.shutdown()
    found: dict[str, set[str]] = {}
    for sample in (sample for family in families for sample in family.samples):
        if sample.name.startswith("triggers_") and not sample.name.endswith("_created"):
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def expressions() -> dict[str, list[str]]:
    board = json.loads((FOLDER / "grafana.json").read_text())
    variables = [each["definition"] for each in board["templating"]["list"] if "definition" in each]
    targets = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    rules = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"][0]["rules"]
    return {"grafana.json": variables + targets, "alerts.yaml": [each["expr"] for each in rules]}


def test_every_name_is_one_that_is_shown(scraped: dict[str, set[str]]) -> None:
    labels = set().union(*scraped.values())
    used: set[str] = set()
    for file, found in expressions().items():
        assert found, file
        for expression in found:
            words = set(WORD.findall(expression))
            assert words <= scraped.keys() | labels, f"{file}: {expression}"
            metrics = words & scraped.keys()
            assert metrics, f"{file}: {expression}"
            having = set.intersection(*(scraped[each] for each in metrics))
            assert words - metrics <= having, f"{file}: {expression}"
            used |= metrics
    assert {metric_of(each) for each in used} == {metric_of(each) for each in scraped}


def metric_of(sample: str) -> str:
    return re.sub(r"_(bucket|sum|count)$", "", sample)


def test_panels_have_places_of_their_own() -> None:
    board = json.loads((FOLDER / "grafana.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)


def test_alerts_say_what_to_do() -> None:
    (group,) = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    names = [rule["alert"] for rule in group["rules"]]
    assert len(set(names)) == len(names) >= 4
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}
        labels = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
        grouped = set(re.findall(r"by \(([^)]*)\)", rule["expr"])[0].split(", "))
        assert labels <= grouped, rule["alert"]
        assert rule["annotations"].keys() == {"summary", "description"}
