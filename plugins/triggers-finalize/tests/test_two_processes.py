"""The last two tasks finished at the same moment, by two processes on one SQLite file."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

SESSIONS = 200
SCRIPT = Path(__file__).with_name("finishing.py")


def finishing() -> Any:
    spec = spec_from_file_location("finishing", SCRIPT)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def finalizations(how: str, path: Path) -> Counter[int]:
    """How many sessions were finalized how many times."""
    script = finishing()
    app = script.application(how, str(path))
    managers = [app.manager(f"s{number}") for number in range(SESSIONS)]
    for manager in managers:
        manager.update_configuration(script.CONFIGURATION)
        assert len(manager.fire("go").scheduled) == 2
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), how, str(path), str(SESSIONS), f"{task}#0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for task in ("t_a", "t_b")
    ]
    for number in range(SESSIONS):
        let_go(processes, "ready")
        if number % 10 == 0:
            let_go(processes, "committed")
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    counts = Counter(
        sum(event.trigger == "sessionFinalized" for event in manager.storage.events)
        for manager in managers
    )
    app.close()
    return counts


def let_go(processes: list[subprocess.Popen[str]], where: str) -> None:
    """Wait until every process is at a place, then let all go on at once."""
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == f"{where}\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()


def test_exactly_one_finalization_each(tmp_path: Path) -> None:
    with_plugin = finalizations("plugin", tmp_path / "plugin.db")
    by_recipe = finalizations("recipe", tmp_path / "recipe.db")
    found = f"plugin {dict(with_plugin)}, recipe {dict(by_recipe)}"
    print(f"{SESSIONS} sessions, times finalized: {found}")
    assert with_plugin == {1: SESSIONS}
    assert by_recipe[2] >= SESSIONS // 10, "the recipe has to fail where the plugin does not"
