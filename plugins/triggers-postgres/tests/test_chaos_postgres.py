"""Processes and threads in one session, while the server ends their connections at random."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from triggers_core.testing import SessionDriver, check_store
from triggers_core.testing.invariants import check_session
from triggers_postgres import PostgresStore

Make = Callable[..., PostgresStore]

PROCESS = """
import json, random, sys, threading, time, traceback
from triggers_core.exceptions import TriggersError
from triggers_core.testing import SessionDriver
from triggers_postgres import PostgresStore
url, schema, name, each = sys.argv[1:]
told = {"fired": [], "took": [], "problems": []}
store = PostgresStore(url, schema, kwargs={"application_name": "chaos"})

def work(number):
    mine = random.Random(f"{name}/{number}")
    session, own = SessionDriver(store), SessionDriver(store, f"own:{name}:{number}")
    began = time.perf_counter()
    try:
        for step in range(int(each)):
            event = f"{name}/{number}/{step}"
            assert session.fire("go", {"by": event}, event_id=event).status == "recorded"
            told["fired"].append(event)
            what = mine.choice(["noise", "configure", "run", "replay", "delete"])
            if what == "noise":
                session.fire("noise")
            elif what == "configure":
                session.configure(t_more={"after": ["go", f"more {step}"]})
            elif what == "delete":
                own.fire("go")
                assert own.store.delete(own.uid), "it was there"
            else:
                scheduled = [i for i in store.instances(session.uid) if i.status == "scheduled"]
                if scheduled:
                    try:
                        claimed = session.claim(mine.choice(scheduled).name)
                    except TriggersError:
                        continue  # another one has it
                    if what == "run":
                        session.finish(claimed)
                    else:
                        session.fail(claimed)
                        session.replay(claimed.instance.name)
    except BaseException:
        told["problems"].append(traceback.format_exc())
    told["took"].append(time.perf_counter() - began)

print("ready", flush=True)
sys.stdin.readline()
threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
store.close()
print(json.dumps(told))
"""


@pytest.mark.parametrize("each", [12, pytest.param(100, marks=pytest.mark.slow)])
def test_two_processes_of_four_threads(
    make_postgres_store: Make,
    connection: psycopg.Connection[Any],
    postgres_url: str,
    each: int,
) -> None:
    store = make_postgres_store()
    session = SessionDriver(store)
    session.configure(t_each={"andEvery": "go"}, t_next={"andEvery": "t_each"})
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, postgres_url, store.schema, str(number), str(each)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    ended, chance = 0, random.Random(1)
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        while any(worker.poll() is None for worker in workers):
            pids = connection.execute(
                "SELECT pid, pg_sleep(0.02) FROM pg_stat_activity WHERE application_name = 'chaos'"
            ).fetchall()
            if pids and ended < 4 * each:
                connection.execute("SELECT pg_terminate_backend(%s)", (chance.choice(pids)[0],))
                ended += 1
        told = [json.loads(worker.communicate()[0]) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    problems = [problem for each_told in told for problem in each_told["problems"]]
    assert not problems, problems[0]
    recorded = [event.id for event in session.events() if event.trigger == "go"]
    assert sorted(recorded) == sorted(event for each_told in told for event in each_told["fired"])
    assert len(recorded) == 8 * each
    assert session.header.created("t_each") >= len(recorded)
    check_session(store, session.uid)
    check_store(store)
    took = [seconds for each_told in told for seconds in each_told["took"]]
    print(
        f"\n2 processes of 4 threads, {ended} backends ended: 0 lost, 0 doubled;"
        f" fairness {min(took) / max(took):.2f}"
    )
