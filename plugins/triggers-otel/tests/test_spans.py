"""Spans of fires and attempts, and the links between them."""

from __future__ import annotations

import asyncio
import threading
from contextvars import copy_context
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode

from triggers_core import TaskContext
from triggers_core.application import Application
from triggers_core.engine.attempts import Retry
from triggers_core.engine.commands import Fire
from triggers_core.exceptions import (
    EventIdConflict,
    InstanceNotFound,
    InvalidConfiguration,
    InvalidName,
    InvalidPayload,
)
from triggers_core.hookspecs import hookimpl
from triggers_core.manager import TriggerManager
from triggers_core.runners.manual import ManualRunner
from triggers_otel import OpenTelemetry, carriers
from triggers_otel.spans import record_error

JOIN = {"t": {"after": ["a", "b", "c"], "run": "body"}}
ONE = {"t": {"after": ["a"], "run": "body"}}


def nothing(context: TaskContext) -> None:
    pass


def run(app: Application, configuration: Any, *triggers: str) -> TriggerManager:
    manager = app.manager("order:1")
    manager.update_configuration(configuration)
    for trigger in triggers:
        manager.fire(trigger)
    assert manager.join(120)
    return manager


def ids(span: ReadableSpan) -> tuple[int, int]:
    context = span.get_span_context()
    assert context is not None
    return context.trace_id, context.span_id


def linked(span: ReadableSpan) -> list[tuple[int, int]]:
    return [(each.context.trace_id, each.context.span_id) for each in span.links]


# -- fires ----------------------------------------------------------------------------------------


def test_a_fire(make: Any, telemetry: Any) -> None:
    manager = make().manager("order:1")
    with telemetry.tracer.start_as_current_span("request") as request:
        result = manager.fire("paid", {"amount": 42}, event_id="stripe:1")
    span = telemetry.span("fire paid")
    assert span.kind is SpanKind.PRODUCER
    assert span.parent is not None
    assert span.parent.span_id == request.get_span_context().span_id
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes) == {
        "messaging.system": "triggers",
        "messaging.operation.type": "send",
        "messaging.operation.name": "fire",
        "messaging.destination.name": "paid",
        "messaging.message.id": "stripe:1",
        "triggers.session.uid": "order:1",
        "triggers.fire.status": result.status,
    }
    (event,) = manager.storage.events
    trace_id, span_id = ids(span)
    flags = span.get_span_context().trace_flags  # versions set one or two of them
    assert event.carrier == {"traceparent": f"00-{trace_id:032x}-{span_id:016x}-{flags:02x}"}
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_a_duplicate_says_so(make: Any, telemetry: Any) -> None:
    manager = make().manager("s")
    for _ in range(2):
        manager.fire("paid", event_id="e")
    told = [each.attributes["triggers.fire.status"] for each in telemetry.spans]
    assert told == ["recorded", "duplicate"]
    (event,) = manager.storage.events
    assert event.carrier is not None
    assert f"{ids(telemetry.spans[0])[1]:016x}" in event.carrier["traceparent"]


def test_a_refused_fire_is_an_error_with_secrets_masked(make: Any, telemetry: Any) -> None:
    class Vetoes:
        @hookimpl
        def pre_fire(self, event: Any) -> None:
            if event.trigger == "vetoed":
                raise ValueError("no: token=t0p_secret")

    manager = make(plugins=(Vetoes(),)).manager("s")
    with pytest.raises(ValueError, match="t0p_secret"):
        manager.fire("vetoed")
    with pytest.raises(InvalidPayload):
        manager.fire("bad", {"x": object()})
    manager.fire("paid", event_id="e")
    with pytest.raises(EventIdConflict):
        manager.fire("refunded", event_id="e")
    with pytest.raises(InvalidName):
        manager.fire(17)  # type: ignore[arg-type]
    span = telemetry.span("fire vetoed")
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "ValueError"
    (event,) = span.events
    assert event.name == "exception"
    assert "t0p_secret" not in span.to_json()
    assert "token=***" in str(span.status.description)
    assert "raise ValueError" in str(event.attributes["exception.stacktrace"])
    kinds = [each.attributes.get("error.type") for each in telemetry.spans[1:]]
    assert kinds[0].endswith("InvalidPayload")
    assert kinds[1] is None
    assert kinds[2].endswith("EventIdConflict")
    assert telemetry.spans[-1].name == "fire ?"


