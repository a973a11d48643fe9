"""Kwargs in place of the recorded ones, as replays and retries take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from triggers_core.exceptions import InvalidPayload
from triggers_core.limits import Limits
from triggers_core.payloads.codec import decode, encode


def encode_replacement(kwargs: Mapping[str, Any], limits: Limits) -> bytes:
    """Check and encode kwargs (trigger → kwargs) that replace the recorded ones.

    :raises InvalidPayload: it is no mapping of mappings, or holds what cannot be stored.
    """
    place = "replacement_kwargs"
    if not isinstance(kwargs, Mapping):
        raise InvalidPayload(
            f"{place}: expected a mapping of trigger to kwargs, got {type(kwargs).__name__}", place
        )
    encoded = encode(kwargs, limits, place)
    for trigger, value in decode(encoded).items():
        if not isinstance(value, dict):
            raise InvalidPayload(
                f"{place}[{trigger!r}]: expected a mapping (it is trigger → kwargs), got"
                f" {type(value).__name__}",
                f"{place}[{trigger!r}]",
            )
    return encoded
