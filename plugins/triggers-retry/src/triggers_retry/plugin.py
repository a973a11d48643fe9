"""The hooks: the directive, and the decision after a failure."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from triggers_core import TaskContext, hookimpl
from triggers_core.engine.attempts import Retry
from triggers_core.exceptions import with_context
from triggers_core.texts import count
from triggers_retry.matching import named
from triggers_retry.options import NAME, Policy, RetryDirective, RetryOptions, read_policy

Uniform = Callable[[float, float], float]
"""A random number between two others, as `random.uniform`."""

_DOUBLINGS: Final = 64  # more would not fit a float some day; the cap is reached long before


class RetryPlugin:
    """Retries failed instances as their task's `retry` directive says.

    :param uniform: the source of jitter. The default is reseeded in forked workers, so that they
        do not draw the same waits.
    """

    def __init__(self, uniform: Uniform = random.uniform) -> None:
        self._uniform = uniform

    @hookimpl
    def declare_directives(self) -> Mapping[str, Any]:
        """The directive `retry`."""
        return {NAME: RetryDirective}

    @hookimpl
    def task_failed(self, context: TaskContext, error: BaseException) -> Retry | None:
        """Retry, or say in the error's context why not."""
        options = context.manager.app.plugin_options(NAME, RetryOptions)
        policy = read_policy(context.task.directives.get(NAME), options)
        if policy is None:
            return None
        tries = context.retries + 1
        refusal = why_not(policy, error, context.retries)
        if refusal is not None:
            _note(error, {"tries": tries, "why": refusal})
            return None
        wait = wait_before(policy, context.retries, self._uniform)
        _note(
            error, {"tries": tries, "why": f"retry {tries} of {policy.times}, {wait:.4g} s later"}
        )
        return Retry(cooldown=wait)


def why_not(policy: Policy, error: BaseException, retries: int) -> str | None:
    """Why there is no further retry; None when there is one.

    :param retries: how many there have been.
    """
    if (name := named(error, policy.except_on)) is not None:
        return f"not retried: exceptOn names {name}"
    if named(error, policy.on) is None:
        return f"not retried: on does not name {type(error).__name__}"
    if retries >= policy.times:
        return f"gave up after {count(retries + 1, 'try', 'tries')}"
    return None


def wait_before(policy: Policy, retries: int, uniform: Uniform) -> float:
    """Seconds to wait before the next retry.

    :param retries: how many there have been.
    :param uniform: the source of jitter. It is "full jitter", anything from 0 to the wait, which
        spreads a crowd best for its total work (AWS Architecture Blog, "Exponential Backoff And
        Jitter", 2015) and is also what Celery does.

    Example::

        policy = Policy(waiting=10.0, doubling=True, up_to=60.0)
        [wait_before(policy, n, uniform) for n in range(4)]  # [10.0, 20.0, 40.0, 60.0]
    """
    wait = policy.waiting
    if policy.doubling:
        # The cap is one for the doubling: it never shortens what `waiting` says.
        wait = min(wait * 2.0 ** min(retries, _DOUBLINGS), max(wait, policy.up_to))
    return uniform(0.0, wait) if policy.jitter else wait


def _note(error: BaseException, facts: Mapping[str, Any]) -> None:
    with suppress(Exception):  # the decision counts, even if the error takes no attributes
        with_context(error, {"retry": facts})


plugin: Final = RetryPlugin()
"""What the entry point names."""
