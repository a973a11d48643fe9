"""Masking of secrets, by key and in texts, for everything that people read: settings, logs, errors.

It is the last line of defence. Values under telling keys and passwords in URLs are masked; a secret
under an innocent key is not recognised. Whatever it is given, masking ends soon and raises nothing:
long texts are cut before they are looked at, and of large, circular or endless data only so much is
kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any, Final

from triggers_core.exceptions import from_outside
from triggers_core.texts import MASK, MAX_TEXT

__all__ = ["MASK", "SECRET_KEY", "SECRET_KEYS", "key_pattern", "mask", "mask_objects", "mask_url"]

SECRET_KEYS: Final = (
    "passw(or)?d",
    "passphrase",
    "(?<![a-z])pwd",
    "secret",
    "token",
    "authorization",
    "cookie",
    "(api|access|private)[-_ ]?key",
    "credential",
)
"""Regular expressions, searched in keys, whatever their case: the names under which secrets are
kept in settings, HTTP headers and connection strings (after what log collectors redact)."""

_MAX_DEPTH: Final = 32  # as deep as kwargs may be (`Limits.kwargs_depth`)
_MAX_KEY: Final = 1_000  # characters of a key that are looked at
_MORE: Final = "…"

MAX_NODES: Final = 200_000
"""Values that `mask` keeps: more than the largest session's explanation has."""

MAX_LOGGED: Final = 10_000
"""Values that `mask_objects` keeps: what it returns goes into log lines."""

_MAX_CHARACTERS: Final = 16 * MAX_TEXT  # in all texts together


def key_pattern(patterns: Iterable[str]) -> re.Pattern[str]:
    """Compile patterns such as `SECRET_KEYS` into the one that `mask` takes.

    Example::

        mask(data, key_pattern([*SECRET_KEYS, "iban"]))
    """
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.IGNORECASE)


SECRET_KEY: Final = key_pattern(SECRET_KEYS)


def _mask_text(text: str, secret: re.Pattern[str], size: int) -> str:
    # Compiling its patterns takes 7 ms, and a command that shows no secret has none to mask.
    from triggers_core.redaction_texts import mask_text

    return mask_text(text, secret, size)


def mask_url(text: str, secret: re.Pattern[str] = SECRET_KEY, size: int = MAX_TEXT) -> str:
    """Mask passwords in URLs, connection strings, headers, printed data and prose, in any text.

    In prose (``password: hunter2``), what follows the key is masked if it is in quotes, ends the
    clause, or looks like no word; so ``token: expected a text`` stays readable.

    :param secret: the keys whose values are masked, as in `mask`.
    :param size: characters to keep at most. A longer text is cut before it is looked at: its two
        ends are kept. The default bounds the time that one text takes.

    Example::

        mask_url("redis://user:s3cret@host/0")  # 'redis://user:***@host/0'
    """
    return _mask_text(text, secret, size)


def mask(value: Any, secret: re.Pattern[str] = SECRET_KEY, most: int = MAX_NODES) -> Any:
    """A copy of plain data with its secrets masked; raises nothing.

    :param value: mappings, lists and tuples are walked, texts go through `mask_url`, and anything
        else is returned as it is.
    :param secret: the keys whose values are masked, found with `search`; None stays None.
    :param most: values to keep at most; ``…`` stands for the rest, for what is nested more than 32
        levels deep, and for what holds itself.

    Example::

        mask({"url": "redis://:pw@host", "api_key": "k"})
        # {'url': 'redis://:***@host', 'api_key': '***'}
    """
    return _walked(_Walk(secret, False, most), value)


def mask_objects(value: Any, secret: re.Pattern[str] = SECRET_KEY, most: int = MAX_LOGGED) -> Any:
    """As `mask`, for what is about to be shown: objects whose text has secrets become that text.

    Example::

        mask_objects({"login": Login(password="pw")})  # {'login': "Login(password=***)"}
    """
    return _walked(_Walk(secret, True, most), value)


