"""RESP, the Redis serialization protocol: the encoding of commands.

Redis-py's own encoder takes arguments of any type; here all of them are bytes, and those that stay
the same from request to request are encoded once.
"""

from __future__ import annotations

from collections.abc import Iterable


def encode_arguments(arguments: Iterable[bytes]) -> bytes:
    """Arguments of a command: each as its length and its bytes."""
    return b"".join([b"$%d\r\n%b\r\n" % (len(each), each) for each in arguments])


def encode_command(*arguments: bytes) -> bytes:
    """A whole command."""
    return b"*%d\r\n%b" % (len(arguments), encode_arguments(arguments))
