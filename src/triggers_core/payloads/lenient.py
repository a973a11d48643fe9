"""`encode_leniently`: payloads of anything, for the contexts of errors and logs."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

import msgspec

from triggers_core.exceptions import from_outside
from triggers_core.payloads.refusals import a_kind
from triggers_core.payloads.walk import escaped, walk
from triggers_core.texts import short_repr

_to_json = msgspec.json.Encoder().encode
_LENIENT_LEVELS = (8, 4, 2, 1)  # what explains an error to people is hardly ever deeper than 8
_MORE = "…"


def encode_leniently(value: object, max_bytes: int) -> bytes:
    """Return anything as bytes for `decode`; what cannot be stored becomes a short text.

    For the contexts of errors and logs: recording a failure must not fail. It raises nothing,
    whatever it is given: broken `__repr__`, cycles, NaN, keys that are no str, endless iterables.
    Long texts are cut in their middle, long collections at their end (where `…` says how much is
    missing), and what is nested more than 8 levels deep is abridged, until the whole fits.

    :param value: a mapping is kept as one, None is empty, anything else is put under `value`.
    :param max_bytes: size of the result, in bytes; less than 2 counts as 2, an empty dict.

    Example::

        encode_leniently({"job": object(), "page": 3}, 1_000)
    """
    # Texts and collections get shorter first, down to 8 items; then it gets flatter.
    for levels in _LENIENT_LEVELS if value is not None else ():
        longest, most = max(max_bytes, 16), max_bytes
        while most >= (8 if levels > 1 else 1):
            try:
                lenient = _Lenient(longest, most, max_bytes)
                data = _to_json(lenient.keep_top(value, levels))
                if lenient.left >= 0 and len(data) <= max_bytes:
                    return data
            except BaseException as error:  # no stack or memory left: less may do
                if from_outside(error):
                    raise
            longest, most = max(longest // 2, 16), most // 2
    return b"{}"


class _Lenient:
    """One try at keeping a value: in texts of `longest` characters and `most` items each."""

    def __init__(self, longest: int, most: int, left: int) -> None:
        self.longest = longest
        self.most = most
        self.left = left  # bytes, as `room` above; once it is below 0, this try has failed

    def keep_top(self, value: object, levels: int) -> dict[str, Any]:
        try:
            is_mapping = isinstance(value, Mapping)
        except BaseException as error:  # a property __class__ that fails
            if from_outside(error):
                raise
            is_mapping = False
        kept = self.keep(value, levels)
        return kept if is_mapping and type(kept) is dict else {"value": kept}

    def keep(self, value: Any, levels: int) -> Any:
        self.left -= 1
        try:
            if isinstance(value, str):
                return self.text(value)
            if not isinstance(value, (Mapping, list, tuple)):
                kept, room = walk(value, 0, self.longest)
                self.left -= self.longest - room
                return kept
            if not levels:
                return self.text(f"{_MORE} {a_kind(value)} of {len(value):,}")
            if isinstance(value, Mapping):
                return self.mapping(value, levels - 1)
            return self.items(value, levels - 1)
        except BaseException as error:  # it is refused, or its class is broken
            if from_outside(error):
                raise
            return self.text(short_repr(value, 200))

    def mapping(self, source: Mapping[Any, Any], levels: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key in islice(source, self.most):
            name = self.text(key if isinstance(key, str) else short_repr(key))
            if name in result:  # 1 and "1", or long keys that were cut
                name = f"{name} ({len(result)})"
            result[name] = self.keep(source[key], levels)
            if self.left < 0:
                break
        if (more := len(source) - len(result)) > 0:
            result[_MORE] = f"{more:,} more"
        return escaped(result)

    def items(self, source: list[Any] | tuple[Any, ...], levels: int) -> list[Any]:
        result: list[Any] = []
        for item in islice(source, self.most):
            result.append(self.keep(item, levels))
            if self.left < 0:
                break
        if (more := len(source) - len(result)) > 0:
            result.append(f"{_MORE} {more:,} more")
        return result

    def text(self, text: str) -> str:
        if len(text) > self.longest:
            half = self.longest // 2
            text = f"{text[:half]}…{text[-half:]}"
        self.left -= len(text)
        return str.encode(text, "utf-8", "backslashreplace").decode()
