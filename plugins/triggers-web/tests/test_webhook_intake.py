"""From a request to an event, and what is answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from web_signing import (
    ENVIRON,
    HMAC_SECRET,
    NOW,
    ROUTES,
    as_json,
    github_headers,
    hmac_headers,
    make_app,
    make_intake,
    payment,
    post,
    standard_headers,
    stripe_headers,
)

from triggers_core import Application, TriggerManager, hookimpl, payloads
from triggers_core.exceptions import FireVetoed, HookFailed, PluginMissing, StorageError
from triggers_core.plugins.hook_calls import Plugins
from triggers_web.http import Request, Response, early
from triggers_web.intake import Intake

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
json_values = st.dictionaries(
    st.sampled_from(["a", "b"]) | st.text(),
    st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)),
)

Told = tuple[int, dict[str, Any]]


def told(response: Response) -> Told:
    return response.status, json.loads(response.content)


def stripe(body: bytes) -> Request:
    return post("/stripe", body, stripe_headers(body))


def warehouse(value: Any) -> Request:
    body = value if isinstance(value, bytes) else as_json(value)
    return post("/warehouse", body, hmac_headers(body))


def events(app: Application, uid: str) -> list[tuple[str, str, Any]]:
    return [
        (each.id, each.trigger, payloads.decode(bytes(each.payload)))
        for each in app.storage(uid).events
    ]


# -- what becomes an event ------------------------------------------------------------------------


def test_each_scheme_fires(app: Application, intake: Intake) -> None:
    assert told(intake(stripe(payment()))) == (
        200,
        {"status": "accepted", "trigger": "paid", "event_id": "stripe:evt_1"},
    )
    packed = {"order": 42, "shelf": "B7", "weight": 1.5}
    assert intake(warehouse(packed)).status == 200
    returned = as_json({"order": "42", "type": "returned"})
    assert intake(post("/standard", returned, standard_headers(returned))).status == 200
    stripe_event, hmac_event, standard_event = events(app, "order:42")
    assert stripe_event == ("stripe:evt_1", "paid", {"cents": 1990})
    assert hmac_event[1:] == ("packed", packed)
    assert hmac_event[0].startswith("warehouse:")
    assert standard_event == (
        "standard:msg_1",
        "returned",
        {"order": "42", "type": "returned"},
    )
    closed = as_json({"action": "closed", "number": 7, "repository": {"full_name": "a/b"}})
    assert intake(post("/github", closed, github_headers(closed))).status == 200
    assert events(app, "a/b#7") == [("github:d-1", "closed", {})]


def test_what_nobody_signs(app: Application) -> None:
    route = {"verify": "none", "uid": "order:{body.order}", "trigger": "packed"}
    intake = Intake({"/open": route}, app)
    for _ in range(2):
        assert intake(post("/open", as_json({"order": 1}), {})).status == 200
    assert len(events(app, "order:1")) == 1


def test_a_repetition_is_answered_the_same_and_changes_nothing(
    app: Application, intake: Intake
) -> None:
    first, again = (intake(stripe(payment(tries=each))) for each in (1, 2))
    assert first == again
    assert len(events(app, "order:42")) == 1
    app.manager("order:42").close_session()
    assert intake(stripe(payment())) == first, "also when the session is closed by now"


def test_the_id_may_be_made_of_anything(app: Application) -> None:
    intake = make_intake(app, github={"event_id": "gh:{sha256}"})
    body = as_json({"action": "closed", "number": 7, "repository": {"full_name": "a/b"}})
    for delivery in ("d-1", "d-2"):  # a header that no signature covers
        assert intake(post("/github", body, github_headers(body, delivery))).status == 200
    assert len(events(app, "a/b#7")) == 1


def test_what_is_none_of_the_routes_is_ignored_and_said_so(app: Application) -> None:
    intake = make_intake(app)
    other = as_json({"id": "evt_2", "type": "customer.created"})
    assert told(intake(stripe(other))) == (
        200,
        {"status": "ignored", "reason": "no trigger is configured for this body.type"},
    )
    ping = as_json({"zen": "Keep it logically awesome."})
    request = post("/github", ping, github_headers(ping, event="ping"))
    assert told(intake(request)) == (
        200,
        {"status": "ignored", "reason": "body.action: there is nothing in this webhook"},
    )
    words = {**ROUTES["/stripe"]["trigger"], "others": "refuse"}
    strict = make_intake(app, stripe={"trigger": words})
    assert told(strict(stripe(other)))[0] == 422
    assert list(app.store.sessions()) == []


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"{", 400, "not JSON"),
        (b"[]", 422, "body.order: there is nothing"),
        (b"{}", 422, "body.order: there is nothing"),
        ({"order": ""}, 422, "body.order: a text or an integer"),
        ({"order": {}}, 422, "body.order: a text or an integer"),
        ({"order": "x" * 200}, 422, "uid: what this webhook makes of it"),
        ({"order": "x\n"}, 422, "uid: what this webhook makes of it"),
        ({"order": "\ud800"}, 422, "uid: what this webhook makes of it"),
        ({"order": 1, "a": ["\ud800"]}, 422, "kwargs['a'][0]"),
        ({"order": 1, "\ud800": 1}, 422, "kwargs"),
        ({"order": 1, "a": 2**4096}, 422, "kwargs['a']"),
        ({"order": 1, "a": "x" * 70_000}, 413, "kwargs_bytes"),
        (b'{"order": 1, "a": ' + b"[" * 40 + b"]" * 40 + b"}", 413, "kwargs_depth"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_a_reason(
    app: Application, intake: Intake, body: Any, status: int, reason: str
) -> None:
    found, answer = told(intake(warehouse(body)))
    assert found == status
    assert reason in answer["reason"]
    assert len(answer["reason"]) < 150
    assert list(app.store.sessions()) == []


@given(body=st.binary(max_size=40) | json_values.map(as_json))
def test_anything_that_is_signed_has_an_answer(body: bytes) -> None:
    app = make_app()
    intake = make_intake(app, warehouse={"uid": "{body.a}", "kwargs": "body"})
    response = intake(post("/warehouse", body, hmac_headers(body)))
    assert response.status in (200, 400, 422)
    assert len(list(app.store.sessions())) == (response.status == 200)
    app.close()


def test_unverified_is_unverified_whatever_is_wrong(app: Application, intake: Intake) -> None:
    body = payment()
    wrong = [
        {},
        {"Stripe-Signature": ""},
        stripe_headers(body + b" "),
        stripe_headers(body, at=NOW - 301),
        stripe_headers(body, secret="another"),
        {"Stripe-Signature": "t=1"},
    ]
    answers = {intake(post("/stripe", body, headers)).content for headers in wrong}
    assert answers == {
        b'{"error":"unverified","reason":"the signature is missing, wrong or too old"}'
    }
    assert {intake(post("/stripe", body, each)).status for each in wrong} == {401}
    assert list(app.store.sessions()) == []


def test_a_signature_for_one_route_is_none_for_another(intake: Intake) -> None:
    body = as_json({"order": 1, "type": "x"})
    for path in ("/stripe", "/github", "/standard"):
        headers = {**hmac_headers(body), **stripe_headers(body, secret=HMAC_SECRET)}
        assert intake(post(path, body, headers)).status == 401


def test_the_log_says_why_but_not_a_thousand_times(
    app: Application, intake: Intake, caplog: pytest.LogCaptureFixture
) -> None:
    body = payment()
    for _ in range(1_000):
        intake(post("/stripe", body, stripe_headers(body, at=NOW - 900)))
    intake(post("/warehouse", body, {"X-Signature": "0"}))
    assert caplog.messages == [
        "webhook /stripe: answered 401: the time in the signature is more than 300 s off",
        "webhook /warehouse: answered 401: no signature matches",
    ]


def test_nothing_is_read_of_a_body_that_is_not_verified(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triggers_web.intake.intake.parse_body", lambda body: 1 / 0)
    assert intake(post("/warehouse", b"[" * 1_000, {"X-Signature": "0"})).status == 401


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (post("/nothing", b"{}", {}), 404),
        (post("/", b"{}", {}), 404),
        (post("/warehouse/", b"{}", {}), 404),
        (post("//warehouse", b"{}", {}), 404),
        (post("/Warehouse", b"{}", {}), 404),
        (post("/warehouse", b"{}", {}, method="GET"), 405),
        (post("/warehouse", b"{}", {}, method="HEAD"), 405),
        (post("/warehouse", b"{}", {}, method="post"), 405),
        (post("/warehouse", b"{}", {}, ("X-HTTP-Method-Override", "POST"), method="GET"), 405),
        (post("/warehouse", b"{}", {}, ("Content-Type", "application/json")), 415),
        (post("/warehouse", b"{}", {}, ("Content-Encoding", "gzip")), 415),
        (post("/warehouse", b"{}", {}), 401),
    ],
)
def test_what_is_said_before_the_body_is_read(
    intake: Intake, request_: Request, status: int
) -> None:
    first = early(intake, request_)
    assert isinstance(first, Response)
    assert first == intake(request_)
    assert first.status == status
    assert dict(first.all_headers).get("allow") == ("POST" if status == 405 else None)


def test_a_path_is_taken_as_it_is_written_only(intake: Intake) -> None:
    request = warehouse({"order": 1})
    spelled = {**vars(request), "raw_path": "/hooks/%77arehouse"}
    assert intake(Request(**spelled)).status == 404
    assert intake(Request(**{**spelled, "raw_path": "/hooks/warehouse"})).status == 200
    assert intake(Request(**{**spelled, "raw_path": None})).status == 200


@pytest.mark.parametrize(
    ("kind", "taken"),
    [
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/cloudevents+json", True),
        ("application/x-www-form-urlencoded", False),
        ("text/plain", False),
        ("", False),
    ],
)
def test_the_content_type(intake: Intake, kind: str, taken: bool) -> None:
    request = warehouse({"order": 1})
    headers = type(request.headers)([("content-type", kind), *hmac_headers(request.body).items()])
    changed = Request(**{**vars(request), "headers": headers})
    assert intake(changed).status == (200 if taken else 415)


def test_a_body_is_bounded(app: Application) -> None:
    intake = make_intake(app, warehouse={"max_bytes": 30})
    assert early(intake, warehouse({})) == 30
    assert intake(warehouse(b'{"order": 1}' + b" " * 18)).status == 200
    assert told(intake(warehouse(b'{"order": 1}' + b" " * 19)))[0] == 413


# -- what becomes of errors -----------------------------------------------------------------------


def test_a_conflict(app: Application, intake: Intake) -> None:
    assert intake(stripe(payment())).status == 200
    status, answer = told(intake(stripe(payment(amount=1))))
    assert (status, answer["error"]) == (409, "conflict")
    assert len(events(app, "order:42")) == 1


def test_a_closed_session(app: Application, intake: Intake) -> None:
    app.manager("order:42").fire("opened")
    app.manager("order:42").close_session()
    assert told(intake(stripe(payment())))[1]["error"] == "closed"
    assert intake(stripe(payment())).status == 409


def test_a_full_session(caplog: pytest.LogCaptureFixture) -> None:
    app = make_app(TRIGGER_LIMITS={"trigger_names": 1})
    app.manager("order:42").fire("opened")
    assert told(make_intake(app)(stripe(payment())))[:1] == (422,)
    assert "trigger_names" in caplog.text


def test_a_veto(caplog: pytest.LogCaptureFixture) -> None:
    class Guard:
        @hookimpl
        def pre_fire(self, manager: TriggerManager, event: Any) -> None:
            raise FireVetoed("s3cret reason")

    app = make_app().replace(plugins=Plugins([Guard()]))
    status, answer = told(make_intake(app)(stripe(payment())))
    assert (status, answer["error"]) == (422, "refused")
    assert "s3cret" not in str(answer)
    assert "s3cret reason" in caplog.text


def fails(error: Exception) -> Callable[..., Any]:
    def fire(*_: Any, **__: Any) -> Any:
        raise error

    return fire


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (StorageError("redis://user:pw@db is away"), 503, "10"),
        (PluginMissing("the plugin secret is not here"), 503, "10"),
        (HookFailed("secret", "guard"), 500, None),
        (ValueError("secret"), 500, None),
        (MemoryError(), 500, None),
    ],
)
def test_errors_of_ours(
    intake: Intake,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    status: int,
    retry: str | None,
) -> None:
    monkeypatch.setattr(TriggerManager, "fire", fails(error))
    response = intake(stripe(payment()))
    assert response.status == status
    assert response.headers.get("retry-after") == retry
    assert b"secret" not in response.content
    assert b"redis" not in response.content
    assert "webhook /stripe: not stored" in caplog.text
    monkeypatch.undo()
    assert intake(stripe(payment())).status == 200


def test_the_name_of_a_task_is_a_mistake_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    tasks = {"paid": {"after": ["x"], "run": "shop.X"}}
    app = make_app(TRIGGER_CONFIGURATION=tasks)
    assert make_intake(app)(stripe(payment())).status == 500
    assert "is a task" in caplog.text


def test_settings_make_the_same_intake(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    app = make_app(TRIGGER_PLUGIN_OPTIONS={"web": {"webhooks": ROUTES}})
    intake = Intake.from_settings(app)
    assert list(intake.routes) == list(ROUTES)
    assert intake(warehouse({"order": 1})).status == 200
