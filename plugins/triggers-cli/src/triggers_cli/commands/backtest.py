"""The command ``backtest``: recorded events through a configuration."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, cast

import click
import msgspec

from triggers_cli.configs import read_configuration
from triggers_cli.errors import FAILED, INTERRUPTED, OK
from triggers_cli.eventlog import EventLog, Format
from triggers_cli.options import command, completes
from triggers_cli.state import State, read_storage
from triggers_core.backtest import BacktestResult, TaskTotals, read_time, what_tells_time
from triggers_core.backtest import backtest as replay
from triggers_core.engine.configuration import Configuration
from triggers_core.exceptions import EventIdConflict, InvalidEvent, TaskNotFound
from triggers_core.redaction import mask_url
from triggers_core.registries import storage_backends
from triggers_core.storages.base import Store
from triggers_core.texts import count, duration, names
from triggers_core.views.stuck import count_waits, never_fired

_MARK: Final = "backtest"
"""Name of the lease that marks a store as a backtest's; its owner says of which configuration."""
_REPORT_INTERVAL: Final = 0.1  # seconds between two lines on how far it is
_FOR_EVER: Final = 100 * 365 * 86_400.0  # seconds
_WAITS_AT_MOST: Final = 15
_STYLES: Final = {"FAILED": "red", "LATE": "yellow"}
_EXAMPLE: Final = "sqlite:backtest.db"


def _moment(text: str) -> float:
    """The value of --until, in seconds since 1970."""
    try:
        return read_time(text, "TIME")
    except InvalidEvent as error:
        raise click.BadParameter(str(error)) from None


@command(
    "backtest",
    example="""triggers backtest flow.json events.jsonl.gz
triggers backtest flow.json events.csv --storage sqlite:backtest.db
triggers backtest flow.json events.csv --until 2026-02-01""",
)
@click.argument("config", shell_complete=completes("files"))
@click.argument("events", shell_complete=completes("files"))
@click.option("--run", is_flag=True, help="Run the tasks' bodies, here, one after the other.")
@click.option(
    "--format",
    type=click.Choice(["jsonl", "csv"]),
    help="What EVENTS holds, if its name does not say it.",
)
@click.option(
    "--until",
    type=_moment,
    metavar="TIME",
    help="Let time pass up to then, if the configuration tells time; by default, up to the last"
    " event. ISO 8601 (UTC, if it names no offset), or seconds since 1970.",
)
@click.pass_obj
def backtest(
    state: State, config: str, events: str, run: bool, format: str | None, until: float | None
) -> int:
    """Replay recorded events through a configuration.

    Shows what would have run, what would have been called off, and what would still wait, and for
    what. Bodies are not run: each instance that becomes ready finishes with no result and cascades
    before the next event. With --run, they are, with the tasks of TRIGGER_IMPORTS.

    EVENTS is a file (or `-`) in the order of time: JSON lines or CSV, plain or gzip, with session,
    trigger, and optionally ts, kwargs (JSON) and id. Whatever else it holds is ignored.

    If the configuration tells time (`waiting`, `within`), every event needs its ts: seconds since
    1970, or ISO 8601. Time passes between the events as it did then, and deadlines and holds end
    at their moments; bodies take no time. LATE counts those of the abandoned whose deadline had
    passed.

    The sessions go to a temporary file; with --storage, they stay, can be looked at, and the same
    command completes a backtest that was interrupted. It has to be a storage of its own.

    CONFIG is a JSON or TOML file, `-` for standard input, or MODULE:ATTRIBUTE. Exits with 1 when a
    body failed.
    """
    if config == events == "-":
        raise click.UsageError("CONFIG and EVENTS cannot both be standard input")
    parsed = state.app.parse(read_configuration(config))
    if until is not None and not what_tells_time(parsed):
        state.out.note(("--until has no effect: no task has waiting or within", "yellow"))
    if run:
        _check_tasks(state, parsed)
    try:
        log = EventLog(events, cast("Format | None", format))
    except OSError as error:
        raise click.UsageError(f"{events} cannot be read: {error.strerror}") from None
    with log, _store(state, parsed, run) as store:
        begun = time.perf_counter()
        fired: set[str] = set()
        try:
            result = _replay(state, parsed, log, store, run, until, fired)
        except KeyboardInterrupt:
            _interrupted(state, log)
            return INTERRUPTED
        return _report(state, parsed, result, time.perf_counter() - begun, fired)


