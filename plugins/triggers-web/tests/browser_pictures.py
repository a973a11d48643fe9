"""What the pictures of the documentation show: a shop at a fixed time, some of it in trouble."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from triggers_core import Application, TaskContext, trigger_task
from triggers_core.runners import ManualRunner
from triggers_core.settings import Settings
from triggers_core.storages.memory import MemoryStore
from triggers_core.tasks import registry
from triggers_core.testing.clock import VirtualClock

BEGIN: Final = 1_790_000_000.0
SHOWN: Final = {
    "stuck": "/",
    "session": "/session?uid=order%3A1042",
    "failed": "/failed?task=t_ship&error=shop.CarrierDown",
}
"""The name of a picture → the page."""

SHOP: dict[str, Any] = {
    "t_ship": {
        "after": ["paid", "packed"],
        "unless": ["cancelled"],
        "within": "14 days",
        "otherwise": "shipLate",
        "run": "shop.Ship",
    },
    "t_invoice": {"after": ["paid", {"anyOf": ["packed", "digital"]}], "run": "shop.Invoice"},
    "t_thank": {"after": ["t_ship"], "waiting": "8 days", "run": "shop.Thank"},
}


class CarrierDown(Exception):
    """The parcel service does not answer."""

    __module__ = "shop"


class NoAddress(Exception):
    """The order has none."""

    __module__ = "shop"


def ship(context: TaskContext) -> dict[str, Any]:
    packed = context.trigger_kwargs["packed"]
    if packed.get("shelf") == "B7":
        raise CarrierDown("the parcel service answers 503")
    if not packed.get("shelf"):
        raise NoAddress("the order has no address")
    return {"parcel": f"1Z-{packed['shelf']}"}


def invoice(context: TaskContext) -> None:
    """Writes one."""


def thank(context: TaskContext) -> None:
    """Says so."""


@contextmanager
def _declared() -> Iterator[None]:
    """The tasks, for as long as the shop is there: other tests have their own of these names."""
    before = dict(registry.declared)
    for name, body in (("shop.Ship", ship), ("shop.Invoice", invoice), ("shop.Thank", thank)):
        trigger_task(name=name)(body)
    try:
        yield
    finally:
        registry.declared.clear()
        registry.declared.update(before)


@contextmanager
def make_picture_world() -> Iterator[Application]:
    """The shop."""
    with _declared(), _shop() as app:
        yield app


@contextmanager
def _shop() -> Iterator[Application]:
    clock = VirtualClock(BEGIN)
    settings = Settings.isolated(TRIGGER_PLUGINS=[], TRIGGER_CONFIGURATION=SHOP)
    app = Application("shop", settings, store=MemoryStore(clock), runner=ManualRunner)
    for number in range(1001, 1060):
        clock.advance(3_600.0 * (number % 5 + 1))
        manager = app.manager(f"order:{number}")
        first, second = ("paid", "packed") if number % 2 else ("packed", "paid")
        shelf = {0: "B7", 3: ""}.get(number % 7, f"A{number % 9}")
        kwargs = {"paid": {"cents": 1990 + number}, "packed": {"shelf": shelf}}
        manager.fire(first, kwargs[first], f"{first}:{number}")
        clock.advance(240.0)
        if number % 4 and number != 1042:
            manager.fire(second, kwargs[second], f"{second}:{number}")
            manager.join()
    clock.advance(5_400.0)
    try:
        yield app
    finally:
        app.close()
