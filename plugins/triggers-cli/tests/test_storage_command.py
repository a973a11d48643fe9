"""`triggers storage`: what sessions are kept in, made beforehand."""

from __future__ import annotations

from cli_process import Cli


def test_a_file_is_made_once(cli: Cli) -> None:
    made = cli("storage", "init", "--storage", "sqlite:new.db", code=0)
    assert made.out.startswith("set up: the SQLite file ")
    assert (cli.folder / "new.db").stat().st_size > 0
    for action in ("init", "upgrade"):
        again = cli("storage", action, "--storage", "sqlite:new.db", "--json", code=0).json
        assert again["changed"] is False
        assert again["place"].endswith("new.db")
    assert "Nothing is stuck" in cli("sessions", "--storage", "sqlite:new.db", code=0).out


def test_a_storage_without_sql_says_so(cli: Cli) -> None:
    told = cli("storage", "init", "--sql", "--storage", "sqlite:new.db", code=1)
    assert "is set up without statements of SQL" in told.err
    assert not (cli.folder / "new.db").exists()
    assert "'init', 'upgrade'" in cli("storage", "drop", code=2).err
