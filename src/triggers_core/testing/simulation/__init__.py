"""A deterministic simulation: processes, messages, clocks and bad luck in one thread, from a seed.

- `simulate`: a configuration of your own through many seeds.
- `Simulator`, `Scenario`, `Rates`: the same, piece by piece.
- ``python -m triggers_core.testing.simulation``: the project's own scenario, with every word.
- `triggers_core.testing.simulation.sabotage`: the product broken on purpose, to see that it is
  noticed.

Needs greenlet: ``pip install 'triggers-core[testing]'``.
"""

from __future__ import annotations

from triggers_core.testing.simulation.runs import Outcome, Simulator
from triggers_core.testing.simulation.scenario import Rates, Scenario
from triggers_core.testing.simulation.simulate import Simulated, SimulationFailed, simulate

__all__ = [
    "Outcome",
    "Rates",
    "Scenario",
    "Simulated",
    "SimulationFailed",
    "Simulator",
    "simulate",
]
