"""A cache of decoded configurations, by their hash, so that a process decodes each once."""

from __future__ import annotations

from typing import Final

from triggers_core.engine.configuration import Configuration

_MAX_ENTRIES: Final = 256
"""Configurations that a process keeps. Applications have a few; those that give each session its
own have as many as sessions, and no use for an old one."""


class ConfigurationCache:
    """The configurations that were used last. Safe between threads, and between any two steps.

    They are addressed by their content, so that none is ever out of date.

    Example::

        cache = ConfigurationCache()
        cache.put(configuration.hash, configuration)
        cache.get(configuration.hash)
    """

    def __init__(self, most: int = _MAX_ENTRIES) -> None:
        """:param most: how many it keeps; of those put in earlier, half are forgotten at once."""
        self._most = most
        self._recent: dict[str, Configuration] = {}
        self._older: dict[str, Configuration] = {}

    def __len__(self) -> int:
        return len(self._recent) + len(self._older)

    def get(self, address: str) -> Configuration | None:
        """The configuration of an address; None when it is not kept."""
        found = self._recent.get(address)
        if found is None and (found := self._older.get(address)) is not None:
            self.put(address, found)
        return found

    def put(self, address: str, configuration: Configuration) -> None:
        """Keep one."""
        if len(self._recent) >= max(1, self._most // 2):
            self._older, self._recent = self._recent, {}
        self._recent[address] = configuration