def _check_tasks(state: State, parsed: Configuration) -> None:
    state.import_tasks()
    for task in parsed.tasks.values():
        try:
            state.app.resolve_task(task.run, task.using)
        except TaskNotFound as error:
            raise click.UsageError(f"{task.name}.run: {error}") from None


# -- the storage -----------------------------------------------------------------------------------


@contextmanager
def _store(state: State, parsed: Configuration, run: bool) -> Iterator[Store]:
    """Where the sessions of the backtest go: never the storage of the settings."""
    if state.storage_text is None:
        with (
            tempfile.TemporaryDirectory(prefix="triggers-backtest-") as folder,
            _open(f"sqlite:{os.path.join(folder, 'backtest.db')}") as store,
        ):
            yield store
        return
    with _open(state.storage_text) as store:
        _claim(store, f"{parsed.hash}/{'run' if run else 'dry'}")
        yield store


def _open(text: str) -> Store:
    # The log is there to begin anew from: nothing is lost that a power cut might take.
    key, options = read_storage(text)
    return storage_backends.get_class(key).open_scratch(**options)


def _claim(store: Store, owner: str) -> None:
    """Take a store for this backtest, or go on with it.

    :raises click.UsageError: it holds other sessions, which would count, and be changed.
    """
    if store.sessions(limit=1):
        # Only a store that a backtest has taken has an owner: an application's would be free.
        if store.acquire_lease(_MARK, "probe", 1.0):
            store.release_lease(_MARK, "probe")
            raise click.UsageError(
                f"{store.place} holds sessions of an application, which a backtest would"
                " change: name a new one for it"
            )
        if not store.acquire_lease(_MARK, owner, _FOR_EVER):
            raise click.UsageError(
                f"{store.place} holds the backtest of another configuration (or one with"
                " --run, or without): name a new one, or delete it"
            )
    elif not store.acquire_lease(_MARK, owner, _FOR_EVER):
        raise click.UsageError(
            f"{store.place} was taken for the backtest of another configuration: name a"
            " new one, or delete it"
        )


# -- the replay ------------------------------------------------------------------------------------


def _replay(
    state: State,
    parsed: Configuration,
    log: EventLog,
    store: Store,
    run: bool,
    until: float | None,
    fired: set[str],
) -> BacktestResult:
    """Replay the log; `fired` gets the triggers of the configuration that the log holds."""

    def noted() -> Iterator[dict[str, Any]]:
        for event in log:
            trigger = event.get("trigger")
            if isinstance(trigger, str) and trigger in parsed.listeners:
                fired.add(trigger)
            yield event

    with state.out.status_line() as tell:
        try:
            return replay(
                parsed,
                noted(),
                store,
                run=run,
                app=state.app,
                progress=_progress(log, tell) if state.out.watched else None,
                stuck_at_most=1,
                until=until,
            )
        except InvalidEvent as error:
            # The core counts events, people count lines.
            cause = error.__cause__
            if isinstance(cause, EventIdConflict):
                cause.args = (f"{cause}. Is this the log that {store.place} began with?",)
            raise log.wrong(str(cause)) if cause is not None else error from None


def _progress(log: EventLog, tell: Callable[[str], None]) -> Callable[[int], None]:
    """How far a backtest is, ten times a second: the share of the file, the rate, the time left."""
    begun = shown = time.perf_counter()

    def progress(events: int) -> None:
        nonlocal shown
        now = time.perf_counter()
        if now - shown < _REPORT_INTERVAL:
            return
        shown = now
        told = f"{count(events, 'event')}, {events / (now - begun):,.0f} a second"
        if log.size and log.read:
            share = log.read / log.size
            left = duration((now - begun) * (1 - share) / share)
            told = f"{share:.0%}, {told}, {left} left"
        tell(told)

    return progress


def _interrupted(state: State, log: EventLog) -> None:
    out = state.out
    out.note("")
    if state.storage_text is None:
        out.note(
            f"Interrupted at line {log.line:,}. Nothing is kept: with --storage {_EXAMPLE}, the"
            " same command, given again, would go on from here."
        )
    else:
        out.note(f"Interrupted at line {log.line:,}. The same command completes it:")
        out.note(f"  {mask_url(shlex.join(['triggers', *sys.argv[1:]]))}")


# -- the report ------------------------------------------------------------------------------------


