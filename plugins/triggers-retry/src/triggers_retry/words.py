"""The words of the directive, checked as they are written, and the policy that they make up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from triggers_core.exceptions import InvalidSetting
from triggers_retry.durations import parse_duration
from triggers_retry.matching import check_class_name

DAY: Final = 86_400.0

Times = Annotated[int, Meta(ge=1)]
Duration = str | float
ClassNames = tuple[str, ...]


class Words(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename={"up_to": "upTo", "except_on": "exceptOn"},
):
    """What can be written after ``"retry":``; a word that is left out has its default."""

    times: Times | UnsetType = UNSET
    waiting: Duration | UnsetType = UNSET
    doubling: bool | UnsetType = UNSET
    up_to: Duration | UnsetType = UNSET
    jitter: bool | UnsetType = UNSET
    on: Annotated[ClassNames, Meta(min_length=1)] | UnsetType = UNSET
    except_on: ClassNames | UnsetType = UNSET

    def __post_init__(self) -> None:
        given = _given(self)
        if not given:
            raise ValueError("Expected at least one word, or true for the defaults")
        seconds = {name: _duration(name, given[name]) for name in _DURATIONS if name in given}
        if len(seconds) == 2 and seconds["up_to"] < seconds["waiting"]:
            raise _error(
                "upTo", f"expected no less than waiting ({self.waiting!r}), got {self.up_to!r}"
            )
        for word, names in (("on", self.on), ("exceptOn", self.except_on)):
            for position, name in enumerate(names or ()):
                _class_name(f"{word}[{position}]", name)


Written = bool | Times | Words
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


def read_policy(written: object, defaults: Mapping[str, Any]) -> Policy | None:
    """The policy of a task.

    :param written: the value of its directive; None when it has none.
    :param defaults: the plugin's options: the same words.
    :returns: None when the task is not retried.
    :raises InvalidSetting: the options break a rule.

    Example::

        read_policy({"times": 5}, {"waiting": "1 minute"})  # Policy(times=5, waiting=60.0, ...)
    """
    if written is None or written is False:
        return None
    words = msgspec.convert(written, Written)
    known = _values(_read_options(defaults)) if defaults else {}
    if isinstance(words, Words):
        known.update(_values(words))
    elif words is not True:
        known["times"] = words
    return Policy(**known)


def _read_options(values: Mapping[str, Any]) -> Words:
    try:
        return msgspec.convert(dict(values), Words)
    except msgspec.ValidationError as error:
        message = str(error).replace("`$", "`TRIGGER_PLUGIN_OPTIONS['retry']")
        raise InvalidSetting(f"retry: {message.replace(' - at', ', at')}") from None


def _given(words: Words) -> dict[str, Any]:
    return {
        name: value
        for name in words.__struct_fields__
        if (value := getattr(words, name)) is not UNSET
    }


def _values(words: Words) -> dict[str, Any]:
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
