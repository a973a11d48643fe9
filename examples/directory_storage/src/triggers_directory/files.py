"""Files that are replaced as a whole, and locks that other threads and processes respect.

The locks are `flock`'s, so this runs on Linux and macOS and is not importable elsewhere.
"""

import fcntl
import os
from io import FileIO
from pathlib import Path


def locked(path: Path) -> FileIO:
    """Wait for the lock beside a file, in a ``with`` statement; closing the answer gives it back.

    The system gives it back if the process dies. It is a file and no generator, because the end
    of its ``with`` block is C code, before which no signal handler can raise.
    """
    lock = path.with_suffix(".lock")
    while True:
        make_directory(path.parent)
        file = FileIO(lock, "a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if is_there(lock, file):
                return file
        except BaseException:
            file.close()
            raise
        file.close()  # somebody had it, and has erased it with its session


def is_there(path: Path, file: FileIO) -> bool:
    """Whether an open file is the one that has the name now."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def replace(path: Path, content: bytes) -> None:
    """Write all of a file or nothing, whenever the process or the power ends. Needs its lock."""
    new = path.with_suffix(".new")
    with open(new, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
    sync(path.parent)


def erase(path: Path) -> bool:
    """Delete a file, and its lock last; whether there was one. Needs its lock."""
    existed = path.exists()
    for suffix in (path.suffix, ".new", ".lock"):
        path.with_suffix(suffix).unlink(missing_ok=True)
    sync(path.parent)
    return existed


def make_directory(path: Path) -> bool:
    """Make a directory and those above it; whether there was anything to do."""
    if path.is_dir():
        return False
    make_directory(path.parent)
    path.mkdir(exist_ok=True)
    sync(path.parent)
    return True


def sync(directory: Path) -> None:
    """Bring the names in a directory to the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
