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
        "message": _cut(message_of(error), room // 8),
    }
    if error.__traceback__ is not None:
        described["traceback"] = traceback_of(error, room // 4)
    context = context_of(error)
    if context:
        # Objects become text on the way, and that may show secrets too.
        plain = payloads.decode(payloads.encode_leniently(mask(context), room // 4))
        described["context"] = mask(plain)
    return described


def message_of(error: BaseException) -> str:
    """An error's message, secrets masked; never raises."""
    return mask_url(_text(error))


def traceback_of(error: BaseException, size: int | None = None) -> str:
    """An error's traceback as text: no local variables, secrets masked.

    :param size: characters to keep at most, from both ends; None keeps all.
    """
    text = mask_url("".join(_traceback(error)).rstrip("\n"))
    return text if size is None else _cut(text, size)


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
    try:
        return traceback.format_exception(error)
    except Exception:  # a broken __str__ somewhere in the chain
        return traceback.format_tb(error.__traceback__)


def _cut(text: str, size: int) -> str:
    if len(text) <= size:
        return text
    end = size // _ENDS
    return f"{text[:end]}\n… {len(text) - 2 * end:,} characters left out …\n{text[-end:]}"
