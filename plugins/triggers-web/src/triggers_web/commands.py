"""What this package adds to the command line: ``triggers web`` and ``triggers webhook``."""

from __future__ import annotations

from typing import BinaryIO

import click

from triggers_cli import State, command


@command("web", example="triggers web\ntriggers web --act --port 9000")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", default=8080, show_default=True, help="The port; 0: any that is free.")
@click.option("--act", is_flag=True, help="Let pages fire, replay, skip and fail, not only show.")
@click.option("--erase", is_flag=True, help="Let them close, delete and reconfigure sessions, too.")
@click.option(
    "--hostname",
    "hostnames",
    multiple=True,
    metavar="NAME",
    help="Serve pages at an address that others reach, too, under this name; several will do. Mind:"
    " without TLS before it, whoever is on the way reads along, and can do what you can.",
)
@click.pass_obj
def web(
    state: State, host: str, port: int, act: bool, erase: bool, hostnames: tuple[str, ...]
) -> int:
    """Serve the pages and the webhooks, and run what they complete.

    Pages are for whoever opens the link that is printed, which works once, for 15 minutes; then
    the next one is. Without a link that works, ask for any page: another one is printed.
    The webhooks of TRIGGER_PLUGIN_OPTIONS are below /webhooks, and take no login. The embedded
    runner runs tasks in this process; with Celery, workers do.

    Exits with 1 when the server cannot be started.
    """
    from triggers_web.serving import Offer, serve  # 150 ms: `triggers --help` imports this module

    app = state.app
    state.import_tasks()
    offer = Offer(host, port, hostnames, act=act, erase=erase)
    return 0 if serve(app, offer, state.out.line) else 1


@command(
    "webhook",
    example="triggers webhook try /stripe event.json\n"
    "triggers webhook try /github push.json --header 'X-GitHub-Event: push'",
)
@click.argument("action", type=click.Choice(["try"]))
@click.argument("route")
@click.argument("body", type=click.File("rb"))
@click.option(
    "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A header; several will do."
)
@click.pass_obj
def webhook(state: State, action: str, route: str, body: BinaryIO, headers: tuple[str, ...]) -> int:
    """Say what a webhook would fire, and fire nothing.

    ROUTE is the path of one of the webhooks in TRIGGER_PLUGIN_OPTIONS, BODY a file with what is
    sent ("-": standard input). No signature is checked, so that no secret is needed.

    Exits with 1 when the webhook could not be used.
    """
    from triggers_web.trying import try_webhook  # 90 ms: `triggers --help` imports this module

    found = try_webhook(state.app, route, body.read(), map(_header, headers))
    if state.json:
        state.out.data(found)
    elif found["status"] == "ignored":
        state.out.line(("would be ignored", "yellow"), f": {found['reason']}")
    else:
        state.out.line(("would fire", "green"), f" {found['trigger']} into {found['uid']}")
        state.out.line(f"  event id  {found['event_id']}")
        for key, value in found["kwargs"].items():
            state.out.line(f"  {key}  {value!r}")
    return 0


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.BadParameter(f"{text!r} is no header: write 'NAME: VALUE'")
    return name.strip(), value.strip()
