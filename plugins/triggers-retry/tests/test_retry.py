"""Waits, limits and errors of the directive, on a clock that passes when told to."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from triggers_core import TaskContext, trigger_task
from triggers_core.exceptions import KwargsMismatch, with_context
from triggers_core.tasks import TriggerTask
from triggers_retry.options import Policy
from triggers_retry.plugin import RetryPlugin, wait_before

errors: list[BaseException] = []
"""What the body `retry.next` raises, one at a time; then it succeeds."""


@pytest.fixture(autouse=True)
def no_errors() -> None:
    errors.clear()


@trigger_task(name="retry.poison")
def poison(context: TaskContext) -> None:
    raise ConnectionError("refused by db.example")


@trigger_task(name="retry.next")
def next_error(context: TaskContext) -> dict[str, int]:
    if errors:
        raise errors.pop(0)
    return {"retries": context.retries}


@trigger_task(name="retry.async")
async def asynchronous(context: TaskContext) -> dict[str, int]:
    if errors:
        raise errors.pop(0)
    return {"retries": context.retries}


class Own(TriggerTask):
    """Asks for its own retries, as long as it may."""

    name = "retry.own"
    max_retries = 2

    def _run(self, context: TaskContext) -> Any:
        raise self.retry(exc=TimeoutError("slow"), cooldown=7)


class Mixed(TriggerTask):
    """Asks for its own retries in turn with failures that the directive looks after."""

    name = "retry.mixed"
    max_retries = None

    def _run(self, context: TaskContext) -> Any:
        if context.retries == 4:
            return {"retries": context.retries}
        if context.retries % 2:
            raise self.retry(cooldown=7)
        raise ConnectionError("refused")


WAITS = [
    ({"times": 3, "waiting": "10 seconds"}, [10, 10, 10]),
    ({"times": 8, "waiting": "10 seconds", "doubling": True, "upTo": "10 minutes"},
     [10, 20, 40, 80, 160, 320, 600, 600]),
    ({"times": 4, "waiting": 1.5, "doubling": True}, [1.5, 3, 6, 12]),
    ({"times": 4, "waiting": "10 hours", "doubling": True}, [36_000, 72_000, 86_400, 86_400]),
    ({"times": 2, "waiting": "2 days", "doubling": True}, [172_800, 172_800]),
    ({"times": 1}, [10]),
    (True, [10, 10, 10]),
    (5, [10] * 5),
    (False, []),
    (None, []),
]  # fmt: skip


@pytest.mark.parametrize(("retry", "waits"), WAITS)
def test_the_waits(bench: Callable[..., Any], retry: object, waits: list[float]) -> None:
    made = bench()
    made.start("retry.poison", retry)
    assert made.waits() == pytest.approx(waits, abs=1e-6)
    assert made.manager.storage[f"t#{len(waits)}"].status == "failed"


def test_many_doublings_do_not_overflow() -> None:
    policy = Policy(times=100_000, waiting=1, doubling=True)
    assert wait_before(policy, 99_999, Random(1).uniform) == 86_400


def test_jitter_is_anything_up_to_the_wait(bench: Callable[..., Any]) -> None:
    expected = Random(7)
    made = bench(RetryPlugin(Random(7).uniform))
    made.start(
        "retry.poison",
        {"times": 6, "waiting": "10 seconds", "doubling": True, "upTo": "1 min", "jitter": True},
    )
    waits = [expected.uniform(0, wait) for wait in (10, 20, 40, 60, 60, 60)]
    assert made.waits() == pytest.approx(waits, abs=1e-6)
    assert len(set(waits)) == 6


def test_giving_up_says_how_often_it_was_tried(bench: Callable[..., Any]) -> None:
    made = bench()
    made.start("retry.poison", 2)
    waiting = made.held()
    assert "held back for a retry" in str(made.manager.explain("t"))
    assert (waiting.parent, waiting.depth, waiting.retries) == ("t#0", 1, 1)
    made.waits()
    first, second, last = made.manager.storage.instances.values()
    assert [first.status, second.status, last.status] == ["replayed", "replayed", "failed"]
    assert (last.parent, last.depth, last.retries) == ("t#1", 2, 2)
    assert first.key == last.key
    assert first.metadata["error"]["context"] == {
        "retry": {"tries": 1, "why": "retry 1 of 2, 10 s later"}
    }
    error = last.metadata["error"]
    assert (error["type"], error["message"]) == ("ConnectionError", "refused by db.example")
    assert error["context"] == {"retry": {"tries": 3, "why": "gave up after 3 tries"}}
    told = str(made.manager.explain("t"))
    assert "failed after 2 retries" in told
    assert "ConnectionError: refused by db.example" in told


def test_a_replay_by_hand_begins_anew(bench: Callable[..., Any]) -> None:
    made = bench()
    made.start("retry.poison", {"times": 2, "waiting": "10 seconds", "doubling": True})
    assert made.waits() == pytest.approx([10, 20])
    made.manager.replay_failed_instance("t#2")
    made.runner.work()
    assert made.waits() == pytest.approx([10, 20])
    assert made.manager.storage["t#5"].depth == 5


def test_success_after_failures(bench: Callable[..., Any]) -> None:
    errors[:] = [ConnectionError(), TimeoutError()]
    made = bench()
    made.start("retry.next", 5)
    assert made.waits() == pytest.approx([10, 10])
    last = made.manager.storage["t#2"]
    assert (last.status, last.result) == ("finished", {"retries": 2})
    assert last.kwargs == {"go": {"page": 1}}
    assert "t" in made.manager.storage.latest_kwargs, "its cascade"


def test_an_async_body(bench: Callable[..., Any]) -> None:
    errors[:] = [ConnectionError()]
    made = bench()
    made.start("retry.async", 5)
    assert made.waits() == pytest.approx([10])
    assert made.manager.storage["t#1"].result == {"retries": 1}


def test_unless_during_the_wait(bench: Callable[..., Any]) -> None:
    made = bench()
    made.start("retry.poison", 5, unless=["stop"])
    assert made.held() is not None
    made.manager.fire("stop")
    assert made.held() is None
    made.clock.advance(3_600)
    made.app.recover()
    assert made.runner.work() == 0
    instances = made.manager.storage.instances
    assert [each.status for each in instances.values()] == ["replayed", "abandoned"]
    assert re.search("abandoned.*stop", str(made.manager.explain("t")))


def test_on_and_except_on(bench: Callable[..., Any]) -> None:
    errors[:] = [ConnectionResetError(), BrokenPipeError(), ConnectionResetError()]
    made = bench()
    made.start("retry.next", {"times": 9, "on": ["OSError"], "exceptOn": ["BrokenPipeError"]})
    assert len(made.waits()) == 1
    context = made.manager.storage["t#1"].metadata["error"]["context"]
    assert context["retry"] == {"tries": 2, "why": "not retried: exceptOn names BrokenPipeError"}

    errors[:] = [ValueError()]
    made = bench()
    made.start("retry.next", {"times": 9, "on": ["OSError"]})
    assert made.waits() == []
    context = made.manager.storage["t#0"].metadata["error"]["context"]
    assert context["retry"] == {"tries": 1, "why": "not retried: on does not name ValueError"}


def test_the_context_of_the_error_stays(bench: Callable[..., Any]) -> None:
    errors[:] = [with_context(ValueError("x"), {"subject": 5})]
    made = bench()
    made.start("retry.next", {"times": 1, "exceptOn": ["ValueError"]})
    assert made.manager.storage["t#0"].metadata["error"]["context"]["subject"] == 5


class Frozen(Exception):
    """Takes no attributes."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


