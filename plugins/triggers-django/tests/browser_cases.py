"""The pages of a project in a real browser, by the walks of triggers-web: each page, each act, and
whom Django lets in. Run as the tests of a project by `manage.py test`, on its live server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from browser_walks import NOT_HTML, act_on_all, act_on_many, crawl, session
from browser_world import fill
from django.contrib.auth.models import Permission, User
from django.contrib.staticfiles.testing import StaticLiveServerTestCase
from django.db.models import Q
from real_browser import Tab, open_chromium, tab

from triggers_core.application import default_application
from triggers_web.pages import site as pages_site

EVERYTHING = "view_session replay_instance skip_instance fail_instance close_session delete_session"
PASSWORD = "correct horse"  # of users who live as long as a test


class InChromium(StaticLiveServerTestCase):
    browser: Any

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.browser = cls.enterClassContext(open_chromium())

    @contextmanager
    def logged_in(self, name: str, permissions: str = "", begin: str = "/") -> Iterator[Tab]:
        """A browser in which somebody has asked for a page, and was sent to log in first."""
        # The admin's page logs in those who may see the admin.
        user = User.objects.create_user(name, password=PASSWORD, is_staff=True)
        named = Q(codename__in=permissions.split(), content_type__app_label="triggers")
        user.user_permissions.set(Permission.objects.filter(named))
        with tab(self.browser, self.live_server_url) as seen:
            seen.complaints = ("404", "403")  # the project has no icon; the page may be refused
            seen.go(f"/ops/triggers{begin}")
            assert seen.path == "/admin/login/"
            seen.page.get_by_label("Username").fill(name)
            seen.page.get_by_label("Password").fill(PASSWORD)
            seen.click("Log in", "button")
            assert f"{seen.address}/ops/triggers{begin}" == seen.page.url
            seen.complaints = ()
            seen.posted.clear()
            seen.address += "/ops/triggers"
            yield seen

    def test_every_page(self) -> None:
        fill(default_application)
        found: list[str] = []
        with self.logged_in("alice", EVERYTHING, session("order:10")) as seen:
            assert "waits for" in seen.text
            reached = crawl(seen, lambda each: found.extend(each.barriers()))
        assert not found, "\n".join(found)
        assert reached >= pages_site._PAGES.keys() - NOT_HTML

    def test_every_act(self) -> None:
        with self.logged_in("alice", EVERYTHING) as seen:
            act_on_all(seen, default_application)
            act_on_many(seen, default_application)
        assert set(seen.posted) == pages_site._ACTS.keys() - {"/bulk/stop"}

    def test_a_page_keeps_itself_up_to_date(self) -> None:
        fill(default_application)
        with self.logged_in("alice", EVERYTHING, session("order:10")) as seen:
            default_application.manager("order:10").fire("cancelled")
            seen.page.locator(".events").get_by_text("cancelled").first.wait_for()

    def test_a_reader_sees_no_button(self) -> None:
        fill(default_application)
        with self.logged_in("bob", "view_session replay_instance") as seen:
            for path in ("/", session("order:2"), "/instance?uid=order%3A2&name=t_ship%230"):
                seen.go(path)
                assert "bob, read-only" in seen.text
                assert not seen.page.get_by_role("button").count()
            seen.complaints = ("403",)
            seen.go("/instance/replay?uid=order%3A2&name=t_ship%230", 403)

    def test_a_user_without_the_permission_sees_nothing(self) -> None:
        fill(default_application)
        with self.logged_in("eve", begin=session("order:10")) as seen:
            assert "You may not see this." in seen.text
            assert "waits for" not in seen.text
