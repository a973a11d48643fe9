"""Names of sessions, triggers, tasks, events and instances: what is accepted, and how they look.

Names are data, never identifiers: spaces, slashes, emoji and any script are fine.
"""

from __future__ import annotations

import os
import re
from binascii import b2a_base64
from typing import Final

from triggers_core.exceptions import InvalidName
from triggers_core.texts import short_repr

MAX_LENGTH = 200
"""Characters in a name. At most 800 bytes in UTF-8, which every store accepts in a key or index."""

# C0 and C1 controls, the two Unicode line breaks (they forge log lines) and surrogates (they have
# no UTF-8). Unicode never changes these sets, so that a name accepted by one Python is accepted
# by every other. `str.isprintable` would also refuse no-break spaces, the joiners inside emoji,
# and letters that are newer than the interpreter.
_REFUSED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

_DIGITS: Final = 18  # far above any limit on instances, and what fits a signed 64-bit column


def check_name(value: object, what: str = "name") -> str:
    """Return `value` as a plain str if it is a name: 1 to 200 printable characters.

    Names are compared character by character; nothing is trimmed, folded or normalised.

    :param value: what the caller handed in.
    :param what: what the name is for (`uid`, `trigger`); the message starts with it.
    :raises InvalidName: not a str, empty, over 200 characters, or it holds a control character,
        a line break or a lone surrogate.

    Example::

        check_name("page received", "trigger")  # 'page received'
    """
    if type(value) is str and 0 < len(value) <= MAX_LENGTH and value.isprintable():
        return value
    if not isinstance(value, str):
        raise _invalid(what, f"{short_repr(value)} of type {type(value).__name__}", "pass a str")
    name = str.__str__(value)  # the text itself, whatever a subclass shows
    if not name:
        raise _invalid(what, "''", "give it a name")
    if len(name) > MAX_LENGTH:
        got = f"{len(name):,}: {short_repr(name)}"
        raise _invalid(what, got, "shorten it, or put the long text into the kwargs")
    if found := _REFUSED.search(name):
        fix = f"remove {found.group()!r} at position {found.start()}"
        raise _invalid(what, short_repr(name), fix)
    return name


def instance_name(task: str, n: int) -> str:
    """Return the name of a task's instance number `n`, which counts from 0.

    Example::

        instance_name("t_x", 0)  # 't_x#0'
    """
    return f"{task}#{n}"


def split_instance_name(name: object) -> tuple[str, int]:
    """Return the task and the number in an instance's name; the inverse of `instance_name`.

    A task's name may hold `#` itself: the last one counts.

    :raises InvalidName: no `#<number>` at the end, a number that `instance_name` would write in
        another way (`#01`, `#+1`), or a task that is not a name.

    Example::

        split_instance_name("t_x#0")  # ('t_x', 0)
    """
    task, mark, number = str.rpartition(name, "#") if isinstance(name, str) else ("", "", "")
    if (
        not (task and mark and number.isascii() and number.isdigit())
        or (number[0] == "0" and number != "0")
        or len(number) > _DIGITS
    ):
        raise InvalidName(
            f"instance: expected a task's name, '#' and a number, such as 't_x#0', "
            f"got {short_repr(name)}; pass the instance's full name"
        )
    return check_name(task, "task"), int(number)


def _invalid(what: str, got: str, fix: str) -> InvalidName:
    return InvalidName(f"{what}: expected 1 to {MAX_LENGTH} printable characters, got {got}; {fix}")


_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")  # `urlsafe_b64encode` does it in three steps
_HYPHEN: Final = b"-"[0]


def new_id() -> str:
    """A random id of 96 bits, for generations, event ids, tokens and requests.

    Short, because every event keeps one: 16 characters; a collision within a session of a million
    events has odds below 1 in 10^16. None begins with a hyphen: people hand them to programs, which
    would take that for an option.
    """
    while True:
        made = b2a_base64(os.urandom(12), newline=False).translate(_URL_SAFE)
        if made[0] != _HYPHEN:
            return made.decode()


def check_event_id(event_id: object, generated: bool = False) -> str:
    """An event id as the application may choose it: a name that does not begin with ``~``.

    :param generated: also accept what `FireResult.event_id` gave when there was none.
    """
    checked = check_name(event_id, "event id")
    if checked.startswith("~") and not (generated and is_generated_id(checked)):
        raise InvalidName(
            f"event id: {checked!r} begins with ~, which marks the ids that Triggers generates"
        )
    return checked


_GENERATED: Final = re.compile(r"~([0-9]{1,9})(\..+)?", re.DOTALL)


def generated_id(number: int, unique: str = "") -> str:
    """The id of an event that got none from the application: ``~17.Xk3f…``, ``~17`` for a cascade.

    It holds the event's number, so that storages find the event without an index on ids.

    :param unique: tells events of the same number apart that are of different sessions, or of
        different lives of one uid.
    """
    return f"~{number}.{unique}" if unique else f"~{number}"


def number_in_id(event_id: str) -> int | None:
    """The event's number in a generated id; None for an application's id, which has no ``~``."""
    found = _GENERATED.fullmatch(event_id) if event_id[:1] == "~" else None
    return int(found[1]) if found else None


def is_generated_id(event_id: str) -> bool:
    """Whether it is what a fire without an id got, complete with what makes it unique."""
    found = _GENERATED.fullmatch(event_id)
    return bool(found and found[2])
