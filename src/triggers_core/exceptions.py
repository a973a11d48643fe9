"""Every error that Triggers raises, and `with_context`, which attaches data to any error.

All derive from `TriggersError`. Where users would catch a built-in type, that type is a base too:
`InvalidName` is a `ValueError`, `InstanceNotFound` a `KeyError`, and so on.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, TypeVar

E = TypeVar("E", bound=BaseException)

_CONTEXT_ATTRIBUTE = "__triggers_context__"


class TriggersError(Exception):
    """Base of every error of the project."""


# -- what the caller handed in ------------------------------------------------------------------


class InvalidInput(TriggersError):
    """Base of the errors about what a caller handed in; nothing has been stored."""


class InvalidName(InvalidInput, ValueError):
    """A uid, trigger, task or event id is not 1 to 200 printable characters."""


class InvalidPayload(InvalidInput, TypeError, ValueError):
    """Kwargs or a result hold something that cannot be stored and come back the same.

    `path` names the value in it, for example ``kwargs['pages'][3]``.
    """

    def __init__(self, message: str, path: str = "kwargs") -> None:
        super().__init__(message)
        self.path = path


class InvalidConfiguration(InvalidInput, ValueError):
    """A task configuration breaks a rule; `path` names the place (``t_x.after``)."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class InvalidEvent(InvalidInput, ValueError):
    """An event of a recorded log cannot be replayed; the message says which and why."""


class InvalidSetting(InvalidInput, ValueError):
    """A setting has an unknown name or an impossible value."""


class InvalidArgument(InvalidInput, TypeError, ValueError):
    """An argument is of the wrong type or out of its range; the message says what was expected."""


class LimitExceeded(InvalidInput, ValueError):
    """A limit of `triggers_core.limits.Limits` would be exceeded; the message names it."""


class ConditionTooLarge(InvalidConfiguration, LimitExceeded):
    """A condition is nested too deeply or has too many members; `path` names the place."""


class TaskNameFired(InvalidInput, ValueError):
    """An application fired a task's name by hand; only the task's own cascade does that."""


class EventIdConflict(InvalidInput, ValueError):
    """An event id was used again with another trigger or another payload."""


class FireVetoed(TriggersError):
    """Raised by a `pre_fire` hook to refuse a fire politely; nothing has been stored."""


# -- what there is, and in which state ----------------------------------------------------------


class NotFound(TriggersError, KeyError):
    """Base of the errors about something that does not exist."""

    def __str__(self) -> str:  # KeyError would show the repr of the message
        return str(self.args[0]) if self.args else ""


class SessionNotFound(NotFound):
    """There is no session of this uid."""


class InstanceNotFound(NotFound):
    """The session has no instance of this name."""


class TaskNotFound(NotFound):
    """No task of this name is configured, or no task class is registered under a `run` name."""


class UnknownKey(NotFound, ValueError):
    """A registry (managers, storages, runners) has nothing under this key."""


class WrongState(TriggersError, RuntimeError, ValueError):
    """The session or instance is not in the state that the operation needs."""


class NestedCommit(WrongState):
    """A change would wait for one that its own thread or task has not ended.

    A `before_commit` hook changed a session through a manager, in place of `plan.fire`; or a
    session was changed past the open transaction that has changed it before.
    """


class MustAwait(WrongState):
    """A method that blocks was called where only its awaitable form works; the message names it."""


class SessionClosed(WrongState):
    """The session was closed: it accepts no more events."""


class LeaseLost(WrongState):
    """This attempt no longer holds its instance: its token was replaced. Its outcome is dropped."""


class StaleMessage(WrongState):
    """A message about an attempt that is over, or a session that was deleted. Drop it."""

    def __init__(self, message: str, no_session: bool = False) -> None:
        super().__init__(message)
        self.no_session = no_session
        """Whether the storage has no session of this uid at all: perhaps it is the wrong one."""


# -- tasks --------------------------------------------------------------------------------------


class TaskFailure(TriggersError):
    """Base of the errors that end an attempt as `failed`."""


class InvalidResult(TaskFailure, TypeError):
    """A body returned neither a mapping nor None, or a mapping that cannot be stored."""


class KwargsMismatch(TaskFailure, ValueError):
    """The trigger kwargs do not fit the model that the task states; the message has the path."""


class MaxRetriesExceeded(TaskFailure):
    """A task asked for another retry than its limit allows; raised from the last error."""


class TimeLimitExceeded(TaskFailure, TimeoutError):
    """A body ran longer than its task's `time_limit`; whatever it still returns is dropped."""


class SoftTimeLimitExceeded(TaskFailure):
    """Raised inside a body that runs longer than its task's `soft_time_limit`.

    The body may catch it, to clean up and return what it has. It is no `TimeoutError`, which is an
    `OSError`: whoever catches those, around a request for example, would take it for a network's.
    """


class BodyInterrupted(BaseException):
    """Base of what a runner raises around a body that it interrupts: no outcome of the body's own.

    Nothing is stored then, and the exception reaches the runner. Everything else that leaves a body
    counts as raised by it, and fails the instance.
    """


