"""Pages over the core's `views/`: what is stuck, why, and the buttons that help.

`Pages` is a handler for `triggers_web.starlette`, or for an adapter of one's own. `site` finds the
page for a request, `access` says who may see and do what, `guard` refuses requests that others have
forged, `rendering` makes HTML; the other modules are a page or a group of acts each.
"""

from __future__ import annotations

from triggers_web.pages.access import Access, everybody, nobody
from triggers_web.pages.site import Pages

__all__ = ["Access", "Pages", "everybody", "nobody"]
