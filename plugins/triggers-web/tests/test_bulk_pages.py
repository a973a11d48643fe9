"""Acting in bulk by buttons: the preview, the job, its progress, its end."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from web_pages import ALL, READER, Browser, fields_of, form_of

from triggers_core import Application
from triggers_core.exceptions import StorageError
from triggers_core.runners import ManualRunner
from triggers_core.settings import Settings
from triggers_core.storages.memory import MemoryStore
from triggers_core.testing import SessionDriver
from triggers_web.pages import Access
from triggers_web.pages.jobs import MOST_RUNNING, Job, jobs_of

PATIENCE = 240  # seconds until a test that hangs fails
ACTS = Access(who="carol", read=True, act=True)


class Gated(MemoryStore):
    """Lets commits through one by one, once it is told to; may be away."""

    def __init__(self) -> None:
        super().__init__()
        self.gated = self.away = False
        self.gate = threading.Semaphore(0)
        self.waiting = threading.Semaphore(0)

    def commit(self, *arguments: Any) -> Any:
        if self.away:
            raise StorageError("the server is away")
        if self.gated:
            self.waiting.release()
            assert self.gate.acquire(timeout=PATIENCE)
        return super().commit(*arguments)


@pytest.fixture
def store() -> Gated:
    """Twelve failures of t_mail, each in a session."""
    store = Gated()
    for number in range(12):
        session = SessionDriver(store, f"order:{number:02}")
        session.configure(t_mail={"after": ["go"]})
        session.fire("go")
        session.fail_now("t_mail#0", {"error": {"type": "SMTPError"}})
    return store


@pytest.fixture
def app(store: Gated) -> Iterator[Application]:
    settings = Settings.isolated(TRIGGER_PLUGINS=[])
    app = Application("shop", settings, store=store, runner=ManualRunner)
    yield app
    store.gated = False
    store.gate.release(1_000)
    for job in jobs_of(app).all():
        job.stopping.set()
        ended(job)
    app.close()


@pytest.fixture
def browser(app: Application) -> Browser:
    return Browser(app, ACTS)


def ended(job: Job) -> Job:
    """A job, once it has ended."""
    pause = threading.Event()
    for _ in range(PATIENCE * 100):
        if job.state != "running":
            return job
        pause.wait(0.01)
    raise AssertionError("the job does not end")


def begin(browser: Browser, address: str = "/bulk/ask?kind=replay") -> Any:
    """Press the button; the page that it leads to."""
    return browser.send(form_of(browser.get(address), "/bulk/start"))


def last_job(app: Application) -> Job:
    return jobs_of(app).all()[0]


def statuses(store: MemoryStore) -> list[list[str]]:
    return [
        [each.status.value for each in store.instances(f"order:{number:02}")]
        for number in range(12)
    ]


def test_all_that_is_chosen_is_replayed(app: Application, store: Gated, browser: Browser) -> None:
    asked = browser.get("/bulk/ask?kind=replay&task=t_mail&prefix=order:0")
    assert "Replay 10 failed instances?" in asked.text
    assert statuses(store) == [["failed"]] * 12, "to ask changes nothing"
    browser.send(form_of(asked, "/bulk/start"))
    job = ended(last_job(app))
    assert (job.state, job.progress["done"], job.total, job.by) == ("done", 10, 10, "carol")
    assert statuses(store) == [["replayed", "scheduled"]] * 10 + [["failed"]] * 2
    assert store.instances("order:00")[0].acted_by == "carol"
    page = browser.get(browser.address)
    assert "Replaying: done, 10 replayed" in page.text
    assert "replay" in browser.get("/bulk").text


def test_many_are_skipped(app: Application, store: Gated, browser: Browser) -> None:
    begin(browser, "/bulk/ask?kind=skip&error=SMTPError")
    assert ended(last_job(app)).progress["done"] == 12
    assert statuses(store) == [["skipped"]] * 12


def test_it_tells_how_far_it_is_and_can_be_stopped_and_goes_on(
    app: Application, store: Gated, browser: Browser
) -> None:
    store.gated = True
    begin(browser)
    job = last_job(app)
    for _ in range(4):
        assert store.waiting.acquire(timeout=PATIENCE)
        store.gate.release()
    assert store.waiting.acquire(timeout=PATIENCE)  # it is at the fifth
    page = browser.get(browser.address)
    assert "under way, 4 replayed" in page.text
    assert "4 of 12 looked at" in " ".join(page.text.split())
    [bar] = page.all("progress")
    assert bar.attributes["value"] == "33"
    stopping = browser.send(form_of(page, "/bulk/stop"))
    assert "Replaying: stopping, 4 replayed" in stopping.text
    assert not list(stopping.all("form")), "it has been told"
    store.gate.release()
    assert ended(job).state == "stopped"
    assert statuses(store).count(["replayed", "scheduled"]) == 5
    store.gated = False
    again = browser.get(browser.address)
    assert "What is done is done" in again.text
    assert "Replay 7 failed instances?" in browser.get("/bulk/ask?kind=replay").text
    begin(browser)
    assert ended(last_job(app)).progress["done"] == 7
    assert statuses(store) == [["replayed", "scheduled"]] * 12, "each once"


def test_a_version_of_the_page_changes_with_the_job(
    app: Application, store: Gated, browser: Browser
) -> None:
    store.gated = True
    begin(browser)
    address, job = browser.address, last_job(app)
    assert store.waiting.acquire(timeout=PATIENCE)
    browser.pages._versions._known.clear()
    before = browser.ask(address).headers["etag"]
    store.gate.release()
    assert store.waiting.acquire(timeout=PATIENCE)
    browser.pages._versions._known.clear()
    assert browser.ask(address).headers["etag"] != before
    store.gated = False
    store.gate.release()
    ended(job)


def test_only_so_many_at_a_time(app: Application, store: Gated, browser: Browser) -> None:
    store.gated = True
    for _ in range(MOST_RUNNING):
        begin(browser)
    form = form_of(browser.get("/bulk/ask?kind=replay"), "/bulk/start")
    refused = browser.send(form, 409)
    assert "Nothing was begun" in refused.text
    assert len(jobs_of(app).all()) == MOST_RUNNING


def test_the_storage_goes_away(app: Application, store: Gated, browser: Browser) -> None:
    form = form_of(browser.get("/bulk/ask?kind=replay"), "/bulk/start")
    store.away = True
    browser.send(form)
    job = ended(last_job(app))
    assert (job.state, job.error) == ("failed", "the server is away")
    assert "the server is away" in browser.get(browser.address).text
    store.away = False
    begin(browser)
    assert ended(last_job(app)).progress["done"] == 12


def test_after_a_restart_it_says_how_to_go_on(app: Application, browser: Browser) -> None:
    page = browser.get("/bulk?id=unknown&kind=replay&task=t_mail", 404)
    assert "What is done is done" in page.text
    link = next(each for each in page.all("a") if "/bulk/ask" in each.attributes["href"])
    assert "Replay 12 failed" in browser.get(link.attributes["href"]).text
    assert "the configuration" in browser.get("/bulk?id=unknown&kind=configure", 404).text


def test_many_get_another_configuration(app: Application, store: Gated) -> None:
    browser = Browser(app, ALL)
    new = {"t_more": {"after": ["go"], "run": "pages.Mail"}}
    page = browser.get("/configuration/move?prefix=order:0")
    tried = browser.send(
        form_of(page, "/configuration/try"), configuration=json.dumps(new), past="1"
    )
    assert "10 instances run at once" in " ".join(tried.text.split())
    store.gated = True
    browser.send(form_of(tried, "/configuration/start"))
    job = last_job(app)
    assert store.waiting.acquire(timeout=PATIENCE)
    assert Browser(app, READER).get(browser.address)
    assert not list(Browser(app, ACTS).get(browser.address).all("form")), "not theirs to stop"
    assert list(browser.get(browser.address).all("form"))
    acts = Browser(app, ACTS)
    typed = fields_of(form_of(acts.get("/bulk/ask?kind=replay"), "/bulk/start"))
    body = urlencode({**typed, "id": job.id}).encode()
    assert acts.ask("/bulk/stop", "POST", body).status == 403
    store.gated = False
    store.gate.release()
    assert ended(job).progress["done"] == 10
    assert [each[-1] for each in statuses(store)] == ["scheduled"] * 10 + ["failed"] * 2


def test_nobody_else_may(app: Application, store: Gated) -> None:
    reader = Browser(app, READER)
    reader.get("/bulk/ask?kind=replay", 403)
    reader.get("/bulk")
    csrf = Browser(app, ACTS)
    form = form_of(csrf.get("/bulk/ask?kind=replay"), "/bulk/start")
    assert csrf.submit(form, csrf="x" * 43).status == 403
    assert csrf.submit(form, {"origin": "https://evil.example"}).status == 403
    assert csrf.submit(form, kind="delete").status == 400
    assert csrf.submit(form, older="soon").status == 400
    assert csrf.ask("/bulk/start").status == 405
    assert statuses(store) == [["failed"]] * 12
    assert jobs_of(app).all() == []
