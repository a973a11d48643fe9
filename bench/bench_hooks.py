"""What hooks add to a fire: nothing to speak of without plugins, and little more than pluggy with.

Each fire is timed beside the same fire with the hook machinery removed: a manager whose `fire` and
`after_commit` know of no hooks, over a commit that asks no plugin. The goal without any plugin is
1.05 times that. Three plugins that implement `post_fire`, and three that implement every hook on
the way of a fire, show what calls cost; a floor of the same run is what pluggy takes for
``pm.hook.post_fire(...)`` with the same three implementations and nothing around it.

In memory nothing hides the machinery, and the slices are short and many: what is looked for is less
than the noise of one. In SQLite, with fewer of them, the fires are as applications make them.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from harness import (
    Case,
    Figure,
    Options,
    Ratio,
    Snapshot,
    as_data,
    machine,
    measure,
    options,
    pin,
    ratio_table,
    spread,
    write_json,
)
from pluggy import PluginManager
from sessions import KINDS, KWARGS, Population, application, make_session

from triggers_core import payloads
from triggers_core.application import Application
from triggers_core.engine import commands
from triggers_core.engine.additions import run_before_commit
from triggers_core.engine.commands import Fire
from triggers_core.engine.names import check_event_id, check_name, new_id
from triggers_core.engine.protocol import Plan
from triggers_core.engine.records import Event, Status
from triggers_core.hookspecs import PROJECT, TriggersSpec, hookimpl
from triggers_core.manager import FireResult, TriggerManager

GOAL = 1.05

PLACES: dict[str, tuple[dict[str, Any], int, tuple[str, ...]]] = {
    "memory": ({}, 1, tuple(KINDS)),
    "sqlite NORMAL": ({"synchronous": "NORMAL"}, 4, ("runs",)),
    "sqlite FULL": ({}, 4, ("runs",)),
}
"""Place (its first word is the storage's key) → options, by what to divide the rounds, triggers."""

PLUGINS = ("one", "two", "three")

REMOVED, NO_PLUGIN, POST_FIRE = "hooks removed", "no plugin", "3 × post_fire"


class Observer:
    """A plugin that looks at every event, and does nothing."""

    @hookimpl
    def post_fire(self, manager: Any, event: Any, scheduled: Any) -> None:
        pass


class Everywhere(Observer):
    """A plugin on every place that a fire passes, which does nothing there."""

    @hookimpl
    def pre_fire(self, manager: Any, event: Any) -> None:
        pass

    @hookimpl
    def before_commit(self, session: Any, plan: Any) -> None:
        pass

    @hookimpl
    def post_commit(self, manager: Any, changes: Any) -> None:
        pass


# -- the same without hooks ---------------------------------------------------------------------


class WithoutHooks(TriggerManager):
    """`TriggerManager`, with everything left out that is there for plugins and subclasses."""

    def fire(
        self,
        trigger_name: str,
        trigger_kwargs: Any = None,
        event_id: str | None = None,
        once: bool = False,
        force: bool = False,
    ) -> FireResult:
        given = event_id is not None
        trigger = check_name(trigger_name, "trigger")
        identity = check_event_id(event_id) if event_id is not None else new_id()
        payload = payloads.encode(trigger_kwargs, self.app.rules.limits)
        fire = Fire(
            trigger=trigger,
            payload=payload,
            event_id=identity,
            given_id=given,
            once=once,
            force=force,
        )
        plan = self.commit(fire)
        recorded = plan.outcome
        return FireResult(
            status=recorded.status,
            scheduled=tuple([each.name for each in plan.scheduled]),
            event_id=recorded.event_id,
            number=recorded.number,
        )

    def after_commit(self, plan: Plan[Any]) -> None:
        if plan.scheduled:
            assert plan.header is not None
            self.dispatch(plan.header.generation, plan.scheduled, plan.tasks)
        for change in plan.changes:
            if change.instance.due_at is not None and change.instance.status is Status.UNSTARTED:
                self.app.runner().wake()
                break


def asks_nobody(*_: Any) -> tuple[()]:
    """In place of `run_before_commit`: what ``yield from`` takes as "no need, nothing added"."""
    return ()


def ask(function: Callable[..., Any]) -> None:
    """Let the commit of a fire call this where it asks plugins."""
    vars(commands)["run_before_commit"] = function


# -- cases --------------------------------------------------------------------------------------


def session_of(app: Application, cls: type[TriggerManager]) -> TriggerManager:
    """A session whose manager is of a class."""
    made = make_session(app, Population())
    return cls(made.storage, app)


def fires(
    app: Application, trigger: str, cls: type[TriggerManager] = TriggerManager
) -> tuple[Snapshot, Callable[[], None]]:
    """Fires into a session, and what has to happen before each slice of them."""
    current = [session_of(app, cls)]

    def run(operations: int) -> None:
        fire = current[0].fire
        for _ in range(operations):
            fire(trigger, KWARGS)

    def renew() -> None:
        ask(asks_nobody if cls is WithoutHooks else run_before_commit)
        current[0] = session_of(app, cls)

    return run, renew


def cases_of(place: str, directory: str) -> list[Case]:
    """Every kind of fire without hooks, without plugins, and with three of each sort."""

    def app(name: str, plugins: list[object]) -> Application:
        key = place.split()[0]
        path = {"path": os.path.join(directory, f"{name}.db")} if key == "sqlite" else {}
        made = application(key, **PLACES[place][0], **path)
        for plugin, short in zip(plugins, PLUGINS, strict=False):
            made.plugins.register(plugin, short)
        return made

    none = app("none", [])
    observed = app("observed", [Observer() for _ in PLUGINS])
    everywhere = app("everywhere", [Everywhere() for _ in PLUGINS])
    cases = []
    for trigger in PLACES[place][2]:
        named = f"{place}: {KINDS[trigger]}"
        removed = f"{named}, {REMOVED}"
        for sort, owner, cls in (
            (REMOVED, none, WithoutHooks),
            (NO_PLUGIN, none, TriggerManager),
            (POST_FIRE, observed, TriggerManager),
            ("3 × every hook", everywhere, TriggerManager),
        ):
            run, renew = fires(owner, trigger, cls)
            goal = GOAL if sort == NO_PLUGIN else None
            ratio = Ratio(label="÷ hooks removed", over=removed, at_most=goal)
            ratios = () if sort == REMOVED else (ratio,)
            cases.append(Case(name=f"{named}, {sort}", run=run, before=renew, ratios=ratios))
    return cases


def pluggy_floor() -> Case:
    """What pluggy takes to call `post_fire`, with the same three implementations."""
    pluggy = PluginManager(PROJECT)
    pluggy.add_hookspecs(TriggersSpec)
    for name in PLUGINS:
        pluggy.register(Observer(), name)
    call, event = pluggy.hook.post_fire, Event(id="e", trigger="go")

    def run(operations: int) -> None:
        for _ in range(operations):
            call(manager=None, event=event, scheduled=())

    return Case(name="pluggy: 3 × post_fire", run=run)


def added(figures: dict[str, Figure], named: str) -> tuple[list[float], float]:
    """What three `post_fire` add to a kind of fire, in microseconds: by round, and at the quietest.

    The quietest rounds of both are those that the machine disturbed least.
    """
    less, more = (figures[f"{named}, {sort}"].micros for sort in (NO_PLUGIN, POST_FIRE))
    return [b - a for a, b in zip(less, more, strict=True)], min(more) - min(less)


def tell_added(
    figures: dict[str, Figure], triggers: Sequence[str], pluggy: Figure, out: Any
) -> dict[str, Any]:
    """Print what three `post_fire` add in memory, beside pluggy's own call; returns it for JSON."""
    print(f"pluggy's own call of 3 × post_fire: {spread(pluggy.micros, 2)} µs", file=out)
    differences = {}
    for trigger in triggers:
        micros, quietest = added(figures, f"memory: {KINDS[trigger]}")
        print(
            f"3 × post_fire add to «{KINDS[trigger]}»: {spread(micros, 1)} µs by round,"
            f" {quietest:.1f} µs at the quietest",
            file=out,
        )
        differences[KINDS[trigger]] = {
            "added": round(statistics.median(micros), 3),
            "at_the_quietest": round(quietest, 3),
            "pluggy": round(pluggy.median, 3),
        }
    return differences


def main() -> None:
    """Time every place; print tables, and JSON if that is asked for."""
    given = options("bench_hooks", __doc__ or "", operations=50, rounds=161, quick=(50, 12))
    pinned = pin()
    print(f"bench_hooks: {pinned}, {machine()}", file=given.out)
    figures: dict[str, Figure] = {}
    differences: dict[str, Any] = {}
    for place, (_, divisor, triggers) in PLACES.items():
        less: Options = dataclasses.replace(given, rounds=max(1, given.rounds // divisor))
        with tempfile.TemporaryDirectory(dir=given.directory) as directory:
            floor, cases = pluggy_floor(), cases_of(place, directory)
            here = measure([floor, *cases], less)
        ask(run_before_commit)
        print(
            f"\n{place}: {less.rounds} rounds of {less.operations} operations; median [min–max]\n"
            f"{ratio_table(here, cases)}",
            file=given.out,
        )
        if place == "memory":  # elsewhere, a few microseconds cannot be told from the disk's moods
            differences = tell_added(here, triggers, here[floor.name], given.out)
        figures |= {
            f"{place}: {name}" if name == floor.name else name: each for name, each in here.items()
        }
    write_json(given, {"pinned": pinned, "figures": as_data(figures), "added": differences})


if __name__ == "__main__":
    main()
