"""Senders of webhooks: what they put into headers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from triggers_core import Application
from triggers_core.runners import ManualRunner
from triggers_core.settings import Settings
from triggers_web.http import Headers, Request
from triggers_web.intake import Intake

NOW = 1_700_000_000

STRIPE_SECRET = "whsec_of_stripe"
GITHUB_SECRET = "of github"
HMAC_SECRET = "of the warehouse"
STANDARD_SECRET = "whsec_" + base64.b64encode(b"of a standard sender, 32 bytes...").decode()

ENVIRON = {
    "STRIPE": STRIPE_SECRET,
    "GITHUB": GITHUB_SECRET,
    "WAREHOUSE": HMAC_SECRET,
    "STANDARD": STANDARD_SECRET,
}

ROUTES: dict[str, Any] = {
    "/stripe": {
        "verify": "stripe",
        "secret": "env:STRIPE",
        "uid": "order:{body.data.object.metadata.order}",
        "trigger": {"from": "body.type", "map": {"payment_intent.succeeded": "paid"}},
        "kwargs": {"cents": "body.data.object.amount"},
    },
    "/github": {
        "verify": "github",
        "secret": "env:GITHUB",
        "uid": "{body.repository.full_name}#{body.number}",
        "trigger": {
            "from": "{headers.X-GitHub-Event}.{body.action}",
            "map": {"pull_request.closed": "closed"},
        },
    },
    "/warehouse": {
        "verify": "hmac",
        "secret": "env:WAREHOUSE",
        "header": "X-Signature",
        "uid": "order:{body.order}",
        "trigger": "packed",
        "kwargs": "body",
    },
    "/standard": {
        "verify": "standard",
        "secret": "env:STANDARD",
        "uid": "order:{body.order}",
        "trigger": "{body.type}",
        "kwargs": "body",
    },
}


def make_app(name: str = "hooks", **settings: Any) -> Application:
    """An application in memory, unless its settings say otherwise, that runs nothing."""
    given = {"TRIGGER_STORAGE_TYPE": "memory", "TRIGGER_PLUGINS": [], **settings}
    return Application(name, Settings.isolated(**given), runner=ManualRunner)


def make_intake(app: Application, **words: Mapping[str, Any]) -> Intake:
    """An intake of `ROUTES`, with some words of a route (``stripe={...}``) changed."""
    routes = {path: {**each, **words.get(path[1:], {})} for path, each in ROUTES.items()}
    return Intake(routes, app, environ=ENVIRON, clock=lambda: NOW)


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def stripe_headers(body: bytes, at: int = NOW, secret: str = STRIPE_SECRET) -> dict[str, str]:
    signature = hmac.new(secret.encode(), b"%d.%b" % (at, body), hashlib.sha256).hexdigest()
    return {"Stripe-Signature": f"t={at},v1={signature}"}


def github_headers(
    body: bytes, delivery: str = "d-1", event: str = "pull_request"
) -> dict[str, str]:
    signature = hmac.new(GITHUB_SECRET.encode(), body, hashlib.sha256).hexdigest()
    return {
        "X-Hub-Signature-256": f"sha256={signature}",
        "X-GitHub-Delivery": delivery,
        "X-GitHub-Event": event,
    }


def hmac_headers(body: bytes, secret: str = HMAC_SECRET) -> dict[str, str]:
    return {"X-Signature": hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}


def standard_headers(
    body: bytes, name: str = "msg_1", at: int = NOW, family: str = "webhook"
) -> dict[str, str]:
    key = base64.b64decode(STANDARD_SECRET.removeprefix("whsec_"))
    signed = b"%b.%d.%b" % (name.encode(), at, body)
    signature = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return {
        f"{family}-id": name,
        f"{family}-timestamp": str(at),
        f"{family}-signature": f"v1,{signature}",
    }


def payment(event: str = "evt_1", order: str = "42", **more: Any) -> bytes:
    """What Stripe sends when an order is paid."""
    data = {"amount": 1990, "metadata": {"order": order}, **more}
    return as_json({"id": event, "type": "payment_intent.succeeded", "data": {"object": data}})


def post(
    path: str, body: bytes, headers: Mapping[str, str], *more: tuple[str, str], method: str = "POST"
) -> Request:
    """A request as an adapter hands it on."""
    pairs = [("Content-Type", "application/json"), *headers.items(), *more]
    return Request(method=method, path=path, raw_path=path, headers=Headers(pairs), body=body)
