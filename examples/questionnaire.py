"""A questionnaire: import the subject and its pages once everything needed has arrived.

Two web processes share one SQLite file. Requests reach them out of order, and one of them is killed
with SIGKILL in the middle of a task, then started again. Run it:

    python examples/questionnaire.py

The first half of this file is what an application writes; the second half plays its users. Its
tests are in test_questionnaire.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

from triggers_core import TaskContext, TriggerTask, configure, get_trigger_manager
from triggers_core.application import default_application

# -- the application ------------------------------------------------------------------------------

CONFIGURATION = {
    "t_importSubject": {
        "after": ["firstPageReceived", "questionnaireCompleted"],
        "run": "questionnaire.ImportSubject",
    },
    "t_importPage": {
        "after": ["t_importSubject"],
        "andEvery": "pageReceived",
        "run": "questionnaire.ImportPage",
    },
    "t_fetchBrowserMetadata": {
        "after": ["questionnaireCompleted"],
        "unless": ["embeddedAppDetected"],
        "run": "questionnaire.FetchBrowserMetadata",
    },
}


class ImportSubject(TriggerTask):
    name = "questionnaire.ImportSubject"

    def _run(self, context: TaskContext) -> dict[str, str]:
        answers = context.trigger_kwargs["firstPageReceived"]["answers"]
        write_to_crm(context, answers["name"])
        if os.environ.get("SLOW_CRM"):
            print("in the middle of ImportSubject", flush=True)
            time.sleep(60)
        return {"subject": answers["name"]}


class ImportPage(TriggerTask):
    name = "questionnaire.ImportPage"

    def _run(self, context: TaskContext) -> None:
        subject = context.trigger_kwargs["t_importSubject"]["subject"]
        page = context.trigger_kwargs["pageReceived"]["page"]
        write_to_crm(context, f"{subject}, page {page}")


class FetchBrowserMetadata(TriggerTask):
    name = "questionnaire.FetchBrowserMetadata"

    def _run(self, context: TaskContext) -> dict[str, str]:
        return {"browser": "Firefox"}


def write_to_crm(context: TaskContext, what: str) -> None:
    """Some system outside: it recognises a repeated request by its idempotency key."""
    with Path(os.environ["CRM"]).open("a") as crm:
        crm.write(json.dumps({"key": context.idempotency_key, "what": what}) + "\n")


def set_up(folder: str) -> None:
    # A minute each by default; short here, for you wait to see a killed worker replaced.
    configure(
        TRIGGER_STORAGE_OPTIONS={"path": f"{folder}/triggers.db"},
        TRIGGER_TIMING={"lease": 4.0, "heartbeat": 0.5, "redispatch_after": 1.5, "sweep": 0.3},
    )


def serve(folder: str) -> None:
    """One web process: each line on its standard input is a request."""
    set_up(folder)
    default_application.start()  # what a crash left behind is picked up from here on
    for line in sys.stdin:
        uid, trigger, kwargs, event_id = json.loads(line)
        manager = get_trigger_manager(uid)
        if trigger == "(configure)":
            manager.update_configuration(CONFIGURATION)
        else:
            manager.fire(trigger, kwargs, event_id=event_id)
        print("done", flush=True)


# -- its users, and what they see -----------------------------------------------------------------

ANN, BOB = "applicant:42", "applicant:43"
REQUESTS = [  # (web process, session, trigger, kwargs); completion overtakes everything for Ann
    (1, ANN, "pageReceived", {"page": 2}),
    (2, BOB, "firstPageReceived", {"answers": {"name": "Bob"}}),
    (1, ANN, "(configure)", {}),
    (2, BOB, "(configure)", {}),
    (2, BOB, "embeddedAppDetected", {"app": "PartnerApp"}),
    (1, ANN, "firstPageReceived", {"answers": {"name": "Ann"}}),
    (1, BOB, "pageReceived", {"page": 2}),
    (2, ANN, "questionnaireCompleted", {}),  # completes t_importSubject: web 2 is killed inside it
    (1, ANN, "pageReceived", {"page": 3}),
    (1, BOB, "questionnaireCompleted", {}),
    (2, ANN, "pageReceived", {"page": 4}),
]


class Web:
    """A web process, seen from its users."""

    def __init__(self, number: int, folder: str, **environment: str) -> None:
        self.name = f"web {number}"
        self.process = subprocess.Popen(
            [sys.executable, __file__, "serve", folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )

    def request(self, *request: object, wait_for: str) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        while wait_for not in (line := self.process.stdout.readline()):
            if not line:
                sys.exit(f"{self.name} ended unexpectedly")

    def stop(self) -> None:
        self.process.communicate()


EXPECTED = {  # what has to have run at the end
    *(f"{ANN} {task}" for task in ("t_importSubject#0", "t_fetchBrowserMetadata#0")),
    *(f"{ANN} t_importPage#{number}" for number in range(3)),
    *(f"{BOB} {task}" for task in ("t_importSubject#0", "t_importPage#0")),
}


def play(folder: str) -> tuple[list[tuple[float, str]], set[str]]:
    """Send the requests, kill and restart a process; returns what was seen from outside."""
    crm = f"{folder}/crm.jsonl"
    webs = {1: Web(1, folder, CRM=crm), 2: Web(2, folder, CRM=crm, SLOW_CRM="yes")}
    notes: list[tuple[float, str]] = []
    sent = set()
    for index, (number, uid, trigger, kwargs) in enumerate(REQUESTS):
        fatal = (uid, trigger) == (ANN, "questionnaireCompleted")
        answer = "in the middle" if fatal else "done"
        webs[number].request(uid, trigger, kwargs, f"request:{index}", wait_for=answer)
        if trigger != "(configure)":
            sent.add(f"request:{index}")
        if fatal:
            webs[2].process.send_signal(signal.SIGKILL)
            webs[2].process.communicate()
            notes.append((time.time(), "web 2 is killed with SIGKILL inside t_importSubject"))
            webs[2] = Web(2, folder, CRM=crm)
            notes.append((time.time(), "web 2 is started again"))
    storages = [get_trigger_manager(uid).storage for uid in (ANN, BOB)]
    give_up = time.time() + 120
    while any(s.header.total("scheduled", "running") for s in storages):  # type: ignore[union-attr]
        if time.time() > give_up:
            sys.exit("the work did not end in two minutes")
        time.sleep(0.05)
    for web in webs.values():
        web.stop()
    return notes, sent


def timeline(notes: list[tuple[float, str]]) -> None:
    """Print what happened, in order."""
    lines = [(at, 0, "!", "", text) for at, text in notes]
    for uid in (ANN, BOB):
        storage = get_trigger_manager(uid).storage
        for event in storage.events:
            if event.cause:
                text = f"{event.cause} finished"
                for instance in storage.instances.values():
                    if instance.name == event.cause and instance.attempt > 1:
                        text += f" (attempt {instance.attempt}, by another process)"
            else:
                text = f"{event.trigger} arrived"
            lines.append((event.at, 1, "✓" if event.cause else "→", uid, text))
        lines += (
            (instance.ended_at, 2, "-", uid, f"{instance.name} was abandoned")
            for instance in storage.instances.values()
            if instance.status == "abandoned"
        )
    lines.sort()
    colours = {"!": "31;1", "✓": "32", "→": "36", "-": "33"}
    for at, _, mark, uid, text in lines:
        if sys.stdout.isatty():
            mark = f"\x1b[{colours[mark]}m{mark}\x1b[0m"
        print(f"  {at - lines[0][0]:6.2f} s  {mark} {uid:13} {text}")


def check(folder: str, sent: set[str]) -> bool:
    """Nothing lost, nothing committed twice."""
    recorded: list[str] = []
    cascades: Counter[str] = Counter()
    runs: set[str] = set()
    for uid in (ANN, BOB):
        storage = get_trigger_manager(uid).storage
        recorded += (event.id for event in storage.events if not event.cause)
        cascades.update(f"{uid} {event.cause}" for event in storage.events if event.cause)
        runs |= {f"{uid} {name}" for name, i in storage.instances.items() if i.status == "finished"}
    crm = [json.loads(line)["key"] for line in Path(f"{folder}/crm.jsonl").read_text().splitlines()]
    lost = len(sent - set(recorded)) + len(EXPECTED - runs)
    double = len(recorded) - len(set(recorded)) + sum(n - 1 for n in cascades.values())
    extra = len(crm) - len(set(crm))
    print(
        f"\n{len(recorded)} events, {len(runs)} instances run: {lost} lost, {double} double commits"
    )
    print(
        f"The killed body ran again ({extra} extra execution): its idempotency key was the same, so"
        " the CRM knew."
    )
    return not lost and not double and extra == 1 and runs == EXPECTED


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        print(f"{datetime.now():%H:%M:%S}  Two web processes, one SQLite file, one kill -9.\n")
        set_up(folder)
        configure(TRIGGER_RUNNER_OPTIONS={"sweep": False})  # this process only looks on
        notes, sent = play(folder)
        timeline(notes)
        why = get_trigger_manager(BOB).explain("t_fetchBrowserMetadata")
        print(f"\nWhy was Bob's browser metadata not fetched?\n\n{why}")
        sys.exit(None if check(folder, sent) else "the check failed")


if __name__ == "__main__":
    serve(sys.argv[2]) if sys.argv[1:2] == ["serve"] else main()
