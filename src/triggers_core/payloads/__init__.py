"""Payloads: the kwargs of events and the results of tasks, to bytes and back, unchanged."""

from __future__ import annotations

from triggers_core.payloads.codec import (
    MAX_INT_BITS,
    decode,
    decoder_of,
    digest,
    encode,
    encode_leniently,
    merge,
    same,
)
from triggers_core.payloads.replacement import encode_replacement, is_kwargs

__all__ = [
    "MAX_INT_BITS",
    "decode",
    "decoder_of",
    "digest",
    "encode",
    "encode_leniently",
    "encode_replacement",
    "is_kwargs",
    "merge",
    "same",
]