class CascadeTooDeep(TaskFailure, LimitExceeded):
    """A chain of cascades is longer than the limit: most likely a cycle in the configuration."""


# -- plugins, storages, runners -----------------------------------------------------------------


class PluginError(TriggersError):
    """A plugin could not be loaded, or broke a rule of its hook."""


class HookFailed(PluginError):
    """A `before_commit` hook raised: the change was refused. `plugin` names whose hook it was."""

    def __init__(self, message: str, plugin: str) -> None:
        super().__init__(message)
        self.plugin = plugin


class PluginMissing(PluginError):
    """The session's configuration requires a plugin that this process does not have."""


class ImportExited(TriggersError, ImportError):
    """A module that was to be imported called `sys.exit`; the message names it."""


class DuplicateKey(PluginError, ValueError):
    """Two providers claim one key of a registry; the message names both."""


class StorageError(TriggersError):
    """A storage could not do its work; the cause is chained."""


class CannotJoin(StorageError, TypeError):
    """A storage cannot be part of that transaction, or of none at all; nothing was stored."""


class TransactionConflict(StorageError):
    """The application's transaction lost against another one: a deadlock, a serialisation failure.

    The database has taken back, or will take back, everything in it. Only the application can run
    the whole of it again; a storage does so by itself with transactions of its own.
    """


class UnknownSchema(StorageError):
    """A session's data was written by a newer version, or is damaged: it cannot be read.

    `uid` names the session, as far as that is known.
    """

    def __init__(self, message: str, uid: str = "") -> None:
        super().__init__(f"{uid}: {message}" if uid else message)
        self.uid = uid

    def of(self, uid: str) -> UnknownSchema:
        """The same error, and it names the session; itself if it does already."""
        return self if self.uid else UnknownSchema(str(self), uid)


class Contended(StorageError, TimeoutError):
    """A change lost its race against others too many times."""


def with_context(
    error: E | None = None,
    context: Mapping[str, Any] | None = None,
    *,
    exc: E | None = None,
) -> E:
    """Attach data to an error; it ends up in the failed instance's metadata and in the log.

    :param error: any exception; returned as it is, so that it can be raised in one line.
    :param context: what explains the error. Merged over what is attached already.
    :param exc: another name of `error`, that of version 2.
    :returns: `error`.
    :raises TypeError: `error` is no exception, or `context` no mapping.

    Example::

        raise with_context(ValueError("no such subject"), {"subject": subject_id})
    """
    target = exc if error is None else error
    if target is None or not issubclass(type(target), BaseException):
        raise InvalidArgument(
            "with_context: expected an exception, such as ValueError('no such subject'), got"
            f" {type(target).__name__}"
        )
    if context is not None and not isinstance(context, Mapping):
        raise InvalidArgument(
            f"with_context: expected a mapping as context, got {type(context).__name__}"
        )
    added = {str(key): value for key, value in (context or {}).items()}
    # Past a __setattr__ of the error's own: frozen dataclasses refuse every attribute.
    BaseException.__setattr__(target, _CONTEXT_ATTRIBUTE, {**context_of(target), **added})
    return target


def context_of(error: BaseException) -> dict[str, Any]:
    """Return what `with_context` attached to an error (empty when nothing was)."""
    # Past a __getattribute__ of its own: proxies that have lost their object refuse everything.
    try:
        attached = BaseException.__getattribute__(error, _CONTEXT_ATTRIBUTE)
    except AttributeError:
        return {}
    return dict(attached) if type(attached) is dict else {}


def from_outside(error: BaseException) -> bool:
    """Whether an exception interrupts the program, rather than coming from the object at hand.

    Code that shows foreign objects survives whatever their methods raise, `SystemExit` and the
    time-outs of other libraries included. Only Ctrl-C passes, and that reaches the main thread, and
    what a runner interrupts a body with.
    """
    return isinstance(error, BodyInterrupted) or (
        isinstance(error, KeyboardInterrupt) and in_main_thread()
    )


def ends_the_program(error: BaseException) -> bool:
    """Whether it comes from whoever ends this process or greenlet: nobody on its way keeps it.

    `SystemExit` counts in the main thread alone, where signal handlers raise it.
    """
    return (
        from_outside(error)
        or (isinstance(error, SystemExit) and in_main_thread())
        or is_greenlet_exit(error)
    )


def is_time_limit(error: BaseException) -> bool:
    """Whether it is a time limit that strikes wherever a body is: in a hook of its fire, too.

    That of a Celery task that fires is one as well. By its name: Celery is never imported for it.
    """
    kind = type(error)
    return issubclass(kind, TimeLimitExceeded) or kind.__name__ == "SoftTimeLimitExceeded"


def is_greenlet_exit(error: BaseException) -> bool:
    """Whether somebody kills this greenlet. By its name: gevent is never imported for it."""
    return type(error).__name__ == "GreenletExit"


def in_main_thread() -> bool:
    """Whether this is the thread in which signal handlers run."""
    return threading.current_thread() is threading.main_thread()
