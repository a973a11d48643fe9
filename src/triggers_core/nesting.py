"""What a change that is under way forbids: changes by its own hooks, and answers without an end.

A `before_commit` hook runs inside the transaction of its session. A fire of it through a manager
would wait for that very transaction, or be recorded and then decided anew with it, without end; so
it is refused, whatever the storage. A `post_fire` hook may fire: its fires are answered by the same
hooks, level by level, up to a limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from triggers_core.exceptions import LimitExceeded, NestedCommit


class _Hooks:
    """A round of `before_commit` hooks. Contexts that were copied meanwhile outlive it."""

    __slots__ = ("plugin", "uid")

    def __init__(self, uid: str) -> None:
        self.uid, self.plugin = uid, ""


class _Answers:
    """The hooks that follow one commit, and those that follow the commits that they make."""

    __slots__ = ("depth", "exhausted")

    def __init__(self) -> None:
        self.depth, self.exhausted = 0, False


_hooks: ContextVar[_Hooks | None] = ContextVar("triggers_before_commit", default=None)
_answers: ContextVar[_Answers | None] = ContextVar("triggers_after_commit", default=None)


def refuse_within_hooks(what: str, uid: str) -> None:
    """Raise `NestedCommit` if the caller is a `before_commit` hook.

    :param what: what it tries to do with the session, for the message, such as ``fire into``.
    """
    hooks = _hooks.get()
    if hooks is not None and hooks.plugin:
        raise NestedCommit(
            f"a before_commit hook of the plugin {hooks.plugin!r}, inside a change of"
            f" {hooks.uid!r}, cannot {what} {uid!r}: to add an event to that change, call"
            " plan.fire(trigger, kwargs); for another session, fire in post_fire or in a task"
        )


class BeforeCommit:
    """Around `before_commit` hooks: gives what `.plugin` is set to while a hook is called."""

    __slots__ = ("_hooks", "_token")

    def __init__(self, uid: str) -> None:
        self._hooks = _Hooks(uid)

    def __enter__(self) -> _Hooks:
        self._token = _hooks.set(self._hooks)
        return self._hooks

    def __exit__(self, *exc_info: object) -> None:
        self._hooks.plugin = ""
        _hooks.reset(self._token)


@contextmanager
def after_commit_of() -> Iterator[None]:
    """Around the hooks that are told of a commit."""
    answers = _answers.get()
    if answers is None or not answers.depth:
        answers = _Answers()
    token = _answers.set(answers)
    answers.depth += 1
    try:
        yield
    finally:
        answers.depth -= 1
        _answers.reset(token)


def refuse_endless_answers(most: int) -> None:
    """Raise `LimitExceeded` if a fire comes of hooks that answer each other's fires without end."""
    answers = _answers.get()
    if answers is None or not answers.depth:
        return
    if answers.depth >= most:
        answers.exhausted = True
    if answers.exhausted:
        raise LimitExceeded(
            f"hooks that follow a commit (post_fire, post_commit) have fired {most} levels deep,"
            " each in answer to the fire before: the limit is Limits.additions. Such a hook must"
            " look at the trigger, and not answer its own"
        )
