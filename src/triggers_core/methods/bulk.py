"""Acting on many failed instances at once, in whatever sessions: replay, skip.

Each is a change of its own, so that it can be stopped after any of them: what has been replayed is
failed no more, and to go on is to begin again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from triggers_core.exceptions import InvalidArgument, NotFound, TriggersError, WrongState
from triggers_core.running.outages import is_outage
from triggers_core.storages.base import Store
from triggers_core.storages.groups import FailedInstance

if TYPE_CHECKING:
    from triggers_core.application import Application
    from triggers_core.manager import TriggerManager

logger: logging.Logger = logging.getLogger(__name__)

_PAGE: Final = 200  # instances that are read at a time
_KEPT: Final = 100  # refusals that are told of; the others are counted
_EXAMPLES: Final = 5

Act = Callable[["TriggerManager", str], object]
"""What is done to an instance, given by its name: such as `replay`."""


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which failed instances are meant: those that answer to all that is given.

    Example::

        Selection(task="t_mail", error="SMTPError", older_than=3_600)
    """

    task: str | None = None
    error: str | None = None
    """The type of the error, such as ``SMTPError``."""
    older_than: float | None = None
    """Only those that failed more than so many seconds ago."""
    prefix: str = ""
    """What the uid begins with."""

    def __post_init__(self) -> None:
        if self.older_than is not None and not 0 <= self.older_than < float("inf"):
            raise InvalidArgument(
                f"older_than: expected a number of seconds from 0 on, got {self.older_than!r}"
            )


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """What a selection comes to at the moment."""

    instances: int
    more: bool
    """Whether there may be more: not all failed instances were looked at."""
    examples: list[FailedInstance]


class Progress(msgspec.Struct, kw_only=True):
    """How far it has come."""

    done: int = 0
    refused: int = 0
    """How many could not be: somebody else was faster, or the session is damaged."""
    problems: list[str] = []
    """What was said to the first of those, each with session and instance."""
    uid: str = ""
    instance: str = ""
    """The one that was looked at last."""


def with_whole_error(store: Store, selection: Selection) -> Selection:
    """The selection, its type of error with the module, where a person gave the class's name alone.

    :raises InvalidArgument: instances failed of several types of that name.

    Example::

        with_whole_error(app.store, Selection(error="SMTPException")).error  # smtplib.SMTPException
    """
    if not selection.error or "." in selection.error:
        return selection
    known = {group.error for group in store.failed_groups()}
    meant = sorted(each for each in known if each.endswith(f".{selection.error}"))
    if selection.error in known or not meant:
        return selection
    if len(meant) > 1:
        raise InvalidArgument(f"error: {selection.error!r} may be {' or '.join(meant)}: say which")
    return msgspec.structs.replace(selection, error=meant[0])


def select(store: Store, selection: Selection) -> Iterator[FailedInstance]:
    """The failed instances that are meant, those that failed first first, read page by page.

    None that fails after this has begun: whoever replays what fails again would never end.
    """
    for each in _failed(store, selection):
        if each.uid.startswith(selection.prefix):
            yield each


def _failed(store: Store, selection: Selection) -> Iterator[FailedInstance]:
    """As `select`, whatever the uid is: no index has the failed instances by that."""
    now = store.now()
    before = now if selection.older_than is None else now - selection.older_than
    after: FailedInstance | None = None
    while page := store.failed_instances(
        task=selection.task, error=selection.error, limit=_PAGE, after=after
    ):
        for each in page:
            if each.at > before:
                return
            yield each
        after = page[-1]


def preview(store: Store, selection: Selection, most: int = 10_000) -> Preview:
    """Count what is meant.

    :param most: failed instances to look at: no more than that are read, whatever they are.

    Example::

        preview(app.store, Selection(task="t_mail")).instances
    """
    found = 0
    examples: list[FailedInstance] = []
    for looked_at, each in enumerate(_failed(store, selection)):
        if looked_at == most:
            return Preview(instances=found, more=True, examples=examples)
        if each.uid.startswith(selection.prefix):
            found += 1
            if len(examples) < _EXAMPLES:
                examples.append(each)
    return Preview(instances=found, more=False, examples=examples)


def act_on_failed(
    app: Application, selection: Selection, act: Act, by: str = ""
) -> Iterator[Progress]:
    """Do something to each failed instance that is meant; tells after each how far it has come.

    Stop by iterating no further. An instance that refuses (another operator was faster, a plugin is
    missing) does not keep the others from it.

    :param by: who wants it; see `TriggerManager.by`.
    :raises StorageError: the storage itself is away: what was done is done.

    Example::

        for progress in act_on_failed(app, Selection(task="t_mail"), replay):
            print(progress.done)
    """
    progress = Progress()
    for failed in select(app.store, selection):
        manager = app.manager(failed.uid)
        if by:
            manager = manager.by(by)
        progress.uid, progress.instance = failed.uid, failed.instance
        try:
            act(manager, failed.instance)
        except (WrongState, NotFound):  # somebody else was faster
            progress.refused += 1
        except TriggersError as error:
            if is_outage(error):
                raise
            progress.refused += 1
            if len(progress.problems) < _KEPT:
                progress.problems.append(f"{failed.uid} {failed.instance}: {error}")
        else:
            progress.done += 1
        yield progress


def replay(manager: TriggerManager, instance: str) -> Any:
    """Replay an instance with the kwargs that it has."""
    return manager.replay_failed_instance(instance)


def skip(manager: TriggerManager, instance: str) -> Any:
    """Skip an instance, without a cascade."""
    return manager.skip_failed_instance(instance)
