"""Settings: which source wins, what is accepted, where a value came from, what is shown of it."""

from __future__ import annotations

import enum
import importlib
import itertools
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from triggers_core.application import Application
from triggers_core.engine.configuration import parse_configuration
from triggers_core.exceptions import InvalidSetting
from triggers_core.limits import Limits, Timing
from triggers_core.registries import storage_backends
from triggers_core.settings import Settings
from triggers_core.settings.sources import EnvironmentSource, ModuleSource, PyprojectSource
from triggers_core.storages.sqlite import SqliteStorage, SqliteStore

CANARY = "c4n4ry-s3cret"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: empty, importable, and an environment without settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in (*Settings.names(), "TRIGGERS_SETTINGS_MODULE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "fake_settings", raising=False)
    return tmp_path


def write_module(folder: Path, text: str) -> None:
    sys.modules.pop("fake_settings", None)
    (folder / "fake_settings.py").write_text(text)


def write_pyproject(folder: Path, text: str) -> None:
    (folder / "pyproject.toml").write_text(text)


def in_environment(**values: str) -> Settings:
    return Settings(sources=[EnvironmentSource(values)])


# -- sources --------------------------------------------------------------------------------------


def test_defaults(folder: Path) -> None:
    settings = Settings()
    assert {name: getattr(settings, name) for name in settings.names()} == {
        "TRIGGER_MANAGER_TYPE": "default",
        "TRIGGER_STORAGE_TYPE": "sqlite",
        "TRIGGER_STORAGE_OPTIONS": {},
        "TRIGGER_RUNNER": "threading",
        "TRIGGER_RUNNER_OPTIONS": {},
        "TRIGGER_PLUGINS": None,
        "TRIGGER_AUTOLOAD": True,
        "TRIGGER_IMPORTS": (),
        "TRIGGER_CONFIGURATION": None,
        "TRIGGER_LIMITS": Limits(),
        "TRIGGER_TIMING": Timing(),
        "TRIGGER_PLUGIN_OPTIONS": {},
    }
    assert {info.origin for info in settings.describe()} == {"default"}
    assert (settings.limits, settings.timing) == (Limits(), Timing())


SOURCES = ("pyproject", "module", "environment", "code")


@pytest.mark.parametrize("highest", range(len(SOURCES)), ids=SOURCES)
def test_precedence(folder: Path, monkeypatch: pytest.MonkeyPatch, highest: int) -> None:
    """Every source up to `highest` sets the runner; the highest wins and is named."""
    settings = Settings()
    write_pyproject(folder, "[tool.triggers]\nrunner = 'pyproject'\n")
    origin = f"pyproject.toml [tool.triggers] in {folder}"
    if highest >= SOURCES.index("module"):
        write_module(folder, "TRIGGER_RUNNER = 'module'\nOTHER = 1\n")
        monkeypatch.setenv("TRIGGERS_SETTINGS_MODULE", "fake_settings")
        origin = "settings module fake_settings"
    if highest >= SOURCES.index("environment"):
        monkeypatch.setenv("TRIGGER_RUNNER", "environment")
        origin = "environment variable TRIGGER_RUNNER"
    if highest >= SOURCES.index("code"):
        settings.configure(TRIGGER_RUNNER="code")
        origin = "configure()"
    runner = settings.TRIGGER_RUNNER
    assert runner == SOURCES[highest]
    assert settings.origin("TRIGGER_RUNNER") == origin
    assert settings.origin("TRIGGER_IMPORTS") == "default"


def test_sources_are_read_lazily_and_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings()
    monkeypatch.setenv("TRIGGER_RUNNER", "one")
    assert settings.TRIGGER_RUNNER == "one", "read on first use, not when it was made"
    monkeypatch.setenv("TRIGGER_RUNNER", "two")
    assert settings.TRIGGER_RUNNER == "one"
    settings.configure(TRIGGER_MANAGER_TYPE="own")
    assert settings.TRIGGER_RUNNER == "one"
    settings.reload()
    assert (settings.TRIGGER_RUNNER, settings.TRIGGER_MANAGER_TYPE) == ("two", "own")


def test_code_can_change_its_mind(folder: Path) -> None:
    settings = Settings()
    settings.configure(TRIGGER_RUNNER="one", TRIGGER_IMPORTS=["a"])
    assert settings.TRIGGER_RUNNER == "one"
    settings.configure(TRIGGER_RUNNER="two")
    assert (settings.TRIGGER_RUNNER, settings.TRIGGER_IMPORTS) == ("two", ("a",))
    with pytest.raises(InvalidSetting):
        settings.configure(TRIGGER_RUNNER="three", TRIGGER_AUTOLOAD="perhaps")
    assert settings.TRIGGER_RUNNER == "two", "all or nothing"


def test_settings_are_not_assigned() -> None:
    with pytest.raises(AttributeError, match=r"configure\(TRIGGER_RUNNER=\.\.\.\)"):
        Settings.isolated().TRIGGER_RUNNER = "x"  # type: ignore[misc]


def test_isolated_settings_read_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pyproject(folder, "this is no TOML")
    monkeypatch.setenv("TRIGGER_RUNNER", "outside")
    monkeypatch.setenv("TRIGGERS_SETTINGS_MODULE", "no_such_module")
    settings = Settings.isolated(TRIGGER_STORAGE_TYPE="memory")
    assert (settings.TRIGGER_RUNNER, settings.TRIGGER_STORAGE_TYPE) == ("threading", "memory")
    with pytest.raises(InvalidSetting, match="mean 'TRIGGER_RUNNER'"):
        Settings.isolated(TRIGGER_RUNER="x")


def test_applications_do_not_share_settings(folder: Path) -> None:
    one, two = Settings(), Settings()
    one.configure(TRIGGER_RUNNER="one")
    assert (one.TRIGGER_RUNNER, two.TRIGGER_RUNNER) == ("one", "threading")


def test_the_nearest_pyproject_counts(folder: Path) -> None:
    write_pyproject(folder, "[tool.triggers]\nrunner = 'outer'\n")
    inner = folder / "inner"
    deep = inner / "deep"
    deep.mkdir(parents=True)
    settings = Settings(sources=[PyprojectSource(deep)])
    assert settings.TRIGGER_RUNNER == "outer"
    write_pyproject(inner, "[tool.other]\n")
    settings.reload()
    assert settings.TRIGGER_RUNNER == "threading", "the nearest file, even if it says nothing"


def test_pyproject_keys_may_be_written_either_way(folder: Path) -> None:
    write_pyproject(
        folder,
        """
        [tool.triggers]
        storage_type = "memory"
        TRIGGER_RUNNER = "celery"
        plugins = ["retry", "*"]
        autoload = false
        imports = ["shop.tasks"]
        limits = {tasks = 7}
        [tool.triggers.timing]
        lease = 30
        [tool.triggers.plugin-options.retry]
        times = 5
        """,
    )
    settings = Settings(sources=[PyprojectSource(folder)])
    assert settings.TRIGGER_STORAGE_TYPE == "memory"
    assert settings.TRIGGER_RUNNER == "celery"
    assert settings.TRIGGER_PLUGINS == ("retry", "*")
    assert settings.TRIGGER_AUTOLOAD is False
    assert settings.TRIGGER_IMPORTS == ("shop.tasks",)
    assert settings.limits == Limits(tasks=7)
    assert settings.timing == Timing(lease=30.0)
    assert settings.TRIGGER_PLUGIN_OPTIONS == {"retry": {"times": 5}}


def test_what_is_done_to_a_value_of_a_pyproject_stays_with_it(folder: Path) -> None:
    write_pyproject(folder, "[tool.triggers.configuration.t_x]\nafter = ['paid']\nrun = 'x'\n")
    mine: Any = Settings([PyprojectSource(folder)]).TRIGGER_CONFIGURATION
    mine["t_x"]["after"].append("packed")
    others: Any = Settings([PyprojectSource(folder)]).TRIGGER_CONFIGURATION
    assert others["t_x"]["after"] == ["paid"]


# -- relative to what -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("shop.db", "{folder}/shop.db"),
        ("data/shop.db", "{folder}/data/shop.db"),
        ("../shop.db", "{folder}/../shop.db"),
        ("/var/lib/shop.db", "/var/lib/shop.db"),
        (":memory:", ":memory:"),
        ("", ""),
    ],
)
def test_a_path_of_a_pyproject_is_relative_to_it(folder: Path, written: str, meant: str) -> None:
    write_pyproject(folder, f'[tool.triggers.storage_options]\npath = "{written}"\nx = "shop.db"\n')
    (folder / "below").mkdir()
    settings = Settings([PyprojectSource(folder / "below")])
    found = settings.TRIGGER_STORAGE_OPTIONS
    assert found == {"path": meant.format(folder=folder), "x": "shop.db"}


