"""The plugin's options, its directive of the same words, and the policy that they make up."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from triggers_retry.durations import parse_duration
from triggers_retry.matching import check_class_name

NAME: Final = "retry"
"""The name of the plugin and of its directive."""

DAY: Final = 86_400.0

Times = Annotated[int, Meta(ge=1)]
Duration = str | float
ClassNames = tuple[str, ...]


class RetryOptions(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename={"up_to": "upTo", "except_on": "exceptOn"},
):
    """What can be set for all tasks, and for one; what is left out has its default."""

    times: Times | UnsetType = UNSET
    waiting: Duration | UnsetType = UNSET
    doubling: bool | UnsetType = UNSET
    up_to: Duration | UnsetType = UNSET
    jitter: bool | UnsetType = UNSET
    on: Annotated[ClassNames, Meta(min_length=1)] | UnsetType = UNSET
    except_on: ClassNames | UnsetType = UNSET

    def __post_init__(self) -> None:
        given = _given(self)
        seconds = {name: _duration(name, given[name]) for name in _DURATIONS if name in given}
        if len(seconds) == 2 and seconds["up_to"] < seconds["waiting"]:
            raise _error(
                "upTo", f"expected no less than waiting ({self.waiting!r}), got {self.up_to!r}"
            )
        for word, names in (("on", self.on), ("exceptOn", self.except_on)):
            for position, name in enumerate(names or ()):
                _class_name(f"{word}[{position}]", name)


class RetryWords(RetryOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be written after ``"retry":``."""

    def __post_init__(self) -> None:
        if not _given(self):
            raise ValueError("Expected at least one word, or true for the defaults")
        super().__post_init__()


RetryDirective = bool | Times | RetryWords
"""The directive's value: its words; a number is short for `times`, true for all defaults."""

_DURATIONS: Final = {"waiting": "waiting", "up_to": "upTo"}


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How an instance is retried. Durations are in seconds.

    The defaults do nothing that the sentence does not say; three is how often Celery and
    `TriggerTask.max_retries` try again.
    """

    times: int = 3
    waiting: float = 10.0
    doubling: bool = False
    up_to: float = DAY
    jitter: bool = False
    on: ClassNames = ("Exception",)
    except_on: ClassNames = ()


def read_policy(written: object, options: RetryOptions) -> Policy | None:
    """The policy of a task.

    :param written: the value of its directive; None when it has none.
    :param options: what holds for the words that it leaves out.
    :returns: None when the task is not retried.

    Example::

        read_policy({"times": 5}, RetryOptions(waiting="1 minute"))  # Policy(times=5, waiting=60.0)
    """
    if written is None or written is False:
        return None
    words: object = msgspec.convert(written, RetryDirective)
    known = _values(options)
    if isinstance(words, RetryOptions):
        known.update(_values(words))
    elif words is not True:
        known["times"] = words
    return Policy(**known)


def _given(words: RetryOptions) -> dict[str, Any]:
    return {
        name: value
        for name in words.__struct_fields__
        if (value := getattr(words, name)) is not UNSET
    }


def _values(words: RetryOptions) -> dict[str, Any]:
    """What was written, as fields of a policy."""
    return {
        name: parse_duration(value) if name in _DURATIONS else value
        for name, value in _given(words).items()
    }


def _duration(field: str, value: Duration) -> float:
    try:
        return parse_duration(value)
    except ValueError as error:
        raise _error(_DURATIONS[field], str(error)) from None


def _class_name(place: str, name: str) -> None:
    try:
        check_class_name(name)
    except ValueError as error:
        raise _error(place, str(error)) from None


def _error(place: str, message: str) -> ValueError:
    # msgspec makes a ValidationError of it; in this form the core fills in the task's name.
    return ValueError(f"{message} - at `$.{place}`")
