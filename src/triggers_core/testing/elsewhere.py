"""Other processes that work on the same store, for the promises that only hold between processes.

A process is started with the interpreter and the path of this one, and told job by job what to do.
As a program, this module is such a process.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from typing import IO, Any, Final

from triggers_core.storages.base import Clock, Store

Opener = Callable[..., Store]
"""Called as ``opener(clock=…)``: opens a store at a place that it knows. Another process has to be
able to unpickle it: a class or function of a module, or `functools.partial` of one."""

Job = Callable[..., Any]
"""Called with the store, a function `say`, and arguments; what it says and returns is heard."""

_PATIENCE: Final = 240.0  # seconds until a process that hangs is killed; nothing waits that long


class Elsewhere:
    """Another process; started with its first job.

    Example::

        with Elsewhere() as other:
            other.prepare(partial(FolderStore, path), clock, fire_each, "order:1", "paid")
            other.go()
            assert other.hear() == ["t_ship#0"]
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Elsewhere:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.kill()

    def prepare(self, opener: Opener, clock: Clock, job: Job, *arguments: Any) -> None:
        """Have a job prepared: the store is open, and the process waits for `go`.

        :raises AssertionError: the process cannot open the store.
        """
        try:
            order = pickle.dumps((opener, clock, job, arguments))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise AssertionError(
                f"another process cannot be told how to open this store: {error}; the fixture"
                " opener returns a class or function of a module that can be imported, or a"
                " functools.partial of one"
            ) from error
        if self._process is None:
            self._process = _started()
        _send(self._pipe(self._process.stdin), order)
        said = self.hear()
        assert said == "ready", said

    def go(self) -> None:
        """Let the job begin."""
        assert self._process is not None
        _send(self._pipe(self._process.stdin), b"")

    def hear(self) -> Any:
        """Wait for what the job says or, at its end, returns.

        :raises AssertionError: it raised, or its process has died or hung.
        """
        assert self._process is not None
        watchdog = threading.Timer(_PATIENCE, self._process.kill)
        watchdog.start()
        try:
            frame = _receive(self._pipe(self._process.stdout))
        finally:
            watchdog.cancel()
        if frame is None:
            code = self._process.wait()
            raise AssertionError(f"the other process hung or died (exit code {code}); see stderr")
        kind, value = pickle.loads(frame)
        assert kind == "said", f"another process failed:\n{value}"
        return value

    def kill(self) -> None:
        """End the process at once, whatever it is doing, as a power cut does."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                self._pipe(pipe).close()

    @staticmethod
    def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
        assert pipe is not None
        return pipe


def _started() -> subprocess.Popen[bytes]:
    path = os.pathsep.join(os.path.abspath(each) for each in sys.path)
    return subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        env={**os.environ, "PYTHONPATH": path},
    )


def _send(pipe: IO[bytes], frame: bytes) -> None:
    left = memoryview(len(frame).to_bytes(8, "big") + frame)
    while left:
        left = left[pipe.write(left) :]


def _receive(pipe: IO[bytes]) -> bytes | None:
    """The next frame; None at the end."""
    size = _exactly(pipe, 8)
    return None if size is None else _exactly(pipe, int.from_bytes(size, "big"))


def _exactly(pipe: IO[bytes], size: int) -> bytes | None:
    parts = b""
    while len(parts) < size:
        part = pipe.read(size - len(parts))
        if not part:
            return None
        parts += part
    return parts


# -- the other process ----------------------------------------------------------------------------


def main() -> None:
    """Do jobs until there are none."""
    orders, answers = os.fdopen(os.dup(0), "rb", 0), os.fdopen(os.dup(1), "wb", 0)
    os.dup2(2, 1)  # what a storage prints is no answer

    def say(value: Any, kind: str = "said") -> None:
        _send(answers, pickle.dumps((kind, value)))

    while (order := _receive(orders)) is not None:
        try:
            opener, clock, job, arguments = pickle.loads(order)
            with opener(clock=clock) as store:
                store.sessions(limit=1)
                say("ready")
                _receive(orders)
                result = job(store, say, *arguments)
            say(result)
        except BaseException:
            say(traceback.format_exc(), "error")


if __name__ == "__main__":
    main()
