"""What the pages about all sessions cost, with 100,000 of them, one in a hundred stuck.

Half of those that are stuck wait for an event, half have failed. All others are done, but for an
optional task that never began: they wait, for nothing in particular. Each page is made whole, from
the request to the HTML, and set beside the *floor* of the same rounds: one query that an index
answers, the header of a session by its uid. *Calls* are those of the page to the storage; none of
them may depend on how many sessions there are, and for SQLite the statements are counted, too.

There is no goal for the ratio; it is what a page costs in queries. With ``--quick``, 10,000.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness import (
    Case,
    Options,
    Ratio,
    as_data,
    machine,
    measure,
    options,
    ratio_table,
    table,
    write_json,
)

from triggers_core.application import Application
from triggers_core.backtest import backtest
from triggers_core.engine.configuration import parse_configuration
from triggers_core.engine.protocol import Query
from triggers_core.runners.manual import ManualRunner
from triggers_core.settings import Settings
from triggers_core.storages.base import Store
from triggers_core.storages.sqlite import SqliteStore
from triggers_core.testing import SessionDriver
from triggers_postgres import PostgresStore
from triggers_postgres.testing import PostgresServer
from triggers_redis import RedisStore
from triggers_redis.testing import RedisServer
from triggers_web.http import Headers, Request
from triggers_web.pages import Pages, everybody

FLOOR = "a session's header"
STUCK_ONE_IN = 100
FLOW = parse_configuration(
    {
        "t_ship": {"after": ["paid"], "run": "bench.Ship"},
        "t_refund": {"after": ["refundWanted"], "run": "bench.Ship"},
    }
)
PAGES = {
    "the first screen": "/",
    "/failed": "/failed?task=t_mail&error=SMTPError",
    "/waiting": "/waiting?trigger=rated",
    "/sessions": "/sessions?prefix=order:5",
    "/find": "/find?q=stripe:77",
    "/configurations": "/configurations",
    "/bulk/ask": "/bulk/ask?kind=replay&task=t_mail",
}


def fill(app: Application, sessions: int) -> None:
    """Orders that are done, but for one in a hundred."""
    done = (
        {"session": f"order:{number}", "trigger": "paid", "id": f"stripe:{number}"}
        for number in range(sessions)
        if number % STUCK_ONE_IN
    )
    backtest(FLOW, done, app.store, app=app, stuck_at_most=1)
    for number in range(0, sessions, STUCK_ONE_IN):
        session = SessionDriver(app.store, f"order:{number}")
        if number % (2 * STUCK_ONE_IN):
            session.configure(t_mail={"after": ["go"]})
            session.fire("go")
            session.fail_now("t_mail#0", {"error": {"type": "SMTPError", "message": "no route"}})
        else:
            session.configure(t_rate={"after": ["asked", "rated"]})
            session.fire("asked")


class Calls:
    """Counts the calls to a store meanwhile."""

    def __init__(self, store: Store) -> None:
        self._store, self.amount, self.statements = store, 0, 0

    def __enter__(self) -> Calls:
        for name in vars(Store):
            if callable(getattr(Store, name)) and not name.startswith("_") and name != "now":
                setattr(self._store, name, self._counted(getattr(self._store, name)))
        self._trace(self._noted)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for name in [each for each in vars(self._store) if hasattr(Store, each)]:
            if name != "clock":
                delattr(self._store, name)
        self._trace(None)

    def _counted(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self.amount += 1
            return method(*arguments, **named)

        return call

    def _noted(self, statement: str) -> None:
        self.statements += 1

    def _trace(self, callback: Callable[[str], None] | None) -> None:
        if isinstance(self._store, SqliteStore) and self._store.file.opened is not None:
            self._store.file.opened.connection.set_trace_callback(callback)


def cases_of(app: Application, pages: Pages, sessions: int) -> list[Case]:
    """The floor, and each of the pages."""
    uids = iter(range(1, 1 << 60))

    def header(operations: int) -> None:
        for _ in range(operations):
            app.store.load(f"order:{next(uids) * 7_919 % sessions}", Query())

    def asking(address: str) -> Callable[[int], None]:
        def run(operations: int) -> None:
            for _ in range(operations):
                assert ask(pages, address).status == 200

        return run

    over = Ratio(label="÷ floor", over=FLOOR)
    cases = [Case(name=FLOOR, run=header, floor=True)]
    return cases + [
        Case(name=name, run=asking(address), ratios=(over,)) for name, address in PAGES.items()
    ]


def ask(pages: Pages, address: str) -> Any:
    """A page, as a browser asks for it; what it costs alone, not a version that is known."""
    pages._versions._known.clear()
    path, _, query = address.partition("?")
    headers = Headers([("host", "127.0.0.1")])
    return pages(Request(method="GET", path=path, query_string=query, headers=headers))


def on(store: Store, sessions: int, given: Options) -> dict[str, Any]:
    """Fill a store and measure."""
    app = Application(
        "bench", Settings.isolated(TRIGGER_PLUGINS=[]), store=store, runner=ManualRunner
    )
    fill(app, sessions)
    pages = Pages(app, access=everybody("bench", act=True))
    ask(pages, "/")
    rows, counted = [], {}
    for name, address in PAGES.items():
        with Calls(store) as calls:
            ask(pages, address)
        counted[name] = calls.amount
        statements = f"{calls.statements:,}" if isinstance(store, SqliteStore) else "-"
        rows.append((name, f"{calls.amount:,}", statements))
    failed = sum(each.instances for each in store.failed_groups())
    waiting = sum(each.sessions for each in store.waiting_groups() if each.missing)
    print(
        f"\n{store.key}: {sessions:,} sessions, {failed:,} failed, {waiting:,} wait", file=given.out
    )
    print(table(("page", "calls", "statements"), rows), file=given.out)
    # What the disk and other processes take is no part of it, where the storage is in this process.
    clock = time.process_time if isinstance(store, SqliteStore) else time.perf_counter
    figures = measure(cases := cases_of(app, pages, sessions), given, clock)
    print(ratio_table(figures, cases), file=given.out)
    app.close()
    return {"calls": counted, "figures": as_data(figures)}


def main() -> None:
    """Run the benchmark."""
    more = {"sessions": (100_000, 10_000, "how many (default: 100,000)")}
    given = options("bench_pages", __doc__ or "", operations=5, rounds=9, quick=(3, 3), more=more)
    sessions = given.more["sessions"]
    print(f"bench_pages: {machine()}", file=given.out)
    print(f"{given.rounds} rounds of {given.operations} requests; median [min–max]", file=given.out)
    content: dict[str, Any] = {"sessions": sessions}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=given.directory)))
        for name in ("redis", "postgres"):
            (folder / name).mkdir()
        sqlite = SqliteStore(folder / "pages.db", synchronous="NORMAL")
        content["sqlite"] = on(sqlite, sessions, given)
        redis = stack.enter_context(RedisServer(folder / "redis"))
        content["redis"] = on(RedisStore(redis.url), sessions, given)
        postgres = stack.enter_context(PostgresServer(folder / "postgres"))
        content["postgres"] = on(PostgresStore(postgres.url), sessions, given)
    write_json(given, content)


if __name__ == "__main__":
    main()
