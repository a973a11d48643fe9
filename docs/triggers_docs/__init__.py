"""What the reference has from the code itself: a page says where, and this says what.

A line ``<!-- generated: NAME ARGUMENT -->`` in a page becomes Markdown when the page is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from triggers_docs import commands, errors, faces, searching, stores, words

GENERATORS: Final[dict[str, Callable[..., str]]] = {
    "api": faces.markdown,
    "commands": commands.markdown,
    "errors": errors.markdown,
    "looking": searching.markdown,
    "words": words.markdown,
    "schema": words.schema,
    "sqlite": stores.sqlite,
    "postgres": stores.postgres,
    "redis": stores.redis,
    "django": stores.django,
}
_MARK: Final = re.compile(r"^<!-- generated: (\w+) ?([\w-]*) -->$", re.MULTILINE)


def expand(text: str) -> str:
    """The text of a page, with what is generated in place of the marks.

    :raises KeyError: a mark names a generator that does not exist.
    """

    def generated(found: re.Match[str]) -> str:
        name, argument = found.groups()
        return GENERATORS[name](*filter(None, [argument]))

    return _MARK.sub(generated, text)
