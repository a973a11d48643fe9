"""Completion in real shells: what a Tab offers, and that nothing of a name is ever run."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from cli_process import TRIGGERS, Cli

pytest.importorskip("pty", reason="pseudo-terminals are a thing of POSIX")

import pty

from triggers_cli.completing import is_safe, split_line, unquoted

PATIENCE = 120  # seconds until a shell that hangs fails its test

START = {
    "bash": ["--norc", "--noprofile", "-i"],
    "zsh": ["-f", "-i"],
    "fish": ["--no-config", "-i"],
}
PREPARE = {
    # Where a substitution begins, bash offers all its commands itself, and would ask before.
    "bash": "bind 'set completion-query-items -1'; bind 'set page-completions off';"
    ' PS1="READY> "; eval "$(triggers completion bash)"',
    "zsh": 'PS1="READY> "; autoload -Uz compinit; compinit -u -D;'
    ' eval "$(triggers completion zsh)"',
    "fish": 'function fish_prompt; echo "READY> "; end; triggers completion fish | source',
}
NAMES = {  # fed into a session each; the first two are fine, the others would do harm
    "order:1": True,
    "order:2/ä": True,
    "order:$(touch${IFS}pwned)": False,
    "order:`touch pwned`": False,
    "order:;touch pwned": False,
    "order:'touch pwned'": False,
    'order:"&touch pwned': False,
    "order:*": False,
    "order:{a,b}": False,
    "order: x": False,
    "order:|touch pwned": False,
    "order:>pwned": False,
    "-order": False,
    "~root": False,
    "=ls": False,
    "#order": False,
    "order:\\x": False,
    "order:!!": False,
}


@pytest.mark.parametrize("name", NAMES)
def test_only_what_means_nothing_to_a_shell_is_offered(name: str) -> None:
    assert is_safe(name) == NAMES[name]


@pytest.mark.parametrize("letter", [chr(code) for code in range(0x21)] + ["\x7f", "\u202e", ""])
def test_no_blank_or_control_is_safe(letter: str) -> None:
    assert not is_safe(f"a{letter}") or letter == ""
    assert not is_safe("")


def test_words_of_a_line() -> None:
    assert split_line(" show 'order 1' t_sh") == (["show", "order 1"], "t_sh")
    assert split_line(' show order:1 "t_s') == (["show", "order:1"], '"t_s')
    assert split_line("show a\\ b ") == (["show", "a b"], "")
    assert unquoted('"t_s') == ("t_s", True)
    assert unquoted("'a b'c") == ("a bc", False)
    assert unquoted("a\\") == ("a", False)
    assert unquoted('"$(x)\\""') == ('$(x)"', False)


@pytest.fixture
def names(shop: Cli) -> Cli:
    """Sessions of all kinds of names, a file, and the executable on the PATH."""
    script = "import json, sys\nfrom triggers_core import get_trigger_manager\n" + (
        "for uid in json.loads(sys.argv[1]):\n    get_trigger_manager(uid).fire('x')\n"
    )
    python = Path(TRIGGERS).with_name("python")
    shop.write("feed.py", script)
    subprocess.run(
        [python, "feed.py", json.dumps(list(NAMES))],
        cwd=shop.folder,
        env=shop.environment,
        check=True,
    )
    shop("configure", "order:1", "shop:FLOW", code=0)
    shop("fire", "order:1", "paid", "--kwargs", '{"order": 13}', code=0)
    shop("fire", "order:1", "packed", "--wait", code=1)
    shop.write("flow one.json", {})
    shop.environment["PATH"] = f"{Path(TRIGGERS).parent}:{os.environ['PATH']}"
    return shop


class Shell:
    """An interactive shell on a pseudo-terminal."""

    def __init__(self, kind: str, cli: Cli) -> None:
        program = shutil.which(kind)
        if program is None:
            pytest.skip(f"{kind} is not installed")
        environment = {
            **cli.environment,
            "TERM": "dumb" if kind != "fish" else "xterm",
            "HOME": str(cli.folder),
            "LC_ALL": "C.UTF-8",
            "INPUTRC": "/dev/null",
        }
        self.pid, self.terminal = pty.fork()
        if not self.pid:
            os.chdir(cli.folder)
            os.execve(program, [kind, *START[kind]], environment)
        self.seen, self.number = "", 0
        self.type(PREPARE[kind] + "\n")
        self.type("echo beg''un\n", "begun")

    def type(self, text: str, expected: str = "") -> str:
        """Type a text, and read until something is there; what came since the text was typed."""
        begin = len(self.seen)
        os.write(self.terminal, text.encode())
        while expected not in self.seen[begin:]:
            ready, _, _ = select.select([self.terminal], [], [], PATIENCE)
            assert ready, f"{expected!r} did not come: {self.seen[-2000:]}"
            try:
                data = os.read(self.terminal, 65536)
            except OSError:
                pytest.fail(f"the shell ended: {self.seen[-2000:]}")
            text = re.sub(r"\x1b\[[0-9;?=>]*[A-Za-z]|\x07|\r", "", data.decode(errors="replace"))
            self.seen += text.replace("\\#", "#")  # fish and zsh quote what needs it
        return self.seen[begin:]

    def forget(self) -> None:
        """Drop the line, and wait until the shell has done all it was told."""
        self.number += 1
        self.type(f"\x15echo do''ne{self.number}\n", f"done{self.number}\n")

    def end(self) -> None:
        os.close(self.terminal)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


CASES = [
    ("triggers expl\t order:1 t_sh\t", "triggers explain order:1 t_ship"),
    ("triggers show order:2\t", "triggers show order:2/ä"),
    ("triggers show order:1 t_sh\t", "t_ship#0"),
    ("triggers replay order:1 t_\t", "t_mail#0"),
    ("triggers fire order:1 canc\t", "cancelled"),
    ("triggers check flow\t", "one.json"),
]


@pytest.mark.parametrize("kind", START)
def test_in_a_real_shell(names: Cli, kind: str) -> None:
    shell = Shell(kind, names)
    try:
        for typed, expected in CASES:
            shell.type(typed, expected.rpartition(" ")[2])
            shell.forget()
        # Tab, Tab, Enter: whatever was offered or inserted, nothing of it runs.
        for begin in ("order:", "order:$", "-", "~", "=", "order:*"):
            if kind == "fish" and "$" in begin:
                continue  # it shows its own variables, page by page
            shell.type(f"triggers explain {begin}\t\t")
            shell.forget()
            shell.type(f"triggers explain {begin}\t\n")
            shell.forget()
        for begin in ("'order:", '"order:$(', "order:`", "order:{", "order:\\"):
            shell.type(f"triggers explain {begin}\t\t")
            shell.forget()
    finally:
        shell.end()
    assert not (names.folder / "pwned").exists()
