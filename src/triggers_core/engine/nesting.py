"""Reentrancy: no change within a change by its own hooks, no hooks that answer each other for ever.

A `before_commit` hook runs inside the transaction of its session. A fire of it through a manager
would wait for that very transaction, or be recorded and then decided anew with it, without end; so
it is refused, whatever the storage. A `post_fire` hook may fire: its fires are answered by the same
hooks, level by level, up to a limit.

Both are noted in context variables, which reach the threads and tasks that a hook starts. What is
noted counts only while its frame is being executed somewhere: an exception out of a signal handler
may come before the note is taken back.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar, Token
from types import FrameType

from triggers_core.exceptions import LimitExceeded, NestedCommit


class _Hooks:
    """A round of `before_commit` hooks. Contexts that were copied meanwhile outlive it."""

    __slots__ = ("frame", "plugin", "uid")

    def __init__(self, uid: str) -> None:
        self.uid: str = uid
        self.plugin: str = ""
        self.frame: FrameType | None = None


class _Answers:
    """The hooks that follow one commit, and those that follow the commits that they make."""

    __slots__ = ("exhausted", "frames")

    def __init__(self) -> None:
        self.frames: list[FrameType] = []
        self.exhausted = False


_hooks: ContextVar[_Hooks | None] = ContextVar("triggers_before_commit", default=None)
_answers: ContextVar[_Answers | None] = ContextVar("triggers_after_commit", default=None)


def refuse_within_hooks(what: str, uid: str) -> None:
    """Raise `NestedCommit` if the caller is a `before_commit` hook.

    :param what: what it tries to do with the session, for the message, such as ``fire into``.
    """
    hooks = _hooks.get()
    if hooks is not None and hooks.plugin and _executes(hooks.frame):
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
        self._hooks.frame = sys._getframe(1)
        self._token = _hooks.set(self._hooks)
        return self._hooks

    def __exit__(self, *exc_info: object) -> None:
        self._hooks.plugin, self._hooks.frame = "", None
        _hooks.reset(self._token)


class AfterCommit:
    """Around the hooks that are told of a commit."""

    __slots__ = ("_answers", "_depth", "_token")

    def __enter__(self) -> None:
        answers = _noted()
        self._token: Token[_Answers | None] | None = None
        if answers is None:
            answers = _Answers()
            self._token = _answers.set(answers)
        self._answers, self._depth = answers, len(answers.frames)
        answers.frames.append(sys._getframe(1))

    def __exit__(self, *exc_info: object) -> None:
        del self._answers.frames[self._depth :]
        if self._token is not None:
            _answers.reset(self._token)


def refuse_endless_answers(most: int) -> None:
    """Raise `LimitExceeded` if a fire comes of hooks that answer each other's fires without end."""
    answers = _noted()
    if answers is None:
        return
    if len(answers.frames) >= most:
        # Levels whose end was interrupted are still listed.
        answers.frames[:] = [frame for frame in answers.frames if _executes(frame)]
        answers.exhausted |= len(answers.frames) >= most
    if answers.exhausted:
        raise LimitExceeded(
            f"hooks that follow a commit (post_fire, post_commit) have fired {most} levels deep,"
            " each in answer to the fire before: the limit is Limits.additions. Such a hook must"
            " look at the trigger, and not answer its own"
        )


def _noted() -> _Answers | None:
    """What this context is in the middle of answering."""
    answers = _answers.get()
    if answers is None or not answers.frames:
        return None
    if not _executes(answers.frames[0]):
        answers.frames.clear()
        _answers.set(None)
        return None
    return answers


def _executes(frame: FrameType | None) -> bool:
    """Whether a frame is being executed, in whatever thread or greenlet.

    Python refuses to clear such a frame. Of one that has ended, nobody needs the variables any
    more.
    """
    if frame is None:
        return False
    try:
        frame.clear()
    except RuntimeError:
        return True
    return False
