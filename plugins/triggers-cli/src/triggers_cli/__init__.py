"""The command line of Triggers.

For plugins that add commands of their own: an entry point in the group ``triggers.commands`` names
a click command. `command` makes one that takes the options of every other (``--app``, ``--json``,
…), and `State` is what it gets.

Example::

    from triggers_cli import State, command

    @command("ping")
    @click.pass_obj
    def ping(state: State) -> None:
        state.out.line(f"{len(state.store().sessions())} sessions")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triggers_cli.options import TriggersCommand, command
    from triggers_cli.state import State

__version__ = "0.2.0"

_HOMES = {"State": "state", "TriggersCommand": "options", "command": "options"}

__all__ = ["State", "TriggersCommand", "__version__", "command"]


def __getattr__(name: str) -> Any:
    # Loaded on first use: `triggers --version` should not wait for it.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"triggers_cli.{_HOMES[name]}"), name)
