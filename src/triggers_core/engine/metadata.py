"""Metadata of an instance, and the count of warnings in its log that nobody has dealt with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from triggers_core import payloads
from triggers_core.engine.machine import Draft
from triggers_core.engine.records import NOTHING, Instance
from triggers_core.limits import Limits


def read_metadata(instance: Instance) -> dict[str, Any]:
    """An instance's metadata, decoded."""
    if instance.metadata is NOTHING:
        return {}
    return payloads.decode(bytes(instance.metadata))


def encode_metadata(metadata: Mapping[str, Any], limits: Limits) -> msgspec.Raw:
    """Encode metadata leniently, cut to `Limits.record_bytes`."""
    return msgspec.Raw(payloads.encode_leniently(metadata, limits.record_bytes))


def add_metadata(draft: Draft, instance: Instance, more: Mapping[str, Any]) -> None:
    """Merge what became of an attempt into the metadata; never fails, cut to the limit."""
    if more:
        merged = {**read_metadata(instance), **more}
        instance.metadata = encode_metadata(merged, draft.rules.limits)


def resolve_logs(draft: Draft, instance: Instance) -> None:
    """Count the logs of a stored instance as dealt with: somebody said so, or it is replayed."""
    if instance.has_open_logs:
        count_logs(draft, instance, -1)
        instance.logs_resolved = True


def count_logs(draft: Draft, instance: Instance, change: int) -> None:
    """Keep the header's count of instances with unresolved logs, per level."""
    counts, level = draft.header.open_logs, instance.log_level
    counts[level] = counts.get(level, 0) + change
    if not counts[level]:
        del counts[level]
