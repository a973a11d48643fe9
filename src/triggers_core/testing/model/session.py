"""The rules of a session as plain dicts and lists: what every storage is compared with.

Nothing is indexed, counted ahead or cached: every answer is recomputed from the full lists of
events and instances, so that this reads as the specification of the fire rule, of configurations
and of replays. What workers do is in `triggers_core.testing.model.attempts`. Neither shares code
with the engine.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import wraps
from typing import Any

Dict = dict[str, Any]  # an event, an instance, a task as it is configured, kwargs
WARNING, ERROR = 30, 40  # levels of logs
REDISPATCH = 60.0  # seconds until an instance that nobody claimed is dispatched again


class Refused(Exception):
    """The rules refuse a change; the argument is the name of the error."""


def change(method: Callable[..., Any]) -> Callable[..., Any]:
    """All or nothing: a refused change leaves no trace, and one that changed something is timed."""

    @wraps(method)
    def changing(self: Session, *args: Any, **kwargs: Any) -> Any:
        before, self.ready = pickle.loads(pickle.dumps(self.__dict__)), []
        try:
            answer = method(self, *args, **kwargs)
        except Refused:
            self.__dict__ = before
            raise
        if {**before, "ready": self.ready} != self.__dict__:
            self.updated_at = self.now
            since = self.now if self.waiting_since is None else self.waiting_since
            self.waiting_since = since if self.waits() else None
        return answer

    return changing


class Session:
    """A session, and every change that an application or an operator makes to it."""

    def __init__(self, generation: str, now: float, most: int, deepest: int) -> None:
        self.generation: str = generation
        self.now: float = now
        self.updated_at: float = now
        self.most: int = most
        """Instances of a task."""
        self.deepest: int = deepest
        """Cascades in a row."""
        self.open: bool = True
        self.version: int = 0
        """Counts configurations; 0: none yet."""
        self.waiting_since: float | None = None
        self.tasks: dict[str, Dict] = {}
        self.events: list[Dict] = []
        self.instances: list[Dict] = []
        self.ready: list[str] = []  # instances that the latest change scheduled, in order
        self.bound: float | None = None
        """No hold ends before this moment; None: there is none."""

    # -- the fire rule ------------------------------------------------------------------------

    def record(self, trigger: str, kwargs: Dict, id: str = "", by: Dict | None = None) -> int:
        number, chain = len(self.events), by["chain"] + 1 if by else 0
        if chain > self.deepest:
            raise Refused("CascadeTooDeep")
        event = {"number": number, "trigger": trigger, "kwargs": kwargs, "chain": chain}
        event |= {"id": id or f"~{number}", "at": self.now, "cause": by["name"] if by else ""}
        self.events.append(event)
        self.apply(event)
        return number

    def apply(self, event: Dict) -> None:
        trigger, number = event["trigger"], event["number"]
        for name, task in self.tasks.items():
            if trigger not in required(task) | unless(task):
                continue
            instances = [i for i in self.instances if i["task"] == name]
            unstarted = [i for i in instances if i["status"] == "unstarted"]
            took = [i for i in unstarted if take(task, i, trigger, number)]  # or noted
            if not instances or (trigger == task["andEvery"] and not took):
                unstarted.append(new := self.create(name))
                for other, last in self.latest(before=number).items():
                    if other != trigger:
                        take(task, new, other, last)
                take(task, new, trigger, number)
            for instance in unstarted:
                self.settle(task, instance, number, event["chain"])

    def settle(self, task: Dict, instance: Dict, number: int, chain: int) -> None:
        if unless(task) and unless(task) <= instance["noted"].keys():
            instance |= {"by": number, "chain": chain, **status("abandoned")}
        elif not instance["parent"] and required(task) <= instance["taken"].keys():
            instance |= {"by": number, "chain": chain}
            self.schedule(instance)

    def create(self, task: str) -> Dict:
        number = len([i for i in self.instances if i["task"] == task])
        if number >= self.most:
            raise Refused("LimitExceeded")
        name = f"{task}#{number}"
        new = {"name": name, "task": task, **status("unstarted"), "taken": {}, "noted": {}}
        new |= {"by": -1, "chain": 0, "key": f"{self.generation}/{name}", "kwargs": None}
        new |= {"parent": "", "depth": 0, "retries": 0, "attempt": 0, "token": "", "configured": 0}
        new |= {"redispatches": 0, "result": -1, "request": "", "replayed_as": "", "notes": []}
        self.instances.append(new | {"log_level": 0, "logs_resolved": False})
        return self.instances[-1]

    def schedule(self, instance: Dict) -> None:
        instance |= status("scheduled", due=self.now + REDISPATCH)
        instance |= {"attempt": instance["attempt"] + 1, "token": "", "redispatches": 0}
        self.ready.append(instance["name"])

    def hold(self, instance: Dict, over: float) -> None:
        instance |= status("unstarted", due=over, hold=over)
        self.bound = over if self.bound is None else min(self.bound, over)

    def work_off(self) -> list[str]:
        """What every change does first: the holds that are over have ended, each at its moment."""
        if self.bound is None or self.bound > self.now:
            return []
        order = list(self.tasks)
        held = [i for i in self.instances if i["hold"] is not None]
        over = [i for i in held if i["hold"] <= self.now]
        over.sort(key=lambda i: (i["hold"], order.index(i["task"]), self.instances.index(i)))
        for instance in over:
            self.schedule(instance)
        self.bound = min((i["hold"] for i in held if i["hold"] is not None), default=None)
        return [instance["name"] for instance in over]

    # -- what an application or an operator does ----------------------------------------------

    @change
    def fire(self, trigger: str, kwargs: Dict, id: str, once: bool, force: bool) -> str:
        if self.repeats(id, trigger, kwargs):
            return "duplicate"
        if not self.open:
            raise Refused("SessionClosed")
        if once and trigger in self.latest():
            return "already fired"
        if trigger in self.tasks and not force:
            raise Refused("TaskNameFired")
        self.work_off()
        self.record(trigger, kwargs, id)
        return "recorded"

    @change
    def configure(self, tasks: dict[str, Dict]) -> None:
        before, first, bound = self.tasks, self.version == 0, self.bound
        after = {**before, **tasks}
        due = self.work_off() if after else []
        if list(after.items()) == list(before.items()) and not first:
            self.bound = self.bound if due else bound  # nothing is written for it alone
            return
        self.tasks = after
        self.version += 1
        for event in self.events if first else []:  # they have overtaken the set-up
            self.apply(event)
        # A task that is replaced looks at its unstarted instances again, with what they have seen.
        for name in [name for name in before if before[name] != self.tasks[name]]:
            for i in self.instances:
                if i["task"] == name and i["status"] == "unstarted":
                    move(before[name], self.tasks[name], i)
                    seen = max([*i["taken"].values(), *i["noted"].values()], default=-1)
                    self.settle(self.tasks[name], i, seen, i["chain"])

    @change
    def replay(self, name: str, kwargs: Dict | None, request: str) -> str:
        failed = self.instance(name)
        if failed["status"] == "replayed" and failed["request"] == request:
            return str(failed["replayed_as"])
        self.require(failed, "failed")
        self.work_off()
        failed["request"] = request
        self.schedule(clone := self.clone(failed, kwargs))
        return str(clone["name"])

    def clone(self, failed: Dict, kwargs: Dict | None) -> Dict:
        clone = self.create(failed["task"])
        clone |= {"taken": {**failed["taken"]}, "noted": {**failed["noted"]}}
        clone |= {"by": failed["by"], "chain": failed["chain"]}
        clone |= {"parent": failed["name"], "depth": failed["depth"] + 1, "kwargs": kwargs}
        if kwargs is None:  # the same work again, under the same key
            clone |= {"kwargs": failed["kwargs"], "key": failed["key"]}
        failed |= {"replayed_as": clone["name"], **status("replayed")}
        failed["logs_resolved"] = failed["log_level"] >= WARNING  # it is dealt with
        return clone

    @change
    def skip(self, name: str, cascade: bool, result: Dict, request: str) -> None:
        failed = self.instance(name)
        if failed["status"] == "skipped" and failed["request"] == request:
            return
        self.require(failed, "failed")
        self.work_off()
        failed |= {"request": request, **status("skipped")}
        failed["logs_resolved"] = failed["log_level"] >= WARNING
        if cascade:
            failed["result"] = self.record(failed["task"], result, by=failed)

    @change
    def fail_by_hand(self, name: str) -> None:
        self.require(self.instance(name), "scheduled", "running")
        self.work_off()
        self.instance(name).update({"token": "", **status("failed")})

    @change
    def note(self, name: str, metadata: Dict) -> None:
        self.instance(name)["notes"].append(metadata)

    @change
    def resolve_logs(self, name: str) -> None:
        if self.instance(name)["log_level"] >= WARNING and not self.instance(name)["logs_resolved"]:
            self.work_off()
            self.instance(name)["logs_resolved"] = True

    @change
    def close(self) -> None:
        self.open = False

    # -- what a session shows -----------------------------------------------------------------

    def instance(self, name: str) -> Dict:
        for instance in self.instances:
            if instance["name"] == name:
                return instance
        raise Refused("InstanceNotFound")

    def require(self, instance: Dict, *statuses: str) -> None:
        if instance["status"] not in statuses:
            raise Refused("WrongState")

    def repeats(self, id: str, trigger: str, kwargs: Dict) -> bool:
        known = [e for e in self.events if id and e["id"] == id]
        if known and (known[0]["trigger"], known[0]["kwargs"]) != (trigger, kwargs):
            raise Refused("EventIdConflict")
        return bool(known)

    def latest(self, before: int | None = None) -> dict[str, int]:
        return {event["trigger"]: event["number"] for event in self.events[:before]}

    def waiting_for(self, trigger: str) -> set[str]:
        unstarted = [i for i in self.instances if i["status"] == "unstarted"]
        return {
            i["name"] for i in unstarted if trigger in missing_triggers(self.tasks[i["task"]], i)
        }

    def unresolved_tasks(self) -> list[str]:
        done = {"finished", "skipped", "replayed", "abandoned"}
        statuses = {t: [i["status"] for i in self.instances if i["task"] == t] for t in self.tasks}
        return [task for task, found in statuses.items() if not found or set(found) - done]

    def waits(self) -> bool:
        """Something is unresolved, and nothing is under way that could resolve it."""
        under_way = [i for i in self.instances if i["status"] in ("scheduled", "running")]
        unresolved = self.unresolved_tasks() or self.version == 0
        return self.open and not under_way and bool(unresolved)


def required(task: Dict) -> set[str]:
    """The triggers that must have fired."""
    return {*task["after"], *([task["andEvery"]] if task["andEvery"] else [])}


def unless(task: Dict) -> set[str]:
    """The triggers that call an instance off once all of them have fired."""
    return set(task["unless"])


def missing_triggers(task: Dict, instance: Dict) -> set[str]:
    """The triggers of which an instance would still take an event."""
    wanted, against = required(task), unless(task)
    if instance["parent"]:  # it keeps its parent's events
        return against - wanted - set(instance["noted"])
    return wanted - set(instance["taken"]) | against - set(instance["noted"])


def take(task: Dict, instance: Dict, trigger: str, number: int) -> bool:
    """Take or note an event, unless the instance has seen the trigger; whether it did."""
    wanted = trigger in missing_triggers(task, instance)
    for triggers, seen in ((required(task), "taken"), (unless(task), "noted")):
        if wanted and trigger in triggers:
            instance[seen].setdefault(trigger, number)
    return wanted


def move(before: Dict, after: Dict, instance: Dict) -> None:
    """What an unstarted instance keeps when its task is replaced: the events of equal leaves."""
    known = required(before) | unless(before)
    kept = {t: n for t, n in {**instance["noted"], **instance["taken"]}.items() if t in known}
    if not instance["parent"]:
        instance["taken"] = {t: n for t, n in kept.items() if t in required(after)}
    instance["noted"] = {t: n for t, n in kept.items() if t in unless(after)}


def status(name: str, due: Any = None, lease: Any = None, hold: Any = None) -> Dict:
    """A status, and the times (seconds) that belong to it."""
    return {"status": name, "due": due, "lease": lease, "hold": hold}
