"""Settings: which source wins, what is accepted, where a value came from, what is shown of it."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from triggers_core.configuration import parse_configuration
from triggers_core.exceptions import InvalidSetting
from triggers_core.limits import Limits
from triggers_core.protocol import Timing
from triggers_core.settings import Settings
from triggers_core.settings_sources import EnvironmentSource, ModuleSource, PyprojectSource

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
