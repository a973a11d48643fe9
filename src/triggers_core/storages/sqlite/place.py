"""The identity of a SQLite file: whether it can be one, and is still the one that was opened.

SQLite relies on things that a file system must give, and that somebody can take away: one name a
file (each name would have a log of its own), memory that all its users share (a network drive has
none), and that its three files stay where they are while they are open.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from typing import Final

from triggers_core.exceptions import InvalidSetting, StorageError

logger: logging.Logger = logging.getLogger(__name__)

REOPENINGS: Final = 5
"""How often a file is opened anew that is replaced again and again while it is written to."""

_REMOTE: Final = frozenset(
    (
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "ceph", "lustre", "beegfs"),
        *("gpfs", "glusterfs", "ocfs2", "gfs2", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph"),
        *("fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "fuse.mfs", "fuse.juicefs"),
    )
)
_DOUBTFUL: Final = frozenset({"9p", "virtiofs", "vboxsf", "fuse.grpcfuse", "fuse.vmhgfs-fuse"})
_ANONYMOUS: Final = 0  # the major number of file systems that have no device of this machine

Identity = tuple[int, int]
"""Device and inode."""


def check_path(path: object) -> str:
    """A file's absolute path; nothing is opened.

    :raises InvalidSetting: it cannot be the path of a file.
    """
    if not isinstance(path, str | os.PathLike):
        raise InvalidSetting(f"sqlite: path must be text or a pathlib.Path, got {path!r}")
    text = os.fspath(path)
    if not isinstance(text, str):
        raise InvalidSetting(f"sqlite: path must be text, got bytes: decode {text!r} first")
    if not text or "\0" in text:
        raise InvalidSetting(f"sqlite: path must name a file, got {text!r}")
    if text == ":memory:":
        raise InvalidSetting("sqlite: ':memory:' is no file: use the storage 'memory'")
    return os.path.abspath(text)


def identity(path: str) -> Identity:
    """Which file the path leads to; (0, 0) for none."""
    try:
        found = os.stat(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return (0, 0)
        raise
    return (found.st_dev, found.st_ino)


def check_file(path: str) -> Identity:
    """Which file the path leads to, (0, 0) for none yet; that SQLite can keep its promises there.

    :raises StorageError: it is no file, one with several names, or on a network drive.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError:
        folder = os.path.dirname(path)
        try:
            _check_file_system(path, os.stat(folder).st_dev)
        except FileNotFoundError:
            raise StorageError(
                f"cannot open the SQLite file {path}: there is no folder {folder}"
            ) from None
        return (0, 0)
    if stat.S_ISDIR(found.st_mode):
        raise StorageError(f"cannot open the SQLite file {path}: it is a folder")
    if not stat.S_ISREG(found.st_mode):
        raise StorageError(f"cannot open the SQLite file {path}: it is no regular file")
    if found.st_nlink > 1:
        raise StorageError(
            f"cannot open the SQLite file {path}: it has {found.st_nlink} names (hard links), and"
            " each would have a log of its own, so that commits get lost. Copy the file in place of"
            " linking it (cp without -l; a symbolic link will do), and remove the other names"
        )
    _check_file_system(path, found.st_dev)
    return (found.st_dev, found.st_ino)


def _check_file_system(path: str, device: int) -> None:
    kind = file_system(device)
    if kind in _REMOTE:
        raise StorageError(
            f"cannot open the SQLite file {path}: it is on a network drive ({kind}), where"
            " processes cannot share memory, so that commits get lost. Put it on a local disk, or"
            " use a storage for several machines, such as redis"
        )
    if kind in _DOUBTFUL and device not in _warned:
        _warned.add(device)
        logger.warning(
            "the SQLite file %s is on a shared drive (%s): safe as long as all processes that use"
            " it run on this machine",
            path,
            kind,
        )


_warned: set[int] = set()


def file_system(device: int) -> str:
    """The type of a mounted file system, such as ``nfs4``; empty when nobody can tell."""
    if os.major(device) != _ANONYMOUS:
        return ""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            for line in mounts:
                fields, _, rest = line.partition(" - ")
                if fields.split(" ", 3)[2] == wanted:
                    return rest.split(" ", 1)[0]
    except (OSError, IndexError):
        pass
    return ""