def _report(
    state: State,
    parsed: Configuration,
    result: BacktestResult,
    seconds: float,
    fired: set[str],
) -> int:
    out = state.out
    failed = sum(task.failed for task in result.tasks.values())
    heads = ["RUN", "ABANDONED", "UNSTARTED"]
    if any(task.rule.within is not None for task in parsed.tasks.values()):
        heads.insert(2, "LATE")
    rate = result.events / seconds if seconds else 0.0
    speed = f"{count(result.events, 'event')} in {seconds:,.1f} s, {rate:,.0f} events/s"
    if state.json:
        tasks = {
            name: dict(zip(map(str.lower, heads), _numbers(each, heads), strict=True))
            for name, each in result.tasks.items()
        }
        out.data({"sessions": result.sessions, "events": result.events, "tasks": tasks})
    else:
        _tables(state, result, speed, [*heads, *(["FAILED"] if failed else [])])
        example = _stuck(state, parsed, result)
        _never_fired(state, parsed, result.store, fired)
        if example:
            _how_to_look(state, example)
    if state.json:
        # With --json, stdout holds the result alone, and stderr what went wrong.
        if failed:
            out.error(f"{count(failed, 'instance')} failed", "BacktestFailed")
        elif sys.stderr.isatty():
            out.note((speed, "dim"))
    return FAILED if failed else OK


def _numbers(task: TaskTotals, heads: Sequence[str]) -> list[int]:
    """What became of a task, in the order of the columns."""
    numbers: dict[str, int] = msgspec.structs.asdict(task)
    return [numbers[head.lower()] for head in heads]


def _tables(state: State, result: BacktestResult, speed: str, heads: Sequence[str]) -> None:
    out = state.out
    again = ""
    if result.duplicates:
        again = f", {result.duplicates:,} of them recorded before"
    out.line((count(result.sessions, "session"), "bold"), f", {speed}{again}")
    out.line()
    rows: list[list[Any]] = [
        [
            name,
            *(
                (f"{number:,}", _STYLES[head]) if number and head in _STYLES else number
                for head, number in zip(heads, _numbers(each, heads), strict=True)
            ),
        ]
        for name, each in result.tasks.items()
    ]
    out.table(["TASK", *heads], rows, heads)


def _stuck(state: State, parsed: Configuration, result: BacktestResult) -> str:
    """Tell what the sessions wait for.

    :returns: the uid of one that is worth a look; empty when there is none.
    """
    out = state.out
    stuck = count_waits(result.store, parsed)
    if stuck.waits:
        out.line()
        begun = "session has something that began and waits"
        if stuck.sessions != 1:
            begun = "sessions have something that began and waits"
        out.line((f"{stuck.sessions:,} {begun}:", "yellow"))
        out.line()
        table = [
            (each.task, each.trigger, each.instances, each.example)
            for each in stuck.waits[:_WAITS_AT_MOST]
        ]
        out.table(("TASK", "WAITS FOR", "INSTANCES", "FOR EXAMPLE"), table, ("INSTANCES",))
        if len(stuck.waits) > _WAITS_AT_MOST:
            out.line(f"and {len(stuck.waits) - _WAITS_AT_MOST:,} more")
    if stuck.failed:
        out.line()
        out.line((f"{count(stuck.failed, 'session')} failed, {stuck.failed_example} first", "red"))
    return stuck.failed_example or (stuck.waits[0].example if stuck.waits else "")


def _never_fired(state: State, parsed: Configuration, store: Store, fired: set[str]) -> None:
    """Tell which triggers never came: most likely they are spelled otherwise in the log."""
    # Plugins and bodies fire, too: what the log does not hold may be in the sessions.
    from_outside = set(parsed.listeners) - set(parsed.tasks) - parsed.otherwise
    never = never_fired(store, from_outside - fired)
    if never:
        state.out.line()
        state.out.paragraph(names(never), "Not once in this log: ", "yellow")


def _how_to_look(state: State, example: str) -> None:
    out = state.out
    out.note("")
    if state.storage_text is None:
        out.note((f"To look at one, keep the sessions: add --storage {_EXAMPLE} and then", "dim"))
        storage = _EXAMPLE
    else:
        out.note(("To look at one:", "dim"))
        storage = state.storage_text
    where = f"--storage {shlex.quote(mask_url(storage))}"
    out.note((f"  {state.program} explain {where} {shlex.quote(example)}", "dim"))
