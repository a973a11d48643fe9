"""Who does something in a simulated world: clients, a deployer, operators, sweeps; and bad luck."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from triggers_core.engine.records import Status
from triggers_core.exceptions import WrongState
from triggers_core.running import sweep as sweeping
from triggers_core.testing.faults.store import InjectedError
from triggers_core.testing.simulation.ledger import Asked
from triggers_core.testing.simulation.processes import Process

if TYPE_CHECKING:
    from triggers_core.testing.simulation.world import World

_UNDER_WAY: Final = [Status.SCHEDULED, Status.RUNNING]
_DEEPEST: Final = 3  # replays of replays, before an operator gives up


def client(world: World, uid: str, trigger: str, kwargs: Mapping[str, Any]) -> None:
    """Fires once; where the event has an id, until it is told that it happened."""
    rng = world.rng
    mark = world.next_mark()
    event_id = f"event {mark}" if rng.random() < 0.75 else None
    once = trigger in world.scenario.once
    asked = Asked(uid, trigger, mark, event_id, once)
    world.ledger.asked.append(asked)
    payload = {**kwargs, "mark": mark}
    sends = 2 if event_id is not None and rng.random() < 0.1 else 1
    while True:
        answer = world.call(
            lambda process: process.manager(uid).fire(trigger, payload, event_id, once)
        )
        if answer is not None:
            asked.answer = asked.answer or answer
            sends -= 1
        if event_id is None or sends == 0:
            break
        world.scheduler.sleep(rng.choice((0.0, 1.0, 7.0)))
    world.clients -= 1


def deployer(world: World, uid: str, number: int) -> None:
    """Gives a session one of the configurations, until it is told that it has it."""
    past = number > 0 and world.rng.random() < 0.5
    while (
        world.call(lambda process: process.manager(uid).commit(process.configure(number, past)))
        is None
    ):
        world.scheduler.sleep(1.0)
    world.clients -= 1


def operator(world: World, uid: str) -> None:
    """Looks after what failed, and now and then fails what seems to be stuck."""
    rng = world.rng
    while True:
        session = world.ledger.session(uid)
        if session.failed or (session.under_way and rng.random() < world.rates.operators):
            world.call(lambda process: _operate(world, process, uid))
        world.scheduler.sleep(10 + 20 * rng.random())


def _operate(world: World, process: Process, uid: str) -> None:
    rng, manager = world.rng, process.manager(uid)
    failed = process.store.instances(uid, statuses=[Status.FAILED])
    try:
        if not failed:
            stuck = process.store.instances(uid, statuses=_UNDER_WAY)
            if stuck and not world.quiet:
                manager.fail_instance(rng.choice(stuck).name, "it seems to be stuck")
            return
        for each in failed:
            chance = rng.random()
            if each.depth >= _DEEPEST or chance < 0.3:
                manager.skip_failed_instance(each.name, cascade=chance < 0.15)
            else:
                replaced = chance > 0.9 and world.scenario.replaces_kwargs
                manager.replay_failed_instance(each.name, {} if replaced else None)
    except WrongState as error:  # another operator was there first
        world.told(process, f"operator: {error}")


def sweeper(world: World, process: Process) -> None:
    """Sweeps, as the background of a worker does: when something is due, and with the lease."""
    store, timing = process.store, process.app.rules.timing
    sweeping._memory_of(store).drift = sweeping.Drift(world.monotonic)
    while True:
        wait = 5.0
        try:
            soonest = sweeping.next_look(store)
            if soonest is None or soonest > 0:
                wait = 40.0 if soonest is None else min(max(soonest, 1.0) + 0.001, 40.0)
            elif store.acquire_lease(sweeping.LEASE, process.name, 15.0):
                sweeping.sweep(store, process.manager, timing=timing)
        except InjectedError as error:
            world.told(process, f"sweep: {error}")
        world.scheduler.sleep(wait)


def heart(world: World, process: Process) -> None:
    """Renews the leases of what runs in a process."""
    interval = process.app.rules.timing.heartbeat
    while True:
        if process.heartbeats.holds:
            process.heartbeats.beat()
        world.scheduler.sleep(interval)


def crash(world: World) -> None:
    """A process dies, and another one takes its place after a while."""
    process = world.any_process()
    if process is None or world.quiet:
        return
    world.told(process, "dies")
    process.crash()
    world.scheduler.sleep(world.rng.choice((0.5, 10.0, 70.0)))
    world.restart(process)


def freeze(world: World) -> None:
    """A process stands still, longer than a lease may be, and goes on."""
    process = world.any_process()
    if process is not None and not world.quiet:
        world.told(process, "stands still")
        process.frozen_until = world.clock.now + world.rng.choice((20.0, 75.0, 120.0))


def jump(world: World) -> None:
    """The clock of a process is set wrong, and put right after a while."""
    process = world.any_process()
    if process is None or world.quiet:
        return
    seconds = world.rng.choice((-600.0, -30.0, 30.0, 600.0, 3_600.0))
    world.told(process, f"clock set by {seconds:g} s")
    process.clock.jump(seconds)
    world.scheduler.sleep(world.rng.choice((1.0, 30.0)))
    process.clock.offset = 0.0
    world.told(process, "clock put right")
