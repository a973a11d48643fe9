"""Reads a recorded log of events: JSONL or CSV, plain or gzip, one event at a time."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import zlib
from collections.abc import Iterator
from typing import IO, Any, Final, Literal, Self

from triggers_cli.configs import without_duplicates
from triggers_core.exceptions import InvalidEvent

Format = Literal["jsonl", "csv"]
COLUMNS: Final = ("session", "trigger", "ts", "kwargs", "id")
"""The columns that mean something; `session` and `trigger` have to be there."""

_GZIP = b"\x1f\x8b"
_LINE: Final = 16_000_000
"""Characters in one line, or in one row of CSV, whose fields may hold line ends. A file of a few
kilobytes can unpack to a line that no memory holds."""

_ARCHIVES: Final = {
    b"PK\x03\x04": "a zip archive",
    b"BZh": "packed by bzip2",
    b"\xfd7zXZ": "packed by xz",
    b"\x28\xb5\x2f\xfd": "packed by zstd",
    _GZIP: "packed by gzip twice",
}
"""How files begin that are not read → what they are."""


class EventLog:
    """A log, to be iterated once.

    :param place: a file, or ``-`` for standard input.
    :param format: what it holds; by default its name says it, else its first character.
    :raises OSError: the file cannot be opened.

    Example::

        with EventLog("events.csv.gz") as log:
            for event in log:
                print(log.line, event["session"], event["trigger"])
    """

    def __init__(self, place: str, format: Format | None = None) -> None:
        self.place = "standard input" if place == "-" else place
        self.line = 0
        """Number of the last line read, from 1."""
        self.size: int | None = None
        """Bytes in the file, as it is stored; None when that is unknown."""
        self._format = format or _by_name(place)
        self._raw = io.FileIO(0, closefd=False) if place == "-" else io.FileIO(place)
        if os.path.isfile(place):
            self.size = os.path.getsize(place)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._raw.close()

    @property
    def read(self) -> int:
        """Bytes of the file read so far."""
        return self._raw.tell() if self.size is not None else 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The events, in order.

        :raises InvalidEvent: a line cannot be read; says which and why.
        """
        try:
            text = self._text()
            yield from _csv(self, text) if self._format == "csv" else _jsonl(self, text)
        except UnicodeDecodeError as error:
            raise self.wrong(f"not UTF-8 text: {error.reason}", self.line + 1) from None
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise self.wrong(f"the gzip file is damaged: {error}", self.line + 1) from None

    def wrong(self, reason: str, line: int | None = None) -> InvalidEvent:
        """The error for a line; the last one read when none is given."""
        return InvalidEvent(f"{self.place}, line {line or self.line:,}: {reason}")

    def _text(self) -> IO[str]:
        stream: io.BufferedReader[Any] = io.BufferedReader(self._raw)
        if stream.peek(2)[:2] == _GZIP:
            stream = io.BufferedReader(gzip.GzipFile(fileobj=stream))
        begin = stream.peek(8)[:8]
        for magic, what in _ARCHIVES.items():
            if begin.startswith(magic):
                raise self.wrong(f"the file is {what}: unpack it first (plain or gzip)", 1)
        if self._format is None:
            self._format = "jsonl" if begin[:1] in (b"{", b"") else "csv"
        # newline="": the csv module wants to see line ends; JSON does not mind.
        return io.TextIOWrapper(stream, "utf-8-sig", newline="")


def _by_name(place: str) -> Format | None:
    name = place.lower().removesuffix(".gz")
    if name.endswith((".jsonl", ".ndjson", ".json")):
        return "jsonl"
    return "csv" if name.endswith((".csv", ".tsv")) else None


class _Lines:
    """The lines of a text, none of them longer than `_LINE`."""

    def __init__(self, log: EventLog, text: IO[str]) -> None:
        self.room = _LINE
        """Characters that may be read until somebody sets this anew."""
        self._log, self._text = log, text
        self._number = 0
        self._rows = False

    def of_rows(self) -> Self:
        """The same, for a reader whose rows may go over several lines, and which sets `room`."""
        self._rows = True
        return self

    def __iter__(self) -> Iterator[str]:
        while line := self._text.readline(self.room + 1):
            self._number += 1
            if len(line) > self.room:
                raise self._log.wrong(
                    f"{'a row' if self._rows else 'a line'} of more than {_LINE:,} characters: is"
                    " this a log of events?",
                    self._number,
                )
            if self._rows:
                self.room -= len(line)
            yield line


def _jsonl(log: EventLog, text: IO[str]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_Lines(log, text), 1):
        log.line = number
        if not line.strip():
            continue
        try:
            event = json.loads(line, object_pairs_hook=without_duplicates)
        except json.JSONDecodeError as error:
            raise log.wrong(f"not JSON: {error}") from None
        except (ValueError, RecursionError) as error:
            raise log.wrong(str(error)) from None
        if not isinstance(event, dict):
            raise log.wrong(
                f"expected an object with session and trigger, got {type(event).__name__}"
            )
        yield event


def _csv(log: EventLog, text: IO[str]) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(_LINE)
    delimiter = "\t" if log.place.lower().removesuffix(".gz").endswith(".tsv") else ","
    lines = _Lines(log, text).of_rows()
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    head: list[str] | None = None
    try:
        for row in rows:
            log.line, lines.room = rows.line_num, _LINE
            if not row:
                continue
            if head is None:
                head = _head(log, row)
                continue
            if len(row) != len(head):
                raise log.wrong(f"{len(row)} columns; the first line names {len(head)}")
            yield _event(log, dict(zip(head, row, strict=True)))
    except csv.Error as error:
        raise log.wrong(f"not CSV: {error}", rows.line_num) from None


def _head(log: EventLog, row: list[str]) -> list[str]:
    head = [name.strip().lower() for name in row]
    missing = [name for name in ("session", "trigger") if name not in head]
    if missing:
        raise log.wrong(
            f"no column {' and no column '.join(missing)}: the first line has to name the columns,"
            f" such as {','.join(COLUMNS)}"
        )
    twice = next((name for name in head if name and head.count(name) > 1), None)
    if twice is not None:  # the last one would win, and the others be lost without a word
        raise log.wrong(f"two columns are named {twice!r}: rename or remove one")
    return head


def _event(log: EventLog, row: dict[str, str]) -> dict[str, Any]:
    event: dict[str, Any] = {"session": row["session"], "trigger": row["trigger"]}
    for name in ("id", "ts"):
        if row.get(name):
            event[name] = row[name]
    if row.get("kwargs", "").strip():
        try:
            event["kwargs"] = json.loads(row["kwargs"], object_pairs_hook=without_duplicates)
        except json.JSONDecodeError as error:
            raise log.wrong(f"kwargs are not JSON: {error}") from None
        except (ValueError, RecursionError) as error:
            raise log.wrong(f"kwargs: {error}") from None
    return event
