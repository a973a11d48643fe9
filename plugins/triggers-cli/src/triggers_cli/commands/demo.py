"""The command ``demo``: an order, a worker, a kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from triggers_cli import demo_shop
from triggers_cli.errors import FAILED, OK
from triggers_cli.options import command
from triggers_cli.output import Output
from triggers_cli.state import State
from triggers_core.explain import rule_of
from triggers_core.runners.manual import ManualRunner

if TYPE_CHECKING:
    from triggers_core.application import Application

_TIMEOUT = 30.0  # seconds; all of it takes about three


@command("demo", example="triggers demo\ntriggers demo --keep demo.db")
@click.option(
    "--keep",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Keep the sessions in this new file, to look around in afterwards.",
)
@click.pass_obj
def demo(state: State, keep: str | None) -> int:
    """Watch two orders, one worker and one kill -9: three seconds.

    An order ships once it has been paid and packed, unless it was cancelled. The events come in the
    wrong order, and the worker is killed in the middle of its work.

    Exits with 1 if anything was lost or done twice.
    """
    if keep is not None and os.path.exists(keep):
        raise click.UsageError(f"--keep {keep}: the file exists already; name a new one")
    with tempfile.TemporaryDirectory(prefix="triggers-demo-") as folder:
        path = os.path.abspath(keep) if keep else os.path.join(folder, "demo.db")
        result = _play(state.out, path)
        if state.json:
            state.out.data(result)
        elif keep:
            state.out.line(f"Look around:  triggers show --storage sqlite:{keep} order:1")
    return OK if result["ok"] else FAILED


def _play(out: Output, path: str) -> dict[str, Any]:
    app = demo_shop.shop(path)
    app.settings.configure(
        TRIGGER_TIMING={"lease": 1.0, "heartbeat": 0.25, "redispatch_after": 0.001}
    )
    app.use_runner(ManualRunner(app, keep=0))  # this process only fires
    told = _Story(out)
    told.begin(app)
    one, two = app.manager("order:1"), app.manager("order:2")
    for manager in (one, two):
        manager.update_configuration(demo_shop.CONFIGURATION)
    with _worker(path) as worker:
        one.fire("packed", {"order": 1}, event_id="warehouse:1")
        told.tell("order:1", "packed arrives: the warehouse is faster than the bank")
        two.fire("paid", {"amount": 20}, event_id="bank:2")
        told.tell("order:2", "paid arrives")
        two.fire("cancelled", event_id="customer:2")
        told.tell("order:2", "cancelled arrives")
        one.fire("paid", {"amount": 10}, event_id="bank:1")
        told.tell("order:1", "paid arrives: t_ship#0 has all it waited for")
        again = one.fire("paid", {"amount": 10}, event_id="bank:1")
        told.tell("order:1", f"the bank sends paid again: {again.status}, nothing happens")
        assert worker.stdout is not None
        worker.stdout.readline()
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        told.tell("", "the worker is killed (SIGKILL) in the middle of t_ship#0", "red")
    with _worker(path):
        told.tell("", "a new worker starts; all it knows is the file")
        _wait(app)
        ship = one.storage["t_ship#0"]
        told.tell(
            "order:1", f"t_ship#0 finished: attempt {ship.attempt}, same idempotency key", "green"
        )
        told.tell("order:1", "t_mail#0 finished, because t_ship had", "green")
        two.fire("packed", {"order": 2}, event_id="warehouse:2")
        told.tell("order:2", "packed arrives, too late")
        _wait(app)
    result = _examine(app)
    told.end(result, str(two.explain("t_ship")))
    app.close()
    return result


class _Story:
    """Tells what happens, as it happens; nothing at all when JSON is wanted."""

    def __init__(self, out: Output) -> None:
        self.out, self.begun = out, time.perf_counter()

    def begin(self, app: Application) -> None:
        self.line("A shop, two orders, one SQLite file, one kill -9.")
        self.line()
        for name, task in app.parse(demo_shop.CONFIGURATION).tasks.items():
            self.line(f"  {name}: {rule_of(task)}")
        self.line()

    def tell(self, order: str, what: str, style: str | None = None) -> None:
        at = time.perf_counter() - self.begun
        self.line((f"  {at:5.2f} s  ", "dim"), f"{order:7}  ", (what, style))
        sys.stdout.flush()

    def end(self, result: dict[str, Any], why: str) -> None:
        self.line()
        self.line(
            f"{result['events']} events: {result['lost']} lost,"
            f" {result['double']} done twice. Ship's body ran {result['executions']} times with one"
            " key,"
        )
        self.line("so the carrier knew the second request, and sent one parcel.")
        self.line()
        self.line(("Why was order:2 not shipped?", "bold"))
        self.line()
        for line in why.splitlines():
            self.line(f"  {line}" if line else "")
        self.line()

    def line(self, *parts: str | tuple[str, str | None]) -> None:
        if not self.out.json:
            self.out.line(*parts)


@contextmanager
def _worker(path: str) -> Iterator[subprocess.Popen[str]]:
    """A worker process, ended at the end of the block."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "triggers_cli.demo_shop", path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield worker
    finally:
        if worker.poll() is None and sys.exc_info()[0] is not None:
            worker.kill()
        worker.communicate()


def _wait(app: Application) -> None:
    """Wait until nothing is under way."""
    give_up = time.monotonic() + _TIMEOUT
    while any(each.under_way for each in app.store.sessions()):
        if time.monotonic() > give_up:
            raise click.ClickException("the worker did not finish: is this machine very busy?")
        time.sleep(0.02)


def _examine(app: Application) -> dict[str, Any]:
    """Count what was lost and what was done twice."""
    sent = {"warehouse:1", "bank:2", "customer:2", "bank:1", "warehouse:2"}
    events = [event for each in app.store.sessions() for event in app.store.events(each.uid)]
    recorded = [event.id for event in events if not event.cause]
    cascades = [event.cause for event in events if event.cause]
    carrier = demo_shop.carrier_of(app)
    keys = [json.loads(line)["key"] for line in carrier.read_text().splitlines()]
    carrier.unlink()
    lost = len(sent - set(recorded)) + (2 - len(set(cascades)))
    double = len(recorded) - len(set(recorded)) + len(cascades) - len(set(cascades))
    return {
        "ok": not lost and not double and len(set(keys)) == 1,
        "events": len(recorded),
        "lost": lost,
        "double": double,
        "executions": len(keys),
        "parcels": len(set(keys)),
    }