def test_an_awaited_fire(make: Any, telemetry: Any) -> None:
    manager = make("sqlite").manager("s")

    async def fire() -> int:
        with telemetry.tracer.start_as_current_span("request") as request:
            await manager.afire("paid")
            assert trace.get_current_span() is request
        return int(request.get_span_context().span_id)

    parent = asyncio.run(fire())
    assert telemetry.span("fire paid").parent.span_id == parent


# -- attempts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["memory", "sqlite"])
def test_a_join_links_to_all_that_it_waited_for(storage: str, make: Any, telemetry: Any) -> None:
    manager = run(make(storage, body=nothing), JOIN, "a", "noise", "b", "c")
    span = telemetry.span("run t")
    assert span.kind is SpanKind.CONSUMER
    assert span.parent is None
    assert linked(span) == [ids(telemetry.span(f"fire {name}")) for name in "abc"]
    assert len({trace_id for trace_id, _ in [*linked(span), ids(span)]}) == 4
    about = [dict(each.attributes) for each in span.links]
    numbers = [(e["messaging.destination.name"], e["triggers.event.number"]) for e in about]
    assert numbers == [("a", 0), ("b", 2), ("c", 3)]
    assert about[0]["messaging.message.id"] == manager.storage.events[0].id
    assert dict(span.attributes) == {
        "messaging.system": "triggers",
        "messaging.operation.type": "process",
        "messaging.operation.name": "run",
        "messaging.destination.name": "t",
        "messaging.batch.message_count": 3,
        "triggers.task": "t",
        "triggers.run": "body",
        "triggers.instance": "t#0",
        "triggers.attempt": 1,
        "triggers.retries": 0,
        "triggers.session.uid": "order:1",
        "triggers.outcome": "finished",
    }


def test_cascades_and_fires_of_a_body_link_to_its_attempt(make: Any, telemetry: Any) -> None:
    def body(context: TaskContext) -> None:
        context.fire("inner")

    configuration = {**ONE, "u": {"after": ["t", "inner"], "run": "other"}}
    run(make(body=body, other=nothing), configuration, "a")
    upstream = ids(telemetry.span("run t"))
    assert linked(telemetry.span("run u")) == [upstream, upstream]


def test_otherwise_triggers_link_to_the_attempt_that_failed(make: Any, telemetry: Any) -> None:
    def body(context: TaskContext) -> None:
        raise ValueError

    failing = {"t": {"after": ["a"], "run": "body", "otherwise": {"failed": "broken"}}}
    run(
        make(body=body, other=nothing), {**failing, "u": {"after": ["broken"], "run": "other"}}, "a"
    )
    assert linked(telemetry.span("run u")) == [ids(telemetry.span("run t"))]


def test_a_replay_links_to_the_same_events(make: Any, telemetry: Any) -> None:
    def body(context: TaskContext) -> None:
        if not context.instance.parent:
            raise ValueError

    manager = run(make(body=body), JOIN, "a", "b", "c")
    manager.replay_failed_instance("t#0", {"a": {"n": 2}})
    assert manager.join(120)
    first, second = [each for each in telemetry.spans if each.name == "run t"]
    assert second.attributes["triggers.instance"] == "t#1"
    replay = telemetry.span("replay t")
    assert linked(second) == [*linked(first), ids(replay)]
    assert len(linked(first)) == 3
    assert dict(second.links[-1].attributes) == {"triggers.act": "replay"}
    assert dict(replay.attributes) == {
        "triggers.act": "replay",
        "triggers.task": "t",
        "triggers.instance": "t#0",
        "triggers.session.uid": "order:1",
        "triggers.replay": "t#1",
    }


