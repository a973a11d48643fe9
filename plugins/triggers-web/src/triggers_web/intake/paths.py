"""Paths into a webhook, and texts with paths in them.

A path begins with ``body`` or ``headers``: ``body.data.object.id``, ``body.items[0].sku`` or
``body.items.0.sku``, ``body["a key with dots.and such"]``, ``headers.X-GitHub-Event``. The word
``sha256`` alone is the hash of the raw body, in hexadecimal.

A template is a text with paths in braces: ``order:{body.order}``; ``{{`` and ``}}`` stand for
braces.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from triggers_core.exceptions import InvalidSetting
from triggers_core.texts import did_you_mean
from triggers_web.http import Headers
from triggers_web.intake.errors import Missing

ROOTS: Final = ("body", "headers", "sha256")
_STEP: Final = re.compile(
    r"""\.(?P<name>[^.\[\]{}"\s]+)|\[(?P<index>[0-9]{1,9})\]|\[(?P<key>"(?:[^"\\]|\\.)*+")\]"""
)
_PART: Final = re.compile(
    r"""(?P<twice>\{\{|\}\})|\{(?P<path>(?:"(?:[^"\\]|\\.)*+"|[^{}"])*)\}|(?P<alone>[{}])"""
)
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclass
class Facts:
    """What paths look into: a request whose body has been read."""

    raw: bytes
    headers: Headers
    body: Any

    @cached_property
    def sha256(self) -> str:
        """The hash of the raw body."""
        return hashlib.sha256(self.raw).hexdigest()


class Path:
    """A path into a webhook.

    :param text: how it is written.
    :param place: where it is written, for errors.
    :raises InvalidSetting: it is none; says how to write it.

    Example::

        Path("body.items[0].sku", "webhooks['/shop'].uid").find(facts)
    """

    def __init__(self, text: str, place: str) -> None:
        self.text = text.strip()
        root = re.match(r"[\w-]*", self.text)
        self.root = root[0] if root else ""
        if self.root not in ROOTS:
            hint = did_you_mean(self.root, ROOTS) if self.root else ""
            raise InvalidSetting(
                f"{place}: {text!r} is no path: it begins with body, headers or sha256{hint},"
                " such as 'body.data.object.id' or 'headers.X-Request-Id'"
            )
        self._steps: tuple[str | int, ...] = tuple(self._read_steps(place))
        if self.root == "headers":
            if len(self._steps) != 1 or not _HEADER.fullmatch(str(self._steps[0])):
                raise InvalidSetting(
                    f"{place}: {text!r}: after 'headers' comes the name of one header, such as"
                    " 'headers.X-GitHub-Event'"
                )
        elif self.root == "sha256" and self._steps:
            raise InvalidSetting(f"{place}: {text!r}: there is nothing in 'sha256' to look into")

    def _read_steps(self, place: str) -> list[str | int]:
        steps: list[str | int] = []
        at = len(self.root)
        while at < len(self.text):
            found = _STEP.match(self.text, at)
            if found is None:
                raise InvalidSetting(
                    f"{place}: {self.text!r} is no path: {self.text[at:]!r} is neither '.name' nor"
                    " '[0]' nor '[\"a key\"]'"
                )
            name, index, key = found["name"], found["index"], found["key"]
            steps.append(name if name is not None else int(index) if index else _key(key, place))
            at = found.end()
        return steps

    def find(self, facts: Facts) -> Any:
        """What the path leads to.

        :raises Missing: nothing is there; names the path, and no value.
        """
        if self.root == "sha256":
            return facts.sha256
        if self.root == "headers":
            return self._header(facts.headers)
        value = facts.body
        for step in self._steps:
            if isinstance(value, dict) and str(step) in value:
                value = value[str(step)]
            elif isinstance(value, list) and (at := _index(step)) is not None and at < len(value):
                value = value[at]
            else:
                raise Missing(self.text, "there is nothing in this webhook")
        return value

    def _header(self, headers: Headers) -> str:
        values = headers.all(str(self._steps[0]))
        if len(values) != 1:
            several = "the header came several times" if values else "there is no such header"
            raise Missing(self.text, several)
        return values[0]

    def find_text(self, facts: Facts) -> str:
        """What the path leads to, as a part of a text.

        :raises Missing: nothing is there, or neither a text that is not empty nor an integer.
        """
        value = self.find(facts)
        if type(value) is int:
            return str(value)
        if not isinstance(value, str) or not value:
            raise Missing(self.text, "a text or an integer is needed there, and no empty text")
        return value


class Template:
    """A text with paths in braces.

    :param text: how it is written.
    :param place: where it is written, for errors.
    :raises InvalidSetting: a brace or a path in it is wrong.

    Example::

        Template("order:{body.order}", "webhooks['/shop'].uid").fill(facts)  # 'order:42'
    """

    def __init__(self, text: str, place: str) -> None:
        self.text = text
        self._parts: list[str | Path] = []
        at = 0
        for found in _PART.finditer(text):
            self._parts.append(text[at : found.start()])
            if found["alone"]:
                raise InvalidSetting(
                    f"{place}: {text!r} has a single {found['alone']!r}: a path stands in braces,"
                    f" {{body.id}}, and a brace itself is written twice"
                )
            twice = found["twice"]
            self._parts.append(twice[0] if twice else Path(found["path"], place))
            at = found.end()
        self._parts.append(text[at:])

    @property
    def paths(self) -> list[Path]:
        """The paths in it."""
        return [each for each in self._parts if isinstance(each, Path)]

    def fill(self, facts: Facts) -> str:
        """The text for one webhook.

        :raises Missing: a path in it leads to nothing, or to no text.
        """
        return "".join(
            each if isinstance(each, str) else each.find_text(facts) for each in self._parts
        )


def _index(step: str | int) -> int | None:
    """The position in a list that a step means: ``[0]`` and ``.0`` do."""
    if isinstance(step, int):
        return step
    return int(step) if re.fullmatch(r"[0-9]{1,9}", step) else None


def _key(quoted: str, place: str) -> str:
    try:
        key: str = json.loads(quoted)
    except ValueError:
        raise InvalidSetting(f"{place}: {quoted} is no key: write it as in JSON") from None
    return key