def test_an_error_that_takes_no_attributes_is_retried_too(bench: Callable[..., Any]) -> None:
    errors[:] = [Frozen("x"), Frozen("y")]
    made = bench()
    made.start("retry.next", 1)
    assert made.waits() == pytest.approx([10])
    assert made.manager.storage["t#1"].metadata["error"]["message"] == "y"


# -- beside the task's own retries -----------------------------------------------------------------


def test_the_tasks_own_retries_keep_their_wait_and_limit(bench: Callable[..., Any]) -> None:
    made = bench()
    made.start("retry.own", {"times": 9, "waiting": "1 hour"})
    assert made.waits() == pytest.approx([7, 7])
    last = made.manager.storage["t#2"]
    assert last.metadata["error"]["type"].endswith("MaxRetriesExceeded")
    assert "gave up after 2 retries" in str(made.manager.explain("t"))


def test_both_kinds_count_together(bench: Callable[..., Any]) -> None:
    made = bench()
    made.start("retry.mixed", {"times": 9, "waiting": "10 seconds", "doubling": True})
    assert made.waits() == pytest.approx([10, 7, 40, 7])
    assert made.manager.storage["t#4"].result == {"retries": 4}


def test_what_would_only_happen_again_is_not_retried(bench: Callable[..., Any]) -> None:
    errors[:] = [KwargsMismatch("page: expected str")]
    made = bench()
    made.start("retry.next", {"times": 9, "on": ["Exception", "ValueError"]})
    assert made.waits() == []
    errors[:] = [KwargsMismatch("page: expected str")]
    made = bench()
    made.start("retry.next", {"times": 9, "on": ["KwargsMismatch"]})
    assert made.waits() == pytest.approx([10])


# -- options ---------------------------------------------------------------------------------------


def test_options_are_the_defaults_of_the_words(bench: Callable[..., Any]) -> None:
    made = bench(times=2, waiting="1 minute", doubling=True, upTo="90 seconds")
    made.start("retry.poison", True)
    assert made.waits() == pytest.approx([60, 90])
    made.manager.update_configuration(
        {"t": {"after": ["go"], "run": "retry.poison", "retry": {"waiting": "2 minutes"}}}
    )
    made.manager.replay_failed_instance("t#2")
    made.runner.work()
    assert made.waits() == pytest.approx([120, 120]), "upTo never shortens waiting"


def test_options_retry_nothing_by_themselves(bench: Callable[..., Any]) -> None:
    made = bench(times=2)
    made.start("retry.poison")
    assert made.waits() == []
    assert "context" not in made.manager.storage["t#0"].metadata["error"]


def test_a_wrong_option_is_named_and_nothing_is_retried(
    bench: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    made = bench(waiting="soon")
    made.start("retry.poison", True)
    assert made.waits() == []
    logged = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert any(
        "at `TRIGGER_PLUGIN_OPTIONS['retry'].waiting`" in f"{each.getMessage()} {each.exc_text}"
        for each in logged
    )
