"""Names of sessions, triggers, tasks, events and instances: what is accepted, and how they look.

Names are data, never identifiers: spaces, slashes, emoji and any script are fine.
"""

from __future__ import annotations

import re
import reprlib
import threading

from triggers_core.exceptions import BodyInterrupted, InvalidName

MAX_LENGTH = 200
"""Characters in a name. At most 800 bytes in UTF-8, which every store accepts in a key or index."""

# C0 and C1 controls, the two Unicode line breaks (they forge log lines) and surrogates (they have
# no UTF-8). Unicode never changes these sets, so that a name accepted by one Python is accepted
# by every other. `str.isprintable` would also refuse no-break spaces, the joiners inside emoji,
# and letters that are newer than the interpreter.
_REFUSED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

# 18 digits: far above any limit on instances, and what fits a signed 64-bit column.
_INSTANCE = re.compile(r"(.+)#(0|[1-9][0-9]{0,17})", re.DOTALL)

_REPR = reprlib.Repr()
_REPR.maxlevel = 3
_REPR.maxother = 200


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
    found = _INSTANCE.fullmatch(name) if isinstance(name, str) else None
    if found is None:
        raise InvalidName(
            f"instance: expected a task's name, '#' and a number, such as 't_x#0', "
            f"got {short_repr(name)}; pass the instance's full name"
        )
    return check_name(found.group(1), "task"), int(found.group(2))


def short_repr(value: object, width: int = 60) -> str:
    """Return `repr(value)` for a message: at most `width` characters, valid UTF-8, never raising.

    Nested collections are abridged before they are rendered, so that huge or circular ones
    cost little.

    Example::

        short_repr("a" * 1000, 10)  # "'aaa…aaaa'"
    """
    try:
        # Only both ends are shown: `repr` of the whole of a long text would be wasted.
        if isinstance(value, (str, bytes, bytearray)) and len(value) > 2 * width:
            text = f"{value[:width]!r}{value[-width:]!r}"
        elif type(value) is str:
            text = repr(value)
        elif isinstance(value, int) and value.bit_length() > 2_000:
            # Python may refuse to write it: `sys.set_int_max_str_digits` goes down to 640.
            text = f"<int of {value.bit_length():,} bits>"
        else:
            text = _REPR.repr(value)
        text = str.encode(text, "utf-8", "backslashreplace").decode()
    except BaseException as error:  # a broken __repr__, __len__, __class__…: its type must do
        if from_outside(error):
            raise
        text = object.__repr__(value)
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[head + 1 - width :]}"


def from_outside(error: BaseException) -> bool:
    """Whether an exception interrupts the program, rather than coming from the object at hand.

    Code that shows foreign objects survives whatever their methods raise, `SystemExit` and the
    time-outs of other libraries included. Only Ctrl-C passes, and that reaches the main thread, and
    what a runner interrupts a body with.
    """
    return isinstance(error, BodyInterrupted) or (
        isinstance(error, KeyboardInterrupt) and in_main_thread()
    )


def ends_the_program(error: BaseException) -> bool:
    """Whether it comes from whoever ends this process or greenlet: nobody on its way keeps it.

    `SystemExit` counts in the main thread alone, where signal handlers raise it.
    """
    return (
        from_outside(error)
        or (isinstance(error, SystemExit) and in_main_thread())
        or is_greenlet_exit(error)
    )


def is_greenlet_exit(error: BaseException) -> bool:
    """Whether somebody kills this greenlet. By its name: gevent is never imported for it."""
    return type(error).__name__ == "GreenletExit"


def in_main_thread() -> bool:
    """Whether this is the thread in which signal handlers run."""
    return threading.current_thread() is threading.main_thread()


def _invalid(what: str, got: str, fix: str) -> InvalidName:
    return InvalidName(f"{what}: expected 1 to {MAX_LENGTH} printable characters, got {got}; {fix}")
