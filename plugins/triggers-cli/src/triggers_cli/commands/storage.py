"""The command about what sessions are kept in: storage init, storage upgrade."""

from __future__ import annotations

import click

from triggers_cli.errors import OK
from triggers_cli.options import command
from triggers_cli.state import State


@command("storage", example="triggers storage init\ntriggers storage init --sql > triggers.sql")
@click.argument("action", type=click.Choice(["init", "upgrade"]))
@click.option("--sql", is_flag=True, help="Print the statements, and run nothing.")
@click.pass_obj
def storage(state: State, action: str, sql: bool) -> int:
    """Set up the tables or the file that sessions are kept in.

    `init` makes them, and `upgrade` brings those of an earlier version up to date; each does the
    other's work, too, if need be. Unless the storage's options say otherwise, the first event does
    it by itself. Processes that try at the same time wait for each other.

    Exits with 1 when --sql is asked of a storage that has no statements.
    """
    store = state.store(create=True)
    if sql:
        statements = store.set_up_sql()
        if statements is None:
            raise click.ClickException(f"{store.place} is set up without statements of SQL")
        click.echo(statements, nl=False)
        return OK
    changed = store.set_up()
    if state.json:
        state.out.data({"place": store.place, "changed": changed})
    elif changed:
        state.out.line(("set up", "green"), f": {store.place}")
    else:
        state.out.line(f"There is nothing to do: {store.place}")
    return OK
