"""The oracle of the language of conditions, beside the repository: what it says of scenarios."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from words.outcome import Outcome, plain
from words.scenarios import Scenario

from triggers_core.engine.configuration import parse_configuration
from triggers_core.exceptions import TriggersError

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
PATH = DATA / "reference2.py"
MISSING = "the oracle is not beside the repository (../shared/data/reference2.py)"


def module_of(source: str, name: str = "reference2") -> ModuleType:
    """The oracle, or one that was changed on purpose."""
    module = ModuleType(name)
    module.__file__ = str(PATH)
    exec(compile(source, str(PATH), "exec"), vars(module))
    return module


@cache
def oracle() -> ModuleType:
    return module_of(PATH.read_text("utf-8"))


def oracle_or_skip() -> ModuleType:
    """The oracle; skips the test that asks for it when it is not there."""
    if not PATH.exists():
        pytest.skip(MISSING)
    return oracle()


class Reference:
    """Plays scenarios on the oracle.

    :param module: the oracle; another one for a changed copy of it.
    """

    def __init__(self, module: ModuleType | None = None) -> None:
        self.module = module or oracle()

    def refuses(self, name: str, task: Mapping[str, Any]) -> bool:
        """Whether a configuration refuses the task."""
        try:
            self.module.Task(name, task, 0, {name})
        except ValueError:
            return True
        return False

    def play(self, scenario: Scenario) -> Any:
        """The oracle's session, after the last step."""
        gets = self.module.gets
        got: dict[str, Any] = {}
        as_it_left: dict[str, str] = {}

        class Session(self.module.Session):  # type: ignore[misc, name-defined]
            """Notes what an instance has when it leaves `unstarted`: its task may be replaced."""

            def leave(self, instance: Any, *how: Any) -> None:
                super().leave(instance, *how)
                as_it_left[instance.name] = plain(gets(instance))

        def body(instance: Any) -> Any:
            first = instance
            while first.parent:
                first = first.parent
            got[instance.name] = as_it_left[first.name]
            return scenario.body(instance.task.name, instance.number)

        session = Session(None, body, sweeps=scenario.sweeps)
        session.got = got
        for step in scenario.timed():
            self._step(session, *step)
        return session

    def _step(self, session: Any, what: str, at: float, *more: Any) -> None:
        if what == "fire":
            session.fire(more[0], more[1], at)
        elif what == "configure":
            session.configure(_as_it_has_them(session, more[0]), at, more[1])
        elif what == "advance":
            session.advance(at) if session.sweeps else self._look(session, at)
        else:
            if session.sweeps:
                session.advance(at)
            failed = sorted(
                (i.task.name, i.number, i.name) for i in session.instances if i.status == "failed"
            )
            if failed:
                getattr(session, what)(failed[more[0] % len(failed)][2], at, *more[1:])

    @staticmethod
    def _look(session: Any, at: float) -> None:
        """Somebody looks once, at this time: the bodies run then, whenever their moments were."""
        if session.dues and any(
            due[-1].due is due and due[0] <= round(at * 1e6) for due in session.dues
        ):
            session.begin(at)
        session.settle()

    def outcome(self, scenario: Scenario) -> Outcome:
        """What came of it."""
        session = self.play(scenario)
        result = session.result()
        return Outcome(
            instances={
                each["name"]: {
                    "status": each["status"],
                    "why": each["why"],
                    "created": each["created"],
                    "taken": {key: each["taken"][key] for key in sorted(each["taken"])},
                    "moment": each["at"],
                    "by": None if session.find(each["name"]).parent else each["by"],
                    "gets": session.got.get(each["name"]),
                }
                for each in sorted(result["instances"], key=lambda i: _place(i["name"]))
            },
            events=[
                {
                    "trigger": each["trigger"],
                    "at": each["at"],
                    "source": each["source"],
                    "kwargs": plain(each["kwargs"]),
                }
                for each in result["events"]
            ],
        )


def _place(name: str) -> tuple[str, int]:
    task, _, number = name.rpartition("#")
    return task, int(number)


def available() -> bool:
    return PATH.exists()


def _as_it_has_them(session: Any, tasks: Mapping[str, Any]) -> dict[str, Any]:
    """Tasks, each as the session has it if it only writes it otherwise: 20 for ``20 seconds``.

    The reference compares what is written; to the engine, such a task is not replaced.
    """
    return {
        name: session.tasks[name].c
        if name in (session.tasks or {}) and _same(name, session.tasks[name].c, task)
        else task
        for name, task in tasks.items()
    }


def _same(name: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if one == other:
        return True
    try:
        first, second = (parse_configuration({name: {"run": "x", **t}}) for t in (one, other))
    except TriggersError:  # only the session's other tasks, or its refusal, can tell
        return False
    return not second.changed_since(first)
