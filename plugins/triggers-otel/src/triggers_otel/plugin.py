"""The hooks: a span around each fire, act and body, and metrics of each commit."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import NoOpTracerProvider, ProxyTracerProvider, TracerProvider

from triggers_core import TaskContext, TriggerManager, hookimpl
from triggers_core.engine.plugin_options import PluginOptions
from triggers_core.engine.protocol import Plan
from triggers_core.plugins.fire_contexts import Act, Firing
from triggers_otel.fleet import Fleet
from triggers_otel.metrics import Instruments
from triggers_otel.options import NAME, Options
from triggers_otel.spans import ACTS, ActSpan, AttemptSpan, ConfigureSpan, FireSpan


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
        self._read: tuple[PluginOptions, Options] | None = None
        self._tracer = trace.get_tracer("triggers", tracer_provider=tracer_provider)
        meter = metrics.get_meter("triggers", meter_provider=meter_provider)
        self._instruments, self._fleet = Instruments(meter), Fleet(meter)

    @hookimpl
    def fire_context(
        self, manager: TriggerManager, firing: Firing
    ) -> AbstractContextManager[Any] | None:
        """A span around each fire, which its event carries."""
        if self._provider is None and not self._has_sdk():
            return None
        options = self._options(manager)
        if not options.spans:
            return None
        return FireSpan(self._tracer, firing, manager.uid if options.session_uid else None)

    @hookimpl
    def act_context(self, manager: TriggerManager, act: Act) -> AbstractContextManager[Any] | None:
        """A span around each act by hand, which its events and its replay carry."""
        if act.name not in ACTS or (self._provider is None and not self._has_sdk()):
            return None
        options = self._options(manager)
        if not options.spans:
            return None
        kind = ConfigureSpan if act.name == "update_configuration" else ActSpan
        return kind(self._tracer, act, manager.uid if options.session_uid else None)

    @hookimpl
    def body_context(self, context: TaskContext) -> AbstractContextManager[Any] | None:
        """A span around each body, with links to those of the events that it waited for."""
        if self._provider is None and not self._has_sdk():
            return None
        manager = context.manager
        options = self._options(manager)
        if not options.spans:
            return None
        return AttemptSpan(self._tracer, context, manager.uid if options.session_uid else None)

    @hookimpl
    def post_commit(self, manager: TriggerManager, changes: Plan[Any]) -> None:
        """Counts and measures."""
        if self._options(manager).metrics:
            self._fleet.saw(manager.app)
            self._instruments.see(changes)

    def _has_sdk(self) -> bool:
        # None as long as nobody has set one; to ask for it takes a microsecond of every fire.
        if getattr(trace, "_TRACER_PROVIDER", self) is None:
            return False
        provider = trace.get_tracer_provider()
        if type(provider) in (ProxyTracerProvider, NoOpTracerProvider):
            return False  # so far
        self._provider = provider  # it can be set once
        return True

    def _options(self, manager: TriggerManager) -> Options:
        # As `Application.plugin_options`; this is on the way of every fire, twice.
        given = manager.app.settings.TRIGGER_PLUGIN_OPTIONS
        known = self._read
        if known is None or known[0] is not given:
            known = self._read = given, given.read(NAME, Options)
        return known[1]


plugin = OpenTelemetry()
