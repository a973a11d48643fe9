"""Managers, storages and runners by key: built in, from other distributions, and from code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from triggers_core import registries
from triggers_core.application import Application
from triggers_core.exceptions import DuplicateKey, InvalidSetting, PluginError, UnknownKey
from triggers_core.registries import Registry
from triggers_core.settings import Settings
from triggers_core.settings.option_checks import with_options
from triggers_core.storages.memory import MemoryStorage
from triggers_core.storages.session import SessionStorage
from triggers_core.storages.sqlite import SqliteStorage
from triggers_core.testing.fake_distributions import FakeDistributions, distributions

__all__ = ["distributions"]

GROUP = "triggers.storages"

STORAGE = """
    from triggers_core.storages.memory import MemoryStorage

    class Storage(MemoryStorage):
        marker = {marker!r}
"""


def registry() -> Registry[SessionStorage]:
    """One like `storage_backends`, that no other test has seen."""
    built_in = {
        "memory": "triggers_core.storages.memory:MemoryStorage",
        "sqlite": "triggers_core.storages.sqlite:SqliteStorage",
    }
    return Registry(GROUP, built_in, base="triggers_core.storages.session:SessionStorage")


@pytest.fixture
def files(distributions: FakeDistributions) -> FakeDistributions:
    """A distribution with a storage that works."""
    distributions.add(
        "acme-files",
        {"fake-files": "fake_files.storage:Storage"},
        {"fake_files.storage": STORAGE.format(marker="files")},
        group=GROUP,
        version="2.5",
    )
    return distributions


def test_built_in_classes() -> None:
    storages = registry()
    assert storages.get_class("memory") is MemoryStorage
    assert storages.get_class("sqlite") is SqliteStorage
    storage = storages.get("memory", "order:1")
    assert isinstance(storage, MemoryStorage)
    assert storage.uid == "order:1"
    assert {"memory", "sqlite"} <= set(storages.keys())
    assert "memory" in storages
    assert "nothing" not in storages
    assert repr(storages) == "<registry of storages, 'triggers.storages'>"
    assert "register" in dir(storages)
    assert len(storages) == len(list(storages))


def test_the_registries_of_the_core() -> None:
    from triggers_core.manager import TriggerManager
    from triggers_core.runners.threads import ThreadingTaskRunner

    assert registries.trigger_managers.get_class("default") is TriggerManager
    assert registries.storage_backends.get_class("sqlite") is SqliteStorage
    assert registries.task_runners.get_class("threading") is ThreadingTaskRunner


def test_they_work_without_metadata_and_import_nothing_before_use() -> None:
    source = Path(registries.__file__).parents[1]
    script = f"""
import sys
import importlib.metadata
sys.path.insert(0, {str(source)!r})

real, scans = importlib.metadata.entry_points, []
def entry_points(**kwargs):
    scans.append(kwargs)
    return [each for each in real(**kwargs) if each.dist.name != "triggers-core"]
importlib.metadata.entry_points = entry_points

from triggers_core.registries import storage_backends, task_runners, trigger_managers
assert not scans, scans
for module in ("manager", "storages", "runners", "application"):
    assert "triggers_core." + module not in sys.modules, module
print(storage_backends.get_class("sqlite").__name__, scans == [{{"group": "triggers.storages"}}])
assert "triggers_core.manager" not in sys.modules
print(trigger_managers.get_class("default").__name__, task_runners.get_class("threading").__name__)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.stderr == ""
    assert run.stdout.split() == [
        "SqliteStorage",
        "True",
        "TriggerManager",
        "ThreadingTaskRunner",
    ]


def test_another_distribution_provides_a_class(files: FakeDistributions) -> None:
    storages = registry()
    assert "fake-files" in storages
    assert "fake_files.storage" not in sys.modules, "listing keys imports nothing"
    storage: Any = storages.get("fake-files", "order:1")
    assert (storage.marker, storage.uid) == ("files", "order:1")
    [item] = [item for item in storages.items() if item.key == "fake-files"]
    assert (item.path, item.distribution, item.version, item.error) == (
        "fake_files.storage:Storage",
        "acme-files",
        "2.5",
        "",
    )


BROKEN = {
    "import error": ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothi"),
    "no attribute": ("x = 1", "AttributeError: module 'fake_bad' has no attribute 'Storage'"),
    "function": ("def Storage(uid): ...", "is not a class but <function Storage"),
    "wrong class": (
        "class Storage: ...",
        "does not derive from triggers_core.storages.session:SessionStorage",
    ),
}


