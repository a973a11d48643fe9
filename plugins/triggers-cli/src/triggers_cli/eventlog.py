"""Reads a recorded log of events: JSONL or CSV, plain or gzip, one event at a time."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections.abc import Iterator
from typing import IO, Any, Final, Literal, Self

from triggers_core.exceptions import InvalidEvent

Format = Literal["jsonl", "csv"]
COLUMNS: Final = ("session", "trigger", "ts", "kwargs", "id")
"""The columns that mean something; `session` and `trigger` have to be there."""

_GZIP = b"\x1f\x8b"
_FIELD = 16_000_000  # characters in one CSV field; the default of the csv module is 131,072


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
        except (gzip.BadGzipFile, EOFError) as error:
            raise self.wrong(f"the gzip file is damaged: {error}", self.line + 1) from None

    def wrong(self, reason: str, line: int | None = None) -> InvalidEvent:
        """The error for a line; the last one read when none is given."""
        return InvalidEvent(f"{self.place}, line {line or self.line:,}: {reason}")

    def _text(self) -> IO[str]:
        stream: io.BufferedReader[Any] = io.BufferedReader(self._raw)
        if stream.peek(2)[:2] == _GZIP:
            stream = io.BufferedReader(gzip.GzipFile(fileobj=stream))
        if self._format is None:
            begin = stream.peek(1)[:1]
            self._format = "jsonl" if begin in (b"{", b"") else "csv"
        # newline="": the csv module wants to see line ends; JSON does not mind.
        return io.TextIOWrapper(stream, "utf-8-sig", newline="")


def _by_name(place: str) -> Format | None:
    name = place.lower().removesuffix(".gz")
    if name.endswith((".jsonl", ".ndjson", ".json")):
        return "jsonl"
    return "csv" if name.endswith((".csv", ".tsv")) else None


def _jsonl(log: EventLog, text: IO[str]) -> Iterator[dict[str, Any]]:
    for log.line, line in enumerate(text, 1):
        if not line.strip():
            continue
        try:
            event = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise log.wrong(f"not JSON: {error}") from None
        if not isinstance(event, dict):
            raise log.wrong(
                f"expected an object with session and trigger, got {type(event).__name__}"
            )
        yield event


def _csv(log: EventLog, text: IO[str]) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(_FIELD)
    delimiter = "\t" if log.place.lower().removesuffix(".gz").endswith(".tsv") else ","
    rows = csv.reader(text, delimiter=delimiter, strict=True)
    head: list[str] | None = None
    try:
        for row in rows:
            log.line = rows.line_num
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
    return head


def _event(log: EventLog, row: dict[str, str]) -> dict[str, Any]:
    event: dict[str, Any] = {"session": row["session"], "trigger": row["trigger"]}
    if row.get("id"):
        event["id"] = row["id"]
    if row.get("kwargs", "").strip():
        try:
            event["kwargs"] = json.loads(row["kwargs"])
        except (ValueError, RecursionError) as error:
            raise log.wrong(f"kwargs are not JSON: {error}") from None
    return event