def failed(make: Any, *, storage: str = "memory", **more: Any) -> TriggerManager:
    """A session whose `t` has failed; `u` waits for what is fired otherwise, or by a cascade."""

    def body(context: TaskContext) -> None:
        raise ValueError

    failing = {"t": {"after": ["a"], "run": "body"}, "u": {"after": ["t"], "run": "other"}}
    failing["t"].update(more)
    return run(make(storage, body=body, other=nothing), failing, "a")


@pytest.mark.parametrize("storage", ["memory", "sqlite"])
def test_what_a_skip_leads_to_links_to_it(storage: str, make: Any, telemetry: Any) -> None:
    manager = failed(make, storage=storage)
    with telemetry.tracer.start_as_current_span("request") as request:
        manager.skip_failed_instance("t#0", cascade=True)
    assert manager.join(120)
    skip = telemetry.span("skip t")
    assert skip.parent.span_id == request.get_span_context().span_id
    assert skip.attributes["triggers.instance"] == "t#0"
    assert linked(telemetry.span("run u")) == [ids(skip)]


def test_a_failure_by_hand_and_its_otherwise(make: Any, telemetry: Any) -> None:
    app = make(parts={"runner": ManualRunner}, body=nothing, other=nothing)
    manager = app.manager("s")
    manager.update_configuration(
        {
            "t": {"after": ["a"], "run": "body", "otherwise": {"failed": "broken"}},
            "u": {"after": ["broken"], "run": "other"},
        }
    )
    manager.fire("a")
    asyncio.run(manager.afail_instance("t#0", "password=hunter2"))
    assert manager.join(120)
    assert linked(telemetry.span("run u")) == [ids(telemetry.span("fail t"))]
    assert "hunter2" not in telemetry.span("fail t").to_json()


def test_a_refused_act_is_an_error(make: Any, telemetry: Any) -> None:
    manager = run(make(body=nothing), ONE)
    with pytest.raises(InstanceNotFound):
        manager.replay_failed_instance("t#9")
    with pytest.raises(InvalidConfiguration):
        manager.update_configuration({"t": {"after": "a"}})
    for span in (telemetry.span("replay t"), telemetry.spans[-1]):
        assert span.status.status_code is StatusCode.ERROR
    assert [each.name for each in telemetry.spans] == ["configure", "replay t", "configure"]


def test_configurations_and_closes(make: Any, telemetry: Any) -> None:
    """Most configurations change nothing: those are no act."""
    manager = make(body=nothing).manager("order:1")
    for _ in range(3):
        manager.update_configuration(ONE)
    span = telemetry.span("configure")
    assert dict(span.attributes) == {"triggers.act": "configure", "triggers.session.uid": "order:1"}
    assert span.start_time < span.end_time
    manager.close_session()
    assert telemetry.span("close").attributes["triggers.act"] == "close"
    assert [each.name for each in telemetry.spans] == ["configure", "close"]


def test_a_log_that_is_dealt_with_is_no_act(make: Any, telemetry: Any) -> None:
    manager = failed(make)
    telemetry.exporter.clear()
    manager.mark_instance_logs_resolved("t#0")
    manager.update_instance_metadata("t#0", {"n": 1})
    assert telemetry.spans == []


def test_what_is_no_text_spoils_no_batch(make: Any, telemetry: Any) -> None:
    """Over one lone surrogate an exporter loses all spans that it was about to send."""
    otlp = pytest.importorskip("opentelemetry.exporter.otlp.proto.common.trace_encoder")
    manager = make().manager("order:1")
    for refused in (
        lambda: manager.fire("pai\ud800d"),
        lambda: manager.skip_failed_instance("t\ud800#0"),
    ):
        with pytest.raises(InvalidName):
            refused()
    with telemetry.tracer.start_as_current_span("own") as span:
        record_error(span, ValueError("no file caf\udce9"))
    assert len(otlp.encode_spans(telemetry.spans).resource_spans[0].scope_spans) == 2
    assert telemetry.span("fire pai\\ud800d").attributes["messaging.destination.name"] == (
        "pai\\ud800d"
    )
    assert telemetry.span("skip t\\ud800").attributes["triggers.instance"] == "t\\ud800#0"
    assert telemetry.span("own").status.description == "no file caf\\udce9"


