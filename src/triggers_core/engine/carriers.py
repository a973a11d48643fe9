"""Carriers: what travels with an event for tracers, so that whoever takes it knows who fired it.

A carrier is a small mapping of texts, such as ``{"traceparent": "00-4bf9…-00f0…-01"}`` (the word is
OpenTelemetry's; the key and its form are those of W3C Trace Context). It is no part of an event's
payload: nothing decides by it, and a repeated event is recognised without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from triggers_core.exceptions import InvalidArgument
from triggers_core.texts import short_repr

CARRIER_SIZE: Final = 1_024
"""Characters of a carrier, keys and values together. W3C Trace Context asks for 55 of a
`traceparent`, and for room for 512 of a `tracestate`."""


def check_carrier(carrier: object) -> dict[str, str] | None:
    """A carrier as it is stored; None when there is nothing in it.

    :raises InvalidArgument: it is no mapping of printable texts, or too long.

    Example::

        check_carrier({"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"})
    """
    if not carrier:
        return None
    if not isinstance(carrier, Mapping):
        raise InvalidArgument(f"carrier: expected a mapping of texts, got {short_repr(carrier)}")
    kept, size = {}, 0
    for key, value in carrier.items():
        if type(key) is not str or type(value) is not str:
            raise InvalidArgument(
                f"carrier: expected a mapping of texts, got {short_repr(key)}: {short_repr(value)}"
            )
        if not (key.isprintable() and value.isprintable()):
            raise InvalidArgument(
                f"carrier: {short_repr(key)}: expected printable text, got {short_repr(value)}"
            )
        size += len(key) + len(value)
        kept[key] = value
    if size > CARRIER_SIZE:
        raise InvalidArgument(
            f"carrier: {size:,} characters, the limit is {CARRIER_SIZE:,}: keep what identifies the"
            " trace, and nothing else"
        )
    return kept
