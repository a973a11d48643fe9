"""What a page is made from, what it is, and what most of them need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from triggers_core.application import Application
from triggers_core.engine.protocol import Query
from triggers_core.engine.records import Header
from triggers_core.exceptions import InvalidName, SessionNotFound
from triggers_core.manager import TriggerManager
from triggers_core.storages.session import SessionStorage
from triggers_web.http import Request, Response, redirect
from triggers_web.pages.access import Access
from triggers_web.pages.errors import PageError
from triggers_web.pages.rendering import link

LIFE: Final = "life"
"""The field of a form that says which life of the session it is about."""

DONE: Final[Mapping[str, str]] = {
    "closed": "The session is closed: it accepts no more events.",
    "deleted": "The session is deleted.",
    "duplicate": "It had been fired already: nothing was recorded again.",
    "failed": "The instance is failed now. Replay it, or skip it.",
    "fired": "The event is recorded.",
    "marked": "The logs are marked as dealt with.",
    "replayed": "It runs again: this is the new instance.",
    "skipped": "The instance is skipped.",
}
"""What a page says at its top after an act, by the parameter `done` of its address."""


class Asked(NamedTuple):
    """What a page is made from."""

    app: Application
    request: Request
    access: Access
    form: Mapping[str, str]
    """The fields of a form; empty for a page that is only looked at."""

    def given(self, name: str) -> str:
        """A field of the form, or else of the address; empty when there is none."""
        return self.form.get(name) or self.request.query.get(name, "")

    def back(self, path: str, **query: Any) -> Response:
        """Send the browser on to another page."""
        return redirect(link(quote(self.request.root), path, **query))

    def needs(self, right: str) -> None:
        """Refuse whoever may not do something; `right` is an attribute of `Access`.

        :raises PageError: 403.
        """
        if not getattr(self.access, right):
            raise PageError(403, "You may look, and not do this.")

    @property
    def storage(self) -> SessionStorage:
        """The session that is asked for.

        :raises PageError: none is named, or not by a name that a session may have.
        """
        uid = self.given("uid")
        if not uid:
            raise PageError(400, "The address names no session.", "It should end with ?uid=…")
        try:
            return self.app.storage(uid)
        except InvalidName as error:
            raise PageError(404, f"There is no such session: {error}.") from None

    @property
    def manager(self) -> TriggerManager:
        """The session, in the hands of whoever asks.

        :raises PageError: as for `storage`.
        """
        uid = self.storage.uid
        manager = self.app.manager(uid)
        return manager.by(self.access.who) if self.access.who else manager

    @property
    def number(self) -> int | None:
        """The parameter `number`; None when it is missing or no number."""
        text = self.request.query.get("number", "")
        return int(text) if text.isdecimal() and text.isascii() and len(text) < 16 else None

    def header(self, storage: SessionStorage) -> Header:
        """The session's header, of the life that a form is about, if this is one.

        :raises SessionNotFound: nothing has been stored under the uid.
        :raises PageError: the session was deleted since, and another one has its uid.
        """
        header = storage.store.load(storage.uid, Query()).header
        if header is None:
            raise SessionNotFound(f"There is no session {storage.uid!r}.")
        if self.form and self.form.get(LIFE, header.generation) != header.generation:
            raise PageError(
                409,
                "The session was deleted meanwhile, and another one has its name.",
                "Nothing was done. Load its page again.",
            )
        return header


class Page(NamedTuple):
    """What a page is: its template, and what that shows."""

    template: str
    values: Mapping[str, Any]
    status: int = 200


Show = Callable[[Asked], Page | Response]
