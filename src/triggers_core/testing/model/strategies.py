"""What the state machine draws: names, kwargs, configurations, and how attempts end."""

from __future__ import annotations

import logging
from functools import cache

from hypothesis import strategies as st

from triggers_core import payloads
from triggers_core.engine.protocol import Rules
from triggers_core.limits import Limits
from triggers_core.testing.model.session import Dict

MOST, DEEPEST = 10, 2  # instances of a task, cascades in a row: small, so that they are met, too
RULES = Rules(limits=Limits(instances=MOST, cascade_depth=DEEPEST))

UIDS = ("order:1", "order 2 / ü")
TRIGGERS = ("paid", "page / received", "säumig")
TASKS = ("t_a", "t b", "t_c#0")

uids: st.SearchStrategy[str] = st.sampled_from(
    (*UIDS[:1] * 3, UIDS[1])
)  # mostly one session, so that it gets far
triggers: st.SearchStrategy[str] = st.sampled_from(TRIGGERS)
names: st.SearchStrategy[str] = st.sampled_from((*TRIGGERS, *TASKS))
kwargs: st.SearchStrategy[Dict] = st.sampled_from(({}, {"x": 1}, {"x": {"y": [2]}, "z": None}))
fires: st.SearchStrategy[list[tuple[str, Dict]]] = st.lists(st.tuples(triggers, kwargs), max_size=4)
replacements: st.SearchStrategy[Dict | None] = st.none() | st.sampled_from(({}, {"paid": {"x": 3}}))
retries: st.SearchStrategy[Dict] = st.fixed_dictionaries(
    {"cooldown": st.sampled_from((0.0, 30.0, 120.0)), "kwargs": replacements}
)
sent: st.SearchStrategy[int] = st.sampled_from(
    (1, 1, 2)
)  # a client library may send a request again
picks: st.SearchStrategy[int] = st.integers(
    min_value=0, max_value=30
)  # counts back from the newest
levels: st.SearchStrategy[int] = st.sampled_from((0, logging.WARNING, logging.ERROR))
fire_options: st.SearchStrategy[Dict] = st.fixed_dictionaries(
    {
        "id": st.sampled_from(("", "", "e1", "e2")),
        "once": st.booleans(),
        "force": st.booleans(),
    }
)
body_fires: st.SearchStrategy[list[Dict]] = st.lists(
    st.builds(
        lambda trigger, kwargs, options: {"trigger": trigger, "kwargs": kwargs, **options},
        st.sampled_from((*TRIGGERS, *TRIGGERS, TASKS[0])),
        kwargs,
        fire_options,
    ),
    max_size=2,
)


@cache  # making a strategy takes longer than drawing from it
def tasks(name: str) -> st.SearchStrategy[Dict]:
    """A task of this name, waiting for anything but itself."""
    others = st.sampled_from([each for each in (*TRIGGERS, *TASKS) if each != name])
    return st.fixed_dictionaries(
        {
            "after": st.lists(others, unique=True, max_size=2),
            "andEvery": st.none() | others,
            "unless": st.just([]) | st.just([]) | st.lists(others, unique=True, max_size=2),
            "withParams": st.sampled_from(({}, {"paid": {"x": {"y": [1], "w": 4}}, "more": {}})),
            "run": st.sampled_from(("app.One", "app.Two")),
        }
    ).filter(lambda task: bool(task["after"] or task["andEvery"]))


@st.composite
def configurations(draw: st.DrawFn, min_size: int = 0) -> dict[str, Dict]:
    """Some of the tasks, in any order."""
    chosen = draw(st.lists(st.sampled_from(TASKS), unique=True, min_size=min_size))
    return {name: draw(tasks(name)) for name in chosen}


def encoded(kwargs: Dict) -> bytes:
    """Kwargs as events store them."""
    return payloads.encode(kwargs, RULES.limits)