@pytest.mark.parametrize("written", ["5", "[1]", "{path = 5}"])
def test_what_is_no_path_is_left_to_the_checks(folder: Path, written: str) -> None:
    write_pyproject(folder, f"[tool.triggers]\nstorage_options = {written}\n")
    app = Application("shop", Settings([PyprojectSource(folder)]))
    with pytest.raises(InvalidSetting, match=r"TRIGGER_STORAGE_OPTIONS \(pyproject.toml "):
        _ = app.store


@pytest.fixture
def below(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, below that of a pyproject.toml with settings."""
    write_pyproject(folder, "[tool.triggers]\n")
    below = folder / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    return below


def file_of(settings: Settings) -> str:
    app = Application("shop", settings)
    try:
        return app.store.place.removeprefix("the SQLite file ")
    finally:
        app.close()


def test_the_default_path_is_beside_the_pyproject(folder: Path, below: Path) -> None:
    assert file_of(Settings()) == f"{folder}/triggers.db"
    settings = Settings()
    settings.configure(TRIGGER_STORAGE_OPTIONS={"synchronous": "NORMAL"})
    assert file_of(settings) == f"{folder}/triggers.db"
    assert (settings.project, settings.folder_of("TRIGGER_STORAGE_OPTIONS")) == (folder, None)


def test_without_settings_in_it_the_default_path_is_here(folder: Path, below: Path) -> None:
    write_pyproject(folder, "[tool.other]\n")
    assert file_of(Settings()) == f"{below}/triggers.db"
    assert Settings().project is None
    write_pyproject(folder, "[tool.triggers]\n")
    assert file_of(Settings.isolated()) == f"{below}/triggers.db", "it reads nothing"
    write_pyproject(below, "[tool.other]\n")
    assert file_of(Settings()) == f"{below}/triggers.db", "only the nearest one counts"


def test_other_paths_are_relative_to_the_current_folder(
    folder: Path, below: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pyproject(folder, "[tool.triggers]\nstorage_options = {path = 'project.db'}\n")
    assert file_of(Settings()) == f"{folder}/project.db"
    write_module(folder, "TRIGGER_STORAGE_OPTIONS = {'path': 'module.db'}")
    monkeypatch.setenv("TRIGGERS_SETTINGS_MODULE", "fake_settings")
    assert file_of(Settings()) == f"{below}/module.db"
    monkeypatch.setenv("TRIGGER_STORAGE_OPTIONS", '{"path": "environment.db"}')
    assert file_of(Settings()) == f"{below}/environment.db"
    settings = Settings()
    settings.configure(TRIGGER_STORAGE_OPTIONS={"path": "code.db"})
    assert file_of(settings) == f"{below}/code.db"


def test_a_path_that_is_given_asks_no_source(folder: Path) -> None:
    write_pyproject(folder, "this is no TOML")
    settings = Settings()
    settings.configure(TRIGGER_STORAGE_TYPE="sqlite", TRIGGER_STORAGE_OPTIONS={"path": "x.db"})
    assert file_of(settings) == f"{folder}/x.db"


def test_a_storage_of_ones_own_has_its_default_path_there_too(folder: Path, below: Path) -> None:
    class Own(SqliteStorage):
        @classmethod
        def open_store(cls, path: str | os.PathLike[str] = Path("own.db")) -> SqliteStore:
            return SqliteStore.shared(path)

    storage_backends.register("own", Own)
    try:
        settings = Settings()
        settings.configure(TRIGGER_STORAGE_TYPE="own")
        assert file_of(settings) == f"{folder}/own.db"
        settings.configure(TRIGGER_STORAGE_TYPE="memory")
        assert Application("shop", settings).store.key == "memory", "it takes no path"
    finally:
        storage_backends.unregister("own")


def test_folders_of_settings(folder: Path, below: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pyproject(folder, "[tool.triggers.plugin_options.rates]\nfile = 'rates.csv'\n")
    settings = Settings()
    assert settings.folder_of("TRIGGER_PLUGIN_OPTIONS") == folder
    assert settings.TRIGGER_PLUGIN_OPTIONS["rates"]["file"] == "rates.csv", "it may be no path"
    assert settings.folder_of("TRIGGER_RUNNER_OPTIONS") is None
    with pytest.raises(InvalidSetting, match="did you mean 'TRIGGER_PLUGIN_OPTIONS'"):
        settings.folder_of("TRIGGER_PLUGIN_OPTION")
    monkeypatch.setenv("TRIGGER_PLUGIN_OPTIONS", "{}")
    settings.reload()
    assert settings.folder_of("TRIGGER_PLUGIN_OPTIONS") is None


ENVIRONMENT: list[tuple[str, str, Any]] = [
    ("TRIGGER_RUNNER", "celery", "celery"),
    ("TRIGGER_STORAGE_OPTIONS", '{"path": "x.db"}', {"path": "x.db"}),
    ("TRIGGER_PLUGINS", "retry, finalize,*", ("retry", "finalize", "*")),
    ("TRIGGER_PLUGINS", '["retry", "no:x"]', ("retry", "no:x")),
    ("TRIGGER_PLUGINS", "", ()),
    ("TRIGGER_PLUGINS", "retry", ("retry",)),
    ("TRIGGER_IMPORTS", "shop.tasks,shop.more", ("shop.tasks", "shop.more")),
    ("TRIGGER_AUTOLOAD", "0", False),
    ("TRIGGER_AUTOLOAD", "Yes", True),
    ("TRIGGER_AUTOLOAD", "off", False),
    ("TRIGGER_LIMITS", '{"tasks": 5}', Limits(tasks=5)),
    ("TRIGGER_TIMING", '{"lease": 120, "attempts": 2}', Timing(lease=120.0, attempts=2)),
    ("TRIGGER_CONFIGURATION", '{"t": {"after": ["a"]}}', {"t": {"after": ["a"]}}),
    ("TRIGGER_CONFIGURATION", "null", None),
    ("TRIGGER_PLUGIN_OPTIONS", '{"retry": {"times": 1}}', {"retry": {"times": 1}}),
]


@pytest.mark.parametrize(("name", "text", "value"), ENVIRONMENT)
def test_environment_texts(name: str, text: str, value: Any) -> None:
    assert getattr(in_environment(**{name: text}), name) == value


def test_code_takes_objects() -> None:
    plugin, configuration = object(), parse_configuration({"t": {"after": ["a"], "run": "r"}})
    settings = Settings.isolated(
        TRIGGER_PLUGINS=(each for each in (plugin, "*")),
        TRIGGER_CONFIGURATION=configuration,
        TRIGGER_LIMITS=Limits(tasks=3),
        TRIGGER_TIMING=Timing(sweep=1),
    )
    assert list(settings.TRIGGER_PLUGINS or ()) == [plugin, "*"]
    assert settings.TRIGGER_CONFIGURATION is configuration
    assert settings.limits.tasks == 3
    assert settings.timing.sweep == 1


def test_options_are_read_only_and_detached() -> None:
    given = {"path": "x.db"}
    settings = Settings.isolated(TRIGGER_STORAGE_OPTIONS=given)
    given["path"] = "y.db"
    options: Any = settings.TRIGGER_STORAGE_OPTIONS
    assert options == {"path": "x.db"}
    with pytest.raises(TypeError):
        options["path"] = "z.db"


# -- refused --------------------------------------------------------------------------------------

BAD_TEXTS = [
    ("TRIGGER_RUNNER", " ", "expected a key, such as 'sqlite', got ' '"),
    ("TRIGGER_STORAGE_OPTIONS", "path=x.db", "expected JSON, such as .* at character 0"),
    ("TRIGGER_STORAGE_OPTIONS", '["x"]', r"expected a mapping of option to value, got \['x'\]"),
    ("TRIGGER_PLUGINS", "[1]", r"expected a list of plugins .*, got \[1\]"),
    ("TRIGGER_PLUGINS", '["retry"', "expected JSON"),
    ("TRIGGER_AUTOLOAD", "perhaps", "expected one of true, false, .*, got 'perhaps'"),
    ("TRIGGER_AUTOLOAD", "", "expected one of true, false"),
    ("TRIGGER_LIMITS", '{"task": 5}', "there is no 'task' in it: did you mean 'tasks'"),
    ("TRIGGER_LIMITS", '{"tasks": "5"}', "expected `int`, got `str`, at `tasks`"),
    ("TRIGGER_LIMITS", '{"tasks": 0}', "expected tasks to be at least 1"),
    ("TRIGGER_LIMITS", "5", "expected a mapping of some of kwargs_bytes,"),
    ("TRIGGER_TIMING", '{"lease": -1}', "expected lease to be positive"),
    ("TRIGGER_TIMING", '{"lease": NaN}', "expected lease to be positive"),
    ("TRIGGER_TIMING", '{"lease": 10}', r"expected heartbeat \(15 s\) to be shorter than lease"),
    ("TRIGGER_TIMING", '{"redispatch_after": 9999}', "expected redispatch_at_most"),
    ("TRIGGER_CONFIGURATION", "[]", "expected a mapping of task name to directives"),
    (
        "TRIGGER_PLUGIN_OPTIONS",
        '{"retry": 5}',
        "expected .* plugin to its options, 'retry' has none",
    ),
]


@pytest.mark.parametrize(("name", "text", "message"), BAD_TEXTS)
def test_bad_texts_name_the_variable(name: str, text: str, message: str) -> None:
    settings = in_environment(**{name: text, "TRIGGER_MANAGER_TYPE": "own"})
    with pytest.raises(InvalidSetting, match=f"^{name} .environment variable {name}.: {message}"):
        getattr(settings, name)
    assert settings.TRIGGER_MANAGER_TYPE == "own", "other settings are not concerned"
    with pytest.raises(InvalidSetting, match=name):
        settings.describe()


BAD_VALUES: list[tuple[str, Any, str]] = [
    ("TRIGGER_RUNNER", 5, "expected a key"),
    ("TRIGGER_PLUGINS", "retry", "expected a list of plugins"),
    ("TRIGGER_PLUGINS", ["retry", None], "expected a list of plugins"),
    ("TRIGGER_PLUGINS", {"retry": 1}, "expected a list of plugins"),
    ("TRIGGER_AUTOLOAD", 1, "expected True or False"),
    ("TRIGGER_IMPORTS", "shop.tasks", "expected a list of modules"),
    ("TRIGGER_IMPORTS", ["shop.tasks", 5], "expected a list of modules"),
    ("TRIGGER_IMPORTS", [""], "expected a list of modules"),
    ("TRIGGER_STORAGE_OPTIONS", {1: 2}, "expected a mapping of option to value"),
    ("TRIGGER_TIMING", {"lease": True}, "expected `float`, got `bool`, at `lease`"),
    ("TRIGGER_LIMITS", None, "expected a mapping"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD_VALUES)
def test_bad_values_in_code_are_refused_where_they_stand(
    name: str, value: Any, message: str
) -> None:
    with pytest.raises(InvalidSetting, match=rf"^{name} \(configure\(\)\): {message}"):
        Settings.isolated(**{name: value})


def test_unknown_settings_in_code() -> None:
    with pytest.raises(InvalidSetting, match=r"TRIGGER_STORAGE: .* mean 'TRIGGER_STORAGE_TYPE'"):
        Settings.isolated(TRIGGER_STORAGE="memory")
    with pytest.raises(InvalidSetting, match="mean 'TRIGGER_RUNNER'"):
        Settings.isolated().origin("TRIGGER_RUNER")


def test_unknown_settings_in_the_environment_are_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = in_environment(TRIGGER_RUNER="celery", TRIGGERED="x", PATH="y")
    assert settings.TRIGGER_RUNNER == "threading"
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        "environment variable TRIGGER_RUNER: there is no such setting: did you mean"
        " 'TRIGGER_RUNNER'?"
    )


def test_unknown_settings_in_a_module(folder: Path) -> None:
    write_module(folder, "TRIGGER_RUNER = 'celery'")
    settings = Settings([ModuleSource({"TRIGGERS_SETTINGS_MODULE": "fake_settings"})])
    with pytest.raises(InvalidSetting, match=r"module fake_settings: .*'TRIGGER_RUNNER'"):
        _ = settings.TRIGGER_MANAGER_TYPE


def test_modules_that_cannot_be_imported(folder: Path) -> None:
    write_module(folder, "1 / 0")
    for module in ("fake_settings", "fake_nothing"):
        settings = Settings([ModuleSource({"TRIGGERS_SETTINGS_MODULE": module})])
        message = f"settings module {module} .*TRIGGERS_SETTINGS_MODULE.* cannot be imported"
        with pytest.raises(InvalidSetting, match=message):
            _ = settings.TRIGGER_RUNNER


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tool.triggers]\nruner = 'x'", "runer: there is no such setting: did you mean 'runner'"),
        ("[tool.triggers]\nTRIGGER_RUNER = 'x'", "did you mean 'TRIGGER_RUNNER'"),
        ("[tool.triggers]\nrunner = 'x'\nTRIGGER_RUNNER = 'y'", "TRIGGER_RUNNER is set twice"),
        ("[tool.triggers]\nrunner = 5", r"TRIGGER_RUNNER \(pyproject.toml .*expected a key.*got 5"),
        ("[tool.triggers", "pyproject.toml cannot be read"),
        ("[tool]\ntriggers = 5", r"\[tool.triggers\] in .*: expected a table, got 5"),
    ],
)
def test_bad_pyprojects(folder: Path, text: str, message: str) -> None:
    write_pyproject(folder, text)
    with pytest.raises(InvalidSetting, match=message):
        _ = Settings([PyprojectSource(folder)]).TRIGGER_RUNNER


def test_a_deleted_folder_has_no_pyproject(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = folder / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert Settings([PyprojectSource()]).TRIGGER_RUNNER == "threading"


# -- what people see ------------------------------------------------------------------------------


def test_describe_masks_secrets() -> None:
    class Plugin:
        def __repr__(self) -> str:
            return CANARY

    settings = Settings.isolated(
        TRIGGER_STORAGE_OPTIONS={
            "url": f"redis://user:{CANARY}@host:6379/0",
            "password": CANARY,
            "client": Plugin(),
        },
        TRIGGER_RUNNER_OPTIONS={"brokers": [f"amqp://a:{CANARY}@h1;amqp://b:{CANARY}@h2"]},
        TRIGGER_PLUGIN_OPTIONS={"http": {"headers": {"Authorization": CANARY}, "timeout": 5}},
        TRIGGER_PLUGINS=[Plugin(), logging, "*"],
        TRIGGER_CONFIGURATION=parse_configuration(
            {"t": {"after": ["a"], "run": "r", "withParams": {"a": {"api_key": CANARY}}}}
        ),
    )
    infos = {info.name: info for info in settings.describe()}
    text = json.dumps([info.value for info in infos.values()])
    assert CANARY not in text
    assert CANARY not in repr(infos)
    assert infos["TRIGGER_STORAGE_OPTIONS"].value == {
        "url": "redis://user:***@host:6379/0",
        "password": "***",
        "client": f"{__name__}:test_describe_masks_secrets.<locals>.Plugin",
    }
    assert infos["TRIGGER_PLUGIN_OPTIONS"].value == {
        "http": {"headers": {"Authorization": "***"}, "timeout": 5}
    }
    assert infos["TRIGGER_PLUGINS"].value[1:] == ["logging", "*"]
    assert infos["TRIGGER_LIMITS"].value["tasks"] == 1_000


@pytest.mark.parametrize(
    "values",
    [
        {"TRIGGER_STORAGE_OPTIONS": f'{{"password": "{CANARY}"'},
        {"TRIGGER_STORAGE_OPTIONS": f'["redis://:{CANARY}@host"]'},
        {"TRIGGER_PLUGIN_OPTIONS": f'{{"http": "token={CANARY}"}}'},
        {"TRIGGER_TIMING": f'{{"secret": "{CANARY}"}}'},
        {"TRIGGER_AUTOLOAD": f"https://user:{CANARY}@host"},
    ],
    ids=lambda values: "".join(values),
)
def test_errors_mask_secrets(values: Mapping[str, str]) -> None:
    with pytest.raises(InvalidSetting) as caught:
        in_environment(**values).describe()
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None


# -- nearly right ----------------------------------------------------------------------------------

NEARLY = [
    ("TRIGGERS_STORAGE_TYPE", "TRIGGER_STORAGE_TYPE"),
    ("TRIGGERS_RUNNER", "TRIGGER_RUNNER"),
    ("TRIGGERS_TIMNG", "TRIGGER_TIMING"),
    ("trigger_storage_type", "TRIGGER_STORAGE_TYPE"),
    ("Trigger_Plugins", "TRIGGER_PLUGINS"),
    ("TRIGGER_SETTINGS_MODULE", "TRIGGERS_SETTINGS_MODULE"),
    ("TRIGGER_APP", "TRIGGERS_APP"),
    ("TRIGGER_STORAGE_OPTION", "TRIGGER_STORAGE_OPTIONS"),
]


@pytest.mark.parametrize(("name", "meant"), NEARLY)
def test_names_in_the_environment_that_are_nearly_right(
    name: str, meant: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = in_environment(**{name: "redis", "TRIGGERS_OF_MY_OWN": "1", "TRIGGERING": "1"})
    assert settings.TRIGGER_STORAGE_TYPE == "sqlite"
    problem = f"environment variable {name}: there is no such setting: did you mean {meant!r}?"
    assert [record.getMessage() for record in caplog.records] == [problem]
    assert settings.problems() == (problem,)
    settings.reload()
    assert settings.problems() == (problem,)
    assert len(caplog.records) == 1, "said once"


def test_the_projects_own_variables_are_no_settings(caplog: pytest.LogCaptureFixture) -> None:
    settings = in_environment(TRIGGERS_APP="shop:app", TRIGGERS_SETTINGS_MODULE="shop.settings")
    assert settings.problems() == ()
    assert not caplog.records


def test_names_in_a_module_that_are_nearly_right(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_module(folder, "TRIGGERS_STORAGE_TYPE = 'redis'\nTRIGGERS_OTHER_THING = 1")
    settings = Settings([ModuleSource({"TRIGGERS_SETTINGS_MODULE": "fake_settings"})])
    [problem] = settings.problems()
    assert problem == (
        "settings module fake_settings: TRIGGERS_STORAGE_TYPE: there is no such setting: did you"
        " mean 'TRIGGER_STORAGE_TYPE'?"
    )
    assert caplog.messages == [problem]


@pytest.mark.parametrize("table", ["tool.trigger", "tool.triggers-core", "triggers"])
def test_tables_that_are_nearly_right(folder: Path, table: str) -> None:
    write_pyproject(folder, f"[{table}]\nstorage_type = 'redis'\n")
    [problem] = Settings([PyprojectSource(folder)]).problems()
    assert f"pyproject.toml [{table}] in {folder}" in problem
    assert problem.endswith("did you mean [tool.triggers]?")
    write_pyproject(folder, f"[{table}]\nelse = 'redis'\n")
    assert Settings([PyprojectSource(folder)]).problems() == (), "somebody else's"


def test_a_prefix_that_is_nearly_right_in_pyproject(folder: Path) -> None:
    write_pyproject(folder, "[tool.triggers]\nTRIGGERS_STORAGE_TYPE = 'redis'\n")
    with pytest.raises(InvalidSetting, match="did you mean 'TRIGGER_STORAGE_TYPE'"):
        Settings([PyprojectSource(folder)]).problems()


DJANGO = """
import logging, os, sys
logging.basicConfig()
os.environ["DJANGO_SETTINGS_MODULE"] = "fake_django_settings"
from triggers_core.application import default_application as app
if "late" not in sys.argv:
    from django.conf import settings
    assert settings.DEBUG is False
if "configure" in sys.argv:
    app.configure(**{name: getattr(settings, name) for name in dir(settings) if "TRIGGER_" in name})
print(app.settings.TRIGGER_STORAGE_TYPE, app.settings.problems())
"""


@pytest.mark.parametrize("way", ["ignored", "late", "configure", "module"])
def test_settings_of_django_that_nobody_reads(folder: Path, way: str) -> None:
    (folder / "fake_django_settings.py").write_text(
        "SECRET_KEY = 'x'\nTRIGGER_STORAGE_TYPE = 'redis'\nTRIGGER_IMPORTS = ['shop.tasks']\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(folder)}
    if way == "module":
        environ["TRIGGERS_SETTINGS_MODULE"] = "fake_django_settings"
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", DJANGO, way],
        capture_output=True,
        text=True,
        env=environ,
        cwd=folder,
    )
    problem = (
        "TRIGGER_IMPORTS, TRIGGER_STORAGE_TYPE in Django's settings: nobody reads them there:"
        " install triggers-django and add 'triggers_django' to INSTALLED_APPS, set the environment"
        " variable TRIGGERS_SETTINGS_MODULE=fake_django_settings, or hand them to"
        " triggers_core.configure()"
    )
    if way == "ignored":
        assert ran.stdout == f"sqlite {(problem,)!r}\n"
        assert ran.stderr.count(problem) == 1
    else:
        assert ran.stdout == ("sqlite ()\n" if way == "late" else "redis ()\n")
        assert problem not in ran.stderr, "Django's are not loaded for this, and are read here"


def test_a_settings_module_of_django_that_is_being_imported(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "django.conf", raising=False)  # other tests may have set it up
    write_module(folder, "TRIGGERS_RUNNER = 'celery'")
    environ = {"DJANGO_SETTINGS_MODULE": "fake_settings"}
    assert Settings([ModuleSource(environ)]).problems() == ()
    assert "fake_settings" not in sys.modules, "not imported for this"
    importlib.import_module("fake_settings")
    [problem] = Settings([ModuleSource(environ)]).problems()
    assert problem.startswith("TRIGGERS_RUNNER in Django's settings: nobody reads")


# -- modules and values that misbehave -------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import sys\nsys.exit(0)", r"it calls sys.exit\(0\) while it is imported"),
        ("class P(BaseException): ...\nraise P('x')", "P: x"),
        ("raise OSError('redis://a:CANARY@h')", r"OSError: redis://a:\*\*\*@h"),
    ],
)
def test_modules_that_exit(folder: Path, source: str, told: str) -> None:
    write_module(folder, source)
    settings = Settings([ModuleSource({"TRIGGERS_SETTINGS_MODULE": "fake_settings"})])
    with pytest.raises(InvalidSetting, match=f"cannot be imported: {told}"):
        _ = settings.TRIGGER_RUNNER


def test_ctrl_c_while_a_module_is_imported_passes(folder: Path) -> None:
    write_module(folder, "raise KeyboardInterrupt")
    settings = Settings([ModuleSource({"TRIGGERS_SETTINGS_MODULE": "fake_settings"})])
    with pytest.raises(KeyboardInterrupt):
        _ = settings.TRIGGER_RUNNER


BOUNDS: list[tuple[str, Any, str]] = [
    ("TRIGGER_TIMING", {"sweep": 1e10}, "expected sweep to be between 0.001 seconds and ten years"),
    ("TRIGGER_TIMING", {"lease": 1e300}, "expected lease to be between"),
    ("TRIGGER_TIMING", {"heartbeat": 1e-9}, "expected heartbeat to be between"),
    ("TRIGGER_TIMING", {"lease": None}, "expected `float`, got `null`"),
    ("TRIGGER_TIMING", {"attempts": 10**12}, "expected attempts to be at most 1,000,000"),
    ("TRIGGER_TIMING", {"time_limit": -1.0}, "expected time_limit to be positive"),
    ("TRIGGER_TIMING", {"time_limit": float("inf")}, "expected time_limit to be positive"),
    ("TRIGGER_TIMING", Timing(lease="60"), "expected `float`, got `str`, at `lease`"),  # type: ignore[arg-type]
    ("TRIGGER_LIMITS", {"kwargs_depth": 10_000}, "expected kwargs_depth to be at most 500"),
    ("TRIGGER_LIMITS", {"instances": 2**31}, "expected instances to be at most 2,147,483,647"),
    ("TRIGGER_LIMITS", Limits(tasks="7"), "expected `int`, got `str`, at `tasks`"),  # type: ignore[arg-type]
    (
        "TRIGGER_CONFIGURATION",
        "flow.json",
        r"expected a mapping .*; of a file, what it holds: json",
    ),
    ("TRIGGER_PLUGINS", itertools.repeat("x"), "expected a list of less than 10,000 plugins"),
    ("TRIGGER_IMPORTS", itertools.repeat("x"), "expected a list of less than 10,000 modules"),
]


@pytest.mark.parametrize(("name", "value", "message"), BOUNDS)
def test_bounds(name: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidSetting, match=rf"^{name} \(configure\(\)\): {message}"):
        Settings.isolated(**{name: value})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Limits(tasks=0), "expected tasks to be at least 1"),
        (lambda: Limits(kwargs_depth=501), "expected kwargs_depth to be at most 500"),
        (lambda: Timing(lease=10), r"expected heartbeat \(15 s\) to be shorter than lease"),
        (lambda: msgspec.structs.replace(Timing(), sweep=0.0), "expected sweep to be positive"),
    ],
)
def test_limits_and_timing_check_themselves(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    times: int = 3
    hosts: tuple[str, ...] = ()


def test_options_of_a_plugin_are_checked_once() -> None:
    app = Application("x", Settings.isolated(TRIGGER_PLUGIN_OPTIONS={"acme": {"times": 5}}))
    options = app.plugin_options("acme", Options)
    assert options == Options(times=5)
    assert app.plugin_options("acme", Options) is options
    assert app.rules.plugin_options.read("acme", Options) is options, "what a commit sees"
    assert app.plugin_options("acme", Options, hosts=["a"]) == Options(times=5, hosts=("a",))
    assert app.plugin_options("other", Options) == Options()
    app.configure(TRIGGER_PLUGIN_OPTIONS={"acme": {"times": 6}})
    assert app.plugin_options("acme", Options).times == 6


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tims": 5}, "^acme: Object contains unknown field `tims`$"),
        ({"times": "5"}, r", at `TRIGGER_PLUGIN_OPTIONS\['acme'\]\.times`$"),
        ({"hosts": ["a", 1]}, r", at `TRIGGER_PLUGIN_OPTIONS\['acme'\]\.hosts\[1\]`$"),
    ],
)
def test_options_of_a_plugin_that_do_not_fit(values: dict[str, Any], message: str) -> None:
    settings = Settings.isolated(TRIGGER_PLUGIN_OPTIONS={"acme": values})
    for _ in range(2):
        with pytest.raises(InvalidSetting, match=message):
            settings.TRIGGER_PLUGIN_OPTIONS.read("acme", Options)


def test_texts_that_are_nested_too_deeply() -> None:
    settings = in_environment(TRIGGER_STORAGE_OPTIONS="[" * 200_000)
    with pytest.raises(InvalidSetting, match=r"expected JSON, .*: nested too deeply$"):
        _ = settings.TRIGGER_STORAGE_OPTIONS


def test_options_are_shown_as_what_they_say() -> None:
    class Mode(enum.Enum):
        FULL = "full"

    shown = Settings.isolated(
        TRIGGER_STORAGE_OPTIONS={
            "path": Path("/srv/shop.db"),
            "after": timedelta(seconds=5),
            "mode": Mode.FULL,
            "several": ("a", Path("b")),
            "class": Path,
            "clock": time.time,
        }
    ).describe()
    values = {info.name: info.value for info in shown}["TRIGGER_STORAGE_OPTIONS"]
    assert values == {
        "path": "/srv/shop.db",
        "after": "0:00:05",
        "mode": "full",
        "several": ["a", "b"],
        "class": "pathlib:Path",
        "clock": "time:time",
    }
