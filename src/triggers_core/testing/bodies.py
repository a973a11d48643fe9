"""The tasks of the runner contract. A worker in another process imports this module.

Bodies show what they do through their session, so that it does not matter where they run: each
records an event ``ran`` at once, whatever becomes of its attempt.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar, Final

import msgspec

from triggers_core.exceptions import SoftTimeLimitExceeded, with_context
from triggers_core.tasks import TriggerTask
from triggers_core.tasks.context import TaskContext

RAN: Final = "ran"
_PATIENCE: Final = 120.0  # seconds until a test that hangs fails; nothing waits that long


class Body(TriggerTask):
    """Base of the bodies: records that it ran."""

    def _run(self, context: TaskContext) -> Any:
        context.manager.fire(RAN, {"instance": context.instance.name, "attempt": context.attempt})
        return self.act(context)

    def act(self, context: TaskContext) -> Any:
        """What it does besides; nothing."""
        return {}


class Echo(Body):
    """Returns what it was given."""

    def act(self, context: TaskContext) -> dict[str, Any]:
        return {
            "kwargs": context.trigger_kwargs,
            "attempt": context.attempt,
            "retries": context.retries,
            "key": context.idempotency_key,
            "instance": context.instance.name,
        }


class Says(Body):
    """Fires ``said`` three times, in the commit of its finish."""

    def act(self, context: TaskContext) -> None:
        for number in range(3):
            context.fire("said", {"number": number})


class SaysAndFails(Body):
    """Fires, and fails: nothing of it may be heard."""

    def act(self, context: TaskContext) -> None:
        context.fire("said")
        raise with_context(ValueError("broken"), {"subject": 42})


class ReturnsText(Body):
    """Returns what no body may return."""

    def act(self, context: TaskContext) -> str:
        return "done"


class Skips(Body):
    """Skips itself."""

    def act(self, context: TaskContext) -> None:
        raise self.skip({"reason": "nothing to do"})


class Flaky(Body):
    """Asks for a retry at once, twice."""

    def act(self, context: TaskContext) -> dict[str, int]:
        if context.retries < 2:
            raise self.retry(ConnectionError("not yet"))
        return {"retries": context.retries}


class NeverWell(Body):
    """Asks for another retry every time."""

    max_retries: ClassVar[int | None] = 2

    def act(self, context: TaskContext) -> None:
        raise self.retry(ConnectionError("not yet"))


class Slow(Body):
    """Asks for a retry in a while."""

    def act(self, context: TaskContext) -> None:
        if context.retries == 0:
            raise self.retry(cooldown=3_600)


class Async(TriggerTask):
    """An ``async def`` body; gives way to its loop once."""

    async def _run(self, context: TaskContext) -> dict[str, Any]:
        context.manager.fire(RAN, {"instance": context.instance.name, "attempt": context.attempt})
        await asyncio.sleep(0)
        return {"loop": asyncio.get_running_loop().is_running()}


class Cancelled(TriggerTask):
    """An ``async def`` body that waits for something that was cancelled."""

    async def _run(self, context: TaskContext) -> None:
        context.manager.fire(RAN, {"instance": context.instance.name, "attempt": context.attempt})
        waiting = asyncio.ensure_future(asyncio.Event().wait())
        waiting.cancel()
        await waiting


class Exits(Body):
    """Calls `sys.exit`, as code that was made for a command line does."""

    def act(self, context: TaskContext) -> None:
        sys.exit("done for today")


class Panic(BaseException):
    """As libraries raise it that do not want to be caught: no `Exception`."""

    def __str__(self) -> str:
        raise Panic


class Panics(Body):
    """Raises what is no `Exception`, and cannot be printed either."""

    def act(self, context: TaskContext) -> None:
        raise Panic


class AsksAmiss(Body):
    """Asks for a retry with a text where an exception belongs."""

    def act(self, context: TaskContext) -> None:
        raise self.retry("the service is down")  # type: ignore[arg-type]


class WaitsForItself(Body):
    """Waits for the runner that runs it, as its kwargs say."""

    def act(self, context: TaskContext) -> None:
        manager, what = context.manager, context.trigger_kwargs["go"]["what"]
        if what == "join":
            manager.join()
        elif what == "close":
            manager.app.close()
        else:
            manager.app.reset()


class Order(msgspec.Struct):
    """What `Typed` wants to get."""

    go: Mapping[str, int]


class Typed(Body):
    """States the model that its kwargs must fit."""

    kwargs_model = Order

    def act(self, context: TaskContext) -> dict[str, Any]:
        order: Order = context.kwargs
        return dict(order.go)


class Gate:
    """Holds bodies of this process until it is opened, and counts them.

    Example::

        gate = Gate("a")
        manager.fire("go", {"gate": "a"})       # of a task that runs `Gated`
        gate.wait_for(1)
        gate.open()
    """

    gates: Final[dict[str, Gate]] = {}

    def __init__(self, name: str) -> None:
        self.inside: int = 0
        self.most: int = 0
        self.leases_lost: list[bool] = []
        """What `context.lease_lost` told each body behind the gate."""
        self._open = False
        self._changed = threading.Condition()
        Gate.gates[name] = self

    def pass_through(self) -> None:
        """What a body does."""
        with self._changed:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self._changed.notify_all()
            self._wait(lambda: self._open)
            self.inside -= 1

    def wait_for(self, bodies: int) -> None:
        """Wait until so many are inside."""
        with self._changed:
            self._wait(lambda: self.inside >= bodies)

    def open(self) -> None:
        """Let everybody through, now and later."""
        with self._changed:
            self._open = True
            self._changed.notify_all()

    def _wait(self, until: Any) -> None:
        if not self._changed.wait_for(until, _PATIENCE):
            raise TimeoutError(f"{self.inside} bodies are inside, the gate is {self._open=}")


class Limited(TriggerTask):
    """Hangs where nothing can end it, until its gate opens; may run for a moment only."""

    time_limit: ClassVar[float | None] = 0.5

    def _run(self, context: TaskContext) -> dict[str, str]:
        (kwargs,) = context.trigger_kwargs.values()
        with suppress(Exception):
            # At once, and nothing else: what waits for it has to see it here before its time ends.
            Gate.gates[kwargs["gate"]].pass_through()
        return {"late": "too late"}


class SoftlyLimited(Body):
    """Works on until it is told that its time is over, and returns what it has."""

    soft_time_limit: ClassVar[float | None] = 0.5

    def _run(self, context: TaskContext) -> Any:
        try:
            return super()._run(context)  # where storages are slow, its time ends in the first fire
        except SoftTimeLimitExceeded:
            return {"stopped": "in time"}

    def act(self, context: TaskContext) -> dict[str, str]:
        for _ in range(int(_PATIENCE / 0.01)):
            time.sleep(0.01)
        return {"stopped": "never"}


class Gated(Body):
    """Waits at the gate that its kwargs name."""

    def act(self, context: TaskContext) -> None:
        (kwargs,) = context.trigger_kwargs.values()
        gate = Gate.gates[kwargs["gate"]]
        gate.pass_through()
        gate.leases_lost.append(context.lease_lost)
