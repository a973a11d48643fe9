"""Refusals of configurations: the place, what is wrong there, and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

from triggers_core import payloads
from triggers_core.engine.names import check_name
from triggers_core.exceptions import InvalidConfiguration, InvalidInput
from triggers_core.limits import Limits
from triggers_core.texts import did_you_mean, short_repr

STORED: Final = Limits(kwargs_bytes=16_000_000, kwargs_depth=64)
"""The bounds of what a configuration stores."""

_ATTRIBUTE: Final = re.compile(r"\['([^\W\d]\w*)'\]")


def refusal(place: str, message: str) -> InvalidConfiguration:
    """The error to raise about a place such as ``t_x.after[1]``."""
    return InvalidConfiguration(f"{place}: {message}" if place else message, place)


def inside(place: str, key: str) -> str:
    """The place of a key: ``t_x.after.where.amount``, or ``….where['order.total']``."""
    return f"{place}.{key}" if key.isidentifier() else f"{place}[{short_repr(key)}]"


def checked_name(place: str, value: object, what: str = "trigger name") -> str:
    """A trigger's or key's name.

    :raises InvalidConfiguration: it is none.
    """
    try:
        return check_name(value, what)
    except InvalidInput as error:
        raise refusal(place, str(error)) from None


def plain_mapping(place: str, value: object) -> dict[str, Any]:
    """A mapping as it is stored and read again; None is an empty one.

    :raises InvalidConfiguration: it is no mapping, or something in it cannot be stored.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise refusal(place, f"expected a mapping, got {short_repr(value)}")
    try:
        return payloads.decode(payloads.encode(value, STORED, place))
    except InvalidInput as error:
        raise InvalidConfiguration(str(error), getattr(error, "path", place)) from error


def plain_value(place: str, value: object) -> Any:
    """Any value as it is stored and read again; errors tell places as in ``t_x.retry.times``.

    :raises InvalidConfiguration: something in it cannot be stored.
    """
    try:
        return plain_mapping(place, {"value": value})["value"]
    except InvalidConfiguration as error:
        path = place + error.path.removeprefix(place).removeprefix("['value']")
        path = _ATTRIBUTE.sub(r".\1", path)
        raise InvalidConfiguration(str(error).replace(error.path, path, 1), path) from error


def read_words(
    place: str,
    value: Mapping[Any, Any],
    known: Iterable[str],
    cures: Mapping[str, str] | None = None,
    what: str = "word",
) -> dict[str, Any]:
    """The words of a mapping; it is read no further than there are known ones.

    :param cures: what to write instead of words that people take for known ones.
    :param what: what the words are.
    :raises InvalidConfiguration: one is unknown.
    """
    known = tuple(known)
    found: dict[str, Any] = {}
    for word, each in islice(value.items(), len(known) + 1):
        if word not in known:
            cure = cures.get(word) if cures and isinstance(word, str) else None
            hint = f": {cure}" if cure else did_you_mean(word, known)
            raise refusal(place, f"unknown {what} {short_repr(word)}{hint}")
        found[str.__str__(word)] = each
    return found
