"""Tests of the shop: ``python -m pytest shop``; on a worker with ``--triggers-storage celery``."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from shop import parcels
from shop.settings import TRIGGER_CONFIGURATION
from shop.web import respond
from triggers_core.testing import SessionUnderTest, Triggers

PAID = {"order": "42", "amount": "19.90"}
RESERVED = {"order": "42", "warehouse": "B"}


@pytest.fixture
def order(triggers: Triggers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SessionUnderTest:
    monkeypatch.setattr(parcels, "FOLDER", tmp_path)
    triggers.use()
    return triggers.session(uid="order:42")


def test_an_order_is_shipped_once_both_are_in(order: SessionUnderTest, tmp_path: Path) -> None:
    order.fire("paid", PAID)
    assert order.ran("t_ship") == 0
    order.fire("reserved", RESERVED)
    assert order.ran("t_ship") == order.ran("t_tell") == 1
    [parcel] = [json.loads(file.read_text()) for file in tmp_path.glob("*.json")]
    assert parcel == {"order": "42", "from": "B", "value": "19.90"}


def test_the_parcel_service_is_down(order: SessionUnderTest) -> None:
    order.fails("t_ship", ConnectionError("no parcel service"), times=1)
    order.fire("paid", PAID)
    order.fire("reserved", RESERVED)
    assert order.status("t_ship") == "failed"
    assert order.replay("t_ship").status == "finished"
    assert order.ran("t_tell") == 1


def test_a_worker_is_killed(order: SessionUnderTest) -> None:
    order.dies("t_ship")
    order.fire("paid", PAID)
    order.fire("reserved", RESERVED)
    order.advance("1 minute")
    assert order.ran("t_ship") == 1


def test_in_any_order_and_delivered_twice(triggers: Triggers, order: SessionUnderTest) -> None:
    webhooks = [("paid", PAID), ("reserved", RESERVED)]
    triggers.assert_any_order(TRIGGER_CONFIGURATION, webhooks, {"t_ship": 1}, duplicates=True)


def post(path: str, **event: str) -> tuple[int, str]:
    status, answer = asyncio.run(respond("POST", path, json.dumps(event).encode()))
    return status, answer.get("status", "")


def test_webhooks(order: SessionUnderTest) -> None:
    assert post("/payments", id="evt-1", **PAID) == (202, "recorded")
    assert post("/payments", id="evt-1", **PAID) == (202, "duplicate")
    assert post("/stock", id="res-7", **RESERVED) == (202, "recorded")
    assert order.ran("t_ship") == 1
    assert post("/payments", id="evt-1", order="42", amount="0") == (409, "")
    assert post("/stock", order="42") == (400, "")
