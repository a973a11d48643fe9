"""``die_in_transaction.py FOLDER``: kills a process at every operation of a transaction.

The transaction takes an order in one session and pays it in another. Prints what came of each.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from triggers_core import Application
from triggers_core.engine.records import Status
from triggers_core.runners.manual import ManualRunner
from triggers_core.settings import Settings
from triggers_core.storages.sqlite import SqliteStore

ORDER, LEDGER = "order:1", "ledger"


class Points:
    """Counts what the process does, and kills it at one of these points."""

    def __init__(self, deadly: int) -> None:
        self.left = deadly

    def reach(self, what: object) -> None:
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)


def take_order(path: Path, deadly: int) -> None:
    points = Points(deadly)

    class Runner(ManualRunner):
        def dispatch(self, *arguments: object) -> None:
            points.reach("dispatch")

    with SqliteStore(path) as store:
        settings = Settings.isolated(TRIGGER_PLUGINS=[])
        app = Application("orders", settings, store=store, runner=Runner)
        order, ledger = app.manager(ORDER), app.manager(LEDGER)
        ledger.update_configuration({"t_book": {"after": ["paid"], "run": "shop.Book"}})
        assert store.file.opened is not None
        store.file.opened.connection.set_trace_callback(points.reach)
        with store.transaction():
            order.update_configuration({"t_ship": {"after": ["placed"], "run": "shop.Ship"}})
            order.fire("placed", {"amount": 42}, event_id="placed:1")
            ledger.fire("paid", {"amount": 42}, event_id="paid:1")
        points.reach("the end")


def outcome(path: Path) -> str:
    """What another process finds: ``nothing``, ``all``, or what is torn."""
    with SqliteStore(path) as store:
        found = [event.id for uid in (ORDER, LEDGER) for event in store.events(uid)]
        scheduled = [
            instance.name
            for uid in (ORDER, LEDGER)
            for instance in store.instances(uid, statuses=[Status.SCHEDULED])
        ]
        configured = any(each.uid == ORDER for each in store.sessions())
        nothing = not found and not scheduled and not configured
        whole = found == ["placed:1", "paid:1"] and scheduled == ["t_ship#0", "t_book#0"]
        dispatched_later = whole and store.next_due() is not None
    return "nothing" if nothing else "all" if dispatched_later else f"{found}, {scheduled}"


folder, deadly = Path(sys.argv[1]), 0
take_order(folder / "lives.db", 0)  # what it imports, each child has then
while True:
    deadly += 1
    path = folder / f"{deadly}.db"
    child = os.fork()
    if not child:
        take_order(path, deadly)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0, status
        break
    print(outcome(path), flush=True)
