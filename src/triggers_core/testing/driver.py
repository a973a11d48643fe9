"""A session of a store, driven command by command, the way managers, workers and sweeps do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from triggers_core import payloads
from triggers_core.engine.attempts import (
    AttemptResult,
    BodyFire,
    Claim,
    Claimed,
    Fail,
    Finish,
    Heartbeat,
    Retry,
    SkipRunning,
)
from triggers_core.engine.commands import (
    Configure,
    Configured,
    FailByHand,
    Fire,
    FireOutcome,
    OperatorResult,
    Replay,
    Skip,
)
from triggers_core.engine.configuration import Configuration, parse_configuration
from triggers_core.engine.metadata import read_metadata
from triggers_core.engine.names import new_id, split_instance_name
from triggers_core.engine.protocol import Command, Plan, Query, Rules
from triggers_core.engine.records import Event, Header, Instance, Status
from triggers_core.engine.recovery import Recover, Recovered
from triggers_core.engine.taken_events import recorded_kwargs
from triggers_core.exceptions import InstanceNotFound
from triggers_core.storages.base import Store, taken_events

T = TypeVar("T")

Kwargs = Mapping[str, Any]


class Done(Generic[T]):
    """The outcome of a command, attribute by attribute, and what its plan says beside it."""

    def __init__(self, plan: Plan[T]) -> None:
        self.plan: Plan[T] = plan
        self.outcome: T = plan.outcome
        self.events: list[Event] = plan.events
        self.scheduled: list[str] = [instance.name for instance in plan.scheduled]
        """The names of the instances that are to be dispatched."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.outcome, name)


