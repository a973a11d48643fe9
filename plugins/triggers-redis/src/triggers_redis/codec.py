"""The codec of a session: lines of text, which scripts compare and cut but never parse.

The value of a session's key begins with two lines::

    P12⇥generation⇥config version⇥schema⇥requires⇥ticket⇥commit, claims
    {"the header": "as JSON"}

The first, the *version line*, states what a script may need; what it says is left out of the
header, so it is never stored twice. It differs after every commit, so that comparing it is
comparing the session: `commit` is random, for a server that comes back without its last commits
gives their versions to others. `P` stands for *packed*: the instances and the events follow in the
same value, which is all there is of a small session. `S`, *spread*: they are in keys of their own.
An instance is the line::

    ⇥name⇥state⇥{"the record": "as JSON"}

`state` is ``u`` (unstarted), ``s<attempt> <events>`` (scheduled), ``r<attempt> <events> <claimed
at> <config version> <token>`` (running) or ``-``. `events` are the numbers of those taken, with
commas between them; and spans, ``3,7-12``, where a leaf holds several. A claim rewrites `state`
alone and leaves the record as it was scheduled, and a note in `claims` instead of a new header; who
reads puts both over the records. The lease of a running instance is in the due index alone.
"""

from __future__ import annotations

import os
from binascii import b2a_base64
from collections.abc import Iterable
from typing import Final, NamedTuple

from triggers_core.engine.records import (
    Event,
    Header,
    Instance,
    Status,
    decode_event,
    decode_header,
    decode_instance,
    encode_record,
)
from triggers_core.engine.waits import BEFORE_MOMENTS, event_spans
from triggers_core.exceptions import UnknownSchema

PACKED: Final = b"P"
SPREAD: Final = b"S"


class Facts(NamedTuple):
    """What a client needs of a version line."""

    layout: bytes
    """`PACKED` or `SPREAD`."""
    version: int
    generation: str
    config_version: int
    ticket: bytes
    """``until owner``: reserves the next commit for a while; empty when nobody has it."""
    claims: bytes
    """The last commit's own text; for each claim since: ``\\x02``, its time, a blank, its task."""


def parse_version_line(line: bytes) -> Facts:
    """Take a version line apart, which comes without its end.

    :raises UnknownSchema: a newer version wrote it in another layout.
    """
    layout = line[:1]
    try:
        version, generation, config_version, _, _, ticket, claims = line[1:].split(b"\t")
        facts = Facts(
            layout, int(version), generation.decode(), int(config_version), ticket, claims
        )
    except ValueError:
        layout = b""
    if layout != SPREAD and layout != PACKED:
        raise UnknownSchema(
            f"a session is stored in the form {line[:20]!r}…, which this version of triggers-redis"
            " does not know: upgrade triggers-redis in this process"
        )
    return facts


def new_version_line(header: Header) -> bytes:
    """A version line for one commit, without the letter of the layout. A commit ends any ticket."""
    return b"%d\t%b\t%d\t%d\t%b\t\t%b\n" % (
        header.version,
        header.generation.encode(),
        header.config_version,
        header.schema,
        "\3".join(header.requires).encode() if header.requires else b"",
        b2a_base64(os.urandom(6), newline=False),
    )


def read_time(text: bytes) -> float:
    """A time in seconds since 1970: as TIME gives it (``seconds microseconds``), or a number."""
    seconds, _, micros = text.partition(b" ")
    # One division of whole numbers: exactly what reading ``seconds.micros`` gives.
    return (int(seconds) * 1_000_000 + int(micros)) / 1_000_000 if micros else float(seconds)


# -- headers ------------------------------------------------------------------------------------


def encode_header(header: Header) -> bytes:
    """A header without what the version line says."""
    left_out = header.generation, header.version, header.config_version
    header.generation, header.version, header.config_version = "", 0, 0
    try:
        return encode_record(header)
    finally:
        header.generation, header.version, header.config_version = left_out


def read_header(facts: Facts, record: bytes) -> Header:
    """The header as it is now: the stored one, and the claims since.

    :raises UnknownSchema: a newer version of the core wrote it.
    """
    header = decode_header(record)
    header.version, header.generation = facts.version, facts.generation
    header.config_version = facts.config_version
    if b"\2" in facts.claims:
        try:
            for claim in facts.claims.split(b"\2")[1:]:
                time, _, task = claim.partition(b" ")
                header.add(task.decode(), Status.SCHEDULED, -1)
                header.add(task.decode(), Status.RUNNING, +1)
                header.touched_at(float(time), header.floor)
        except ValueError as error:
            raise UnknownSchema(f"the session's first line cannot be read ({error})") from None
    return header


# -- instances ----------------------------------------------------------------------------------


def encode_instance(name: str, instance: Instance, generation: str) -> bytes:
    """What is stored of an instance behind its name: state, tab, record."""
    key = instance.key
    if key == f"{generation}/{name}":
        instance.key = ""  # the usual one; its reader knows it
    try:
        return b"%b\t%b" % (_state(instance).encode(), encode_record(instance))
    finally:
        instance.key = key


def _state(instance: Instance) -> str:
    status = instance.status
    if status is Status.UNSTARTED:
        return "u"
    if status is not Status.SCHEDULED and status is not Status.RUNNING:
        return "-"
    if instance.extents:
        taken = ",".join(spans_texts(event_spans(instance)))
    else:  # just as versions write it that know no spans
        taken = ",".join(str(number) for each in instance.taken.values() for number in each)
    if status is Status.SCHEDULED:
        return f"s{instance.attempt} {taken}"
    started, version = instance.started_at, instance.config_version
    return f"r{instance.attempt} {taken} {started!r} {version} {instance.token}"


def spans_texts(spans: Iterable[tuple[int, int]]) -> tuple[str, ...]:
    """Spans of events as the scripts read them: ``3``, ``7-12``."""
    return tuple(f"{first}-{last}" if first < last else str(first) for first, last in spans)


def as_moment_key(digits: bytes) -> str:
    """A moment key of which the scripts report the digits."""
    return BEFORE_MOMENTS + digits.decode()


def read_instance(name: str, stored: bytes, generation: str, due: float | None) -> Instance:
    """An instance as it is now.

    :param due: its time in the due index, where that was asked for: for a running one it is the end
        of its lease, which its heartbeats renew.
    """
    state, _, record = stored.partition(b"\t")
    instance = decode_instance(record)
    if not instance.key:
        instance.key = f"{generation}/{name}"
    if state[:1] == b"r":
        try:
            _, _, started, config_version, token = state.split(b" ", 4)
            instance.status, instance.token = Status.RUNNING, token.decode()
            instance.started_at, instance.config_version = float(started), int(config_version)
        except ValueError as error:
            raise UnknownSchema(f"the state of {name} cannot be read ({error})") from None
        instance.not_before, instance.due_at, instance.lease_until = None, due, due
    return instance


def claimed_state(state: bytes, now: bytes, config_version: int, token: str) -> bytes:
    """What the claim script makes of the state of a scheduled instance."""
    return b"r%b %b %d %b" % (state[1:], now, config_version, token.encode())


def instance_line(name: str, stored: bytes) -> bytes:
    """The line of an instance in a packed session."""
    return b"\t%b\t%b\n" % (name.encode(), stored)


# -- events -------------------------------------------------------------------------------------


def encode_event(event: Event) -> bytes:
    """An event without its number, which its place says."""
    number, event.number = event.number, -1
    try:
        return encode_record(event)
    finally:
        event.number = number


def read_event(number: int, record: bytes) -> Event:
    """The event in a place."""
    event = decode_event(record)
    event.number = number
    return event