@pytest.mark.parametrize(("source", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_provider_fails_alone(files: FakeDistributions, source: str, reason: str) -> None:
    files.add(
        "acme-bad", {"fake-bad": "fake_bad:Storage"}, {"fake_bad": source}, group=GROUP, version="7"
    )
    storages = registry()
    for _ in range(2):  # the second time must not find a half-filled registry
        with pytest.raises(PluginError) as caught:
            storages.get("fake-bad", "order:1")
        assert str(caught.value).startswith("storage 'fake-bad' (acme-bad 7, fake_bad:Storage)")
        assert reason in str(caught.value)
    assert {"fake-bad", "fake-files", "memory", "sqlite"} <= set(storages.keys())
    assert storages.get("fake-files", "order:1").uid == "order:1"
    # A failure is not remembered: once mended, it works.
    sys.modules.pop("fake_bad", None)
    files.module("fake_bad", STORAGE.format(marker="mended"))
    mended: Any = storages.get_class("fake-bad")
    assert mended.marker == "mended"


def test_two_distributions_with_one_key(files: FakeDistributions) -> None:
    files.add("other-files", {"fake-files": "fake_files.storage:Storage"}, group=GROUP)
    storages = registry()
    with pytest.raises(DuplicateKey, match=r"by acme-files 2\.5 and by other-files 1\.0"):
        storages.get("fake-files", "order:1")
    assert storages.get_class("memory") is MemoryStorage, "other keys are not concerned"
    errors = {i.distribution: i.error for i in storages.items() if i.key == "fake-files"}
    assert errors == {
        "acme-files": "also provided by other-files 1.0",
        "other-files": "also provided by acme-files 2.5",
    }


def test_nobody_takes_a_key_of_the_core(files: FakeDistributions) -> None:
    files.add("evil", {"sqlite": "fake_files.storage:Storage"}, group=GROUP)
    with pytest.raises(DuplicateKey, match=r"by triggers-core and by evil 1\.0"):
        registry().get_class("sqlite")


def test_the_metadata_of_the_core_is_no_second_provider(files: FakeDistributions) -> None:
    files.add("triggers-core", {"sqlite": "triggers_core.old:Storage"}, group=GROUP, version="0.0")
    assert registry().get_class("sqlite") is SqliteStorage


@pytest.mark.parametrize(
    ("group", "key", "message"),
    [
        (GROUP, "sqlit", "there is no storage 'sqlit': did you mean 'sqlite'"),
        (GROUP, "zzz", "there is no storage 'zzz': known are .*memory, .*sqlite"),
        (GROUP, None, "there is no storage None"),
        (GROUP, "redis://:s3cret@host", r"there is no storage 'redis://:\*\*\*@host'"),
    ],
)
def test_unknown_keys(group: str, key: Any, message: str) -> None:
    with pytest.raises(UnknownKey, match=message):
        registry().get(key)


@pytest.mark.parametrize(("group", "keys"), registries.KNOWN_DISTRIBUTIONS.items())
def test_unknown_keys_say_what_to_install(group: str, keys: dict[str, str]) -> None:
    for key, distribution in keys.items():
        empty: Registry[Any] = Registry(group, {})
        if key in empty:
            pytest.skip(f"{distribution} is installed here")
        with pytest.raises(UnknownKey, match=f"python -m pip install {distribution}$"):
            empty.get(key)


def test_register_in_code(files: FakeDistributions) -> None:
    storages = registry()

    @storages.register("fake-own")
    class Own(MemoryStorage): ...

    assert isinstance(storages.get("fake-own", "order:1"), Own)
    assert storages.register("fake-own", Own) is Own, "the same class again is fine"
    with pytest.raises(DuplicateKey, match=r"'fake-own': registered for .*Own and now for"):
        storages.register("fake-own", MemoryStorage)
    assert storages.register("fake-files", Own) is Own
    assert storages.get_class("fake-files") is Own, "code wins over what is installed"
    items = {(item.key, item.distribution): item.error for item in storages.items()}
    assert items["fake-files", ""] == ""
    assert items["fake-files", "acme-files"] == "a class registered in code has this key"
    storages.refresh()
    assert storages.unregister("fake-files") is Own
    assert storages.get_class("fake-files").__name__ == "Storage"
    with pytest.raises(UnknownKey, match="'fake-files' was not registered in code"):
        storages.unregister("fake-files")
    assert "fake-own" in storages
    storages.unregister("fake-own")
    assert "fake-own" not in storages


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((MemoryStorage,), r"register\('key'\) or register\('key', Class\)"),
        (("",), r"register\('key'\)"),
        (("x", MemoryStorage("u")), "storage 'x': expected a class"),
    ],
)
def test_nonsense_is_not_registered(arguments: Any, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        registry().register(*arguments)


def test_refresh_sees_what_has_been_installed_since(files: FakeDistributions) -> None:
    storages = registry()
    assert "fake-late" not in storages
    files.add("late", {"fake-late": "fake_files.storage:Storage"}, group=GROUP)
    assert "fake-late" not in storages, "the installed distributions are looked at once"
    storages.refresh()
    assert storages.get_class("fake-late").__name__ == "Storage"
    files.add("later", {"fake-late": "fake_files.storage:Storage"}, group=GROUP)
    storages.refresh()
    with pytest.raises(DuplicateKey, match=r"late 1\.0 and by later 1\.0"):
        storages.get_class("fake-late")


@pytest.mark.parametrize("source", ["import sys; sys.exit(0)", "raise BaseException('x')"])
def test_a_provider_that_exits_is_named(files: FakeDistributions, source: str) -> None:
    files.add("acme-s3", {"s3": "fake_s3:S3"}, {"fake_s3": source}, group=GROUP)
    with pytest.raises(PluginError, match=r"'s3' \(acme-s3 1.0, fake_s3:S3\) cannot be loaded"):
        registry().get_class("s3")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Application:
    """The default application, on a file of its own."""
    app = Application(
        "default",
        Settings.isolated(
            TRIGGER_STORAGE_OPTIONS={"path": tmp_path / "shop.db"},
            TRIGGER_PLUGINS=[],
            TRIGGER_RUNNER_OPTIONS={"sweep": False},
        ),
    )
    monkeypatch.setattr("triggers_core.application.default_application", app)
    monkeypatch.chdir(tmp_path)
    return app


def test_a_storage_without_options_is_that_of_the_settings(
    shop: Application, tmp_path: Path
) -> None:
    """As in `storage_backends.get(settings.TRIGGER_STORAGE_TYPE, uid)`."""
    key = shop.settings.TRIGGER_STORAGE_TYPE
    storage = registries.storage_backends.get(key, "order:1")
    manager = registries.trigger_managers.get("default", storage)
    manager.fire("paid")
    assert shop.storage("order:1").exists
    assert storage.store is shop.store
    assert not (tmp_path / "triggers.db").exists()
    own = registries.storage_backends.get("sqlite", "order:1", path=tmp_path / "own.db")
    assert not own.exists
    assert not registries.storage_backends.get("memory", "order:1").exists, "another key"
    own.store.close()
    shop.close()


def test_a_second_owner_of_class_registry_is_named(tmp_path: Path) -> None:
    """What is left after `pip uninstall class-registry`: a folder without its modules."""
    (tmp_path / "class_registry").mkdir()
    (tmp_path / "class_registry" / "__init__.py").write_text("")
    info = tmp_path / "class_registry-2.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: class-registry\nVersion: 2.1\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nimport triggers_core.registries"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    message = ran.stderr.splitlines()[-1]
    assert message.startswith("ImportError: the package class_registry of the distribution phx-cl")
    assert "class-registry 2.1 is installed, too, and has the same import name" in message
    assert message.endswith("python -m pip install phx-class-registry")


BAD_OPTIONS: list[tuple[dict[str, Any], str]] = [
    (
        {"TRIGGER_STORAGE_OPTIONS": {"url": "x"}},
        r"^TRIGGER_STORAGE_OPTIONS \(configure\(\)\): the storage 'sqlite' has no option 'url'"
        ": known are clock, path, synchronous|path, synchronous",
    ),
    (
        {"TRIGGER_STORAGE_OPTIONS": {"pth": "x"}},
        "the storage 'sqlite' has no option 'pth': did you mean 'path'",
    ),
    (
        {"TRIGGER_RUNNER_OPTIONS": {"workers": 3}},
        r"^TRIGGER_RUNNER_OPTIONS \(configure\(\)\): the runner 'threading' has no option 'worke",
    ),
    (
        {"TRIGGER_RUNNER_OPTIONS": {"max_workers": "many"}},
        r"^TRIGGER_RUNNER_OPTIONS \(configure\(\)\): the runner 'threading': ",
    ),
]


@pytest.mark.parametrize(("values", "message"), BAD_OPTIONS)
def test_errors_about_options_name_setting_and_source(values: dict[str, Any], message: str) -> None:
    app = Application("x", Settings.isolated(TRIGGER_PLUGINS=[], **values))
    use = app.runner if "TRIGGER_RUNNER_OPTIONS" in values else lambda: app.store
    with pytest.raises(InvalidSetting, match=message):
        use()
    app.close()


def test_an_option_that_is_missing_is_named() -> None:
    def make(uid: str, *, bucket: str) -> None: ...

    with pytest.raises(InvalidSetting, match=r"^X: the storage 's3' wants the option 'bucket'"):
        with_options(make, "u", options={}, setting="X", what="storage 's3'")
