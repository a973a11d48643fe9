"""What workers and the sweep do to a session's instances: the second half of the model."""

from __future__ import annotations

from collections.abc import Collection

from triggers_core.testing.model.session import (
    ERROR,
    REDISPATCH,
    Dict,
    Refused,
    Session,
    change,
    status,
    unless,
)

LEASE, ATTEMPTS = 60.0, 5  # seconds without a heartbeat; attempts before an instance is given up
REDISPATCH_AT_MOST = 3600.0  # seconds


class WorkedSession(Session):
    """A session whose instances are claimed, finished, lost and recovered."""

    @change
    def claim(self, generation: str, name: str, attempt: int, token: str) -> Dict:
        if generation != self.generation:
            raise Refused("StaleMessage")
        instance = self.instance(name)
        now = (instance["status"], instance["attempt"], instance["token"])
        if now != ("running", attempt, token):  # else the same claim is asked for again
            if now[:2] != ("scheduled", attempt):
                raise Refused("StaleMessage")
            lease = self.now + LEASE
            instance |= {"token": token, "configured": self.version}
            instance |= status("running", due=lease, lease=lease)
        recorded = {t: self.events[n]["kwargs"] for t, n in instance["taken"].items()}
        kwargs = recorded if instance["kwargs"] is None else instance["kwargs"]
        return merged(self.tasks[instance["task"]]["withParams"], kwargs)

    def held(self, name: str, token: str) -> Dict:
        instance = self.instance(name)
        if instance["status"] != "running" or instance["token"] != token:
            raise Refused("LeaseLost")
        return instance

    def heartbeat(self, name: str, token: str) -> None:
        self.held(name, token).update(due=self.now + LEASE, lease=self.now + LEASE)

    def finish(self, name: str, token: str, result: Dict, fires: list[Dict], level: int) -> str:
        self.held(name, token)
        try:
            self.succeed(name, result, fires, level)
        except Refused:  # what the body made cannot be recorded: it has failed
            self.fail(name, token, max(level, ERROR), None)
        return str(self.instance(name)["status"])

    @change
    def succeed(self, name: str, result: Dict, fires: list[Dict], level: int) -> None:
        instance = self.instance(name)
        self.work_off()
        instance |= {"log_level": level, **status("finished")}
        for fire in fires:
            trigger, kwargs = fire["trigger"], fire["kwargs"]
            if trigger in self.tasks and not fire["force"]:
                raise Refused("TaskNameFired")
            if fire["once"] and trigger in self.latest():
                continue
            if not self.repeats(fire["id"], trigger, kwargs):
                self.record(trigger, kwargs, fire["id"], instance)
        instance["result"] = self.record(instance["task"], result, by=instance)

    def fail(self, name: str, token: str, level: int, retry: Dict | None) -> None:
        self.held(name, token)
        try:
            self.fail_attempt(name, level, retry)
        except Refused:  # no room for another instance
            self.fail_attempt(name, level, None)

    @change
    def fail_attempt(self, name: str, level: int, retry: Dict | None) -> None:
        failed = self.instance(name)
        self.work_off()
        failed |= {"log_level": level, **status("failed")}
        if retry is None:
            return
        clone, task, last = self.clone(failed, retry["kwargs"]), failed["task"], self.latest()
        stop = unless(self.tasks[task])  # it may have come true while the attempt was made
        clone["noted"] = {t: last[t] for t in stop & last.keys()} | clone["noted"]
        clone["retries"] = failed["retries"] + 1
        if stop and stop <= clone["noted"].keys():
            clone |= status("abandoned")
        elif retry["cooldown"]:
            self.hold(clone, self.now + retry["cooldown"])
        else:
            self.schedule(clone)

    @change
    def skip_running(self, name: str, token: str) -> None:
        instance = self.held(name, token)
        self.work_off()
        instance |= status("skipped")

    @change
    def recover(self, names: Collection[str]) -> list[str]:
        lost = []
        self.work_off()
        for i in [i for i in self.instances if i["name"] in names and overdue(i, self.now)]:
            if i["status"] == "scheduled":  # nobody claimed it: dispatch it again, less often
                i["redispatches"] += 1
                wait = min(REDISPATCH * 2 ** i["redispatches"], REDISPATCH_AT_MOST)
                i["due"] = self.now + wait
            elif i["status"] == "running" and i["attempt"] >= ATTEMPTS:
                i |= {"token": "", **status("failed")}
                lost.append(i["name"])
            else:  # its worker is gone
                self.schedule(i)
        return lost


def overdue(instance: Dict, now: float) -> bool:
    """Whether the sweep should look after an instance by now."""
    return instance["due"] is not None and instance["due"] <= now


def merged(under: Dict, over: Dict) -> Dict:
    """The values of `over` in `under`; dicts in both are merged in the same way."""
    both = {**under, **over}
    for key in under.keys() & over.keys():
        if isinstance(under[key], dict) and isinstance(over[key], dict):
            both[key] = merged(under[key], over[key])
    return both
