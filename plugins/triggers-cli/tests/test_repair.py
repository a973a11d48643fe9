"""Commands that change what there is: replay, skip, fail, recover, close, delete, prune."""

from __future__ import annotations

from cli_process import Cli, feed, statuses

# -- repair ----------------------------------------------------------------------------------------


def test_replay_leaves_the_work_to_the_workers(failed: Cli) -> None:
    told = failed("replay", "order:13", "t_mail#0", code=0)
    assert told.out == ("replayed: t_mail#0 runs again as t_mail#1\n  t_mail#1  scheduled\n")
    assert "A running worker of the application takes this within 5 s" in told.err
    assert statuses(failed, "order:13")["t_mail#1"] == "scheduled"


def test_replay_with_other_kwargs_and_wait(failed: Cli) -> None:
    kwargs = ("--kwargs", '{"t_ship": {"parcel": 14}}')
    told = failed("replay", "order:13", "--all", *kwargs, "--wait", "--json", code=0).json
    assert told["replayed"] == {"t_mail#0": "t_mail#1"}
    assert told["instances"] == [
        {"name": "t_mail#1", "status": "finished", "result": {"mailed": True}, "error": None}
    ]
    assert "There is no failed instance" in failed("replay", "order:13", "--all", code=0).out


def test_replay_that_fails_again_is_1(failed: Cli) -> None:
    told = failed("replay", "order:13", "t_mail#0", "--wait", code=1)
    assert "t_mail#1  failed  ValueError: no mail server at smtp://mailer:***@mail" in told.out


def test_only_failed_instances_are_replayed(failed: Cli) -> None:
    told = failed("replay", "order:13", "t_ship#0", "t_mail#0", code=1)
    assert "t_ship#0 is finished: only a failed instance can be replayed" in told.err
    assert "replayed: t_mail#0 runs again as t_mail#1" in told.out, "the others are not kept back"
    assert "no instance t_mail#9" in failed("replay", "order:13", "t_mail#9", code=1).err
    assert "name instances" in failed("replay", "order:13", code=2).err
    assert "name instances" in failed("replay", "order:13", "t_mail#0", "--all", code=2).err


def test_skip_asks(failed: Cli) -> None:
    asked = failed("skip", "order:13", "t_mail#0", stdin="n\n", code=1)
    assert "Skip t_mail#0 of session order:13, for good? Continue? [y/N]" in asked.err
    assert asked.out == ""
    assert statuses(failed, "order:13")["t_mail#0"] == "failed"
    assert failed("skip", "order:13", "t_mail#0", stdin="y\n", code=0).out == "skipped: t_mail#0\n"
    assert statuses(failed, "order:13")["t_mail#0"] == "skipped"


def test_without_anybody_to_ask_nothing_happens(failed: Cli) -> None:
    for arguments in (
        ("skip", "order:13", "--all"),
        ("close", "order:13"),
        ("delete", "order:13"),
        ("prune", "--older-than", "0s", "--unresolved"),
    ):
        refused = failed(*arguments, code=2)
        assert "pass --yes" in refused.err
    assert statuses(failed, "order:13")["t_mail#0"] == "failed"


def test_skip_with_a_cascade(orders: Cli) -> None:
    orders.write(
        "flow.json",
        {
            "t_mail": {"after": ["paid"], "run": "shop.Ship"},
            "t_done": {"after": ["t_mail"], "run": "shop.Mail"},
        },
    )
    orders("configure", "o", "flow.json", code=0)
    orders("fire", "o", "paid", "--wait", code=1)
    skip = ("skip", "o", "t_mail#0", "--yes")
    assert "--result is the kwargs of the cascade" in orders(*skip, "--result", "{}", code=2).err
    told = orders(*skip, "--cascade", "--result", '{"parcel": 1}', "--json", code=0).json
    assert told["skipped"] == ["t_mail#0"]
    assert [(each["name"], each["status"]) for each in told["instances"]] == [
        ("t_done#0", "scheduled")
    ]
    (cascade,) = orders("events", "o", "--trigger", "t_mail", "--json").json
    assert cascade["kwargs"] == {"parcel": 1}


def test_fail_by_hand(orders: Cli) -> None:
    feed(orders, "order:1", 1)
    told = orders("fail", "order:1", "t_ship#0", "--reason", "worker hangs", "--yes", code=0)
    assert told.out == "failed: t_ship#0; triggers replay, or triggers skip\n"
    error = orders("show", "order:1", "t_ship#0", "--json", code=1).json["metadata"]["error"]
    assert error == {"type": "FailedByHand", "message": "worker hangs"}
    again = orders("fail", "order:1", "t_ship#0", "--yes", code=1)
    assert "t_ship#0 is failed: only a scheduled or running instance" in again.err


def test_recover(orders: Cli) -> None:
    feed(orders, "order:1", 1)
    feed(orders, "order:2", 2)
    told = orders("recover", "--json", code=0).json
    assert [(each["uid"], each["again"]) for each in told] == [
        ("order:1", ["t_ship#0"]),
        ("order:2", ["t_ship#0"]),
    ]
    assert statuses(orders, "order:1") == {"t_ship#0": "scheduled"}
    done = orders("recover", "--wait", code=0).out
    assert done.count("finished") == 4
    assert orders("recover", code=0).out == "Nothing is overdue.\n"
    assert orders("recover", "order:1", code=0).out == "Nothing is overdue.\n"


# -- the end ---------------------------------------------------------------------------------------


def test_close(orders: Cli) -> None:
    orders("fire", "o", "paid", code=0)
    assert orders("close", "o", "--yes", code=0).out == "closed: session o\n"
    refused = orders("fire", "o", "packed", code=1)
    assert "the session is closed and accepts no more events" in refused.err
    assert orders("show", "o", code=0).out.startswith("Session o: closed\n")


def test_delete(orders: Cli) -> None:
    orders("fire", "o", "paid", code=0)
    asked = orders("delete", "o", stdin="y\n", code=0)
    assert "Erase session o and its 1 event?" in asked.err
    assert orders("sessions", "--all", code=0).out.startswith("There are no sessions in ")


def test_prune(orders: Cli) -> None:
    feed(orders, "order:1", 1, "--wait")
    orders("fire", "order:2", "paid", code=0)
    kept = orders("prune", "--older-than", "1d", "--unresolved", "--yes", code=0)
    assert kept.out == "erased: 0 sessions\n"
    dry = orders("prune", "--older-than", "0s", "--dry-run", code=0)
    assert dry.out.split() == ["order:1", "order:2"]
    both = orders("prune", "--older-than", "0s", "--dry-run", "--json", code=0).json
    assert both == {"would_erase": ["order:1", "order:2"]}
    asked = orders("prune", "--older-than", "0s", stdin="n\n", code=1)
    assert "Erase 2 sessions and all their events?" in asked.err
    assert orders("prune", "--older-than", "0s", "--yes", "--json", code=0).json == {"erased": 2}
    assert "is no duration" in orders("prune", "--older-than", "soon", code=2).err
