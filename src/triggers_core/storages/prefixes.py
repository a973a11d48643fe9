"""Sessions whose uids begin alike: a stretch of the list of all of them."""

from __future__ import annotations

from contextlib import suppress

from triggers_core.engine.protocol import Query
from triggers_core.exceptions import UnknownSchema
from triggers_core.storages.arguments import check_limit
from triggers_core.storages.base import Store
from triggers_core.storages.summaries import SessionSummary, summarise


def sessions_by_prefix(
    store: Store, prefix: str, limit: int | None = 100, after: str = ""
) -> list[SessionSummary]:
    """The sessions whose uid begins so, by uid; reads no others.

    :param prefix: empty: all.
    :param after: only sessions with a greater uid; for reading page by page.

    Example::

        [each.uid for each in sessions_by_prefix(store, "order:")]  # ['order:1', 'order:2']
    """
    limit = check_limit(limit)
    found: list[SessionSummary] = []
    if after < prefix:
        # The one that is called just so; all others follow it in the list.
        with suppress(UnknownSchema):
            header = store.load(prefix, Query()).header
            if header is not None:
                found.append(summarise(prefix, header))
        after = prefix
    for each in store.sessions(limit=limit, after=after):
        if not each.uid.startswith(prefix):
            break
        found.append(each)
    return found[:limit]
