"""The dashboard and the alert rules speak of what the Prometheus exporter shows, of all of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from importlib.resources import files
from pathlib import Path
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
    assert manager.join(120)
    server, thread = start_http_server(0, "127.0.0.1")
    try:
        address = f"http://127.0.0.1:{server.server_port}/metrics"
        with urllib.request.urlopen(address, timeout=300) as answer:
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


# -- what Prometheus itself says ------------------------------------------------------------------

LATE = 'triggers_sweep_lag_seconds{triggers_storage="redis",instance="%s"}'
ENDED = 'triggers_attempts_total{triggers_task="t_mail",triggers_outcome="%s",instance="w"}'
LOST = 'triggers_leases_lost_total{triggers_task="t_mail",instance="%s"}'
BEGAN = 'triggers_start_delay_seconds_bucket{triggers_task="t_mail",instance="w",le="%s"}'
WAIT = 'triggers_sessions_waiting{messaging_destination_name="paid",instance="%s"}'

CASES: list[tuple[str, dict[str, str], str, str | None]] = [
    # All processes tell the same lag and the same waiting sessions: they are not added up.
    ("SweepLate", {LATE % "a": "400x20", LATE % "b": "400x20"}, "10m", "waited for 6m 40s"),
    ("SweepLate", {LATE % "a": "200x20", LATE % "b": "200x20"}, "10m", None),
    ("SweepLate", {LATE % "a": "400x2 0x20"}, "10m", None),
    ("AttemptsFail", {ENDED % "failed": "0+2x60", ENDED % "finished": "0+8x60"}, "40m", "20% of"),
    ("AttemptsFail", {ENDED % "failed": "0+1x60", ENDED % "finished": "0+19x60"}, "40m", None),
    ("AttemptsFail", {ENDED % "failed": "9x60", ENDED % "finished": "9x60"}, "40m", None),
    ("AttemptsFail", {ENDED % "retried": "0+9x60", ENDED % "finished": "0+1x60"}, "40m", None),
    ("LeasesLost", {LOST % "a": "0x9 4x9", LOST % "b": "0x9 4x9"}, "15m", "leases ran out"),
    ("LeasesLost", {LOST % "a": "0x9 1x9", LOST % "b": "7x19"}, "15m", None),
    # The first sample of a process holds all that its first sweep has found.
    ("LeasesLost", {LOST % "a": "_x9 9x9"}, "15m", "9 leases ran out"),
    ("LeasesLost", {LOST % "a": "_x9 2x9", LOST % "b": "_x9 1x9"}, "15m", None),
    ("LeasesLost", {LOST % "a": "9x90"}, "70m", None),
    (
        "StartsLate",
        {BEGAN % "300": "0+0x60", BEGAN % "1800": "0+5x60", BEGAN % "+Inf": "0+5x60"},
        "40m",
        "it takes 28m",
    ),
    ("StartsLate", {BEGAN % "1": "0+5x60", BEGAN % "+Inf": "0+5x60"}, "40m", None),
    (
        "SessionsWait",
        {WAIT % "a": "60x90", WAIT % "b": "60x90"},
        "70m",
        "60 sessions wait for paid",
    ),
    ("SessionsWait", {WAIT % "a": "30x90", WAIT % "b": "30x90"}, "70m", None),
]


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (Debian and Ubuntu have it in `prometheus`)")
    return found


def test_prometheus_takes_the_rules(promtool: str) -> None:
    said = subprocess.run(
        [promtool, "check", "rules", "--lint-fatal", str(FOLDER / "alerts.yaml")],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.parametrize(("alert", "series", "at", "told"), CASES)
def test_alerts(
    alert: str,
    series: dict[str, str],
    at: str,
    told: str | None,
    promtool: str,
    tmp_path: Path,
) -> None:
    """Samples a minute apart: `0+2x60` grows by 2 sixty times. The alert's text, or none."""
    rules = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"][0]["rules"]
    (rule,) = [each for each in rules if each["alert"] == f"Triggers{alert}"]
    rule["annotations"] = {"text": " ".join(rule["annotations"].values())}
    (tmp_path / "rules.yaml").write_text(yaml.dump({"groups": [{"name": "t", "rules": [rule]}]}))
    test = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": k, "values": v} for k, v in series.items()],
                "alert_rule_test": [
                    {"eval_time": at, "alertname": rule["alert"], "exp_alerts": []}
                ],
            }
        ],
    }
    (tmp_path / "test.yaml").write_text(yaml.dump(test))
    said = subprocess.run(
        [promtool, "test", "rules", str(tmp_path / "test.yaml")],
        capture_output=True,
        text=True,
        timeout=300,
    )
    # promtool is told that there is none, and answers with the one that there is.
    assert (said.returncode != 0) == (told is not None), said.stdout + said.stderr
    if told is not None:
        assert told in said.stdout + said.stderr


def test_every_alert_has_both_cases() -> None:
    rules = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"][0]["rules"]
    for rule in rules:
        cases = {told is None for alert, _, _, told in CASES if rule["alert"] == f"Triggers{alert}"}
        assert cases == {True, False}, rule["alert"]
