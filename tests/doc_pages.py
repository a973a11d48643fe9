"""The pages of the documentation, as tests see them: their code, their files, what they run.

A fence whose first line is a comment with a file's name is that file. A ``console`` fence holds
commands, after ``$``, each with the output that it has to have. What no test runs says why, in a
comment above it: ``<!-- not run: the reason -->``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import triggers_core

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ANY_FENCE = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^>]+) -->\n+)?"
    r"^(?P<bars>`{3,}|:{3,})(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=bars)$",
    re.MULTILINE | re.DOTALL,
)
_FILE = re.compile(r"#\s+([\w./-]+\.(?:py|toml))\n")
_PATIENCE = 240  # seconds until an example that hangs fails; only a whole contract takes many


@dataclass(frozen=True)
class Command:
    """One line after ``$``, and what follows until the next one."""

    line: str
    output: str


@dataclass(frozen=True)
class Block:
    """A fence as it stands; a directive, as ``{toctree}``, is one too.

    :param reason: why no test runs it; empty if one has to.
    """

    language: str
    text: str
    line: int
    reason: str

    @property
    def file(self) -> str:
        """The file that it is; else empty."""
        found = _FILE.match(self.text)
        return found[1] if found else ""

    @property
    def commands(self) -> Iterator[Command]:
        for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            line, _, output = part.partition("\n")
            yield Command(line, output)


@dataclass(frozen=True)
class Page:
    """One Markdown file."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    def section(self, title: str) -> Page:
        """The part below a heading, up to the next one of its level."""
        found = re.search(rf"^(#+) {re.escape(title)}\n", self.text, re.MULTILINE)
        assert found, f"{self.name} has no section {title!r}"
        rest = self.text[found.end() :]
        # A comment in a fence looks like a heading of the first level; sections are below it.
        end = re.search(rf"^#{{2,{len(found[1])}}} ", rest, re.MULTILINE)
        part = Page(self.path)
        part.__dict__["text"] = rest[: end.start()] if end else rest
        return part

    @property
    def blocks(self) -> Iterator[Block]:
        """Every fence, in whatever language."""
        for found in _ANY_FENCE.finditer(self.text):
            line = self.text.count("\n", 0, found.start("bars")) + 1
            yield Block(found["language"], found["text"], line, found["reason"] or "")

    def piece(self, start: str, language: str = "python") -> str:
        """The one fence that begins like this."""
        [found] = [each for each in self.fences(language) if each.startswith(start)]
        return found

    def fences(self, *languages: str) -> list[str]:
        """The contents of its fences in any of the languages."""
        return [text for language, text in _FENCE.findall(self.text) if language in languages]

    @property
    def files(self) -> dict[str, str]:
        """Name → content, for fences that are a file."""
        named = [(_FILE.match(text), text) for text in self.fences("python", "toml")]
        return {found[1]: text for found, text in named if found}

    @property
    def commands(self) -> Iterator[Command]:
        for block in self.blocks:
            if block.language == "console":
                yield from block.commands

    def write_files(self, folder: Path) -> None:
        for name, content in self.files.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")

    def run(self, folder: Path) -> list[str]:
        """Write its files and run its ``python`` commands; returns the lines that were run.

        :raises AssertionError: a command fails, or prints something else than the page says.
        """
        self.write_files(folder)
        ran = []
        for command in self.commands:
            if command.line.startswith("python ") and not command.line.startswith("python -m"):
                printed = run_python(command.line.split()[1:], folder)
                assert printed == command.output, f"{self.name}: {command.line}"
                ran.append(command.line)
        return ran


def run_python(arguments: list[str], folder: Path) -> str:
    """What a Python process prints in a folder, on settings of its own."""
    done = _run(arguments, folder)
    assert done.returncode == 0, f"python {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def fails_python(arguments: list[str], folder: Path) -> str:
    """What a Python process prints that ends with 1, as pytest does where a test fails."""
    done = _run(arguments, folder)
    assert done.returncode == 1, f"python {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("TRIGGER")
    }
    paths = [str(Path(triggers_core.__file__).parents[1]), environment.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        encoding="utf-8",
        timeout=_PATIENCE,
        check=False,
    )


def pages() -> list[Page]:
    """The README and every page of the documentation."""
    built = DOCS / "_build"
    found = [file for file in sorted(DOCS.rglob("*.md")) if built not in file.parents]
    return [Page(ROOT / "README.md"), *map(Page, found)]


def configured(code: str) -> dict[str, Any]:
    """What a piece of code hands to `configure`."""
    values: dict[str, Any] = {}
    exec(code.replace("from triggers_core import configure", ""), {"configure": values.update})
    return values


def every_text() -> list[Page]:
    """The pages, and the READMEs of the plugins and of their template."""
    return [*pages(), *map(Page, sorted((ROOT / "plugins").glob("*/README.md")))]
