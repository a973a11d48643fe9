"""What is asked of the interpreter itself."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading

import pytest

from triggers_core.interpreter import stacks

COLLECTING = """
import gc, threading
from triggers_core.interpreter import stacks

class Cycle:
    def __init__(self):
        self.me, self.local = self, threading.local()
        self.local.x = 1

def look():
    Cycle()
    return stacks()  # the frame of this function is made by it

for number in range(20_000):
    gc.set_threshold(1 + number % 13)
    look()
print("done", flush=True)
"""


def test_a_collection_meanwhile_stops_nobody() -> None:
    command = [sys.executable, "-c", COLLECTING]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.stdout == "done\n"


@pytest.mark.parametrize("enabled", [True, False])
def test_collection_is_left_as_it_was(enabled: bool) -> None:
    (gc.enable if enabled else gc.disable)()
    try:
        assert threading.get_ident() in stacks()
        assert gc.isenabled() is enabled
    finally:
        gc.enable()
