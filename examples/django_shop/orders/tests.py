"""Tests of the shop, as any project's: ``python manage.py test``."""

from __future__ import annotations

from typing import Any

from django.core import mail
from django.test import TestCase

from orders.models import Order, Payment
from triggers_core import get_trigger_manager


class Webhooks(TestCase):
    def send(self, path: str, status: int = 202, **event: Any) -> dict[str, Any]:
        """Send a webhook. What follows a commit happens here, and not in a thread."""
        with self.captureOnCommitCallbacks(execute=True):
            answer = self.client.post(path, event, content_type="application/json")
        self.assertEqual(answer.status_code, status, answer.content)
        return answer.json() if status == 202 else {}

    def pay(self, cents: int = 1990, status: int = 202) -> dict[str, Any]:
        return self.send("/payments", status, id="evt-1", order=42, cents=cents)

    def reserve(self) -> dict[str, Any]:
        return self.send("/stock", id="res-7", order=42, warehouse="B")

    def check_shipped_once(self) -> None:
        order = self.client.get("/orders/42").json()
        self.assertEqual(order["tasks"], {"t_ship#0": "finished", "t_tell#0": "finished"})
        [message] = mail.outbox
        self.assertEqual(message.body, f"order:42 is on its way as parcel {order['parcel']}.")

    def test_an_order_is_shipped_once_both_are_in(self) -> None:
        self.pay()
        order = self.client.get("/orders/42").json()
        self.assertEqual((order["parcel"], order["tasks"]), ("", {"t_ship#0": "unstarted"}))
        self.assertIn("stockReserved", order["why"])
        self.reserve()
        self.check_shipped_once()

    def test_in_whatever_order(self) -> None:
        self.reserve()
        self.pay()
        self.check_shipped_once()

    def test_a_webhook_that_comes_again_changes_nothing(self) -> None:
        self.pay()
        self.reserve()
        self.assertEqual(self.pay()["status"], "duplicate")
        self.assertEqual(self.reserve()["status"], "duplicate")
        self.assertEqual(Payment.objects.count(), 1)
        self.check_shipped_once()

    def test_a_request_that_is_rolled_back_leaves_nothing(self) -> None:
        self.client.raise_request_exception = False
        self.reserve()
        self.pay(cents=-1, status=500)
        self.assertEqual(Payment.objects.count(), 0)
        self.assertNotIn("paid", get_trigger_manager("order:42").storage.latest_kwargs)
        self.pay()  # the provider delivers it again, corrected
        self.check_shipped_once()

    def test_what_is_no_webhook_is_refused(self) -> None:
        self.send("/payments", order=42, status=400)
        self.assertEqual(Order.objects.count(), 0)
        self.assertEqual(self.client.get("/orders/42").status_code, 404)
