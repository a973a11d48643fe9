"""The admin, seen with Django's test client. Run as the tests of a project by `manage.py test`."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.http import HttpResponse
from django.test import TestCase
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from triggers_core import TriggerManager, get_trigger_manager
from triggers_django.models import Session

LIST = reverse("admin:triggers_session_changelist")
PASSWORD = "sesame"


def order(number: int, *triggers: str, **kwargs: Any) -> TriggerManager:
    manager = get_trigger_manager(f"order:{number}")
    for each in triggers:
        manager.fire(each, kwargs)
    return manager


def page_of(manager: TriggerManager, *more: object) -> str:
    return reverse("admin:triggers_session_change", args=(pk_of(manager),))


def action_of(manager: TriggerManager, action: str, instance: str = "") -> str:
    address = reverse("admin:triggers_session_action", args=(pk_of(manager), action))
    return f"{address}?instance={instance.replace('#', '%23')}" if instance else address


def pk_of(manager: TriggerManager) -> int:
    return Session.objects.get(uid=manager.uid).pk


class AdminCase(TestCase):
    def login(self, *permissions: str, staff: bool = True) -> User:
        user = User.objects.create_user(f"operator{len(permissions)}", is_staff=staff)
        for codename in permissions:
            user.user_permissions.add(
                Permission.objects.get(codename=codename, content_type__app_label="triggers")
            )
        self.client.force_login(user)
        return user

    def assert_lists(self, answer: HttpResponse, *numbers: int) -> None:
        listed = {each.uid for each in answer.context["cl"].result_list}  # type: ignore[attr-defined]
        assert listed == {f"order:{number}" for number in numbers}


class Lists(AdminCase):
    def setUp(self) -> None:
        self.login("view_session")
        order(1, "paid")  # waits for `packed`
        order(2, "paid", "packed")
        order(3, "paid", "packed", fails=True)
        order(14, "packed", fails=True)  # waits for `paid`

    def test_all_failed_ones_first(self) -> None:
        answer = self.client.get(LIST)
        self.assert_lists(answer, 1, 2, 3, 14)
        assert answer.context["cl"].result_list[0].uid == "order:3"

    def test_search(self) -> None:
        self.assert_lists(self.client.get(LIST, {"q": "order:1"}), 1, 14)
        self.assert_lists(self.client.get(LIST, {"q": "14"}), 14)

    def test_filters(self) -> None:
        other = order(5, "paid", "packed")  # what has failed is another task
        other.update_configuration({"t_tell": {"after": ["tell"], "run": "shop.Ship"}})
        other.fire("tell", {"fails": True})
        for query, numbers in (
            ({"stuck": "failed"}, [3, 5]),
            ({"stuck": "waiting"}, [1, 3, 5, 14]),  # nothing is under way in the failed ones
            ({"stuck": "waiting", "trigger": "paid"}, [14]),
            ({"stuck": "overdue"}, []),
            ({"task": "t_ship"}, [1, 2, 3, 5, 14]),
            ({"task": "t_ship", "stuck": "failed"}, [3]),
            ({"task": "t_tell", "stuck": "failed"}, [5]),
            ({"task": "t_nothing"}, []),
            ({"trigger": "paid"}, [14]),
            ({"trigger": "packed"}, [1]),
            ({"trigger": "packed", "task": "t_ship", "stuck": "waiting", "q": "order"}, [1]),
        ):
            with self.subTest(query):
                self.assert_lists(self.client.get(LIST, query), *numbers)

    def test_no_query_per_row(self) -> None:
        with self.assertNumQueries(6) as few:  # session, user, permissions (2), count, rows
            self.client.get(LIST)
        for number in range(20, 40):
            order(number, "paid", fails=True)
        with self.assertNumQueries(len(few)):
            self.client.get(LIST)

    def test_nothing_can_be_edited_or_added(self) -> None:
        user = User.objects.create_superuser("root")
        self.client.force_login(user)
        assert self.client.get(f"{LIST}add/").status_code == 403
        page = page_of(order(1))
        before = Session.objects.get(uid="order:1").header
        self.client.post(page, {"uid": "other", "failed": 7})
        assert Session.objects.get(uid="order:1").header == before
        assert self.client.post(f"{page.removesuffix('change/')}delete/").status_code == 403
        assert Session.objects.count() == 4

    def test_a_session_of_a_newer_version_does_not_hide_the_others(self) -> None:
        Session.objects.filter(uid="order:2").update(header=b"\xff\xff")
        with self.assertLogs("triggers_core", "WARNING"):
            answer = self.client.get(LIST)
        self.assertContains(answer, "unreadable")
        self.assert_lists(answer, 1, 2, 3, 14)


class Pages(AdminCase):
    def test_a_session_explains_itself(self) -> None:
        self.login("view_session")
        manager = order(1, "paid", card={"password": "hush"}, amount=42)
        answer = self.client.get(page_of(manager))
        self.assertContains(answer, "t_ship#0")
        self.assertContains(answer, str(manager.explain()).splitlines()[-1].strip())
        self.assertContains(answer, "amount&quot;: 42")
        self.assertNotContains(answer, "hush")
        self.assertNotContains(answer, "do/")  # no permission, no button

    def test_an_instance_tells_its_error(self) -> None:
        self.login("view_session", "replay_instance")
        manager = order(1, "paid", "packed", fails=True, token="hush")
        answer = self.client.get(page_of(manager))
        self.assertContains(answer, "ValueError: no such parcel")
        address = reverse("admin:triggers_session_instance", args=(pk_of(manager), "t_ship#0"))
        self.assertContains(answer, f'href="{address}"')
        answer = self.client.get(address)
        self.assertContains(answer, "no such parcel")
        self.assertContains(answer, "Traceback")
        self.assertContains(answer, "?instance=t_ship%230")
        self.assertNotContains(answer, "hush")
        missing = reverse("admin:triggers_session_instance", args=(pk_of(manager), "t_ship#9"))
        assert self.client.get(missing).status_code == 404

    def test_no_query_per_event_or_instance(self) -> None:
        self.login("view_session")
        manager = order(1, "paid", "packed", "page", "page", fails=True)
        manager.update_configuration(
            {"t_page": {"andEvery": "page", "run": "shop.Ship"}}, past=True
        )
        page = page_of(manager)
        with CaptureQueriesContext(connection) as few:
            self.client.get(page)
        for _ in range(30):
            manager.fire("page", {"fails": True})
        with self.assertNumQueries(len(few)):
            answer = self.client.get(page)
        self.assertContains(answer, "t_page#31")

    def test_events_page_by_page(self) -> None:
        self.login("view_session")
        manager = order(1, *["other"] * 130)
        answer = self.client.get(page_of(manager))
        assert len(answer.context["events"]) == 100
        self.assertContains(answer, "?events=0")
        answer = self.client.get(page_of(manager), {"events": "0"})
        assert answer.context["events"][0]["number"] == 0
        self.assertContains(answer, "?events=100")

    def test_without_the_permission_there_is_nothing_to_see(self) -> None:
        self.login()
        manager = order(1, "paid")
        assert self.client.get(LIST).status_code == 403
        assert self.client.get(page_of(manager)).status_code == 403


class Actions(AdminCase):
    def failed(self) -> TriggerManager:
        return order(1, "paid", "packed", fails=True)

    def test_each_has_a_permission_of_its_own(self) -> None:
        manager = self.failed()
        self.login("view_session", "skip_instance", "close_session")
        for action, name in (("replay", "t_ship#0"), ("fail", "t_ship#0"), ("delete", "")):
            with self.subTest(action):
                answer = self.client.post(action_of(manager, action, name))
                assert answer.status_code == 403
        assert manager.storage["t_ship#0"].status == "failed"

    def test_a_question_changes_nothing(self) -> None:
        manager = self.failed()
        self.login("view_session", "skip_instance")
        answer = self.client.get(action_of(manager, "skip", "t_ship#0"))
        self.assertContains(answer, "Skip")
        assert manager.storage["t_ship#0"].status == "failed"

    def test_skip(self) -> None:
        manager = self.failed()
        user = self.login("view_session", "skip_instance")
        answer = self.client.post(action_of(manager, "skip", "t_ship#0"), follow=True)
        self.assertContains(answer, "Skipped t_ship#0.")
        assert manager.storage["t_ship#0"].status == "skipped"
        entry = LogEntry.objects.get(user=user)
        assert entry.get_change_message() == "Skipped t_ship#0."
        assert f"skipped by {user.username}" in str(manager.explain("t_ship"))

    def test_replay(self) -> None:
        manager = self.failed()
        self.login("view_session", "replay_instance")
        self.client.post(action_of(manager, "replay", "t_ship#0"))
        assert manager.storage["t_ship#0"].status == "replayed"
        assert manager.storage["t_ship#1"].status == "failed"  # it has run again

    def test_what_cannot_be_done_says_why(self) -> None:
        manager = self.failed()
        self.login("view_session", "fail_instance")
        answer = self.client.post(action_of(manager, "fail", "t_ship#0"), follow=True)
        self.assertContains(answer, "t_ship#0 is failed")
        assert not LogEntry.objects.exists()

    def test_close_and_delete(self) -> None:
        manager = self.failed()
        self.login("view_session", "close_session", "delete_session")
        self.client.post(action_of(manager, "close"))
        assert manager.storage.metadata.state == "closed"
        answer = self.client.post(action_of(manager, "delete"), follow=True)
        self.assertContains(answer, "Deleted the session order:1.")
        assert not Session.objects.exists()

    def test_many_at_once(self) -> None:
        for number in (1, 2):
            order(number, "paid", "packed", fails=True)
        self.login("view_session", "skip_instance")
        chosen = list(Session.objects.values_list("pk", flat=True))
        self.client.post(LIST, {"action": "replay_failed", "_selected_action": chosen})
        answer = self.client.post(
            LIST, {"action": "skip_failed", "_selected_action": chosen}, follow=True
        )
        self.assertContains(answer, "2 instances skipped.")
        for number in (1, 2):
            assert order(number).storage["t_ship#0"].status == "skipped"

    def test_there_is_nothing_else_to_do(self) -> None:
        manager = self.failed()
        self.client.force_login(User.objects.create_superuser("root"))
        assert self.client.post(action_of(manager, "explode")).status_code == 404
        assert self.client.post(action_of(manager, "replay")).status_code == 404
