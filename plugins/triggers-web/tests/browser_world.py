"""Sessions in every state that pages show, with names that are hard on them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from web_pages import SHOP, make_shop, order

from triggers_core import Application

LONG = "order:" + "an-order-with-a-uid-that-is-as-long-as-uids-may-be" * 3


@contextmanager
def make_world(storage: str = "memory", **options: Any) -> Iterator[Application]:
    """An application with such sessions; it runs tasks when it is told to."""
    app = make_shop(storage, **{name: str(value) for name, value in options.items()})
    try:
        fill(app)
        yield app
    finally:
        app.close()


def fill(app: Application) -> None:
    """Make them."""
    order(app, "order:1")
    for number in range(2, 6):
        order(app, f"order:{number}", broken="no van is free" if number % 2 else "out of boxes")
    order(app, LONG, broken="<b>no</b> " * 40)
    for number in range(10, 14):
        manager = app.manager(f"order:{number}")
        manager.update_configuration(SHOP)
        manager.fire("placed", {"parcel": number, "customer": "Ada " * number})
    running = app.manager("order:20")
    running.update_configuration(SHOP)
    running.fire("placed", {"parcel": 20})
    running.by("alice").fire("agreed")
    app.manager("order:13").by("alice").close_session()
    app.manager("order:3").by("alice").skip_failed_instance("t_ship#0", True)
    app.manager("order:5").by("bob").replay_failed_instance("t_ship#0")
    for _ in range(55):
        app.manager("order:10").fire("packed", {"box": 1})
    app.manager("order:11").fire("note", {"text": "x" * 20_000})
