"""Runs applications with the plugin on providers of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

from triggers_core import Application, trigger_task
from triggers_core.settings import Settings
from triggers_core.tasks import registry
from triggers_otel import OpenTelemetry

Make = Callable[..., Application]


class Telemetry:
    """A plugin, and what comes of it."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider(sampler=sampler)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider([self.reader])
        self.plugin = OpenTelemetry(self.tracers, self.meters)
        self.tracer = self.tracers.get_tracer("tests")

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def span(self, name: str) -> ReadableSpan:
        (found,) = [each for each in self.spans if each.name == name]
        return found

    def points(self, metric: str) -> dict[tuple[str, ...], Any]:
        """Values of the labels, in the order of their names → data point."""
        data = self.reader.get_metrics_data()
        found = [
            point
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for each in scope.metrics
            if each.name == metric
            for point in each.data.data_points
        ]
        return {_values(point.attributes): point for point in found}

    def values(self, metric: str) -> dict[tuple[str, ...], float]:
        return {labels: point.value for labels, point in self.points(metric).items()}

    def close(self) -> None:
        self.tracers.shutdown()
        self.meters.shutdown()


def _values(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(attributes[name]) for name in sorted(attributes))


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    made = Telemetry()
    yield made
    made.close()


@pytest.fixture
def make(telemetry: Telemetry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes applications with the plugin, in memory; bodies by name are its keywords."""
    monkeypatch.setattr(registry, "declared", {})
    apps = ExitStack()

    def make(
        storage: str = "memory",
        plugins: tuple[object, ...] = (),
        options: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        parts: Mapping[str, Any] | None = None,
        **bodies: Callable[..., Any],
    ) -> Application:
        for name, body in bodies.items():
            trigger_task(name=name)(body)
        place = {"path": str(tmp_path / "t.db"), "synchronous": "NORMAL"}
        app = Application(
            "otel",
            Settings.isolated(
                TRIGGER_STORAGE_TYPE=storage,
                TRIGGER_STORAGE_OPTIONS=place if storage == "sqlite" else {},
                TRIGGER_PLUGINS=[*plugins, telemetry.plugin],
                TRIGGER_PLUGIN_OPTIONS={"otel": dict(options or {})},
                **(settings or {}),
            ),
            **(parts or {}),
        )
        apps.callback(app.close)
        return app

    with apps:
        yield make
