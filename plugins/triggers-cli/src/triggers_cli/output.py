"""What commands print: text, tables, JSON. Colour only where somebody looks."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import textwrap
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TextIO
from unicodedata import category, east_asian_width

import click

from triggers_cli.errors import CLOSED_PIPE

STYLES: Final = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "cyan": "36",
}

STATUS_STYLES: Final = {
    "failed": "red",
    "running": "cyan",
    "scheduled": "cyan",
    "unstarted": "yellow",
    "finished": "green",
    "skipped": "dim",
    "replayed": "dim",
    "abandoned": "dim",
}
"""Status of an instance → style."""

_NARROW: Final = 24  # columns: text is not wrapped to fewer

_NO_WIDTH: Final = ("Mn", "Me", "Cf")
"""Categories of Unicode whose characters stand on or between others: accents, joiners."""

# Names and error messages come from anywhere. C0 but tab and line feed, C1, and the marks that
# reverse the order of the text around them would let data rewrite what the terminal shows.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    r"""Show control characters instead of handing them to the terminal.

    Example::

        clean("a\x1b[2Jb")  # 'a\\x1b[2Jb'
    """
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def wants_colour(stream: TextIO, refused: bool) -> bool:
    """Whether to colour what goes to a stream.

    ``--no-color`` and `NO_COLOR` say no, `FORCE_COLOR` says yes, else a terminal decides; both
    variables as no-color.org and force-color.org define them: set and not empty.
    """
    if refused or os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


class Output:
    """Where a command prints to: results on stdout, everything else on stderr.

    :param json: results are JSON.
    :param no_colour: never colour anything.
    """

    def __init__(self, json: bool = False, no_colour: bool = False) -> None:
        self.json = json
        self._colour = {
            stream: wants_colour(stream, no_colour) for stream in (sys.stdout, sys.stderr)
        }

    @property
    def watched(self) -> bool:
        """Whether somebody sees how far a command is: on a terminal, without ``--json``."""
        return not self.json and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def paint(self, text: object, style: str | None, stream: TextIO | None = None) -> str:
        """Text in a style of `STYLES`, if the stream is coloured; control characters shown."""
        shown = clean(str(text))
        if not style or not self._colour.get(stream or sys.stdout):
            return shown
        return f"\x1b[{STYLES[style]}m{shown}\x1b[0m"

    def line(self, *parts: str | tuple[str, str | None]) -> None:
        """Print a line of results; a part is a text, or (text, style)."""
        _write(sys.stdout, "".join(self._painted(part, sys.stdout) for part in parts))

    def note(self, *parts: str | tuple[str, str | None]) -> None:
        """Print a line that is not a result: to stderr."""
        _write(sys.stderr, "".join(self._painted(part, sys.stderr) for part in parts))

    @contextmanager
    def status_line(self) -> Iterator[Callable[[str], None]]:
        """A line on the terminal that is written anew each time, and gone in the end.

        Nothing is written where nobody looks: into pipes and files, and with ``--json``.

        Example::

            with out.status_line() as tell:
                tell("3 of 10")
        """
        stream = sys.stderr
        if not self.watched:
            yield lambda text: None
            return
        width = max(20, shutil.get_terminal_size().columns) - 1
        told = False

        def tell(text: str) -> None:
            nonlocal told
            told = True
            stream.write(f"\r\x1b[2K{clean(text)[:width]}")
            stream.flush()

        try:
            yield tell
        finally:
            if told:
                stream.write("\r\x1b[2K")
                stream.flush()

    def error(self, message: str, kind: str = "Error") -> None:
        """Print an error: to stderr, as JSON when results are."""
        if self.json:
            _write(
                sys.stderr, to_json({"error": kind, "message": message}, sys.stderr, indent=None)
            )
        else:
            self.note(("Error: ", "red"), message)

    def data(self, value: Any) -> None:
        """Print a result as JSON."""
        _write(sys.stdout, to_json(value, sys.stdout))

    def paragraph(
        self, text: str, label: str = "", style: str | None = None, indent: str = "  "
    ) -> None:
        """Print a text: wrapped on a terminal, one line elsewhere, so that grep finds it whole.

        :param label: what it begins with, in the style.
        :param indent: what the second line and those after it begin with.
        """
        lines = [clean(label + text)]
        if sys.stdout.isatty():
            width = max(40, shutil.get_terminal_size().columns)
            lines = textwrap.wrap(
                lines[0],
                width,
                subsequent_indent=indent,
                break_long_words=False,
                break_on_hyphens=False,
            ) or [""]
        begin = len(clean(label))
        self.line((lines[0][:begin], style), lines[0][begin:])
        for line in lines[1:]:
            self.line(line)

    def table(
        self,
        head: Sequence[str],
        rows: Sequence[Sequence[Cell]],
        right: Sequence[str] = (),
        wrap: bool = False,
    ) -> None:
        """Print a table with aligned columns.

        :param right: the headings of the columns that are aligned to the right.
        :param wrap: break the last column between words where a terminal is too narrow for it;
            elsewhere it stays in one line, so that grep finds it whole.
        """
        texts = [[clean(_text(cell)) for cell in row] for row in rows]
        widths = [max(_width(text) for text in column) for column in zip(head, *texts, strict=True)]
        self.line((_joined([(name, name in right) for name in head], widths), "dim"))
        for row, cells in zip(rows, texts, strict=True):
            padded = []
            for name, cell, text, width in zip(head, row, cells, widths, strict=True):
                blank = " " * (width - _width(text))
                shown = self.paint(text, cell[1] if isinstance(cell, tuple) else None)
                padded.append(blank + shown if name in right else shown + blank)
            if not wrap or not _too_wide(cells, widths):
                _write(sys.stdout, "  ".join(padded).rstrip())
                continue
            before = sum(widths[:-1]) + 2 * (len(widths) - 1)
            lines = _wrapped(cells[-1], before)
            if before + _NARROW <= shutil.get_terminal_size().columns:
                _write(sys.stdout, "  ".join([*padded[:-1], lines.pop(0)]).rstrip())
            else:  # no room beside the other columns: below them
                before = 4
                lines = _wrapped(cells[-1], before)
                _write(sys.stdout, "  ".join(padded[:-1]).rstrip())
            for line in lines:
                _write(sys.stdout, f"{'':{before}}{line}")

    def _painted(self, part: str | tuple[str, str | None], stream: TextIO) -> str:
        text, style = part if isinstance(part, tuple) else (part, None)
        return self.paint(text, style, stream)


Cell = str | int | None | tuple[str, str | None]
"""A cell of a table: what it shows (None: a dash), or (text, style)."""


def to_json(value: Any, stream: TextIO, indent: int | None = 2) -> str:
    """Plain data as JSON; what JSON has no type for becomes text.

    Non-ASCII stays readable where the stream can take it; control characters are escaped.
    """
    unicode = (stream.encoding or "").lower().replace("-", "").startswith("utf")
    text = json.dumps(value, ensure_ascii=not unicode, indent=indent, default=_plain)
    # In JSON these can only stand inside a string (but line feeds), where an escape is equal.
    return _CONTROL.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return b64encode(value).decode()
    iso = getattr(value, "isoformat", None)
    return str(value) if iso is None else iso()


def _write(stream: TextIO, text: str) -> None:
    encoding = stream.encoding or "utf-8"
    text = text.encode(encoding, "backslashreplace").decode(encoding)
    try:
        stream.write(text + "\n")
    except BrokenPipeError:
        raise click.exceptions.Exit(CLOSED_PIPE) from None


def _text(cell: Cell) -> str:
    value = cell[0] if isinstance(cell, tuple) else cell
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else value


def _width(text: str) -> int:
    """Columns on a terminal: wide characters take two."""
    if text.isascii():
        return len(text)
    return sum(
        0 if category(each) in _NO_WIDTH else 2 if east_asian_width(each) in "WF" else 1
        for each in text
    )


def _too_wide(cells: Sequence[str], widths: Sequence[int]) -> bool:
    """Whether a row does not fit the terminal; False where there is none."""
    if not sys.stdout.isatty():
        return False
    used = sum(widths[:-1]) + 2 * (len(widths) - 1) + _width(cells[-1])
    return used > shutil.get_terminal_size().columns


def _wrapped(text: str, before: int) -> list[str]:
    room = max(_NARROW, shutil.get_terminal_size().columns - before)
    return textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]


def _joined(cells: Sequence[tuple[str, bool]], widths: Sequence[int]) -> str:
    padded = [
        " " * (width - _width(text)) + text if right else text + " " * (width - _width(text))
        for (text, right), width in zip(cells, widths, strict=True)
    ]
    return "  ".join(padded).rstrip()


def to_line(value: Any, width: int | None = None) -> str:
    """Plain data as JSON in one line, cut to a width."""
    text = to_json(value, sys.stdout, indent=None)
    return text if width is None or len(text) <= width else f"{text[: width - 1]}…"
