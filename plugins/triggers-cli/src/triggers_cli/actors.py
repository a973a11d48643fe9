"""Who acts: the name that is recorded with what is done by hand."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from triggers_core.engine.names import check_name
from triggers_core.exceptions import InvalidName

if TYPE_CHECKING:
    from triggers_core.manager import TriggerManager

VARIABLE = "TRIGGERS_BY"


def by_option() -> Callable[[Callable[..., Any]], Any]:
    """Whose act it is."""
    return click.option(
        "--by",
        metavar="NAME",
        envvar=VARIABLE,
        callback=_checked,
        help=f"Who does it, for the record; {VARIABLE} in the environment does the same. By"
        " default, the user of the operating system.",
    )


def _checked(ctx: click.Context, parameter: click.Parameter, name: str | None) -> str:
    if name is not None:
        try:
            return check_name(name, "actor")
        except InvalidName as error:
            raise click.BadParameter(str(error)) from None
    try:
        return check_name(getpass.getuser(), "actor")
    except (OSError, KeyError, ImportError, InvalidName):
        return ""  # nobody in particular, as in some containers


def in_the_hands_of(manager: TriggerManager, by: str) -> TriggerManager:
    """The manager for what somebody does by hand."""
    return manager.by(by) if by else manager
