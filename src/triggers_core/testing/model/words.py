"""A Hypothesis state machine over the language of conditions, whatever workers and sweeps do.

Two sessions get the same events at the same times. The one is swept the moment that something falls
due; the other one seldom, in part, in any order, by a second process if there is one. They have to
decide alike; and after every step, what each keeps agrees with a recount from its events.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from triggers_core.engine.attempts import Retry
from triggers_core.engine.records import Status
from triggers_core.exceptions import InvalidConfiguration, StaleMessage
from triggers_core.storages.base import Store
from triggers_core.testing.driver import SessionDriver
from triggers_core.testing.invariants import check_session
from triggers_core.testing.model.machine import OpenStore

PROMPT, LAZY = "prompt", "lazy"
EVENTS: Final = ("a", "b", "c")

_tests = st.sampled_from(({"n": 1}, {"n": {"atLeast": 2}}, {"n": {"given": False}}))
_names = st.sampled_from((*EVENTS, "x_late", "x_off"))
_leaves = st.one_of(
    _names,
    _names,
    st.builds(lambda t, w: {"trigger": t, "where": w, "as": f"k {t}"}, _names, _tests),
)
_trees = st.one_of(
    _leaves,
    _leaves,
    st.builds(lambda of: {"anyOf": of}, st.lists(_leaves, min_size=2, max_size=3)),
    st.builds(lambda of: {"atLeast": 2, "of": of}, st.lists(_leaves, min_size=2, max_size=3)),
    st.builds(lambda n, of: {"atLeast": n, "of": of}, st.sampled_from((2, 3, "a.n")), _leaves),
)
_times = st.sampled_from((10, 30, 60))
_waits = st.one_of(_times, st.builds(lambda t: {"time": t, "atMost": 60}, _times))
_otherwise = st.sampled_from(
    ({"late": "x_late"}, {"late": "x_late", "calledOff": "x_off"}, "x_off")
)
_after: dict[str, st.SearchStrategy[Any]] = {
    "after": st.lists(_trees, min_size=1, max_size=2),
    "keeping": st.sampled_from((None, None, "latest", "all")),
    "everyTime": st.booleans(),
    "unless": st.just([]) | st.just([]) | st.lists(_trees, min_size=1, max_size=1),
}
_words: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.fixed_dictionaries({**_after, "within": _times, "otherwise": _otherwise}),
    st.fixed_dictionaries({**_after, "waiting": _waits, "otherwise": _otherwise}),
    st.fixed_dictionaries({**_after, "waiting": _waits, "within": _times, "otherwise": _otherwise}),
)
_kwargs = st.sampled_from(({}, {"n": 1}, {"n": 2}, {"n": 3}))


class Unhurried(RuleBasedStateMachine):
    """Two sessions of one store that differ in who looks, and when."""

    opened: AbstractContextManager[Store]
    prompt: SessionDriver
    lazy: SessionDriver

    def open(self) -> AbstractContextManager[Store]:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.now: float = 1_000.0
        self.opened = self.open()
        self.store: Store = self.opened.__enter__()
        self.prompt, self.lazy = (SessionDriver(self.store, uid) for uid in (PROMPT, LAZY))
        self.messages: list[tuple[str, int]] = []

    def teardown(self) -> None:
        self.opened.__exit__(None, None, None)

    def both(self, change: Callable[[SessionDriver], Any]) -> None:
        for session in (self.prompt, self.lazy):
            change(session)

    # -- what both get ----------------------------------------------------------------------------

    @initialize(words=st.lists(_words, min_size=2, max_size=4))
    def begin(self, words: list[dict[str, Any]]) -> None:
        self.configure({f"t_{number}": each for number, each in enumerate(words)})
        self.both(lambda session: session.configure(t_last={"after": ["a", "b", "c"]}))

    @precondition(lambda self: len(self.prompt.events()) % 5 == 4)  # else nothing gets far
    @rule(number=st.integers(0, 4), words=_words)
    def replace(self, number: int, words: dict[str, Any]) -> None:
        self.configure({f"t_{number}": words})

    def configure(self, tasks: dict[str, Any]) -> None:
        for name, task in tasks.items():
            try:
                self.prompt.parse({name: task})
                self.prompt.configure({name: task})
            except InvalidConfiguration:
                continue  # a combination that nobody may write
            self.lazy.configure({name: task})

    @rule(trigger=st.sampled_from(EVENTS), kwargs=_kwargs, again=st.booleans())
    def fire(self, trigger: str, kwargs: dict[str, Any], again: bool) -> None:
        name = f"e{len(self.prompt.events())}"
        for _ in range(1 + again):  # a client library may send a request again
            self.both(lambda session: session.fire(trigger, kwargs, event_id=name))

    @rule(seconds=st.sampled_from((9, 10, 25, 60, 60)))
    def pass_time(self, seconds: int) -> None:
        until = self.now + seconds
        while True:
            moment = self.prompt.header.next_moment
            if moment is None or moment > until:
                break
            self.now = moment
            self.prompt.recover()
            after = self.prompt.header.next_moment
            assert after is None or after > moment, f"{moment} is still due after a sweep"
        self.now = until

    # -- what only one of them gets ---------------------------------------------------------------

    @rule(data=st.data())
    def sweep_some(self, data: st.DataObject) -> None:
        names = [each.instance for each in self.store.due() if each.uid == LAZY]
        chosen = data.draw(st.permutations(names))[: data.draw(st.integers(0, 3))]
        if chosen:
            self.lazy.recover(*chosen)

    # -- comparing --------------------------------------------------------------------------------

    @invariant()
    def each_agrees_with_itself(self) -> None:
        for session in (self.prompt, self.lazy):
            if session.exists:
                check_session(self.store, session.uid)

    @precondition(lambda self: len(self.prompt.events()) % 3 > 0)
    @rule()
    def compare(self) -> None:
        """Whoever looks now finds what is due: then both have decided alike."""
        self.both(lambda session: session.recover())
        assert decisions(self.lazy) == decisions(self.prompt)


def decisions(session: SessionDriver) -> list[Any]:
    """What has been decided of every instance, and all events; not how bodies fared."""
    instances = [
        (
            each.name,
            each.status if each.status in (Status.UNSTARTED, Status.ABANDONED) else "begun",
            each.why,
            each.moment,
            each.scheduled_by,
            each.taken,
            each.noted,
            each.extents,
            each.due_at if each.status is Status.UNSTARTED else None,
        )
        for each in session.store.instances(session.uid)
    ]
    events = [(each.trigger, each.at, bytes(each.payload), each.cause) for each in session.events()]
    return [events, instances]


class Worked(Unhurried):
    """The same while workers are lost, retried and skipped: each session agrees with itself."""

    @precondition(lambda self: self.lazy.store.instances(LAZY, statuses=[Status.SCHEDULED]))
    @rule(
        how=st.sampled_from(("finish", "fail", "retry", "cool down", "lose")), repeat=st.booleans()
    )
    def work(self, how: str, repeat: bool) -> None:
        name = self.store.instances(LAZY, statuses=[Status.SCHEDULED])[0].name
        attempt = self.lazy.instance(name).attempt
        claimed = self.lazy.claim(name)
        if repeat:  # its message comes twice
            try:
                self.lazy.claim(name, attempt)
            except StaleMessage:
                pass
            else:
                raise AssertionError(f"{name} was claimed twice")
        if how == "finish":
            self.lazy.finish(claimed)
        elif how == "fail":
            self.lazy.fail(claimed)
        elif how != "lose":
            self.lazy.fail(claimed, retry=Retry(cooldown=40.0 if how == "cool down" else 0.0))

    @precondition(lambda self: self.lazy.store.instances(LAZY, statuses=[Status.FAILED]))
    @rule(replay=st.booleans(), cascade=st.booleans())
    def decide_failed(self, replay: bool, cascade: bool) -> None:
        name = self.store.instances(LAZY, statuses=[Status.FAILED])[0].name
        if replay:
            self.lazy.replay(name)
        else:
            self.lazy.skip(name, cascade)

    @precondition(lambda self: False)
    @rule()
    def compare(self) -> None:
        """Bodies have had their say: the two are no longer alike."""


def compare_sweeps(open_store: OpenStore, options: settings, *, worked: bool = False) -> None:
    """Take a storage through random histories; raises where sweeps decide something.

    :param worked: let workers run, fail and get lost as well; then only what each session keeps is
        compared, with its events.
    """

    class Opened(Worked if worked else Unhurried):  # type: ignore[misc]
        def open(self) -> AbstractContextManager[Store]:
            return open_store(lambda: self.now)

    run_state_machine_as_test(Opened, settings=options)
