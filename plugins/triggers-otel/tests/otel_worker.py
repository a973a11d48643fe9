"""The Celery app of a worker: ``celery -A otel_worker worker``. Its spans go into TEST_FOLDER."""

from __future__ import annotations

import json
import os
from pathlib import Path

from celery import Celery
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from triggers_celery import setup
from triggers_core import TriggerTask

FOLDER = Path(os.environ["TEST_FOLDER"])

app = Celery("otel", set_as_current=False)
app.conf.update(json.loads(os.environ["TEST_CELERY"]))
setup(app)

provider = TracerProvider()
exporter = ConsoleSpanExporter(
    out=(FOLDER / "spans").open("a"), formatter=lambda span: span.to_json(indent=None) + "\n"
)
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)


class Ship(TriggerTask):
    """Does its work in a span of its own."""

    name = "shop.ship"

    def _run(self, context):
        with trace.get_tracer("shop").start_as_current_span("inner"):
            return {}
