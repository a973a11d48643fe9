"""What bodies do in a test: their own work, what the test says, or nothing.

A `run` name that no code defines gets a stand-in, whose body returns ``{}``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from triggers_core.exceptions import TaskNotFound
from triggers_core.tasks import TriggerTask, registry
from triggers_core.tasks.context import TaskContext
from triggers_core.testing.faults.store import Crash

Behaviour = Callable[[TaskContext], Any]
"""What a body does in place of its own work: returns a result, or raises."""
Find = Callable[[str, str | None], type[TriggerTask]]


class _Script:
    """What the next runs of one task do, and what all others do."""

    def __init__(self) -> None:
        self.next: deque[Behaviour] = deque()
        self.others: Behaviour | None = None

    def take(self) -> Behaviour | None:
        return self.next.popleft() if self.next else self.others


class StandIns:
    """Finds the body of each task, and lets a test say what it does.

    :param find: finds the real one; raises `TaskNotFound`.
    :param unknown: whether a name that it does not find gets a stand-in.
    """

    unknown: bool

    def __init__(self, find: Find, unknown: bool = True) -> None:
        self._find, self.unknown = find, unknown
        self._scripts: dict[tuple[str, str], _Script] = {}
        self._made: dict[str, tuple[type[TriggerTask] | None, type[TriggerTask]]] = {}
        self.without_code: set[str] = set()
        """The `run` names that got a stand-in."""

    def say(self, uid: str, task: str, behaviour: Behaviour, times: int | None) -> None:
        """Let the next runs of a task, or with None all others, do something else."""
        script = self._scripts.setdefault((uid, task), _Script())
        if times is None:
            script.others = behaviour
        else:
            script.next.extend([behaviour] * times)

    def forget(self) -> None:
        """Nothing was said of any task."""
        self._scripts.clear()

    def resolve(self, run: str, using: str | None = None) -> type[TriggerTask]:
        """The task for a `run` name: as `Application.resolve_task`."""
        real: type[TriggerTask] | None = None
        try:
            real = self._find(run, using)
        except TaskNotFound:
            if not self.unknown:
                raise
            self.without_code.add(run)
        if real is not None and not self._scripts:
            return real
        made = self._made.get(run)
        if made is None or made[0] is not real:
            made = self._made[run] = (real, self._make(run, real))
        return made[1]

    def _make(self, run: str, real: type[TriggerTask] | None) -> type[TriggerTask]:
        scripts = self._scripts
        base: Any = real or TriggerTask

        def body(self: TriggerTask, context: TaskContext) -> Any:
            script = scripts.get((context.manager.uid, context.task.name))
            behaviour = None if script is None else script.take()
            if behaviour is not None:
                return behaviour(context)
            return {} if real is None else real._run(self, context)

        members = {
            "name": run,
            "_run": body,
            "__module__": base.__module__ if real else __name__,
            "__qualname__": f"{base.__qualname__}.<locals>.{base.__name__}",  # no clash of names
            "__doc__": base.__doc__,
        }
        with _undeclared(run):
            made: type[TriggerTask] = type(base)(base.__name__, (base,), members)
        return made


@contextmanager
def _undeclared(run: str) -> Iterator[None]:
    """The definition of a task announces its name; what is defined within is nobody else's."""
    real = registry.declared.get(run)
    try:
        yield
    finally:
        registry.declared.pop(run, None)
        if real is not None:
            registry.declared[run] = real


def returning(result: Mapping[str, Any] | Behaviour | None) -> Behaviour:
    """Return a result; or what a function makes of the context."""
    if callable(result):
        return result
    return lambda context: {} if result is None else dict(result)


def failing(error: BaseException | type[BaseException] | str) -> Behaviour:
    """Raise an error; a text stands for a `RuntimeError`."""
    raised = RuntimeError(error) if isinstance(error, str) else error

    def fail(context: TaskContext) -> Any:
        raise raised

    return fail


def skipping(metadata: Mapping[str, Any] | None) -> Behaviour:
    """Skip itself."""

    def skip(context: TaskContext) -> Any:
        raise context.skip(metadata)

    return skip


def retrying(exc: BaseException | type[BaseException] | None, cooldown: float | None) -> Behaviour:
    """Ask for a retry."""

    def retry(context: TaskContext) -> Any:
        raise context.retry(exc, cooldown=cooldown)

    return retry


def dying(context: TaskContext) -> Any:
    """Die with its worker, in the middle of the body."""
    raise Crash(f"the worker of {context.instance.name} dies, as the test wants it to")
