"""Identifiers of attempts in Celery and in the storage: task id, arguments, token."""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import msgspec

from triggers_core.exceptions import SessionNotFound
from triggers_core.running.messages import Message

if TYPE_CHECKING:
    from triggers_core.manager import TriggerManager
    from triggers_core.storages.session import TaskInstance

GENERIC: Final = "triggers.run"
"""The Celery task for instances whose own task a worker, or the session, does not know."""
SWEEP: Final = "triggers.sweep"
"""The Celery task that Celery beat sends."""
HEADER: Final = "triggers"
"""The message header that marks attempts, so that they are known without reading the body."""


def task_id(manager: TriggerManager, instance: TaskInstance | str) -> str:
    """The id of the Celery task that makes an instance's current attempt.

    :raises InstanceNotFound: the session has no such instance.

    Example::

        celery_app.control.revoke(task_id(manager, "t_ship#0"), terminate=True)
    """
    name = instance if isinstance(instance, str) else instance.name
    record = manager.storage[name].record
    header = manager.storage.header
    if header is None:
        raise SessionNotFound(f"{manager.uid}: there is no such session")
    return id_of(Message(manager.app.name, manager.uid, header.generation, name, record.attempt))


def id_of(message: Message) -> str:
    """The id of the Celery task for a message: always the same for the same attempt.

    So a repeated dispatch is the same task for Celery too: revoking it revokes every copy.
    """
    identity = "\0".join(
        (message.app, message.uid, message.generation, message.instance, str(message.attempt))
    )  # names are printable: none holds a NUL
    digest = blake2b(identity.encode(), digest_size=16).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:]}"


def arguments_of(message: Message) -> tuple[str, str, str, str, int]:
    """The arguments of the Celery task: identifiers and nothing else."""
    return (message.app, message.uid, message.generation, message.instance, message.attempt)


def parse_message(arguments: Sequence[object]) -> Message:
    """The message that the arguments of a Celery task stand for.

    :raises TypeError: they are something else.
    """
    try:
        return msgspec.convert(list(arguments), Message)
    except msgspec.ValidationError as error:
        raise TypeError(
            f"these are no arguments of a Triggers task: {error}. It is not called with its kwargs:"
            " fire the triggers that it waits for"
        ) from None


def process_name(node: str) -> str:
    """The name of this worker process, with which the tokens of its attempts are signed."""
    return f"{node}/{os.getpid()}"


def token_belongs_to(token: str, node: str, pid: int | None = None) -> bool:
    """Whether a token was signed by a process of a worker, or by that very process."""
    signed = token.partition("@")[2]
    if pid is not None:
        return signed == f"{node}/{pid}"
    return signed.startswith(f"{node}/") and "/" not in signed[len(node) + 1 :]
