"""Names, payloads and errors that would like to be scripts, on every page of a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from browser_walks import crawl, session
from real_browser import NARROW, Tab, tab
from web_pages import make_shop
from web_server import Server

from triggers_core import Application, TaskContext, trigger_task
from triggers_core.exceptions import with_context
from triggers_web.pages import Access
from triggers_web.pages.login import LOOPBACK
from triggers_web.starlette import site

pytestmark = pytest.mark.browser

ALERT = "<img src=x onerror=alert(1)><script>alert(2)</script>"
NASTY = [
    f"</textarea></pre></title></svg></option>{ALERT}",
    f"\"'` onfocus=alert(3) autofocus x={ALERT}",
    "javascript:alert(4)//",
    f"<svg onload=alert(5)><style>@import'//evil.example'</style>{ALERT}",
    "<base href=//evil.example/><meta http-equiv=refresh content='0;url=//evil.example'>",
    "<iframe srcdoc='<script>alert(6)</script>'></iframe><form action=//evil.example>",
    "{{ 7*7 }}{% raw %}${alert(7)}",
    "\u202etxet si siht\u202c " + "W" * 150,
]
ALL = Access(who=f"eve{ALERT}", read=True, act=True, erase=True, secrets=True)


@trigger_task(name="pages.Alert")
def alert(context: TaskContext) -> None:
    with context.get_logger_context() as log:
        log.warning(NASTY[0])
    kind = type(NASTY[3], (Exception,), {})
    raise with_context(kind("\n".join(NASTY)), {text: {text: text} for text in NASTY})


@pytest.fixture(scope="module")
def app() -> Iterator[Application]:
    app = make_shop()
    for name in NASTY:
        name = name[:200]
        if not name.isprintable():
            name = "".join(filter(str.isprintable, name))
        manager = app.manager(name).by(ALL.who)
        task = f"t{name}"[:150]
        manager.update_configuration(
            {
                task: {"after": [name], "run": "pages.Alert"},
                "t_waits": {"after": [f"{name[:150]} again", task], "run": "pages.Alert"},
            }
        )
        manager.fire(name, {text: [text] for text in NASTY}, name)
        manager.join()
    yield app
    app.close()


@pytest.mark.parametrize("script", [True, False], ids=["script", "none"])
def test_nothing_of_it_runs(browser: Any, app: Application, script: bool) -> None:
    foreign: list[str] = []

    def look(each: Tab) -> None:
        if script:
            added = each.page.locator("main :is(img, script, iframe, base, style, meta)").count()
            if added or each.is_wider_than_window():
                foreign.append(each.page.url)

    begin = [*(session(each.uid) for each in app.store.sessions()), "/"]
    with (
        Server(site(app, access=lambda _: ALL, hosts=LOOPBACK)) as server,
        tab(browser, f"http://127.0.0.1:{server.port}", width=NARROW, script=script) as seen,
    ):
        reached = crawl(seen, look, begin)
    assert not foreign
    assert "/instance" in reached
    assert "/session/fire" in reached
    assert not seen.posted


def test_what_is_typed_is_no_script(browser: Any, app: Application) -> None:
    uid = next(each.uid for each in app.store.sessions())
    with (
        Server(site(app, access=lambda _: ALL, hosts=LOOPBACK)) as server,
        tab(browser, f"http://127.0.0.1:{server.port}") as typed,
    ):
        typed.complaints = ("422",)
        for text in NASTY:
            typed.go(session(uid))
            typed.click("Fire a trigger…")
            typed.page.get_by_label("Trigger", exact=True).fill(text[:200])
            typed.page.get_by_label("Kwargs").fill(text)  # no JSON
            typed.click("See what it would do")
            assert "Nothing was done." in typed.text


def test_a_page_of_somebody_else(browser: Any, app: Application) -> None:
    """It can neither frame these pages, nor send a form to them, nor read them."""
    before = str(list(app.store.sessions()))
    with Server(site(app, access=lambda _: ALL, hosts=LOOPBACK)) as server:
        ours = f"http://127.0.0.1:{server.port}"
        html = f"""<!doctype html><title>evil</title><iframe src="{ours}/"></iframe>
            <form method=post action="{ours}/session/delete"><input name=uid value=x></form>"""
        seen = Tab(browser, ours)
        seen.page.route("http://evil.example/**", lambda each: each.fulfill(body=html))
        seen.page.goto(f"{ours}/")  # the cookie is there
        seen.page.goto("http://evil.example/")
        frame = seen.page.frames[-1]
        assert "wait" not in frame.evaluate("document.body ? document.body.innerText : ''")
        read = f"fetch('{ours}/', {{credentials: 'include'}}).then(_ => 'read', _ => 'refused')"
        assert seen.page.evaluate(read) == "refused"
        with seen.page.expect_navigation() as answer:
            seen.page.evaluate("document.forms[0].submit()")
        assert answer.value.status == 403
        seen.context.close()
    assert str(list(app.store.sessions())) == before
