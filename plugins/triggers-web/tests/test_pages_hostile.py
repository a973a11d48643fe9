"""Names, payloads, errors and requests that would like to be more than text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from web_pages import Browser, Document, Element, form_of, make_shop

from triggers_core import Application, TaskContext, trigger_task
from triggers_core.exceptions import with_context
from triggers_core.manager import TriggerManager
from triggers_web.pages import Access
from triggers_web.pages.site import _PAGES

TAG = '<x-evil onx-evil="1">'
NASTY = [
    f"{TAG}</textarea></script></style></title></svg>{TAG}",
    f"\"' onx-evil=1 x='{TAG}\"",
    "javascript:alert(1)//",
    "//evil.example/<!--",
    "{{ 7*7 }}{% raw %}",
    "]]>&lt;&#60;x-evil&#62;",
    "../../static/script.js?#%00%0d%0aset-cookie:a=b",
    "\ufeff\u00e4\u0301 \U0001f480 \u05d0",
]
NAMES = [text for text in NASTY if text.isprintable()]
WHO = f"eve {TAG}"
ALL = Access(who=WHO, read=True, act=True, erase=True, secrets=True)


class Hostile(Exception):
    """An error whose type has a name of its own."""


@trigger_task(name="pages.Hostile")
def hostile(context: TaskContext) -> dict[str, Any]:
    kwargs = context.trigger_kwargs
    if context.instance.depth:
        return {text: {text: [text]} for text in NASTY}
    logger = context.get_logger_context
    with logger() as log:
        log.warning(NASTY[0])
    error = type(NASTY[0], (Hostile,), {})("\n".join(NASTY))
    raise with_context(error, {"kwargs": repr(kwargs), NASTY[1]: NASTY})


@pytest.fixture(scope="module")
def shop() -> Iterator[Application]:
    app = make_shop()
    for name in NAMES:
        attacked(app, name)
    yield app
    app.close()


def attacked(app: Application, name: str) -> TriggerManager:
    """A session in which everything that may be is named like that."""
    task = f"t_{name}"[:200]
    manager = app.manager(name).by(WHO)
    manager.update_configuration(
        {
            task: {
                "after": [
                    {"trigger": name, "where": {"path": [name, "x"]}, "as": "key"},
                    {"anyOf": [f"{name}2", f"{name}3"]},
                ],
                "unless": [f"{name}4"],
                "within": "5 hours",
                "otherwise": f"{name}5",
                "withParams": {"key": {name: name}},
                "run": "pages.Hostile",
            },
            f"{task}2": {"after": [task], "run": name},
            f"{task}3": {"after": [{"atLeast": 2, "of": name}], "run": name},
        }
    )
    kwargs = {"path": "x", **{text: [text, {text: text}] for text in NASTY}}
    manager.fire(name, {"path": f"no {name}"})
    manager.fire(name, kwargs, event_id=f"id {name}"[:200])
    manager.fire(f"{name}2")
    manager.fire(f"{name[:-1]}?")  # nobody waits for it
    manager.join()
    manager.update_instance_metadata(f"{task}#0", {"note": NASTY, name: name})
    manager.replay_failed_instance(f"{task}#0")
    manager.join()
    return manager


def pages(name: str) -> list[tuple[str, dict[str, Any]]]:
    """Every page of such a session."""
    task = f"t_{name}"[:200]
    failed, query = {"uid": name, "name": f"{task}#0"}, {"uid": name}
    return [
        ("/session", query),
        ("/session", {**query, "done": TAG}),
        ("/session/events", {**query, "number": 2}),
        ("/session/event", {**query, "number": 1}),
        ("/session/instances", {**query, "task": task}),
        ("/session/fire", {**query, "trigger": name, "kwargs": TAG}),
        ("/session/close", query),
        ("/session/delete", query),
        ("/instance", failed),
        ("/instance", {**failed, "name": f"{task}#1"}),
    ]


def shape(page: Element) -> set[tuple[str, str]]:
    """The elements of a page with their attributes."""
    return {(each.tag, name) for each in page.all() for name in ("", *each.attributes)}


@pytest.fixture(scope="module")
def harmless() -> set[tuple[str, str]]:
    """What pages of the same kind are made of, where nothing is hostile."""
    app = make_shop()
    attacked(app, "paid")
    browser = Browser(app, ALL)
    found = shape(browser.get("/"))
    for path, query in pages("paid"):
        found |= shape(browser.get(path, **query))
    app.close()
    return found


@pytest.mark.parametrize("name", NAMES)
def test_what_is_shown_is_text(
    shop: Application, harmless: set[tuple[str, str]], name: str
) -> None:
    browser = Browser(shop, ALL)
    shown = ""
    for path, query in [("/", {}), *pages(name)]:
        page = browser.get(path, **query)
        assert shape(page) <= harmless, path
        for each in page.all():
            for attribute in ("href", "src", "action"):
                address = each.attributes.get(attribute, "/")
                if (each.tag, address) != ("link", "data:,"):  # no icon
                    assert urlsplit(address)[:2] == ("", ""), path
                    assert address[:2] != "//"
        shown += page.text
    for text in (name, WHO):
        assert text in shown


def test_every_value_is_shown_as_it_is(shop: Application) -> None:
    browser = Browser(shop, ALL)
    page = browser.get("/instance", uid=NAMES[0], name=f"t_{NAMES[0]}#0")
    kwargs, *_ = [each.text for each in page.all("pre") if '"key"' in each.text]
    shown = json.loads(kwargs)["key"]
    assert all(shown[text] == [text, {text: text}] for text in NASTY)
    [traceback] = [each.text for each in page.all("pre") if "Traceback" in each.text]
    assert all(line in traceback for line in NASTY[0].splitlines())


@pytest.mark.parametrize("text", [*NASTY, "\x00", "\r\nset-cookie: a=b", "\ud800"])
@pytest.mark.parametrize("path", [*_PAGES, "/nothing", "/live", "/static/x"])
def test_what_is_asked_is_not_believed(shop: Application, path: str, text: str) -> None:
    browser = Browser(shop, ALL)
    raw = text.encode("utf-8", "surrogatepass")
    fields = ("uid", "name", "task", "number", "done", "of", "error", "trigger", "kwargs")
    answer = browser.ask(f"{path}?{urlencode(dict.fromkeys(fields, raw))}")
    assert answer.status in (200, 400, 403, 404, 409)
    assert "onx-evil" not in {name for _, name in shape(Document(answer.content.decode()).root)}
    for name, value in answer.all_headers:
        assert "\r" not in name + value
        assert "\n" not in name + value


@pytest.mark.parametrize("text", NASTY)
def test_what_is_typed_comes_back_as_text(shop: Application, text: str) -> None:
    browser = Browser(shop, ALL)
    ask = form_of(browser.get("/session/fire", uid=NAMES[0]), "/session/fire")
    page = browser.send(ask, 422, trigger=text, kwargs=text)
    assert "x-evil" not in {each.tag for each in page.all()}
    [area] = page.all("textarea")
    assert area.text.removeprefix("\n") == text
    page = browser.send(ask, trigger=text.replace("\n", ""), kwargs="{}")
    assert "x-evil" not in {each.tag for each in page.all()}


def test_no_page_holds_a_script_or_a_style_of_its_own(shop: Application) -> None:
    browser = Browser(shop, ALL)
    for path, query in [("/", {}), *pages(NAMES[0])]:
        answer = browser.ask(f"{path}?{urlencode(query)}")
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        page = browser.read(answer)
        assert [each.attributes["src"] for each in page.all("script")] == ["/static/script.js"]
        assert not list(page.all("style"))
        assert not [each for each in page.all() if "style" in each.attributes]
