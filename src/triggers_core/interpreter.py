"""Introspection of the interpreter: the stacks of all threads, without its deadlock."""

from __future__ import annotations

import gc
import sys
from types import FrameType


def stacks() -> dict[int, FrameType]:
    """The innermost frame of each thread, by the thread's id.

    Python up to 3.11.8 makes these frames with a lock held that the garbage collection of a
    `threading.local` takes, too: one that is collected in the middle stops the process for ever.
    Later versions pause the collection by themselves
    (https://github.com/python/cpython/issues/106883).
    """
    collects = gc.isenabled()
    try:
        gc.disable()
        return sys._current_frames()
    finally:
        if collects:
            gc.enable()
