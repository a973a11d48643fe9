"""Shell completion: what is offered, and how each shell is told. Imported only when asked for.

Names of sessions, tasks and triggers are data, often somebody else's text, and what a completion
offers ends on a command line. So only names are offered that mean nothing to any shell: the others
have to be typed, and quoted, by whoever wants them.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ZshComplete,
    add_completion_class,
)

from triggers_cli.state import State
from triggers_core.engine.records import Status
from triggers_core.views.linting.findings import CODES

VARIABLE: Final = "_TRIGGERS_COMPLETE"
"""The environment variable by which the shells' scripts ask for completions."""

_AT_MOST: Final = 100
_PUNCTUATION: Final = frozenset("_@%+=:,./#-")

_BASH: Final = """\
%(complete_func)s() {
    local line type value
    COMPREPLY=()
    line=${COMP_LINE:0:COMP_POINT}
    line=${line#*"${COMP_WORDS[0]}"}
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
            bare) COMPREPLY+=("$value"); compopt -o nospace ;;
        esac
    done < <(COMP_LINE="$line" COMP_WORDBREAKS="$COMP_WORDBREAKS" \\
        %(complete_var)s=bash_complete "$1" 2>/dev/null)
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""

_TOKENS: Final = re.compile(
    r"""(?: [^\s"'\\]+ | \\. | \\$ | '[^']*(?:'|$) | "(?:[^"\\]|\\.)*(?:"|\\?$) )+ | \s+""",
    re.VERBOSE | re.DOTALL,
)
_PART: Final = re.compile(
    r"""([^"'\\]+) | \\(.?) | '([^']*)('?) | "((?:[^"\\]|\\.)*)("?)\\?""", re.VERBOSE | re.DOTALL
)


class _Bash(BashComplete):
    """Bash takes words apart at colons and more (COMP_WORDBREAKS): so the whole line is read."""

    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        args, raw = split_line(os.environ.get("COMP_LINE", ""))
        incomplete, quoted = unquoted(raw)
        breaks = os.environ.get("COMP_WORDBREAKS", "")
        at = max((raw.rfind(each) for each in breaks if each not in " \t\n\"'"), default=-1)
        # Bash puts what it is given in place of what follows the last of those characters.
        self._kept = "" if quoted else unquoted(raw[: at + 1])[0]
        return args, incomplete

    def format_completion(self, item: CompletionItem[Any]) -> str:
        value = str(item.value)
        return f"{item.type},{value if item.type == 'file' else value.removeprefix(self._kept)}"


class _Zsh(ZshComplete):
    """Zsh quotes what it inserts."""


class _Fish(FishComplete):
    """Fish quotes what it inserts; a comma may stand in a value."""

    source_template = FishComplete.source_template.replace(
        'string split "," $completion', 'string split -m1 "," $completion'
    ).replace("%(prog_name)s);", "%(prog_name)s 2>/dev/null);")


def register() -> None:
    """Let click use these classes."""
    for kind in (_Bash, _Zsh, _Fish):
        add_completion_class(kind)
    logging.disable()  # a warning would stand in the middle of what is being typed


def script(cli: click.Command, shell: str) -> str:
    """The completion script of a shell: ``bash``, ``zsh`` or ``fish``."""
    kind = {"bash": _Bash, "zsh": _Zsh, "fish": _Fish}[shell]
    return kind(cli, {}, "triggers", VARIABLE).source()


def split_line(text: str) -> tuple[list[str], str]:
    """The words of a line of Bash, without quotes, and the last one, as typed; nothing is expanded.

    Example::

        split_line("show 'order 1' t_sh")  # (['show', 'order 1'], 't_sh')
    """
    tokens = _TOKENS.findall(text)
    last = tokens.pop() if tokens and not tokens[-1].isspace() else ""
    return [unquoted(each)[0] for each in tokens if not each.isspace()], last


def unquoted(word: str) -> tuple[str, bool]:
    """A word without its quotes, and whether one of them is still open."""
    text, opened = "", False
    for part in _PART.finditer(word):
        plain, escaped, single, closes, double, also = (group or "" for group in part.groups())
        text += plain + escaped + single + re.sub(r'\\(["\\$`])', r"\1", double)
        opened = part.group()[0] in "'\"" and not (closes or also)
    return text, opened


def is_safe(name: str) -> bool:
    """Whether a name, typed as it is, is one word in Bash, Zsh and fish, and nothing but that."""
    return (
        bool(name)
        and (name[0].isalnum() or name[0] in "_@+:,./")
        and all(letter.isalnum() or letter in _PUNCTUATION for letter in name)
    )


# -- what parameters offer ------------------------------------------------------------------------

Complete = Callable[[click.Context, click.Parameter, str], list[Any]]


def _offered(find: Callable[[State, str, str], Iterable[str]]) -> Complete:
    """A function that offers names: of the state, the uid on the line, and what was typed."""

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
        state = ctx.find_root().ensure_object(State)
        try:
            found = list(find(state, ctx.params.get("uid") or "", incomplete))
        except KeyboardInterrupt:
            raise
        except BaseException:
            return []  # completion has no place for an error
        typed = ctx.params.get(parameter.name or "") or ()
        done = {typed} if isinstance(typed, str) else set(typed)
        return [
            each
            for each in dict.fromkeys(found)
            if each.startswith(incomplete) and is_safe(each) and each not in done
        ][:_AT_MOST]

    return complete


@_offered
def uids(state: State, uid: str, incomplete: str) -> Iterable[str]:
    """The sessions whose uid begins so."""
    store = state.store()
    after = ""
    if incomplete:  # the greatest text that comes before all that begin so
        last = ord(incomplete[-1]) - 1
        last = 0xD7FF if 0xD800 <= last <= 0xDFFF else last
        after = incomplete[:-1] + (chr(last) + "\U0010ffff" if last >= 0 else "")
    return [each.uid for each in store.sessions(limit=_AT_MOST, after=after)]


@_offered
def tasks(state: State, uid: str, incomplete: str) -> Iterable[str]:
    """The tasks of the session."""
    return state.session(uid).tasks


@_offered
def triggers(state: State, uid: str, incomplete: str) -> Iterable[str]:
    """The triggers that tasks of the session wait for, or, before there are tasks, have fired."""
    storage = state.session(uid)
    configuration = storage.configuration
    return sorted(set(configuration.listeners) - set(configuration.tasks)) or fired(storage)


def fired(storage: Any) -> list[str]:
    """The triggers that have fired in a session."""
    header = storage.header
    return [] if header is None else sorted(header.latest)


@_offered
def fired_triggers(state: State, uid: str, incomplete: str) -> Iterable[str]:
    """The triggers that have fired in the session."""
    return fired(state.session(uid))


def _instances(*statuses: str) -> Complete:
    def find(state: State, uid: str, incomplete: str) -> Iterable[str]:
        store = state.session(uid).store
        wanted = tuple(Status(each) for each in statuses) or None
        return [each.name for each in store.instances(uid, statuses=wanted)]

    return _offered(find)


instances = _instances()
failed_instances = _instances("failed")
stuck_instances = _instances("scheduled", "running")


@_offered
def failed_tasks(state: State, uid: str, incomplete: str) -> Iterable[str]:
    """The tasks with failed instances, in all sessions."""
    return [each.task for each in state.store().failed_groups()]


@_offered
def failed_errors(state: State, uid: str, incomplete: str) -> Iterable[str]:
    """The types of errors that instances have failed of, in all sessions."""
    return [each.error for each in state.store().failed_groups() if each.error]


def uids_or_files(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Sessions; files, once many sessions are chosen by options."""
    chosen = ctx.params.get("where_prefix") or ctx.params.get("where_configuration")
    return (files if chosen else uids)(ctx, parameter, incomplete)


@_offered
def codes(state: State, uid: str, incomplete: str) -> Iterable[str]:
    """The codes of the warnings of `check`."""
    return (*CODES, *sorted(state.app.plugins.names))


def files(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Whatever files the shell finds."""
    return [CompletionItem(incomplete, type="file")]
