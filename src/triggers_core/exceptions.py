"""Every error that Triggers raises, and `with_context`, which attaches data to any error.

All derive from `TriggersError`. Where users would catch a built-in type, that type is a base too:
`InvalidName` is a `ValueError`, `InstanceNotFound` a `KeyError`, and so on.
"""

from __future__ import annotations

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


class InvalidArgument(InvalidInput, ValueError):
    """An argument is of a type or a range that cannot be meant; the message names it."""


class LimitExceeded(InvalidInput, ValueError):
    """A limit of `triggers_core.limits.Limits` would be exceeded; the message names it."""


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
    """A `before_commit` hook changed a session through a manager, in place of `plan.fire`."""


class SessionClosed(WrongState):
    """The session was closed: it accepts no more events."""


class LeaseLost(WrongState):
    """This attempt no longer holds its instance: its token was replaced. Its outcome is dropped."""


class StaleMessage(WrongState):
    """A message about an attempt that is over, or a session that was deleted. Drop it."""


# -- tasks --------------------------------------------------------------------------------------


class TaskFailure(TriggersError):
    """Base of the errors that end an attempt as `failed`."""


class InvalidResult(TaskFailure, TypeError):
    """A body returned neither a mapping nor None, or a mapping that cannot be stored."""


class KwargsMismatch(TaskFailure, ValueError):
    """The trigger kwargs do not fit the model that the task states; the message has the path."""


class MaxRetriesExceeded(TaskFailure):
    """A task asked for another retry than its limit allows; raised from the last error."""


class WorkerLost(TaskFailure):
    """The lease of an attempt ran out too often: its workers died or hung."""


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


class DuplicateKey(PluginError, ValueError):
    """Two providers claim one key of a registry; the message names both."""


class StorageError(TriggersError):
    """A storage could not do its work; the cause is chained."""


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


def with_context(error: E, context: Mapping[str, Any]) -> E:
    """Attach data to an error; it ends up in the failed instance's metadata and in the log.

    :param error: any exception; returned as it is, so that it can be raised in one line.
    :param context: what explains the error. Merged over what is attached already.
    :returns: `error`.

    Example::

        raise with_context(ValueError("no such subject"), {"subject": subject_id})
    """
    attached = {**context_of(error), **{str(key): value for key, value in context.items()}}
    # Past a __setattr__ of the error's own: frozen dataclasses refuse every attribute.
    BaseException.__setattr__(error, _CONTEXT_ATTRIBUTE, attached)
    return error


def context_of(error: BaseException) -> dict[str, Any]:
    """Return what `with_context` attached to an error (empty when nothing was)."""
    attached = getattr(error, _CONTEXT_ATTRIBUTE, None)
    return dict(attached) if isinstance(attached, Mapping) else {}
