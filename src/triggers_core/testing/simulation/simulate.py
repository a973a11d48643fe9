"""`simulate`: a configuration of the user's own, through many interleavings and faults."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from triggers_core.exceptions import InvalidArgument, WrongState, in_main_thread
from triggers_core.testing.simulation.runs import Check, Simulator
from triggers_core.testing.simulation.scenario import Configuration, Rates, Scenario
from triggers_core.testing.simulation.world import MakeStore

_TOLD = 5  # violations that an error lists


class SimulationFailed(AssertionError):
    """A law or a check was broken; the message tells the seeds."""


class Simulated(msgspec.Struct, frozen=True, kw_only=True):
    """What was simulated, without a violation."""

    first: int
    """The first seed."""
    seeds: int
    sessions: int
    commits: int


def simulate(
    configuration: Configuration | Sequence[Configuration],
    events: Iterable[str | tuple[str, Mapping[str, Any]]],
    *,
    seeds: int = 1_000,
    first: int | None = None,
    check: Check | None = None,
    rates: Rates | None = None,
    sessions: int = 1,
    storage: str | MakeStore = "memory",
    plugins: Sequence[Any] = (),
    trace: Callable[[str], None] | None = None,
) -> Simulated:
    """Simulate sessions that each get all events, in any order, whatever goes wrong meanwhile.

    Processes die and freeze, messages get lost, arrive twice and overtake each other, replies of
    the storage get lost, clocks are wrong, and operators replay and skip what fails. Every commit
    is held against the laws; in the end everything must have come to its end. A task that is
    defined in this process runs with its real body; time passes before and after it. Any other one
    is played: it mostly succeeds. Call it in the main thread.

    :param configuration: of each session; several are given one after the other, as deployments.
    :param events: what each session gets: triggers, or pairs of trigger and kwargs. The kwargs get
        one more key, ``mark``, by which each fire is recognised.
    :param seeds: how many runs.
    :param first: the first seed; a fresh one, which an error tells, when not given. One seed again:
        ``first=17, seeds=1``.
    :param check: called with the storage of each session at its end, for your own assertions.
    :param rates: how often what goes wrong.
    :param sessions: sessions side by side in each run.
    :param storage: as `Simulator` takes it: ``memory``, reached in steps as a server is;
        ``sqlite``, a real file; or what opens a store of your own with a clock.
    :param plugins: names or objects, as in `TRIGGER_PLUGINS`.
    :param trace: gets every line of every run, `print` for example.
    :raises SimulationFailed: names the seeds and what went wrong.
    :raises InvalidArgument: there are no events, no seeds, or it is no such storage.
    :raises InvalidConfiguration: as `TriggerManager.update_configuration`.
    :raises WrongState: called in another thread than the main one.

    Example::

        simulate(
            {"t_ship": {"after": ["paid", "packed"], "run": "shop.Ship"}},
            ["paid", ("packed", {"boxes": 2})],
            seeds=100,
        )
    """
    configurations = [configuration] if isinstance(configuration, Mapping) else list(configuration)
    pairs = [(each, {}) if isinstance(each, str) else (each[0], each[1]) for each in events]
    if not pairs or not configurations or seeds < 1 or sessions < 1:
        raise InvalidArgument("simulate: give it a configuration, an event, a seed and a session")
    if not in_main_thread():
        raise WrongState("simulate: call it in the main thread, where a crash ends what it ends")
    scenario = Scenario(
        configurations=configurations,
        events=pairs,
        all_events=True,
        sessions=sessions,
        rates=rates or Rates(bodies=0.2),
        plugins=tuple(plugins),
    )
    start = random.SystemRandom().randrange(1, 1 << 40) if first is None else first
    done, commits, problems = 0, 0, list[str]()
    with Simulator(scenario, storage, check=check) as simulator:
        simulator.check_configurations()
        for seed in range(start, start + seeds):
            outcome = simulator.run(seed, trace)
            done, commits = done + outcome.sessions, commits + outcome.commits
            problems += (f"seed {seed}: {each}" for each in outcome.problems)
            if len(problems) >= _TOLD:
                break
    if problems:
        told = "\n".join(problems[:_TOLD])
        again = f"simulate(…, first={problems[0].split()[1][:-1]}, seeds=1, trace=print)"
        raise SimulationFailed(f"{told}\nThe first of them again, line by line: {again}")
    return Simulated(first=start, seeds=seeds, sessions=done, commits=commits)
