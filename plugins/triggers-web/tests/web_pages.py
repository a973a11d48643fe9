"""A browser without scripts for the pages, and sessions to look at."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode, urlsplit

from triggers_core import Application, TaskContext, trigger_task
from triggers_core.exceptions import with_context
from triggers_core.manager import TriggerManager
from triggers_core.runners import ManualRunner
from triggers_core.settings import Settings
from triggers_web.http import Headers, Request, Response
from triggers_web.pages import Access, Pages

ALL = Access(who="alice", read=True, act=True, erase=True)
READER = Access(who="bob", read=True)

VOID = frozenset(["meta", "link", "input", "br", "hr", "img"])

SHOP: dict[str, Any] = {
    "t_ship": {
        "after": ["placed", {"anyOf": ["paid", "agreed"]}],
        "unless": ["cancelled"],
        "run": "pages.Ship",
    },
    "t_mail": {"after": ["t_ship"], "run": "pages.Mail"},
    "t_gather": {
        "after": [{"atLeast": 3, "of": "packed"}],
        "within": "2 hours",
        "run": "pages.Mail",
    },
}


@trigger_task(name="pages.Ship")
def ship(context: TaskContext) -> dict[str, Any]:
    kwargs = context.trigger_kwargs["placed"]
    if kwargs.get("broken"):
        raise with_context(ValueError(str(kwargs["broken"])), {"why": kwargs["broken"]})
    return {"parcel": kwargs.get("parcel", 7)}


@trigger_task(name="pages.Mail")
def mail(context: TaskContext) -> None:
    """Writes to nobody."""


def make_shop(
    storage: str = "memory", plugins: Sequence[object] = (), **options: Any
) -> Application:
    """An application that runs its tasks when it is told to."""
    settings = Settings.isolated(
        TRIGGER_STORAGE_TYPE=storage,
        TRIGGER_STORAGE_OPTIONS=options,
        TRIGGER_PLUGINS=list(plugins),
    )
    return Application("shop", settings, runner=ManualRunner)


def order(app: Application, uid: str = "order:1", *, broken: str = "") -> TriggerManager:
    """A session that has shipped, or failed to."""
    manager = app.manager(uid)
    manager.update_configuration(SHOP)
    placed = {"broken": broken, "card": {"token": "tok_1"}} if broken else {"parcel": 7}
    manager.fire("placed", placed)
    manager.fire("paid", {"amount": 42})
    manager.join()
    return manager


class Element:
    """An element as a browser would have it."""

    def __init__(self, tag: str, attributes: dict[str, str], above: Element | None) -> None:
        self.tag, self.attributes, self.above = tag, attributes, above
        self.children: list[Element] = []
        self.own: list[str | Element] = []

    @property
    def text(self) -> str:
        """All text below it, in order."""
        return "".join(each if isinstance(each, str) else each.text for each in self.own)

    def all(self, tag: str = "") -> Iterator[Element]:
        """Every element below it, of one tag if that is given."""
        for each in self.children:
            if not tag or each.tag == tag:
                yield each
            yield from each.all(tag)


class Document(HTMLParser):
    """A page, strictly: what is opened is closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = self._at = Element("", {}, None)
        self.feed(text)
        self.close()
        assert self._at is self.root, f"<{self._at.tag}> is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"<{tag}> has an attribute twice"
        element = Element(tag, {name: value or "" for name, value in attrs}, self._at)
        self._at.children.append(element)
        self._at.own.append(element)
        if tag not in VOID:
            self._at = element

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._at.tag == tag, f"</{tag}> within <{self._at.tag}>"
        assert self._at.above is not None
        self._at = self._at.above

    def handle_data(self, data: str) -> None:
        self._at.own.append(data)


class Browser:
    """Asks a handler for pages, follows redirects, keeps cookies and sends forms."""

    def __init__(self, app: Application, access: Access = ALL, root: str = "") -> None:
        self.pages = Pages(app, access=lambda request: access)
        self.root = root
        self.cookie = ""
        self.address = "/"

    def ask(self, address: str, method: str = "GET", body: bytes = b"", **headers: str) -> Response:
        """One request, and no more."""
        parts = urlsplit(address)
        pairs = [("host", "shop.example")]
        if self.cookie:
            pairs.append(("cookie", self.cookie))
        if method == "POST":
            pairs.append(("content-type", "application/x-www-form-urlencoded"))
        pairs += [(name.replace("_", "-"), value) for name, value in headers.items()]
        answer = self.pages(
            Request(
                method=method,
                path=parts.path.removeprefix(self.root) or "/",
                root=self.root,
                headers=Headers(pairs),
                query_string=parts.query,
                body=body,
            )
        )
        cookie = answer.headers.get("set-cookie")
        if cookie:
            self.cookie = cookie.partition(";")[0]
        return answer

    def get(self, address: str, status: int = 200, **query: Any) -> Element:
        """A page."""
        if query:
            address = f"{address}?{urlencode(query)}"
        answer = self.ask(address)
        assert answer.status == status, answer.body
        self.address = address
        return self.read(answer)

    def read(self, answer: Response) -> Element:
        """The body of a page."""
        assert answer.media_type.startswith("text/html")
        text = answer.content.decode()
        assert "style=" not in text
        assert not re.search(r"<[^>]*\son\w+=", text), "a script in an attribute"
        return Document(text).root

    def send(self, form: Element, status: int = 200, **typed: str) -> Element:
        """Send a form of a page, and follow where it leads."""
        answer = self.submit(form, **typed)
        if answer.status == 303:
            return self.get(answer.headers["location"], status)
        assert answer.status == status, answer.body
        return self.read(answer)

    def submit(self, form: Element, headers: Mapping[str, str] = {}, **typed: str) -> Response:
        """Send a form of a page; None as a value leaves a field out."""
        fields = {**fields_of(form), **typed}
        body = urlencode(fields).encode()
        return self.ask(form.attributes["action"], "POST", body, **headers)


def fields_of(form: Element) -> dict[str, str]:
    """What a browser would send of a form that nobody has touched."""
    found = {
        each.attributes["name"]: each.attributes.get("value", "")
        for each in form.all("input")
        if each.attributes.get("type") != "checkbox"
    }
    for each in form.all("textarea"):
        found[each.attributes["name"]] = each.text.removeprefix("\n")
    return found


def form_of(page: Element, action: str, number: int = 0) -> Element:
    """A form of a page, by where it is sent."""
    found = [each for each in page.all("form") if each.attributes["action"].endswith(action)]
    assert len(found) > number, f"no form to {action}"
    return found[number]


def links_of(page: Element) -> list[str]:
    """Where the links of a page lead."""
    return [each.attributes["href"] for each in page.all("a")]
