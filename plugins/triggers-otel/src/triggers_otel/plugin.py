"""The hooks: a span around each fire and each body, and metrics of each commit."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import ProxyTracerProvider, TracerProvider

from triggers_core import TaskContext, TriggerManager, hookimpl
from triggers_core.engine.protocol import Plan
from triggers_core.plugins.fire_contexts import Firing
from triggers_otel.fleet import Fleet
from triggers_otel.metrics import Instruments
from triggers_otel.options import NAME, Options
from triggers_otel.spans import AttemptSpan, FireSpan


class OpenTelemetry:
    """The plugin. Installed is enabled; list one of your own for providers that are not global.

    :param tracer_provider: makes the spans; the global one if not given, whenever that is set.
    :param meter_provider: keeps the metrics; the global one if not given, whenever that is set.

    Example::

        configure(TRIGGER_PLUGINS=[OpenTelemetry(tracer_provider=provider), "*", "no:otel"])
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._provider = tracer_provider
        self._tracer = trace.get_tracer("triggers", tracer_provider=tracer_provider)
        meter = metrics.get_meter("triggers", meter_provider=meter_provider)
        self._instruments, self._fleet = Instruments(meter), Fleet(meter)

    @hookimpl
    def fire_context(
        self, manager: TriggerManager, firing: Firing
    ) -> AbstractContextManager[Any] | None:
        """A span around each fire, which its event carries."""
        options = self._spans(manager)
        if options is None:
            return None
        return FireSpan(self._tracer, firing, manager.uid if options.session_uid else None)

    @hookimpl
    def body_context(self, context: TaskContext) -> AbstractContextManager[Any] | None:
        """A span around each body, with links to those of the events that it waited for."""
        options = self._spans(context.manager)
        if options is None:
            return None
        uid = context.manager.uid if options.session_uid else None
        return AttemptSpan(self._tracer, context, uid)

    @hookimpl
    def post_commit(self, manager: TriggerManager, changes: Plan[Any]) -> None:
        """Counts and measures."""
        app = manager.app
        if app.plugin_options(NAME, Options).metrics:
            self._fleet.saw(app)
            self._instruments.see(changes)

    def _spans(self, manager: TriggerManager) -> Options | None:
        """The options, if there is anybody who makes spans."""
        if self._provider is None:
            provider = trace.get_tracer_provider()
            if isinstance(provider, ProxyTracerProvider):
                return None  # there is no SDK, so far
            self._provider = provider  # it can be set once
        options = manager.app.plugin_options(NAME, Options)
        return options if options.spans else None


plugin = OpenTelemetry()
