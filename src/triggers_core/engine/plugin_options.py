"""The options of plugins: read-only, checked against a plugin's own type when it asks for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from triggers_core.exceptions import InvalidSetting
from triggers_core.texts import convert

T = TypeVar("T")


class PluginOptions(Mapping[str, Mapping[str, Any]]):
    """The setting `TRIGGER_PLUGIN_OPTIONS`: plugin → its options.

    Example::

        PluginOptions({"retry": {"times": 5}}).read("retry", RetryOptions).times  # 5
    """

    def __init__(self, values: Mapping[str, Mapping[str, Any]]) -> None:
        self._values = values
        self._read: dict[tuple[str, type], Any] = {}

    def __getitem__(self, plugin: str) -> Mapping[str, Any]:
        return self._values[plugin]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def read(self, plugin: str, kind: type[T], given: Mapping[str, Any] | None = None) -> T:
        """A plugin's options, as its type. They are checked once, and may be asked for every time.

        :param kind: what `msgspec.convert` can make: a Struct that forbids unknown fields.
        :param given: options that win over those of the setting.
        :raises InvalidSetting: names the plugin and what does not fit.
        """
        known: T | None = None if given else self._read.get((plugin, kind))
        if known is not None:
            return known
        values = {**self._values.get(plugin, {}), **(given or {})}
        try:
            found: T = convert(values, kind, f"TRIGGER_PLUGIN_OPTIONS[{plugin!r}]")
        except ValueError as error:
            raise InvalidSetting(f"{plugin}: {error}") from None
        if not given:
            self._read[plugin, kind] = found
        return found