class _Walk:
    """One walk over a value, and what it may still use up.

    Shared references are walked each time they are met, as whoever shows the result will do: so
    it is the number of values that is bounded, not only their depth.
    """

    def __init__(self, secret: re.Pattern[str], objects: bool, most: int) -> None:
        self._secret, self._objects = secret, objects
        self._left = most
        self._characters = _MAX_CHARACTERS
        self._above: set[int] = set()
        """Ids of the containers on the way to the current value."""

    def value(self, value: Any, depth: int, in_list: bool = False) -> Any:
        self._left -= 1
        kind = type(value)
        if kind is str:
            return self._text(value)
        if value is None or kind is bool or kind is int or kind is float:
            return value
        try:
            if isinstance(value, str):
                return self._text(str.__str__(value))
            is_mapping = isinstance(value, Mapping)
            if not is_mapping and not isinstance(value, list | tuple):
                return self._object(value) if self._objects else value
        except BaseException as error:  # a property __class__ that fails
            if from_outside(error):
                raise
            return object.__repr__(value)
        if depth == _MAX_DEPTH or id(value) in self._above:
            return _MORE
        self._above.add(id(value))
        try:
            if is_mapping:
                return self._mapping(value, depth + 1)
            return self._items(value, depth + 1, in_list)
        finally:
            self._above.discard(id(value))

    def _mapping(self, source: Mapping[Any, Any], depth: int) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        seen = 0
        try:
            # Keys and values one by one: `items()` of some mappings reads everything first.
            for key in islice(iter(source), max(self._left, 0) + 1):
                if self._left <= 0:
                    result[_MORE] = _MORE
                    break
                seen += 1
                each = source[key]
                if each is not None and _is_secret(key, self._secret):
                    self._left -= 1
                    result[key] = MASK
                else:
                    result[key] = self.value(each, depth)
        except BaseException as error:  # of the mapping's or the key's own methods
            if from_outside(error):
                raise
            result[_MORE] = f"{_MORE} ({type(error).__name__} after {seen:,})"
        return result

    def _items(self, source: Any, depth: int, in_list: bool) -> list[Any]:
        result: list[Any] = []
        try:
            for each in islice(iter(source), max(self._left, 0) + 1):
                if self._left <= 0:
                    result.append(_MORE)
                    break
                result.append(self.value(each, depth, True))
            # A header as many clients keep it: a pair in a list, or a tuple.
            if len(result) == 2 and (in_list or isinstance(source, tuple)):
                name = result[0]
                if result[1] is not None and _is_secret(name, self._secret):
                    result[1] = MASK
        except BaseException as error:  # of the list's own methods
            if from_outside(error):
                raise
            result.append(f"{_MORE} ({type(error).__name__} after {len(result):,})")
        return result

    def _text(self, text: str) -> str:
        if self._characters <= 0:
            return _MORE
        self._characters -= min(len(text), MAX_TEXT)
        return _mask_text(text, self._secret, MAX_TEXT)

    def _object(self, value: Any) -> Any:
        """The object itself, unless one of its texts holds a secret or is too long."""
        try:
            if isinstance(value, (bytes, bytearray)) and len(value) > MAX_TEXT:
                value = bytes(value[:MAX_TEXT])
            text, other = str.__str__(repr(value)), str.__str__(str(value))
            masked = self._text(text)
            return value if masked == text and self._text(other) == other else masked
        except BaseException as error:  # whoever shows it will fail: its type must do
            if from_outside(error):
                raise
            return object.__repr__(value)


def _walked(walk: _Walk, value: Any) -> Any:
    try:
        return walk.value(value, 0)
    except RecursionError:  # deep within other calls
        return _MORE


def _is_secret(key: object, secret: re.Pattern[str]) -> bool:
    if isinstance(key, bytes):  # the headers of ASGI and of some clients
        key = key[:_MAX_KEY].decode("latin-1")
    return isinstance(key, str) and _tells(str.__str__(key)[:_MAX_KEY], secret)


@lru_cache(maxsize=1_024)
def _tells(key: str, secret: re.Pattern[str]) -> bool:
    return secret.search(key) is not None


def error_text(error: BaseException) -> str:
    """An error in short, for messages: its type and text, secrets masked."""
    name = type(error).__name__
    try:
        if isinstance(error, SystemExit):
            return (
                f"it calls sys.exit({error.code!r}) while it is imported: put what it does as a"
                " program under `if __name__ == '__main__':`"
            )
        return mask_url(f"{name}: {error}".rstrip(": "), size=2_000)
    except BaseException:  # its text cannot be shown
        return name
