"""Kwargs as people edit them: JSON, with a tag for each value that JSON lacks.

The tags are those of stored payloads: ``{"$decimal": "9.90"}``. Whoever may not see secrets edits
masked values: what is left as it was shown stands for what is stored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from triggers_core import payloads
from triggers_core.exceptions import InvalidInput, InvalidPayload
from triggers_core.limits import Limits
from triggers_core.payloads.values import LOADERS
from triggers_core.redaction import MASK, mask
from triggers_web.intake.bodies import parse_body
from triggers_web.intake.errors import NotTaken

_ROOMY: Final = Limits(kwargs_bytes=16_777_216, kwargs_depth=64)


class Unreadable(ValueError):
    """What was typed is nothing that can be stored; says what, and where."""


def as_text(kwargs: Mapping[str, Any], secrets: bool = False) -> str:
    """Kwargs, to be edited.

    :param secrets: do not mask them.

    Example::

        as_text({"total": Decimal("9.90")})  # {"total": {"$decimal": "9.90"}}, with line breaks
    """
    shown = kwargs if secrets else mask(kwargs)
    plain = json.loads(payloads.encode(shown, _ROOMY))
    return json.dumps(plain, indent=2, ensure_ascii=False)


def from_text(text: str, stored: Mapping[str, Any], secrets: bool = False) -> dict[str, Any]:
    """Kwargs that were edited.

    :param stored: what `as_text` was given.
    :param secrets: likewise.
    :raises Unreadable: it is no JSON object, holds an unknown tag, or a mask in a new place.

    Example::

        from_text('{"amount": 5, "token": "***"}', {"amount": 4, "token": "tok_1"})
        # {"amount": 5, "token": "tok_1"}
    """
    try:
        plain = parse_body(text.encode("utf-8", "surrogatepass"))
    except NotTaken as error:
        raise Unreadable(error.reason.replace("the body", "the text", 1)) from None
    if type(plain) is not dict:
        raise Unreadable('the text has to be an object, such as {"amount": 42}')
    check(plain, _ROOMY)  # names the place of a text that is none
    try:
        found = payloads.decode(json.dumps(plain, separators=(",", ":")).encode())
    except InvalidPayload as error:
        what = error.__cause__ or str(error).partition(";")[0].replace("a stored payload", "it", 1)
        tags = ", ".join(LOADERS)
        raise Unreadable(
            f"a tag of the text cannot be read: {what}. Known are {tags}; an object that has one"
            ' key with $ is written {"$dict": {"$ref": 1}}'
        ) from None
    if secrets:
        return found
    restored: dict[str, Any] = _restored(found, mask(stored), stored, "kwargs")
    return restored


def check(kwargs: Mapping[str, Any], limits: Limits, place: str = "kwargs") -> None:
    """Refuse what cannot be stored.

    :raises Unreadable: names the place of the value.
    """
    try:
        payloads.encode(kwargs, limits, place)
    except InvalidInput as error:
        raise Unreadable(str(error)) from None


def _restored(edited: Any, shown: Any, stored: Any, path: str) -> Any:
    """What was edited, with what is stored wherever it was left as it was shown."""
    if type(edited) is dict:
        below = shown if type(shown) is dict else {}
        return {
            key: _restored(value, below.get(key), _at(stored, key), f"{path}[{key!r}]")
            for key, value in edited.items()
        }
    if type(edited) is list:
        masked = shown if type(shown) is list and len(shown) == len(edited) else []
        return [
            _restored(
                value,
                masked[index] if masked else None,
                stored[index] if masked else None,
                f"{path}[{index}]",
            )
            for index, value in enumerate(edited)
        ]
    if type(edited) is type(shown) and repr(edited) == repr(shown):
        return stored
    if type(edited) is str and (edited == MASK or (MASK in edited and MASK in str(shown))):
        raise Unreadable(
            f"{path}: {MASK} stands for a value that you may not see, and what is around it was"
            " changed: write the value itself"
        )
    return edited


def _at(stored: Any, key: str) -> Any:
    return stored.get(key) if type(stored) is dict else None
