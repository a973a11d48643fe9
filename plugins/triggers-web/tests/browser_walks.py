"""Ways through the pages, in a real browser: to everything, and by every button."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from urllib.parse import urlencode

from real_browser import Tab
from web_pages import SHOP, order

from triggers_core import Application, hookimpl
from triggers_web.pages import site as pages_site

EARLIER = "/session/events?uid=order%3A10&number=5"  # no link, where a page has all events
BEGIN = ("/", EARLIER, *(f"/session?uid=order%3A{number}" for number in (20, 10, 11, 2, 1)))


MANY = 1
"""Pages of a kind that are looked at."""


HELD = 200.0
"""Seconds after which a gate that nobody opens fails its test."""

NOT_HTML = {path for path in pages_site._PAGES if path.endswith(".svg")}


def crawl(tab: Tab, look: Callable[[Tab], object], begin: Sequence[str] = BEGIN) -> set[str]:
    """Every kind of page that can be reached, some of each; their paths."""
    to_see, seen = list(begin), dict[str, int]()
    known = set(begin)
    while to_see:
        address = min(to_see, key=lambda each: seen.get(each.partition("?")[0], 0))
        to_see.remove(address)
        path = address.partition("?")[0]
        if path in ("/failed", "/waiting") and path not in pages_site._PAGES:
            continue
        if (
            seen.get(path, 0) >= (len(begin) if path == "/session" else MANY)
            or path.startswith("/webhooks")
            or path.endswith(".svg")
        ):
            continue
        seen[path] = seen.get(path, 0) + 1
        tab.go(address)
        look(tab)
        for each in tab.links():
            if each not in known:
                known.add(each)
                to_see.append(each)
    return set(seen)


def session(uid: str) -> str:
    return f"/session?{urlencode({'uid': uid})}"


def act_on_all(tab: Tab, app: Application) -> None:
    """Each act once, by what a person would press."""
    for name in ("replayed", "skipped"):
        order(app, f"act:{name}", broken="no van is free")
    order(app, "act:erased")
    running = app.manager("act:failed")
    running.update_configuration(SHOP)
    running.fire("placed", {"parcel": 1})

    tab.go(session("act:failed"))
    tab.click("Fire a trigger…")
    tab.page.get_by_label("Trigger", exact=True).fill("agreed")
    tab.page.get_by_label("Kwargs").fill('{"by": "phone"}')
    tab.click("See what it would do")
    assert "schedule t_ship#0" in tab.text
    assert running.storage["t_ship#0"].status == "unstarted"
    tab.click("Fire it")
    assert "The event is recorded." in tab.text
    assert running.storage["t_ship#0"].status == "scheduled"

    tab.click("t_ship#0", "link")
    tab.click("Fail…")
    tab.page.get_by_label("Reason").fill("it hangs")
    tab.click("Fail", "button")
    assert "by alice" in tab.text
    assert running.storage["t_ship#0"].status == "failed"

    tab.go(session("act:replayed"))
    tab.click("Replay t_ship#0")
    kwargs = tab.page.get_by_label("Kwargs, by trigger")
    kwargs.fill(kwargs.input_value().replace("no van is free", ""))
    tab.click("Replay", "button")
    assert "It runs again" in tab.text
    app.manager("act:replayed").join()
    assert app.storage("act:replayed")["t_ship#1"].status == "finished"
    assert app.storage("act:replayed")["t_ship#0"].acted_by == "alice"

    tab.go(session("act:skipped"))
    tab.click("t_ship#0", "link")
    tab.click("Mark its logs as dealt with")
    assert "dealt with by alice" in tab.text
    assert app.storage("act:skipped")["t_ship#0"].logs_resolved_by == "alice"
    tab.click("Skip…")
    tab.page.get_by_label("Go on as if it had finished").check()
    tab.page.get_by_label("Result").fill('{"parcel": 8}')
    tab.click("Skip", "button")
    assert app.storage("act:skipped")["t_ship#0"].status == "skipped"
    assert "t_mail" in str(app.manager("act:skipped").storage.instances)

    tab.go(session("act:erased"))
    tab.click("Close…")
    tab.click("Close", "button")
    assert "accepts no more events" in tab.text
    assert "closed to further events by alice" in tab.text
    [act] = tab.page.locator(".act").all()
    assert act.inner_text().startswith("Session closed by alice ")
    tab.click("Delete…")
    tab.click("Delete", "button")
    assert not app.storage("act:erased").exists


class Gate:
    """A plugin that holds replays up once so many have been made, until it is opened."""

    def __init__(self, through: int) -> None:
        self._free = threading.Semaphore(through)
        self.reached = threading.Event()
        """Whether one is held up: it is stored, and counts for nobody yet."""

    @hookimpl
    def post_replay(self, manager: object, instance: object, replay: object) -> None:
        if not self._free.acquire(blocking=False):
            self.reached.set()
            assert self._free.acquire(timeout=HELD)

    def open(self) -> None:
        """Let all go on."""
        self._free.release(1_000_000)


def stop_and_go_on(tab: Tab, app: Application, gate: Gate, through: int, failed: int) -> None:
    """Replay many, stop in their midst, and replay the others."""
    statuses = Counter[str]()

    def count() -> Counter[str]:
        """How often the instances of all sessions have each status."""
        statuses.clear()
        for each in app.store.sessions():
            statuses.update(found.status.value for found in app.store.instances(each.uid))
        return statuses

    heading = partial(tab.page.get_by_role, "heading", exact=True)
    tab.go("/failed?task=t_ship")
    tab.click("Replay all of these…")
    assert f"Replay {failed} failed instances?" in tab.text
    tab.click("Replay them")
    assert gate.reached.wait(HELD)
    tab.page.get_by_text(
        f"{through} of {failed} looked at"
    ).wait_for()  # the page goes on by itself
    assert f"Replaying: under way, {through} replayed" in tab.text
    tab.click("Stop", "button")
    assert f"Replaying: stopping, {through} replayed" in tab.text
    assert not tab.page.get_by_role("button", name="Stop").count()
    gate.open()
    heading(name=f"Replaying: stopped, {through + 1} replayed").wait_for()
    assert f"{through + 1} of {failed} looked at" in tab.text
    assert count()["replayed"] == through + 1
    assert count()["failed"] == failed - through - 1

    tab.click("Begin again")
    assert f"Replay {failed - through - 1} failed instances?" in tab.text
    tab.click("Replay them")
    heading(name=f"Replaying: done, {failed - through - 1} replayed").wait_for()
    assert count() == {"replayed": failed, "scheduled": failed}, "each once"


def act_on_many(tab: Tab, app: Application) -> None:
    """Each act on many sessions once: replay, and another configuration."""
    for number in range(4):
        order(app, f"many:{number}", broken="no van is free")
    tab.go("/failed?prefix=many%3A")
    tab.click("Replay all of these…")
    assert "Replay 4 failed instances?" in tab.text
    tab.click("Replay them")
    tab.page.get_by_text("4 replayed").first.wait_for()
    assert {app.storage(f"many:{number}")["t_ship#0"].status for number in range(4)} == {"replayed"}
    for number in range(4):
        app.manager(f"many:{number}").join()  # fails again

    tab.go("/configurations")
    tab.page.locator("main a").first.click()
    tab.click("Give its sessions another one…")
    tab.page.get_by_label("Only those whose uid begins with").fill("many:")
    tab.page.get_by_label("Configuration", exact=True).fill(
        '{"t_more": {"after": ["more"], "run": "pages.Mail"}}'
    )
    tab.click("See what it would do")
    assert "change 4 of 4 open sessions" in tab.text
    assert "t_more" not in app.storage("many:0").configuration.tasks
    tab.click("Begin")
    tab.page.get_by_text("4 configured").first.wait_for()
    assert "t_more" in app.storage("many:0").configuration.tasks
    tab.go(session("many:0"))
    assert "configuration changed by alice" in tab.text
    assert "Configuration changed by alice" in tab.page.locator(".act").first.inner_text()
