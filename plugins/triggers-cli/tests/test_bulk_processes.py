"""Thousands of failures replayed in bulk while two workers run: killed, interrupted, continued."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cli_process import Cli

from triggers_core.storages.sqlite import SqliteStore
from triggers_core.testing import SessionDriver, check_store

MANY = int(os.environ.get("TRIGGERS_MANY_FAILURES", "600"))
"""How many instances have failed; 10,000 take minutes."""
EACH = 10  # of them in one session
PATIENCE = 300  # seconds until a test that hangs fails

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills processes"),
]

TASKS = """
import os

from triggers_core import trigger_task


@trigger_task(name="mail.Send")
def send(context):
    with open("sent.txt", "a") as file:
        file.write(f"{context.manager.uid} {context.instance.name}\\n")
"""


@pytest.fixture
def mailing(cli: Cli) -> Cli:
    """Sessions whose mails have all failed, but for one of another error."""
    cli.write("mail.py", TASKS)
    cli.environment |= {
        "TRIGGER_IMPORTS": "mail",
        "TRIGGER_STORAGE_OPTIONS": json.dumps({"path": "mail.db", "synchronous": "NORMAL"}),
        "TRIGGER_TIMING": json.dumps({"sweep": 0.2}),
    }
    with SqliteStore(cli.folder / "mail.db", synchronous="NORMAL") as store:

        def fill() -> None:
            for number in range(MANY // EACH):
                session = SessionDriver(store, f"order:{number:05}")
                session.configure(t_mail={"andEvery": "go", "run": "mail.Send"})
                for each in range(EACH):
                    session.fire("go")
                    error = "SMTPError" if number or each else "OSError"
                    session.fail_now(f"t_mail#{each}", {"error": {"type": error}})

        store.together(fill)
    return cli


@pytest.fixture
def workers(mailing: Cli) -> Iterator[list[subprocess.Popen[str]]]:
    with ExitStack() as stack:
        found = []
        for _ in range(2):
            worker = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("bulk_worker.py"))],
                cwd=mailing.folder,
                env=mailing.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(worker)
            stack.callback(worker.kill)
            assert worker.stdout is not None
            assert worker.stdout.readline() == "works\n"
            found.append(worker)
        yield found


def begin(cli: Cli) -> subprocess.Popen[str]:
    return subprocess.Popen(
        cli.command("replay", "--task", "t_mail", "--error", "SMTPError", "--yes"),
        cwd=cli.folder,
        env=cli.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(true: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(PATIENCE * 50):
        if true():
            return
        pause.wait(0.02)
    raise AssertionError("it did not come to that")


def left(store: SqliteStore) -> int:
    """How many have failed still."""
    return sum(each.instances for each in store.failed_groups())


def test_each_is_replayed_once(mailing: Cli, workers: list[subprocess.Popen[str]]) -> None:
    with SqliteStore(mailing.folder / "mail.db") as store:
        assert left(store) == MANY
        with begin(mailing) as first:
            until(lambda: left(store) <= MANY * 9 // 10)  # early: it must not be through before
            first.send_signal(signal.SIGKILL)
        killed_at = left(store)
        assert first.returncode == -signal.SIGKILL
        assert 1 < killed_at <= MANY * 9 // 10
        with begin(mailing) as second:
            until(lambda: left(store) <= killed_at * 9 // 10)
            second.send_signal(signal.SIGINT)
            told, said = second.communicate(timeout=PATIENCE)
        assert second.returncode == 130
        interrupted_at = left(store)
        done = killed_at - interrupted_at
        # It may have been interrupted when one was stored, and not counted yet.
        assert any(
            f"Interrupted: {each:,} instances replayed. The same command goes on" in said
            and told == f"replayed: {each:,} instances\n"
            for each in (done, done - 1)
        ), said
        with begin(mailing) as third:
            told, said = third.communicate(timeout=PATIENCE)
        assert (third.returncode, said) == (0, "The workers run them.\n")
        assert told == f"replayed: {interrupted_at - 1:,} instances\n"
        assert left(store) == 1, "the one of another error"
        until(lambda: not any(each.under_way for each in store.sessions()))
        for worker in workers:
            worker.communicate("")
        for session in store.sessions():
            found = Counter(each.status.value for each in store.instances(session.uid))
            failed = int(session.uid == "order:00000")
            assert found == Counter(replayed=EACH - failed, finished=EACH - failed, failed=failed)
        check_store(store)
    sent = Counter((mailing.folder / "sent.txt").read_text().splitlines())
    print(f"{MANY:,} failed; killed at {killed_at:,} left, interrupted at {interrupted_at:,} left;")
    print(f"{len(sent):,} mails sent, {sum(sent.values()) - len(sent)} of them twice")
    assert len(sent) == MANY - 1
