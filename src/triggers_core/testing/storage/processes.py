"""Several processes at one store: what threads of one process cannot show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import pytest

from triggers_core.exceptions import StaleMessage
from triggers_core.storages.base import Store
from triggers_core.testing.clock import VirtualClock
from triggers_core.testing.driver import SessionDriver
from triggers_core.testing.elsewhere import Elsewhere, Job, Opener
from triggers_core.testing.invariants import check_store
from triggers_core.testing.storage import jobs
from triggers_core.testing.storage.base import MakeOpener, StoragePromises
from triggers_core.testing.suite import needs

_PROCESSES: Final = 2
_EACH: Final = 40  # commits of a process in a race
_STARTED: Final = pytest.StashKey[list[Elsewhere]]()


class Others:
    """Other processes with the same store open."""

    processes: list[Elsewhere]
    opener: Opener
    clock: VirtualClock

    def __init__(self, processes: list[Elsewhere], opener: Opener, clock: VirtualClock) -> None:
        self.processes, self.opener, self.clock = processes, opener, clock

    def together(self, jobs: list[Callable[[Callable[..., None]], None]]) -> list[Any]:
        """Have a job done by each of them, all beginning at the same time; returns what they do."""
        taken = self.processes[: len(jobs)]
        try:
            for process, job in zip(taken, jobs, strict=True):
                job(partial(process.prepare, self.opener, self.clock))
            for process in taken:
                process.go()
            return [process.hear() for process in taken]
        except BaseException:
            for process in taken:
                process.kill()  # what it has still to say is no answer to the next job
            raise

    def ask(self, job: Job, *arguments: Any) -> Any:
        """Have one of them do something, and wait for it."""
        return self.together([lambda prepare: prepare(job, *arguments)])[0]


@needs("processes")
class Processes(StoragePromises):
    """Commits, claims and leases of several processes, one of which dies."""

    @pytest.fixture
    def others(
        self,
        promise: str,
        store: Store,
        clock: VirtualClock,
        opener: MakeOpener,
        request: pytest.FixtureRequest,
    ) -> Others:
        """Other processes that open the same store; they last as long as the suite."""
        suite = request.node.getparent(pytest.Class)
        if _STARTED not in suite.stash:
            started = suite.stash[_STARTED] = [Elsewhere() for _ in range(_PROCESSES)]
            for each in started:
                suite.addfinalizer(each.kill)
        return Others(suite.stash[_STARTED], opener(store), clock)

    def test_processes_that_fire_into_one_session_lose_nothing(
        self, session: SessionDriver, others: Others
    ) -> None:
        triggers = [f"part {number}" for number in range(_PROCESSES * _EACH)]
        session.configure(t_all={"after": triggers}, t_each={"andEvery": "part 7"})
        done = others.together(
            [
                lambda prepare, n=n: prepare(  # type: ignore[misc]
                    jobs.fire_each, session.uid, triggers[n::_PROCESSES]
                )
                for n in range(_PROCESSES)
            ]
        )
        scheduled = [name for each in done for _, names in each for name in names]
        events = session.events()
        assert [each.number for each in events] == list(range(len(triggers))), "events were lost"
        assert Counter(each.trigger for each in events) == Counter(triggers)
        assert sorted(scheduled) == ["t_all#0", "t_each#0"]
        assert session.header.version == 1 + len(triggers)

    def test_processes_with_one_event_id_record_it_once(
        self, session: SessionDriver, others: Others
    ) -> None:
        session.configure({f"t_{n}": {"andEvery": f"e{n}"} for n in range(_EACH)})
        triggers = [f"e{number}" for number in range(_EACH)]
        done = others.together(
            [
                lambda prepare: prepare(jobs.fire_each, session.uid, triggers, True)
                for _ in range(_PROCESSES)
            ]
        )
        statuses = Counter(status for each in done for status, _ in each)
        assert statuses == {"recorded": _EACH, "duplicate": _EACH * (_PROCESSES - 1)}
        assert sorted(session.fired()) == sorted(triggers)
        assert sorted(session.statuses()) == sorted(f"t_{n}#0" for n in range(_EACH))

    def test_of_processes_with_one_message_one_claims(
        self, session: SessionDriver, others: Others
    ) -> None:
        session.configure(t_x={"andEvery": "go"})
        names = [f"t_x#{number}" for number in range(_EACH)]
        for _ in names:
            session.fire("go")
        generation = session.header.generation
        done = others.together(
            [
                lambda prepare: prepare(jobs.claim_each, session.uid, generation, names)
                for _ in range(_PROCESSES)
            ]
        )
        assert Counter(name for won in done for name in won) == Counter(names)

    def test_of_processes_that_want_a_lease_one_has_it(self, store: Store, others: Others) -> None:
        names = [f"sweep {number}" for number in range(_EACH)]
        done = others.together(
            [
                lambda prepare, n=n: prepare(jobs.lease_each, f"worker {n}", names)  # type: ignore[misc]
                for n in range(_PROCESSES)
            ]
        )
        assert Counter(name for won in done for name in won) == Counter(names)
        holder = f"worker {0 if names[0] in done[0] else 1}"
        assert not store.acquire_lease(names[0], "this process", 30)
        others.ask(jobs.release, "somebody", names[0])
        assert not store.acquire_lease(names[0], "this process", 30)
        others.ask(jobs.release, holder, names[0])
        assert store.acquire_lease(names[0], "this process", 30)
        assert others.ask(jobs.lease_each, "worker", names[:1]) == []

    def test_what_a_process_commits_the_others_see(
        self, store: Store, session: SessionDriver, others: Others
    ) -> None:
        session.configure(t_x={"after": ["a", "b"]})
        session.fire("a")
        assert others.ask(jobs.fired, session.uid) == ["a"]
        [(status, scheduled)] = others.ask(jobs.fire_each, session.uid, ["b"])
        assert (status, scheduled) == ("recorded", ["t_x#0"])
        assert session.fired() == ["a", "b"]
        assert session.status("t_x#0") == "scheduled"
        session.configure(t_y={"andEvery": "c"})
        [(_, scheduled)] = others.ask(jobs.fire_each, session.uid, ["c"])
        assert scheduled == ["t_y#0"], "it knows the new configuration"
        others.ask(jobs.fire_each, "order:2", ["a"])
        assert [each.uid for each in store.sessions()] == [session.uid, "order:2"]

    def test_a_session_that_another_process_began_anew_is_another(
        self, session: SessionDriver, others: Others
    ) -> None:
        session.configure(t_x={"after": ["go"]})
        session.fire("go")
        generation = session.header.generation
        others.ask(jobs.begin_anew, session.uid, "t_y")
        assert session.statuses() == {"t_y#0": "scheduled"}
        assert session.header.generation != generation
        with pytest.raises(StaleMessage):
            session.claim("t_y#0", generation=generation)
        assert session.fire("go").number == 1

    @pytest.mark.parametrize("after", [1, 2, 5])
    def test_of_a_process_that_is_killed_each_commit_is_whole_or_absent(
        self, session: SessionDriver, others: Others, after: int
    ) -> None:
        session.configure(t_x={"andEvery": "go"})
        victim = others.processes[0]
        victim.prepare(others.opener, others.clock, jobs.fire_until_killed, session.uid)
        victim.go()
        for number in range(after):
            assert victim.hear() == number
        victim.kill()
        check_store(session.store)
        stored = [each.id for each in session.events()]
        assert stored[:after] == [f"e{number}" for number in range(after)], "it was acknowledged"
        assert stored == [f"e{number}" for number in range(len(stored))]
        assert len(session.statuses()) == len(stored)
        assert session.fire("go").number == len(stored), "nobody waits for the dead"
        assert others.ask(jobs.fire_each, session.uid, ["go"]) == [
            ("recorded", [f"t_x#{len(stored) + 1}"])
        ]