def test_many_events_are_bounded(make: Any, telemetry: Any) -> None:
    counted = {"t": {"after": [{"atLeast": 150, "of": "page"}], "run": "body"}}
    run(make(body=nothing), counted, *["page"] * 150)
    span = telemetry.span("run t")
    assert len(span.links) == 128
    assert span.dropped_links == 0


def test_the_span_is_the_current_one_in_a_body(make: Any, telemetry: Any) -> None:
    seen: list[Any] = []

    def look(context: TaskContext) -> None:
        seen.append(trace.get_current_span().get_span_context().span_id)
        with telemetry.tracer.start_as_current_span("inner"):
            pass
        own = copy_context()
        thread = threading.Thread(target=lambda: own.run(look_again))
        thread.start()
        thread.join()

    def look_again() -> None:
        seen.append(trace.get_current_span().get_span_context().span_id)

    async def wait(context: TaskContext) -> None:
        await asyncio.sleep(0)
        seen.append(trace.get_current_span().get_span_context().span_id)

    configuration = {**ONE, "u": {"after": ["t"], "run": "wait"}}
    run(make(body=look, wait=wait), configuration, "a")
    ran, awaited = ids(telemetry.span("run t"))[1], ids(telemetry.span("run u"))[1]
    assert seen == [ran, ran, awaited]
    assert telemetry.span("inner").parent.span_id == ran


@pytest.mark.parametrize(
    ("does", "outcome", "status", "kind"),
    [
        (lambda context: {}, "finished", StatusCode.UNSET, None),
        (
            lambda context: _raise(ValueError("password=hunter2")),
            "failed",
            StatusCode.ERROR,
            "ValueError",
        ),
        (lambda context: _raise(context.skip()), "skipped", StatusCode.UNSET, None),
        (lambda context: _raise(context.retry(cooldown=60)), "retried", StatusCode.UNSET, None),
        (
            lambda context: _raise(context.retry(OSError("password=hunter2"), cooldown=60)),
            *("retried", StatusCode.ERROR, "OSError"),
        ),
        (lambda context: _lose(context), "lease_lost", StatusCode.ERROR, None),
    ],
)
def test_how_an_attempt_ends(
    does: Any, outcome: str, status: StatusCode, kind: str | None, make: Any, telemetry: Any
) -> None:
    run(make(body=does), ONE, "a")
    span = telemetry.span("run t")
    assert span.attributes["triggers.outcome"] == outcome
    assert span.status.status_code is status
    assert span.attributes.get("error.type") == kind
    assert [each.name for each in span.events] == (["exception"] if kind else [])
    assert "hunter2" not in span.to_json()


def _raise(error: BaseException) -> None:
    raise error


def _lose(context: TaskContext) -> None:
    context.lost.set()


def test_a_retry_of_a_plugin_is_another_attempt(make: Any, telemetry: Any) -> None:
    class Again:
        @hookimpl
        def task_failed(self, context: TaskContext) -> Retry | None:
            return Retry() if not context.retries else None

    def body(context: TaskContext) -> None:
        if not context.retries:
            raise ValueError

    manager = run(make(plugins=(Again(),), body=body), ONE, "a")
    assert manager.storage["t#1"].status == "finished"
    first, second = [each for each in telemetry.spans if each.name == "run t"]
    assert (first.attributes["triggers.outcome"], second.attributes["triggers.retries"]) == (
        *("failed", 1),
    )


# -- sampling, options, what is stored ------------------------------------------------------------


