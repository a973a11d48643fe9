"""Kwargs in place of the recorded ones, as replays and retries take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from triggers_core.exceptions import InvalidPayload
from triggers_core.limits import Limits
from triggers_core.payloads.codec import decode, encode


def encode_replacement(kwargs: Mapping[str, Any], limits: Limits) -> bytes:
    """Check and encode kwargs (key → kwargs, or a list of them) that replace the recorded ones.

    :raises InvalidPayload: it is no mapping of those, or holds what cannot be stored.
    """
    place = "replacement_kwargs"
    if not isinstance(kwargs, Mapping):
        raise InvalidPayload(
            f"{place}: expected a mapping of trigger to kwargs, got {type(kwargs).__name__}", place
        )
    encoded = encode(kwargs, limits, place)
    for trigger, value in decode(encoded).items():
        if not is_kwargs(value):
            raise InvalidPayload(
                f"{place}[{trigger!r}]: expected a mapping (it is trigger → kwargs), or a list of"
                f" mappings, got {type(value).__name__}",
                f"{place}[{trigger!r}]",
            )
    return encoded


def is_kwargs(value: object) -> bool:
    """Whether it can be what a body gets under one key: kwargs, or a list of kwargs."""
    members = value if isinstance(value, list) else [value]
    return all(isinstance(each, dict) for each in members)
