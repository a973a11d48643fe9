"""The history of a run: every commit in its order, every answer that somebody got, and the laws.

The laws are stated over the commits alone and share nothing with the engine: whatever interleaving
led to them, one order of commits has to explain every fire, claim and finish that was acknowledged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from triggers_core.engine.attempts import Claim, Fail, Finish, Heartbeat, PassOn, SkipRunning
from triggers_core.engine.commands import Configure, FailByHand, Fire, Replay, Skip
from triggers_core.engine.protocol import Change, Command, Plan
from triggers_core.engine.records import Event, Instance, Source, Status, to_micros
from triggers_core.methods.operations import FireResult
from triggers_core.running.messages import Message

_U, _SCH, _RUN = Status.UNSTARTED, Status.SCHEDULED, Status.RUNNING
_FIN, _FAILED, _SKIP = Status.FINISHED, Status.FAILED, Status.SKIPPED
_REP, _ABA = Status.REPLAYED, Status.ABANDONED

_MOVES: Final = frozenset(
    [(None, to) for to in (_U, _SCH, _ABA)]
    + [(_U, to) for to in (_U, _SCH, _ABA)]
    + [(_SCH, to) for to in (_SCH, _RUN, _FAILED)]
    + [(_RUN, to) for to in (_RUN, _SCH, _FIN, _FAILED, _SKIP, _REP)]
    + [(_FAILED, to) for to in (_FAILED, _REP, _SKIP)]
    + [(done, done) for done in (_FIN, _SKIP, _REP, _ABA)]
)
"""What may become of an instance in one commit; the status before is None for a new one."""

_HELD: Final = (Finish, Fail, SkipRunning, PassOn, Heartbeat)
_DECIDES: Final = (Fire, Finish, Fail, SkipRunning, Replay, Skip, FailByHand)
"""What first works off what is due."""


class Known(NamedTuple):
    """What the last commit said of an instance."""

    status: Status
    attempt: int
    token: str


class Commit(NamedTuple):
    """One commit that wrote something."""

    uid: str
    who: str
    command: Command[Any]
    decided: float
    written: float


class SessionLedger:
    """One session, as its commits tell it."""

    def __init__(self, uid: str) -> None:
        self.uid = uid
        self.version = 0
        self.events: list[Event] = []
        self.by_id: dict[str, Event] = {}
        self.instances: dict[str, Known] = {}
        self.cascaded: set[str] = set()
        self.totals: list[int] = []

    @property
    def under_way(self) -> int:
        """Instances that are scheduled or running."""
        return self.totals[1] + self.totals[2] if self.totals else 0

    @property
    def failed(self) -> int:
        """Instances that failed, with which nobody has dealt."""
        return self.totals[4] if self.totals else 0


class Asked(msgspec.Struct):
    """A fire that a client asked for, and the answer."""

    uid: str
    trigger: str
    mark: int
    """What its payload says, to recognise it."""
    event_id: str | None
    once: bool = False
    answer: FireResult | None = None
    """None: it never heard whether it happened."""


class Ledger:
    """Commits, answers and what contradicts the laws."""

    amount: int

    def __init__(self, keep_commits: bool = False) -> None:
        self.sessions: dict[str, SessionLedger] = {}
        self.asked: list[Asked] = []
        self.commits: list[Commit] | None = [] if keep_commits else None
        self.amount = 0
        self.problems: list[str] = []

    def problem(self, what: str) -> None:
        """A law is broken."""
        self.problems.append(what)

    def session(self, uid: str) -> SessionLedger:
        """The history of a session."""
        known = self.sessions.get(uid)
        if known is None:
            known = self.sessions[uid] = SessionLedger(uid)
        return known

    # -- laws of one commit -----------------------------------------------------------------------

    def committed(
        self, who: str, uid: str, command: Command[Any], plan: Plan[Any], times: tuple[float, float]
    ) -> None:
        """Note a commit, in the order of commits, and hold it against all before it."""
        if plan.empty:
            return
        self.amount += 1
        if self.commits is not None:
            self.commits.append(Commit(uid, who, command, *times))
        session = self.session(uid)
        header = plan.header
        if header is not None:
            if header.version != session.version + 1:
                self.problem(
                    f"{uid}: {who} wrote version {header.version} over version {session.version}"
                )
            session.version, session.totals = header.version, header.totals
            moment = header.next_moment
            decides = isinstance(command, _DECIDES) and not plan.again
            if decides and moment is not None and moment <= times[0]:
                self.problem(
                    f"{uid}: {type(command).__name__} at {times[0]:.6f} left something that was"
                    f" due at {moment:.6f}"
                )
        if isinstance(command, _HELD):
            self._holds(session, who, command, plan)
        elif isinstance(command, Claim):
            self._claims(session, command)
        self._records(session, plan)
        for change in plan.changes:
            self._changes(session, command, change)
            self._falls_due(session, command, change, plan)

    def _holds(self, session: SessionLedger, who: str, command: Any, plan: Plan[Any]) -> None:
        """Only the holder of the attempt renews or ends it."""
        if plan.again:  # what was due came first
            return
        known = session.instances.get(command.instance)
        if known is None or known.status is not _RUN or known.token != command.token:
            self.problem(
                f"{session.uid}: {who} ended or renewed an attempt at {command.instance} that it"
                f" did not hold: {known}"
            )

    def _claims(self, session: SessionLedger, command: Claim) -> None:
        """A claim takes the attempt that its message is about, and nobody has it."""
        known = session.instances.get(command.instance)
        if known is None or known.status is not _SCH or known.attempt != command.attempt:
            self.problem(
                f"{session.uid}: attempt {command.attempt} of {command.instance} was claimed,"
                f" which is {known}"
            )

    def _records(self, session: SessionLedger, plan: Plan[Any]) -> None:
        """Events are appended, each once, in the order of their times."""
        changed = {each.instance.name for each in plan.changes} if plan.events else ()
        for event in plan.events:
            if event.number != len(session.events):
                self.problem(
                    f"{session.uid}: event {event.number} ({event.trigger}) is number"
                    f" {len(session.events)}"
                )
            if event.id in session.by_id:
                self.problem(f"{session.uid}: the event {event.id!r} was recorded twice")
            if session.events and event.at < session.events[-1].at:
                self.problem(f"{session.uid}: event {event.number} is before its predecessor")
            session.events.append(event)
            session.by_id[event.id] = event
            if event.source is Source.INSTANCE:
                if event.cause not in changed:
                    self.problem(
                        f"{session.uid}: {event.cause} fired {event.trigger!r} in a commit that is"
                        " not its own"
                    )
                if event.trigger == event.cause.rpartition("#")[0]:
                    if event.cause in session.cascaded:
                        self.problem(f"{session.uid}: {event.cause} cascaded twice")
                    session.cascaded.add(event.cause)

    def _changes(self, session: SessionLedger, command: Command[Any], change: Change) -> None:
        """An instance goes on from where the last commit left it, along its statuses."""
        instance = change.instance
        name, now = instance.name, instance.status
        known = session.instances.get(name)
        before = None if known is None else known.status
        if change.before is not before:
            self.problem(
                f"{session.uid}: {name} is {before}, {type(command).__name__} decided on it as"
                f" {change.before}"
            )
        elif (before, now) not in _MOVES:
            self.problem(f"{session.uid}: {name} went from {before} to {now}")
        attempt = 0 if known is None else known.attempt
        if now is _SCH and before is not _SCH and not isinstance(command, PassOn):
            attempt += 1
        if instance.attempt != attempt:
            self.problem(
                f"{session.uid}: {name} is at attempt {instance.attempt}, it should be {attempt}"
            )
        if now is _FIN and before is not _FIN and name not in session.cascaded:
            self.problem(f"{session.uid}: {name} finished without its cascade")
        session.instances[name] = Known(now, instance.attempt, instance.token)

    def _falls_due(
        self, session: SessionLedger, command: Command[Any], change: Change, plan: Plan[Any]
    ) -> None:
        """What falls due does so at its own moment, and no event comes in time after it."""
        instance, task = change.instance, plan.tasks.get(change.instance.task)
        if task is None or instance.status is change.before or isinstance(command, Configure):
            return
        rule = task.rule
        if rule.within is None or rule.within_of is not None or instance.began is None:
            return
        deadline = to_micros(instance.began + rule.within / 1_000_000)
        if instance.status is _ABA and instance.late:
            if instance.moment is not None and abs(instance.moment - deadline) > 2e-6:
                self.problem(
                    f"{session.uid}: {instance.name} was late at {instance.moment:.6f}, its"
                    f" deadline was {deadline:.6f}"
                )
        elif instance.status is _SCH and not instance.parent and change.before is _U:
            event = session.events[instance.scheduled_by]
            if rule.waiting is None and event.at >= deadline:
                self.problem(
                    f"{session.uid}: {instance.name} was scheduled by event {event.number} at"
                    f" {event.at:.6f}, its deadline was {deadline:.6f}"
                )

    # -- messages ---------------------------------------------------------------------------------

    def sent(self, message: Message) -> None:
        """A message is only sent once what it is about is committed."""
        known = self.session(message.uid).instances.get(message.instance)
        if known is None or known.attempt < message.attempt:
            self.problem(f"{message.uid}: a message was sent before its commit: {message}")

    # -- laws of the whole ------------------------------------------------------------------------

    def check_answers(self) -> None:
        """Every fire that was acknowledged is recorded, once, and nothing that nobody asked for."""
        marks: dict[tuple[str, int], list[Event]] = {}
        for session in self.sessions.values():
            for event in session.events:
                if event.source is Source.APPLICATION:
                    marks.setdefault((session.uid, _mark(event)), []).append(event)
        for asked in self.asked:
            found = marks.pop((asked.uid, asked.mark), [])
            what = f"{asked.uid}: the fire {asked.mark} of {asked.trigger!r}"
            if len(found) > 1:
                self.problem(f"{what} is recorded {len(found)} times")
            if any(each.trigger != asked.trigger for each in found):
                self.problem(f"{what} is recorded as {found[0].trigger!r}")
            self._check_answer(what, asked, found)
        for (uid, mark), events in marks.items():
            self.problem(f"{uid}: nobody asked for the fire {mark}: {events[0].trigger!r}")

    def _check_answer(self, what: str, asked: Asked, found: list[Event]) -> None:
        answer = asked.answer
        if answer is None:
            return
        session = self.session(asked.uid)
        if answer.status == "already fired":
            earlier = [each for each in session.events if each.trigger == asked.trigger]
            if found or not earlier:
                self.problem(f"{what}: 'already fired', events: {earlier}")
        elif not found:
            self.problem(f"{what} was acknowledged ({answer.status}) and is lost")
        elif found[0].number != answer.number or found[0].id != answer.event_id:
            self.problem(f"{what} is event {found[0].number}, the answer was {answer}")
        if asked.once:
            same = [each for each in session.events if each.trigger == asked.trigger]
            if found and found[0].number != same[0].number:
                self.problem(f"{what}: once, and recorded after event {same[0].number}")

    def check_once(self, triggers: frozenset[str]) -> None:
        """Some triggers are recorded once in a session, at most."""
        for session in self.sessions.values():
            for trigger in sorted(triggers):
                amount = sum(each.trigger == trigger for each in session.events)
                if amount > 1:
                    self.problem(f"{session.uid}: {trigger!r} is recorded {amount} times")

    def check_stored(self, uid: str, events: list[Event], instances: list[Instance]) -> None:
        """The store holds what the commits have written."""
        session = self.session(uid)
        if events != session.events:
            self.problem(f"{uid}: the events in the store are not those that were committed")
        stored = {each.name: Known(each.status, each.attempt, each.token) for each in instances}
        if stored != session.instances:
            odd = {
                name: (stored.get(name), session.instances.get(name))
                for name in stored.keys() | session.instances.keys()
                if stored.get(name) != session.instances.get(name)
            }
            self.problem(f"{uid}: stored and committed differ: {odd}")


def _mark(event: Event) -> int:
    payload: Mapping[str, Any] = msgspec.json.decode(bytes(event.payload))
    return int(payload.get("mark", -1))
