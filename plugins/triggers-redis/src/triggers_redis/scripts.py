"""The Lua scripts. Each runs atomically on the server; the texts are in the folder `lua`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Final

from triggers_redis.resp import encode_arguments


class Script:
    """A script, and the commands that run it.

    :param parts: names of the files that make it up.
    """

    def __init__(self, *parts: str) -> None:
        folder = files("triggers_redis") / "lua"
        texts = [(folder / f"{part}.lua").read_text("utf-8") for part in parts]
        self.source = "\n".join(texts).encode()
        # SHA-1 is what EVALSHA names scripts by; nothing rests on its strength.
        self.sha = hashlib.sha1(self.source, usedforsecurity=False).hexdigest().encode()
        self._by_sha = encode_arguments((b"EVALSHA", self.sha))
        self._by_source = encode_arguments((b"EVAL", self.source))

    def command(self, count: int, keys: bytes, arguments: Sequence[bytes]) -> bytes:
        """The command that runs it by its hash.

        :param count: how many keys there are in `keys`, which is encoded already.
        """
        size, digits = 3 + count + len(arguments), 1 if count < 10 else len(str(count))
        return b"*%d\r\n%b$%d\r\n%d\r\n%b%b" % (
            *(size, self._by_sha, digits, count, keys, encode_arguments(arguments)),
        )

    def full_command(self, count: int, keys: bytes, arguments: Sequence[bytes]) -> bytes:
        """The command that brings its text along, for a server that does not know it (yet)."""
        command = self.command(count, keys, arguments)
        return command.replace(self._by_sha, self._by_source, 1)


LOAD: Final = Script("session", "load")
COMMIT: Final = Script("session", "commit")
CLAIM: Final = Script("session", "attempt", "claim")
HEARTBEAT: Final = Script("session", "attempt", "heartbeat")
DELETE: Final = Script("delete")
LIST_DUE: Final = Script("due")
HEADERS: Final = Script("headers")
PAGES: Final = Script("pages")
GROUPS: Final = Script("groups")
MEMBERS: Final = Script("members")
LISTING: Final = Script("listing")
AMOUNTS: Final = Script("amounts")
LEASE: Final = Script("lease")
NAMESPACE: Final = Script("namespace")
ERASE_CONFIGURATIONS: Final = Script("configurations")
