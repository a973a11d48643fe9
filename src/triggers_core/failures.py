"""What is kept of a failure: its type, message, traceback and attached context, capped.

Recording a failure must not fail, and must not leak: tracebacks carry no local variables, and what
looks like a secret is masked.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any

import msgspec

from triggers_core import payloads
from triggers_core.exceptions import context_of
from triggers_core.limits import Limits
from triggers_core.records import NOTHING, Instance
from triggers_core.redaction import mask, mask_url

_ENDS = 2  # a traceback that is too long keeps its two ends: where it began and where it broke


def describe_error(error: BaseException, limits: Limits | None = None) -> dict[str, Any]:
    """Describe an error for an instance's metadata.

    :returns: ``{"type", "message", "traceback"?, "context"?}``; text only, each part capped so
        that the whole fits `Limits.record_bytes`.
    """
    room = (limits or Limits()).record_bytes
    described: dict[str, Any] = {
        "type": _type_name(error),
        "message": _cut(mask_url(_text(error)), room // 8),
    }
    lines = _traceback(error)
    if lines:
        described["traceback"] = _cut(mask_url("".join(lines)), room // 4)
    context = context_of(error)
    if context:
        described["context"] = payloads.decode(payloads.encode_leniently(mask(context), room // 4))
    return described


def read_metadata(instance: Instance) -> dict[str, Any]:
    """An instance's metadata, decoded."""
    if instance.metadata is NOTHING:
        return {}
    return payloads.decode(bytes(instance.metadata))


def encode_metadata(metadata: Mapping[str, Any], limits: Limits) -> msgspec.Raw:
    """Encode metadata leniently, cut to `Limits.record_bytes`."""
    return msgspec.Raw(payloads.encode_leniently(metadata, limits.record_bytes))


def _type_name(error: BaseException) -> str:
    kind = type(error)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return f"(the message of this {type(error).__name__} cannot be shown)"


def _traceback(error: BaseException) -> list[str]:
    if error.__traceback__ is None:
        return []
    try:
        return traceback.format_exception(error)
    except Exception:  # a broken __str__ somewhere in the chain
        return traceback.format_tb(error.__traceback__)


def _cut(text: str, size: int) -> str:
    if len(text) <= size:
        return text
    end = size // _ENDS
    return f"{text[:end]}\n… {len(text) - 2 * end:,} characters left out …\n{text[-end:]}"
