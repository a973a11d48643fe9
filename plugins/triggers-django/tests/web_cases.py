"""Pages and webhooks in a Django project. Run as the tests of a project by `manage.py test`."""

from __future__ import annotations

import hashlib
import hmac
import html
import json
import re
from typing import Any
from urllib.parse import urlencode

from asgiref.sync import async_to_sync
from django.contrib.auth.models import Permission, User
from django.http import HttpResponse
from django.test import AsyncClient, Client, TestCase, override_settings

from triggers_core import TriggerManager, get_trigger_manager

BODY = json.dumps({"order": 7}).encode()
SIGNATURE = hmac.new(b"of the warehouse", BODY, hashlib.sha256).hexdigest()

FORM: Any = {"content_type": "application/x-www-form-urlencoded"}


def order(number: int, *triggers: str, **kwargs: Any) -> TriggerManager:
    manager = get_trigger_manager(f"order:{number}")
    for each in triggers:
        manager.fire(each, kwargs)
    return manager


class WebCase(TestCase):
    def setUp(self) -> None:
        self.client = Client(enforce_csrf_checks=True)

    def login(self, *permissions: str) -> User:
        user = User.objects.create_user("ada")
        for codename in permissions:
            user.user_permissions.add(
                Permission.objects.get(codename=codename, content_type__app_label="triggers")
            )
        self.client.force_login(user)
        return user


class Access(WebCase):
    def test_whoever_is_not_logged_in_is_sent_to_do_so(self) -> None:
        answer = self.client.get("/ops/triggers/session?uid=order%3A1")
        assert answer.status_code == 302
        assert answer["location"] == (
            "/admin/login/?next=/ops/triggers/session%3Fuid%3Dorder%253A1"
        )

    def test_what_is_no_page_to_look_at_is_refused_instead(self) -> None:
        fetched = {"headers": {"sec-fetch-mode": "cors"}}
        assert self.client.get("/ops/triggers/", **fetched).status_code == 403
        assert self.client.post("/ops/triggers/", {}).status_code == 403
        assert self.client.get("/ops/triggers/nothing").status_code == 302
        assert self.client.get("/ops/triggers/static/style.css").status_code == 200

    def test_a_user_without_the_permission_sees_nothing(self) -> None:
        self.login()
        answer = self.client.get("/ops/triggers/")
        assert answer.status_code == 403
        assert b"paid" not in answer.content

    def test_a_reader_sees_and_cannot_act(self) -> None:
        self.login("view_session", "replay_instance", "skip_instance")  # and not `fail_instance`
        order(1, "paid")
        answer = self.client.get("/ops/triggers/")
        assert answer.status_code == 200
        assert b"ada, read-only" in answer.content
        assert b"packed" in answer.content, "it waits for that"
        assert b'href="/ops/triggers/static/style.css"' in answer.content
        assert answer["x-frame-options"] == "DENY"
        assert "default-src 'none'" in answer["content-security-policy"]

    def test_with_no_slash_at_the_end(self) -> None:
        assert self.client.get("/ops/triggers")["location"] == "/ops/triggers/"

    def test_hosts_are_those_of_django(self) -> None:
        answer = self.client.get("/ops/triggers/static/style.css", headers={"host": "evil.example"})
        assert answer.status_code == 400

    def test_under_asgi(self) -> None:
        user = self.login("view_session")
        client = AsyncClient()
        client.force_login(user)
        answer = async_to_sync(client.get)("/ops/triggers/")
        assert answer.status_code == 200
        assert b"ada, read-only" in answer.content


class Acts(WebCase):
    """By the forms of the pages, with Django's CSRF protection in force for everything else."""

    ADDRESS = "/ops/triggers/instance/skip"

    def form(self) -> dict[str, str]:
        """What the page of the act would send."""
        page = self.client.get(self.ADDRESS, {"uid": "order:1", "name": "t_ship#0"})
        assert page.status_code == 200, page.content
        hidden = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page.content.decode())
        return {name: html.unescape(value) for name, value in hidden}

    def test_an_act_is_by_whoever_is_logged_in(self) -> None:
        manager = order(1, "paid", "packed", fails=True)
        self.login("view_session", "replay_instance", "skip_instance", "fail_instance")
        answer = self.client.post(self.ADDRESS, urlencode(self.form()), **FORM)
        assert answer.status_code == 303, answer.content
        assert answer["location"].startswith("/ops/triggers/instance?uid=order%3A1")
        assert "skipped by ada" in str(manager.explain("t_ship"))

    def test_a_forged_form_is_refused(self) -> None:
        manager = order(1, "paid", "packed", fails=True)
        self.login("view_session", "replay_instance", "skip_instance", "fail_instance")
        form = self.form()
        for changed, headers in (
            ({"csrf": "x" * 43}, {}),
            ({}, {"origin": "https://evil.example"}),
            ({}, {"sec-fetch-site": "cross-site"}),
        ):
            answer = self.client.post(
                self.ADDRESS, urlencode({**form, **changed}), **FORM, headers=headers
            )
            assert answer.status_code == 403
        assert manager.storage["t_ship#0"].status == "failed"

    def test_a_reader_is_refused(self) -> None:
        manager = order(1, "paid", "packed", fails=True)
        user = self.login("view_session", "replay_instance", "skip_instance", "fail_instance")
        form = self.form()
        user.user_permissions.remove(Permission.objects.get(codename="fail_instance"))
        assert self.client.post(self.ADDRESS, urlencode(form), **FORM).status_code == 403
        assert manager.storage["t_ship#0"].status == "failed"


class Webhooks(WebCase):
    def send(self, path: str, body: bytes = BODY, **headers: str) -> HttpResponse:
        given = {"x-signature": SIGNATURE, **headers}
        return self.client.post(  # type: ignore[return-value]
            path, body, content_type="application/json", headers=given
        )

    def test_one_needs_no_login_and_no_token(self) -> None:
        answer = self.send("/hooks/warehouse")
        assert (answer.status_code, json.loads(answer.content)["status"]) == (200, "accepted")
        assert self.send("/hooks/warehouse").content == answer.content
        assert [each.trigger for each in order(7).storage.events] == ["packed"]

    def test_others_are_refused(self) -> None:
        assert self.send("/hooks/warehouse", **{"x-signature": "0" * 64}).status_code == 401
        assert self.send("/hooks/nothing").status_code == 404
        assert self.client.get("/hooks/warehouse").status_code == 405
        assert self.send("/hooks/warehouse", b" " * 1_100_000).status_code == 413
        with override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=5):
            assert self.send("/hooks/warehouse").status_code == 413
        assert not order(7).storage.exists