def test_links_to_what_was_not_sampled(make: Any, telemetry: Any) -> None:
    """A process that samples nothing fires; one that samples runs."""
    from opentelemetry.sdk.trace import TracerProvider

    quiet = TracerProvider(sampler=ParentBased(ALWAYS_OFF))
    app = make("sqlite", body=nothing)
    app.plugins.unregister(telemetry.plugin)
    app.plugins.register(OpenTelemetry(quiet, telemetry.meters), "otel")
    manager = app.manager("s")
    manager.update_configuration(JOIN)
    for trigger in "ab":
        manager.fire(trigger)
    assert telemetry.spans == []
    app.plugins.unregister("otel")
    app.plugins.register(telemetry.plugin, "otel")
    manager.fire("c")
    assert manager.join(120)
    links = telemetry.span("run t").links
    assert [each.context.trace_flags.sampled for each in links] == [False, False, True]
    assert all(each.context.is_valid for each in links)


def test_without_an_sdk_nothing_is_stored(make: Any, telemetry: Any) -> None:
    app = make(body=nothing)
    app.plugins.unregister(telemetry.plugin)
    app.plugins.register(OpenTelemetry(), "otel")
    manager = run(app, ONE, "a")
    assert [each.carrier for each in manager.storage.events] == [None, None]


def test_options(make: Any, telemetry: Any) -> None:
    run(make(options={"session_uid": False}, body=nothing), ONE, "a")
    assert "order:1" not in "".join(each.to_json() for each in telemetry.spans)
    telemetry.exporter.clear()
    manager = run(make(options={"spans": False}, body=nothing), ONE, "a")
    assert telemetry.spans == []
    assert [each.carrier for each in manager.storage.events] == [None, None]


HOSTILE: list[dict[str, str]] = [
    {"traceparent": ""},
    {"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01"},
    {"traceparent": "ff-" + "1" * 32 + "-" + "1" * 16 + "-01"},
    {"traceparent": "00-" + "g" * 32 + "-" + "1" * 16 + "-01"},
    {"traceparent": "%s%n" * 200},
    {"traceparent": "٣" * 55},
    {"tracestate": "a=b"},
    {"request": "r1"},
]


@pytest.mark.parametrize("carrier", HOSTILE, ids=range(len(HOSTILE)))
def test_a_carrier_that_is_none_harms_nothing(
    carrier: dict[str, str], make: Any, telemetry: Any
) -> None:
    assert carriers.read(carrier) is None
    manager = make(body=nothing).manager("s")
    manager.update_configuration(JOIN)
    for trigger in "ab":
        fire = Fire(trigger=trigger, payload=b"{}", event_id=trigger, carrier=carrier)
        manager.storage.store.commit("s", fire, manager.app.rules)
    manager.fire("c")
    assert manager.join(120)
    assert manager.storage["t#0"].status == "finished"
    assert linked(telemetry.span("run t")) == [ids(telemetry.span("fire c"))]


@pytest.mark.parametrize("state", ["", "=", "a=b,a=c", "x" * 600, "\x00", ",,,;", "é=é"])
def test_a_broken_state_does_not_spoil_the_parent(state: str) -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    span = carriers.read({"traceparent": parent, "tracestate": state})
    assert span is not None
    assert f"{span.trace_id:x}" == "4bf92f3577b34da6a3ce929d0e0e4736"


def test_a_carrier_comes_back_as_it_was() -> None:
    from opentelemetry.trace import SpanContext, TraceFlags, TraceState

    state = TraceState([("vendor", "value"), ("other", "1")])
    span = SpanContext(5, 7, is_remote=False, trace_flags=TraceFlags(0), trace_state=state)
    carrier: dict[str, str] = {}
    carriers.write(span, carrier)
    assert carrier == {
        "traceparent": f"00-{'5'.zfill(32)}-{'7'.zfill(16)}-00",
        "tracestate": "vendor=value,other=1",
    }
    found = carriers.read(carrier)
    assert found is not None
    assert (found.trace_id, found.span_id, found.trace_state) == (5, 7, state)
    long = TraceState([("vendor", "v" * 250), ("other", "o" * 250), ("more", "m" * 50)])
    for other, keys in (
        (SpanContext(5, 7, False, TraceFlags(1), long), ["traceparent"]),
        (trace.INVALID_SPAN_CONTEXT, []),
    ):
        carrier = {}
        carriers.write(other, carrier)
        assert list(carrier) == keys