class SessionDriver:
    """One session, for tests: short names for what the commands do, and no threads.

    Example::

        order = SessionDriver(store, "order:1")
        order.configure(t_ship={"after": ["paid", "packed"]})
        order.fire("paid")
        assert order.fire("packed").scheduled == ["t_ship#0"]
        order.finish(order.claim("t_ship#0"), {"parcel": 7})
    """

    def __init__(self, store: Store, uid: str = "order:1", rules: Rules | None = None) -> None:
        self.store: Store = store
        self.uid: str = uid
        self.rules: Rules = rules or Rules()

    def commit(self, command: Command[T]) -> T:
        """Commit a command; returns its outcome."""
        return self.store.commit(self.uid, command, self.rules).outcome

    def carry_out(self, command: Command[T]) -> Done[T]:
        """Commit a command; returns its outcome, and what the plan says beside it."""
        return Done(self.store.commit(self.uid, command, self.rules))

    # -- what an application does -----------------------------------------------------------------

    def parse(self, tasks: Mapping[str, Mapping[str, Any]]) -> Configuration:
        """A configuration; `run` is filled in where it is missing."""
        full = {name: {"run": "tests.Body", **task} for name, task in tasks.items()}
        return parse_configuration(full)

    def configure(
        self,
        tasks: Mapping[str, Mapping[str, Any]] | None = None,
        /,
        *,
        requires: tuple[str, ...] = (),
        **more: Mapping[str, Any],
    ) -> Configured:
        """Update the configuration: tasks as a mapping, or as keywords."""
        configuration = self.parse({**(tasks or {}), **more})
        configured = self.commit(Configure(configuration=configuration, requires=requires))
        return configured

    def fire(
        self,
        trigger: str,
        kwargs: Kwargs | None = None,
        event_id: str | None = None,
        once: bool = False,
        force: bool = False,
    ) -> Done[FireOutcome]:
        """Fire a trigger."""
        recorded = self.carry_out(
            Fire(
                trigger=trigger,
                payload=payloads.encode(kwargs, self.rules.limits),
                event_id=new_id() if event_id is None else event_id,
                given_id=event_id is not None,
                once=once,
                force=force,
            )
        )
        return recorded

    # -- what a worker does -----------------------------------------------------------------------

    def claim(
        self, name: str, attempt: int | None = None, generation: str | None = None
    ) -> Claimed:
        """Claim an instance; by default with a message that is up to date."""
        claimed = self.commit(
            Claim(
                instance=name,
                attempt=self.instance(name).attempt if attempt is None else attempt,
                generation=self.header.generation if generation is None else generation,
            )
        )
        return claimed

    def heartbeat(self, claimed: Claimed) -> None:
        """Renew a lease."""
        self.commit(Heartbeat(instance=claimed.instance.name, token=claimed.instance.token))

    def finish(
        self,
        claimed: Claimed,
        result: Kwargs | None = None,
        fires: Sequence[BodyFire] = (),
        log_level: int = 0,
    ) -> Done[AttemptResult]:
        """End an attempt with success."""
        ended = self.carry_out(
            Finish(
                instance=claimed.instance.name,
                token=claimed.instance.token,
                result=payloads.encode(result, self.rules.limits),
                fires=list(fires),
                log_level=log_level,
            )
        )
        return ended

    def fail(
        self,
        claimed: Claimed,
        metadata: Kwargs | None = None,
        retry: Retry | None = None,
        log_level: int = 0,
    ) -> Done[AttemptResult]:
        """End an attempt with a failure."""
        ended = self.carry_out(
            Fail(
                instance=claimed.instance.name,
                token=claimed.instance.token,
                metadata=dict(metadata or {}),
                retry=retry,
                log_level=log_level,
            )
        )
        return ended

    def skip_running(self, claimed: Claimed, metadata: Kwargs | None = None) -> Done[AttemptResult]:
        """End an attempt as skipped."""
        ended = self.carry_out(
            SkipRunning(
                instance=claimed.instance.name,
                token=claimed.instance.token,
                metadata=dict(metadata or {}),
            )
        )
        return ended

    def run(self, name: str, result: Kwargs | None = None) -> Done[AttemptResult]:
        """Claim an instance and finish it."""
        return self.finish(self.claim(name), result)

    def run_all(self) -> list[str]:
        """Finish everything that is scheduled, cascades included; returns the names, in order."""
        done: list[str] = []
        while ready := self.store.instances(self.uid, statuses=[Status.SCHEDULED]):
            done.append(ready[0].name)
            self.run(ready[0].name)
        return done

    def fail_now(self, name: str, metadata: Kwargs | None = None) -> Done[AttemptResult]:
        """Claim an instance and fail it."""
        return self.fail(self.claim(name), metadata)

    # -- what operators and sweeps do -------------------------------------------------------------

    def replay(
        self, name: str, kwargs: Kwargs | None = None, request: str | None = None
    ) -> Done[OperatorResult]:
        """Replay a failed instance by hand."""
        payload = None if kwargs is None else payloads.encode(kwargs, self.rules.limits)
        moved = self.carry_out(Replay(instance=name, payload=payload, request=request or new_id()))
        return moved

    def skip(
        self,
        name: str,
        cascade: bool = False,
        result: Kwargs | None = None,
        request: str | None = None,
    ) -> Done[OperatorResult]:
        """Skip a failed instance by hand."""
        moved = self.carry_out(
            Skip(
                instance=name,
                cascade=cascade,
                result=payloads.encode(result, self.rules.limits),
                request=request or new_id(),
            )
        )
        return moved

    def fail_by_hand(self, name: str, reason: str = "stuck") -> Done[OperatorResult]:
        """Fail an instance that is stuck."""
        moved = self.carry_out(FailByHand(instance=name, reason=reason))
        return moved

    def recover(self, *names: str) -> Recovered:
        """Look after overdue instances; all that the store lists as due when no names are given."""
        due = names or tuple(each.instance for each in self.store.due() if each.uid == self.uid)
        recovered = self.commit(Recover(instances=due))
        return recovered

    # -- what there is ----------------------------------------------------------------------------

    @property
    def header(self) -> Header:
        """The session's header; there must be one."""
        header = self.store.load(self.uid, Query()).header
        assert header is not None, f"there is no session {self.uid!r}"
        return header

    @property
    def exists(self) -> bool:
        """Whether the store has a session of this uid."""
        return self.store.load(self.uid, Query()).header is not None

    def instance(self, name: str) -> Instance:
        """An instance as it is stored."""
        found = self.store.load(self.uid, Query(instances=(name,))).instances
        if name not in found:
            task, _ = split_instance_name(name)
            raise InstanceNotFound(f"{self.uid}: there is no instance {name} of {task}")
        return found[name]

    def status(self, name: str) -> Status:
        """An instance's status."""
        return self.instance(name).status

    def statuses(self) -> dict[str, str]:
        """Instance → status, of all."""
        return {each.name: each.status.value for each in self.store.instances(self.uid)}

    def kwargs(self, name: str) -> dict[str, Any]:
        """Key → kwargs that an instance has recorded."""
        instance = self.instance(name)
        return recorded_kwargs(instance, taken_events(self.store, self.uid, instance))

    def metadata(self, name: str) -> dict[str, Any]:
        """An instance's metadata."""
        return read_metadata(self.instance(name))

    def events(self) -> list[Event]:
        """All events, in order."""
        return self.store.events(self.uid)

    def fired(self) -> list[str]:
        """The triggers of all events, in order."""
        return [event.trigger for event in self.events()]

    def image(self) -> tuple[Any, ...]:
        """Everything that the store holds of the session: to see that nothing has changed."""
        snapshot = self.store.load(self.uid, Query())
        return snapshot.header, self.store.instances(self.uid), self.events()


BeforeCommit = Callable[[Any, Any], None]


def rules_with(plugin: str, hook: BeforeCommit, **more: Any) -> Rules:
    """Rules with one `before_commit` hook, of a plugin that the process has."""
    return Rules(before_commit=((plugin, hook),), plugins=frozenset({plugin}), **more)
