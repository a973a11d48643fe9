"""Guards around the engine: managers, workers, heartbeats, the sweep."""

from __future__ import annotations

from mutations.guard import Edit, Guard

_CORE = "src/triggers_core"
_SQLITE = "tests/test_storage_contract.py::TestSqlite::test_"


def _guard(name: str, promise: str, file: str, old: str, new: str, *tests: str) -> Guard:
    return Guard(name, promise, (Edit(f"{_CORE}/{file}", old, new),), tests)


RUNNING: tuple[Guard, ...] = (
    _guard(
        "dispatch after the commit",
        "no message is sent about what is not stored yet",
        "manager.py",
        "            plan = storage.store.commit(storage.uid, command, self.app.rules)\n",
        "            from triggers_core.storages.driving import drive\n"
        "            from functools import partial as p\n"
        "            load = p(storage.store.load, storage.uid)\n"
        "            early = drive(command, storage.uid, self.app.rules, load)\n"
        "            if early.header is not None:\n"
        "                self.dispatch(early.header.generation, early.scheduled, early.tasks)\n"
        "            plan = storage.store.commit(storage.uid, command, self.app.rules)\n",
        "tests/test_crash_points.py::test_nothing_is_lost_or_committed_twice[memory-every_message]",
    ),
    _guard(
        "dispatch",
        "what a commit has scheduled is handed to a runner",
        "manager.py",
        "self.dispatch(plan.header.generation, plan.scheduled, plan.tasks)",
        "pass",
        "tests/test_manager.py::test_the_last_missing_trigger_runs_the_task",
    ),
    _guard(
        "hooks and dispatch after a transaction of the application",
        "a transaction that is rolled back leaves no message and no hook that was called",
        "manager.py",
        "store.when_committed(partial(self._call_in_thread, call) if store.awaits else call)",
        "call()",
        f"{_SQLITE}after_a_roll_back_nobody_is_told",
    ),
    _guard(
        "what a recovery dispatches, after a transaction of the application",
        "a sweep within a transaction that is rolled back sends nothing",
        "running/sweep.py",
        "manager.storage.store.when_committed(partial(_after_recovery, manager.outside, plan))",
        "_after_recovery(manager.outside, plan)",
        f"{_SQLITE}recovery_is_dispatched_after_the_end",
    ),
    _guard(
        "messages that a sweep repeats",
        "a message that is lost is sent again",
        "running/sweep.py",
        "manager.dispatch(recovered.generation, recovered.again, plan.tasks)",
        "pass",
        f"{_SQLITE}recovery_is_dispatched_after_the_end",
    ),
    _guard(
        "a stubborn session",
        "a session that cannot be changed keeps no other from being looked after",
        "running/sweep.py",
        "                    if self.stubborn.note(uid):\n",
        "                    raise\n                    if self.stubborn.note(uid):\n",
        "tests/test_sweep.py::test_stubborn_sessions_are_named_once_and_hide_nothing",
    ),
    _guard(
        "times of a wrong clock",
        "an instance whose time a wrong clock wrote is looked after",
        "running/sweep.py",
        "    _look_ahead(turn, memory, timing or Timing())\n",
        "",
        "tests/test_sweep.py::TestAClockThatWasAhead",
    ),
    _guard(
        "stale messages",
        "a message that is out of date runs no body",
        "running/worker.py",
        "    claimed = claim(manager, message)\n    if claimed is None:\n        return None\n",
        "    claimed = claim(manager, message)\n    if claimed is None:\n"
        "        from triggers_core.engine.protocol import Query\n"
        "        task = message.instance.rpartition('#')[0]\n"
        "        seen = manager.storage.store.load(\n"
        "            manager.uid, Query(instances=(message.instance,), payloads=True)\n"
        "        )\n"
        "        claimed = Claimed(\n"
        "            instance=seen.instances[message.instance],\n"
        "            task=seen.configuration.tasks[task],\n"
        "            generation=message.generation,\n"
        "            events=seen.numbered,\n"
        "        )\n",
        "tests/test_leases.py::test_a_message_that_comes_twice_runs_one_body",
    ),
    _guard(
        "an outcome for an attempt that was lost",
        "a worker whose attempt is another's stores nothing",
        "running/worker.py",
        "            except (LeaseLost, NotFound) as error:\n                self.lost.set()\n",
        "            except (LeaseLost, NotFound) as error:\n"
        "                outcome.token = self.manager.storage[self.name].record.token\n"
        "                return self.manager.commit(outcome).outcome\n",
        "tests/test_leases.py::test_a_worker_that_lost_its_attempt_is_told_and_stores_nothing",
    ),
    _guard(
        "heartbeats while a body runs",
        "a body that runs for longer than a lease keeps its attempt",
        "running/worker.py",
        "    with heartbeats.holding(lease):\n",
        "    if True:\n",
        "tests/test_leases.py::test_the_lease_of_a_body_that_runs_is_renewed",
    ),
    _guard(
        "lease_lost",
        "a body is told that its attempt is another's",
        "running/heartbeats.py",
        "            self.lost.set()\n            logger.warning(",
        "            logger.warning(",
        "tests/test_leases.py::test_a_worker_that_lost_its_attempt_is_told_and_stores_nothing",
    ),
    _guard(
        "a heartbeat that fails",
        "one lease that cannot be renewed keeps no other from its renewal",
        "running/heartbeats.py",
        "                self._outages.failed(*_failing(lease, whole=is_outage(error)), error)\n",
        "                raise\n",
        "tests/test_sweep.py::test_a_heartbeat_that_fails_does_not_keep_the_others_from_theirs",
    ),
    _guard(
        "an outcome during an outage",
        "a body that has finished is not thrown away because its store was away for a moment",
        "running/worker.py",
        "                if left <= 0:\n",
        "                if left <= lease:\n",
        "tests/test_worker.py::test_an_outage_does_not_throw_a_finished_body_away",
    ),
    _guard(
        "one outcome of body and time limit",
        "a time limit that passes as the body ends leaves the outcome to the body",
        "running/worker.py",
        'return self._owner.setdefault("outcome", who) == who',
        "return True",
        "tests/test_worker.py::"
        "test_a_limit_that_passes_as_the_body_ends_leaves_the_outcome_to_the_body",
    ),
    _guard(
        "a task that is unknown here",
        "a worker that does not know a task leaves it to newer ones",
        "running/worker.py",
        "if isinstance(problem, TaskNotFound) and self.passes_on:",
        "if isinstance(problem, TaskNotFound) and not self.passes_on:",
        "tests/test_worker.py::test_a_task_that_is_unknown_here_is_left_to_others",
    ),
)
