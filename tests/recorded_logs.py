"""Logs of real events, and the oracle that came with them: where they are, if they are there."""

from __future__ import annotations

import runpy
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from triggers_core.testing.oracle import Described
from triggers_core.testing.replays import RecordedLog

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
LOGS = ("receipt_sample", "receipt")


def recorded_log(name: str) -> RecordedLog:
    return RecordedLog(DATA / name)


@cache
def _reference() -> dict[str, Any]:
    if not (DATA / "reference.py").exists():
        pytest.skip("the oracle is not beside the repository (../shared/data/reference.py)")
    return runpy.run_path(str(DATA / "reference.py"))


def reference(config: dict[str, Any], triggers: list[str], session: str) -> Described:
    """What that oracle says of one session whose log holds just these triggers."""
    return {
        (session, instance.name): {
            "status": instance.status,
            "at_event": instance.at,
            "kwargs_from": instance.kw,
            "unless_seen": sorted(instance.ab),
        }
        for instance in _reference()["replay"](config, list(enumerate(triggers)))
    }
