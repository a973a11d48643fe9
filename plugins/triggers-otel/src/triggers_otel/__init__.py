"""OpenTelemetry for Triggers: spans of fires and attempts, linked over months; metrics."""

from triggers_otel.logs import add_trace_ids
from triggers_otel.plugin import OpenTelemetry

__version__ = "0.2.0"

__all__ = ["OpenTelemetry", "__version__", "add_trace_ids"]
