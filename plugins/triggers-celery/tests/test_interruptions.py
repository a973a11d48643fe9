"""Soft time limits strike in bodies only, an end by signal is no failure: with the real signals."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest
from billiard import common
from billiard import exceptions as billiard
from billiard.pool import SIG_SOFT_TIMEOUT, soft_timeout_sighandler

from triggers_celery import interruptions
from triggers_celery.interruptions import Terminated, defer_soft_limit, interruptible
from triggers_core.exceptions import SoftTimeLimitExceeded


@pytest.fixture(autouse=True)
def child() -> Iterator[None]:
    """Make this process look like a child of billiard's pool."""
    before = signal.signal(SIG_SOFT_TIMEOUT, soft_timeout_sighandler)
    yield
    signal.signal(SIG_SOFT_TIMEOUT, before)
    interruptions._state.pid = 0


def strike() -> None:
    os.kill(os.getpid(), SIG_SOFT_TIMEOUT)


@pytest.mark.parametrize("caught", [SoftTimeLimitExceeded, billiard.SoftTimeLimitExceeded])
def test_it_strikes_in_the_body(caught: type[Exception]) -> None:
    with defer_soft_limit(), pytest.raises(caught), interruptible():
        strike()


def test_one_that_came_during_the_claim_strikes_when_the_body_begins() -> None:
    reached = False
    with defer_soft_limit():
        strike()
        with pytest.raises(SoftTimeLimitExceeded), interruptible():
            reached = True
    assert not reached


def test_one_that_comes_during_the_finish_is_dropped() -> None:
    with defer_soft_limit():
        with interruptible():
            pass
        strike()
    with defer_soft_limit(), interruptible():
        pass


def test_other_tasks_get_theirs_as_ever() -> None:
    with defer_soft_limit():
        pass
    with pytest.raises(billiard.SoftTimeLimitExceeded) as raised:
        strike()
    assert raised.type is billiard.SoftTimeLimitExceeded


def test_a_body_has_its_own_after_an_eager_attempt_within_it() -> None:
    with defer_soft_limit(), interruptible():
        with defer_soft_limit(), interruptible():
            pass
        with pytest.raises(SoftTimeLimitExceeded):
            strike()


def test_an_end_by_signal_is_no_failure_of_the_body() -> None:
    before = signal.signal(signal.SIGTERM, common._shutdown_cleanup)
    try:
        with defer_soft_limit(), pytest.raises(Terminated), interruptible():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
        common._should_have_exited[0] = False
    with defer_soft_limit(), pytest.raises(SystemExit), interruptible():
        raise SystemExit("of the body's own")


def test_threads_are_left_alone() -> None:
    """The threads pool has no soft limits, and no signals reach its threads."""
    done = []

    def attempt() -> None:
        with defer_soft_limit(), interruptible():
            done.append(interruptions._state.pid)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    assert done == [0]
