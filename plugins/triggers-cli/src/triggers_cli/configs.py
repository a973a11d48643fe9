"""Reads a configuration from a file, from standard input or out of a module."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from triggers_cli.errors import loading
from triggers_core.entry_points import load_path

STDIN = "-"


def read_configuration(place: str) -> Any:
    """The configuration at a place, not checked yet: whatever it is, the parser tells.

    :param place: a file (JSON, or TOML if its name ends so), ``-`` for standard input, or
        ``module:attribute``. A key ``$schema``, which editors read, is left out. Of a TOML file
        with a table ``[tool.triggers]``, as pyproject.toml has it, its ``configuration`` is meant.
    :raises click.UsageError: there is none, or it cannot be read.

    Example::

        read_configuration("flow.json")
        read_configuration("shop.tasks:CONFIGURATION")
    """
    if place != STDIN and ":" in place and not Path(place).exists():
        found = _from_module(place)
    else:
        found = _parse(place, _text(place))
    if isinstance(found, dict) and isinstance(found.get("$schema"), str):
        found = {name: task for name, task in found.items() if name != "$schema"}
    return found


def _text(place: str) -> str:
    if place == STDIN:
        return sys.stdin.read()
    try:
        return Path(place).read_text("utf-8-sig")
    except FileNotFoundError:
        raise click.UsageError(
            f"there is no file {place}: name a JSON or TOML file, '-' for standard input, or"
            " module:attribute"
        ) from None
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{place}: not UTF-8 text: {error}") from None
    except OSError as error:
        raise click.UsageError(f"{place} cannot be read: {error.strerror}") from None


def _parse(place: str, text: str) -> Any:
    shown = "standard input" if place == STDIN else place
    if place.lower().endswith(".toml"):
        import tomllib  # 2 ms: most configurations are JSON

        try:
            return _of_project(shown, tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise click.UsageError(f"{shown}: not TOML: {error}") from None
    try:
        return json.loads(text, object_pairs_hook=without_duplicates)
    except json.JSONDecodeError as error:
        raise click.UsageError(
            f"{shown}, line {error.lineno}, column {error.colno}: not JSON: {error.msg}"
        ) from None
    except ValueError as error:
        raise click.UsageError(f"{shown}: {error}") from None
    except RecursionError:
        raise click.UsageError(f"{shown}: nested too deeply") from None


def _of_project(shown: str, found: dict[str, Any]) -> Any:
    tool = found.get("tool")
    if not isinstance(tool, dict) or "run" in tool:  # a task may be called `tool`, too
        return found
    settings = tool.get("triggers")
    settings = settings if isinstance(settings, dict) else {}
    for name in ("configuration", "TRIGGER_CONFIGURATION"):
        if name in settings:
            return settings[name]
    raise click.UsageError(f"{shown} has no [tool.triggers.configuration]: write its tasks there")


def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, for `json.loads(object_pairs_hook=…)`.

    :raises ValueError: a key stands in it twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        # JSON lets the last one win: the first would be lost without a word.
        raise ValueError(f"{twice!r} stands twice in one object: rename or remove one")
    return found


def _from_module(place: str) -> Any:
    with loading(f"there is no file {place}, and as module:attribute it cannot be loaded"):
        return load_path(place)
