"""``fork_store.py FILE UID ENDING``: forks five times while one of its threads fires all the time.

Every child fires through the store that it has inherited, then ends: as ``multiprocessing`` ends
its children (``abrupt``), as a program does, destroying what it has inherited (``ordinary``), or
after it has closed the store (``closing``).
"""

from __future__ import annotations

import os
import sys
import threading
import warnings

from gate import fire

from triggers_core.storages.sqlite import SqliteStore

path, uid, ending = sys.argv[1:]
store = SqliteStore.shared(path)
firing, enough = threading.Event(), threading.Event()


def fire_all_the_time() -> None:
    number = 0
    while not enough.is_set():
        fire(store, uid, f"parent:{number}")
        number += 1
        firing.set()
    print(number)


def be_a_child(me: int) -> None:
    for number in range(10):
        fire(store, uid, f"child {me}:{number}")
    if ending == "abrupt":
        os._exit(0)
    if ending == "closing":
        store.close()
    sys.exit(0)


thread = threading.Thread(target=fire_all_the_time)
fire(store, uid, "begin")
thread.start()
firing.wait()
for me in range(5):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns: there is a thread
        child = os.fork()
    if not child:
        be_a_child(me)
    assert os.waitpid(child, 0)[1] == 0
enough.set()
thread.join()
fire(store, uid, "end")
store.close()
