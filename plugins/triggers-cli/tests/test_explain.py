"""``explain``: its text, as a person reads it, and the same as data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_golden import compare
from cli_process import Cli

from triggers_core.application import Application
from triggers_core.engine.attempts import Claim, Fail, Finish, Retry
from triggers_core.engine.commands import Configure, FailByHand, Fire, Replay, Skip
from triggers_core.limits import Limits
from triggers_core.payloads import encode
from triggers_core.settings import Settings
from triggers_core.storages.sqlite import SqliteStore

DAY = 86_400.0
FLOW: dict[str, Any] = {
    "t_ship": {"after": ["paid", "packed"], "unless": ["cancelled"], "run": "shop.Ship"},
    "t_mail": {"after": ["t_ship"], "run": "shop.Mail"},
    "t_count": {"andEvery": "scanned", "run": "shop.Count"},
    "t_remind": {"after": ["paid", "T02 Check receipt"], "run": "shop.Remind"},
    "t_thank": {"after": ["t_mail"], "run": "shop.Thank"},
    "t_ask": {
        "after": ["paid", "reviewed"],
        "unless": ["refused", "moved away"],
        "run": "shop.Ask",
    },
}


class Past:
    """A session that is written at chosen moments, without any worker."""

    def __init__(self, folder: Path, uid: str) -> None:
        import time

        self.uid = uid
        self.now = self.began = time.time() - 3.5 * DAY
        self.store = SqliteStore(folder / "triggers.db", clock=lambda: self.now)
        self.app = Application("test", Settings.isolated(TRIGGER_PLUGINS=[]))
        self.fired = 0

    def after(self, seconds: float) -> None:
        self.now += seconds

    def commit(self, command: Any) -> Any:
        return self.store.commit(self.uid, command, self.app.rules).outcome

    def configure(self, flow: Any) -> None:
        self.commit(Configure(configuration=self.app.parse(flow)))

    def fire(self, *triggers: str) -> None:
        for trigger in triggers:
            self.fired += 1
            self.commit(Fire(trigger=trigger, payload=b"{}", event_id=f"e{self.fired}"))
            self.after(60)

    def claim(self, instance: str, attempt: int = 1) -> None:
        header = self.store.sessions(limit=1)[0]
        claim = Claim(
            instance=instance, attempt=attempt, generation=header.generation, token="token"
        )
        self.commit(claim)
        self.after(60)

    def run(self, instance: str) -> None:
        self.claim(instance)
        self.commit(Finish(instance=instance, token="token"))
        self.after(60)

    def fail(self, instance: str, message: str, retry: Retry | None = None) -> None:
        self.claim(instance)
        error = {"type": "ValueError", "message": message}
        self.commit(Fail(instance=instance, token="token", metadata={"error": error}, retry=retry))
        self.after(60)


@pytest.fixture
def past(cli: Cli) -> Past:
    return Past(cli.folder, "order:42")


def explained(cli: Cli, past: Past, *arguments: str) -> str:
    past.store.close()
    result = cli("explain", past.uid, *arguments)
    assert result.err == ""
    return result.out


def test_waiting(cli: Cli, past: Past) -> None:
    past.configure(FLOW)
    past.fire("paid", "refused")
    compare("explain_waiting.txt", explained(cli, past))
    assert cli("explain", past.uid).code == 0


def test_under_way(cli: Cli, past: Past) -> None:
    past.configure(FLOW)
    past.fire("paid", "packed", "scanned", "scanned")
    past.claim("t_ship#0")
    past.run("t_count#1")
    compare("explain_under_way.txt", explained(cli, past))


def test_called_off(cli: Cli, past: Past) -> None:
    past.configure(FLOW)
    past.fire("cancelled", "packed", "paid", "refused", "moved away")
    compare("explain_called_off.txt", explained(cli, past))


def test_failed_replayed_and_skipped(cli: Cli, past: Past) -> None:
    past.configure(FLOW)
    past.fire("paid", "packed", "scanned", "scanned")
    past.run("t_ship#0")
    past.fail("t_mail#0", "no mail server at smtp://mailer:s3cret@mail\nsecond line")
    past.commit(Replay(instance="t_mail#0"))
    past.fail("t_mail#1", "the mailbox is full.")
    past.fail("t_count#0", "no such parcel")
    past.commit(Skip(instance="t_count#0"))
    past.commit(FailByHand(instance="t_count#1", reason="worker hangs"))
    compare("explain_failed.txt", explained(cli, past))
    assert cli("explain", past.uid, "t_mail").code == 1
    assert cli("explain", past.uid, "t_ship").code == 0


def test_held_for_a_retry(cli: Cli, past: Past) -> None:
    past.configure({"t_mail": {"after": ["paid"], "run": "shop.Mail"}})
    past.fire("paid")
    past.now += 3.5 * DAY - 9_000  # two and a half hours ago
    past.fail("t_mail#0", "the mailbox is full", Retry(cooldown=30.5 * DAY))
    compare("explain_held.txt", explained(cli, past))


def test_more_instances_than_anybody_reads(cli: Cli, past: Past) -> None:
    past.configure({"t_count": {"andEvery": "scanned", "after": ["x"], "run": "shop.Count"}})
    past.fire(*["scanned"] * 30)
    compare("explain_many.txt", explained(cli, past, "t_count"))


def test_configured_too_late(cli: Cli, past: Past) -> None:
    past.fire("paid", "packed")
    past.configure({"t_other": {"after": ["x"], "run": "shop.Other"}})
    past.configure(FLOW)
    compare("explain_late.txt", explained(cli, past))


def test_without_a_configuration(cli: Cli, past: Past) -> None:
    past.fire("paid")
    compare("explain_unconfigured.txt", explained(cli, past))


def test_the_same_as_data(cli: Cli, past: Past) -> None:
    past.configure(FLOW)
    past.fire("paid")
    past.store.close()
    data = cli("explain", past.uid, "t_ship", "--json", code=0).json
    (task,) = data["tasks"]
    (instance,) = task["instances"]
    assert task["waits_for"] == instance["waits_for"] == ["packed"]
    assert instance["has"] == [
        {"trigger": "paid", "event": 0, "at": pytest.approx(past.began, abs=1)}
    ]


def test_what_there_is_not(cli: Cli, past: Past) -> None:
    past.configure(FLOW)
    past.fire("paid")
    past.store.close()
    missing = cli("explain", past.uid, "t_shipp", code=1)
    assert missing.err == (
        "Error: order:42: the session has no task 't_shipp': did you mean 't_ship'?\n"
    )
    instance = cli("explain", past.uid, "t_ship#0", code=1)
    assert "To look at an instance: triggers show order:42 't_ship#0'" in instance.err
    assert "To ask about its task: triggers explain order:42 't_ship'" in instance.err


def test_payloads_are_not_shown(cli: Cli, past: Past) -> None:
    past.configure(FLOW)
    payload = encode({"password": "hunter2"}, Limits())
    past.commit(Fire(trigger="paid", payload=payload, event_id="e"))
    assert "hunter2" not in explained(cli, past)


# -- the language of conditions --------------------------------------------------------------------

WORDS: dict[str, Any] = {
    "t_ship": {
        "after": [
            "placed",
            {"anyOf": [{"trigger": "paid", "where": {"status": "succeeded"}}, "invoiced"]},
            {"atLeast": "placed.items", "of": "packed"},
        ],
        "unless": ["cancelled"],
        "within": "14 days",
        "otherwise": {"late": "shipLate"},
        "run": "shop.Ship",
    },
    "t_remind": {"after": ["placed"], "waiting": "6 days", "run": "shop.Remind"},
    "t_save": {"after": ["edited", "saved"], "everyTime": True, "run": "shop.Save"},
    "t_refund": {"after": ["paid", "shipLate"], "run": "shop.Refund"},
}


def told_of(past: Past, trigger: str, kwargs: Any) -> None:
    past.fired += 1
    payload = encode(kwargs, Limits())
    past.commit(Fire(trigger=trigger, payload=payload, event_id=f"e{past.fired}"))
    past.after(60)


def test_words(cli: Cli, past: Past) -> None:
    past.configure(WORDS)
    told_of(past, "placed", {"items": 5, "password": "hunter2"})
    told_of(past, "paid", {"status": "failed", "password": "hunter2"})
    past.fire("packed", "packed", "packed", "edited")
    out = explained(cli, past)
    compare("explain_words.txt", out)
    assert "hunter2" not in out
    task = cli("explain", past.uid, "t_ship", "--json", code=0).json["tasks"][0]
    _, either, packed = task["instances"][0]["condition"]["of"]
    assert (packed["has"], packed["needs"]) == (3, 5)
    assert either["of"][0]["failed"]["found"] == "'failed'"


def test_show_tells_what_comes(cli: Cli, past: Past) -> None:
    past.configure(WORDS)
    past.fire("placed", "edited", "saved", "edited")
    past.store.close()
    shown = cli("show", past.uid, code=0).out
    assert "requires the plugins" not in shown, "the words of the language are no plugins"
    rows = [each.split() for each in shown.splitlines()]
    remarks = {row[0]: " ".join(row[2:]) for row in rows if row and row[0].endswith("#0")}
    assert remarks["t_remind#0"].endswith("(in 2 days)")
    assert remarks["t_remind#0"].startswith("scheduled ")
    assert remarks["t_ship#0"].startswith("late ")
    assert "  due: " in cli("show", past.uid, "t_ship#0", code=0).out
    data = cli("show", past.uid, "--json", code=0).json
    assert [(each["name"], each["then"]) for each in data["coming"]] == [
        ("t_remind#0", "scheduled"),
        ("t_ship#0", "late"),
    ]


def test_show_leaves_out_what_waits_for_the_next_time(cli: Cli, past: Past) -> None:
    past.configure({"t_save": WORDS["t_save"]})
    past.fire("edited", "saved")
    past.run("t_save#0")
    past.fire("edited")
    past.store.close()
    assert "t_save#1" not in cli("show", past.uid, code=0).out
    assert cli("show", past.uid, "--json").json["unresolved"] == []
    assert "t_save#1: waits for the next time: for saved" in cli("explain", past.uid).out


def test_triggers_of_conditions_are_known(cli: Cli, past: Past) -> None:
    past.configure(WORDS)
    past.store.close()
    assert "No task" not in cli("fire", past.uid, "invoiced", code=0).err
    told = cli("fire", past.uid, "invoicd", code=0)
    assert "No task of this session waits for 'invoicd': did you mean 'invoiced'?" in told.err


def test_what_a_task_fires_otherwise_is_no_slip(cli: Cli, past: Past) -> None:
    past.configure({"t_ship": WORDS["t_ship"]})
    past.store.close()
    assert "No task" not in cli("fire", past.uid, "shipLate", code=0).err
    assert cli("fire", past.uid, "shipLate", "--json", code=0).json["waited_for"] is False
    assert "shipLate fired" not in cli("explain", past.uid).out
