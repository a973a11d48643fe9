"""A process of its own that fires one trigger, and prints the spans that it exported as JSON.

``python otel_shop.py FILE TRIGGER``
"""

from __future__ import annotations

import json
import sys

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from triggers_core import Application, trigger_task
from triggers_core.settings import Settings

CONFIGURATION = {"t_ship": {"after": ["paid", "packed", "approved"], "run": "shop.ship"}}


@trigger_task(name="shop.ship")
def ship(context):
    return {}


def application(path, **settings):
    """The application of every process; the plugin as it is installed, on the global provider."""
    options = {"path": path, "synchronous": "NORMAL"}
    given = {"TRIGGER_STORAGE_TYPE": "sqlite", "TRIGGER_STORAGE_OPTIONS": options, **settings}
    return Application("shop", Settings.isolated(TRIGGER_PLUGINS=["otel"], **given))


def main(path, trigger):
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    app = application(path, TRIGGER_RUNNER="manual")
    manager = app.manager("order:42")
    with trace.get_tracer("shop").start_as_current_span("request"):
        manager.update_configuration(CONFIGURATION)
        manager.fire(trigger, {"by": trigger})
    app.close()
    print(json.dumps([json.loads(each.to_json()) for each in exporter.get_finished_spans()]))


if __name__ == "__main__":
    main(*sys.argv[1:])
