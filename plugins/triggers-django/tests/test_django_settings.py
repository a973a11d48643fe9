"""Django's settings are settings of ours: which of them count, against what, and from when on."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django_projects import Project

from triggers_core.application import Application
from triggers_core.exceptions import InvalidSetting
from triggers_core.settings import Settings
from triggers_core.settings.sources import Found, Source, add_source, remove_source

SHOWN = """
import json
import sys
from triggers_core.application import default_application as app
names = ("TRIGGER_STORAGE_TYPE", "TRIGGER_RUNNER", "TRIGGER_STORAGE_OPTIONS")
print(json.dumps({n: [str(getattr(app.settings, n)), app.settings.origin(n)] for n in names}))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("settings"))


@pytest.fixture(autouse=True)
def settings_as_they_were(project: Project) -> Iterator[None]:
    names = (f"{project.name}/settings.py", f"{project.app}/models.py", "pyproject.toml")
    files = [project.folder / name for name in names]
    before = [file.read_text() if file.exists() else "" for file in files]
    yield
    for file, text in zip(files, before, strict=True):
        file.write_text(text)


def shown(project: Project, **environ: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = json.loads(project.python(SHOWN, **environ))
    return found


def test_without_any_setting_sessions_are_in_the_project_s_database(project: Project) -> None:
    assert shown(project)["TRIGGER_STORAGE_TYPE"] == ["django", "default in a Django project"]


def test_the_order_of_the_sources(project: Project) -> None:
    project.write("pyproject.toml", "[tool.triggers]\nrunner = 'celery'\nstorage_type = 'redis'\n")
    assert shown(project)["TRIGGER_STORAGE_TYPE"][0] == "redis", "over a mere default"
    project.settings("TRIGGER_RUNNER = 'manual'")
    here = "Django's settings mysite.settings"
    assert shown(project)["TRIGGER_RUNNER"] == ["manual", here], "over pyproject.toml"
    project.write("other.py", "TRIGGER_RUNNER = 'celery'")
    assert shown(project, TRIGGERS_SETTINGS_MODULE="other")["TRIGGER_RUNNER"] == ["manual", here]
    over = shown(project, TRIGGER_RUNNER="threading")
    assert over["TRIGGER_RUNNER"] == ["threading", "environment variable TRIGGER_RUNNER"]


def test_an_unknown_name_is_an_error_and_a_near_one_a_warning(project: Project) -> None:
    project.settings("TRIGGERS_RUNNER = 'manual'")
    told = project.python(
        "from triggers_core.application import default_application as app\n"
        "print(app.settings.problems())"
    )
    assert "Django's settings mysite.settings: TRIGGERS_RUNNER: there is no such setting:" in told
    assert "did you mean 'TRIGGER_RUNNER'" in told
    assert "nobody reads" not in told
    project.settings("TRIGGER_RUNER = 'manual'")
    assert project.python("print('set up')") == "set up\n", "who needs no setting is not disturbed"
    refused = project.python(
        "from triggers_core import get_trigger_manager\n"
        "try: get_trigger_manager('order:1')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    assert refused.startswith(
        "InvalidSetting Django's settings mysite.settings: TRIGGER_RUNER: there is no such setting:"
        " did you mean 'TRIGGER_RUNNER'"
    )


def test_overridden_settings_take_effect_and_end(project: Project) -> None:
    told = project.python(
        """
        from django.test import override_settings
        from triggers_core import get_trigger_manager
        from triggers_core.application import default_application as app

        def kind():
            return get_trigger_manager("order:1").storage.store.key

        print(kind())
        with override_settings(TRIGGER_STORAGE_TYPE="memory"):
            print(kind())
            get_trigger_manager("order:1").fire("paid")
        print(kind())
        with override_settings(TRIGGER_STORAGE_TYPE="memory"):
            print(get_trigger_manager("order:1").storage.exists)
        with override_settings(DEBUG=True):
            before = app.store
        print(before is app.store)
        """
    )
    assert told.split() == ["django", "memory", "django", "False", "True"]


def test_what_an_early_module_has_made_is_made_anew(project: Project) -> None:
    """And a plugin that it has registered stays."""
    project.write(
        "shop/models.py",
        """
        from triggers_core import get_trigger_manager, hookimpl
        from triggers_core.application import default_application as app

        class Plugin:
            @hookimpl
            def pre_fire(self, manager, event):
                print("seen", event.trigger)

        app.plugins.register(Plugin(), "early")
        early = get_trigger_manager("order:1")
        assert early.storage.store.key == "sqlite"
        """,
    )
    project.settings("TRIGGER_STORAGE_TYPE = 'memory'")
    told = project.python(
        """
        from shop.models import early
        from triggers_core import get_trigger_manager
        print(early.storage.store.key, get_trigger_manager("order:1").storage.store.key)
        get_trigger_manager("order:1").fire("paid")
        """
    )
    assert told.split("\n")[:2] == ["sqlite memory", "seen paid"]


def test_a_storage_that_needs_django_says_so(folder: Path) -> None:
    project = Project.__new__(Project)
    project.folder, project.name = folder, "none"
    program = (
        "from triggers_core.storages import storage_backends as s\n"
        "try: s.get('django', 'order:1')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    told = project.run([sys.executable, "-c", program]).stdout
    assert told.startswith("InvalidSetting the storage 'django' needs Django to be set up:")


class Framework(Source):
    """What a plugin for another framework adds."""

    def read(self, known):  # type: ignore[no-untyped-def]
        return {"TRIGGER_RUNNER": Found("manual", "the framework")}

    def defaults(self):  # type: ignore[no-untyped-def]
        return {"TRIGGER_AUTOLOAD": Found(False, "the framework's default")}


def test_a_plugin_adds_a_source(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app, source = Application(), Framework()
    assert app.settings.TRIGGER_RUNNER == "threading"
    before = app.plugins
    try:
        add_source(source)
        add_source(source)
        app.settings_changed("TRIGGER_RUNNER")
        assert app.plugins is before, "plugins stay unless their list has changed"
        assert (app.settings.TRIGGER_RUNNER, app.settings.TRIGGER_AUTOLOAD) == ("manual", False)
        assert app.settings.origin("TRIGGER_AUTOLOAD") == "the framework's default"
        (folder / "pyproject.toml").write_text(
            "[tool.triggers]\nautoload = true\nrunner = 'celery'"
        )
        app.settings_changed()
        assert (app.settings.TRIGGER_RUNNER, app.settings.TRIGGER_AUTOLOAD) == ("manual", True)
        assert app.plugins is not before
        monkeypatch.setenv("TRIGGER_RUNNER", "threading")
        app.settings_changed()
        assert app.settings.TRIGGER_RUNNER == "threading"
        assert Settings.isolated().TRIGGER_RUNNER == "threading", "reads nothing from outside"
    finally:
        remove_source(source)
    remove_source(source)
    app.settings_changed()
    assert app.settings.TRIGGER_AUTOLOAD is True
    with pytest.raises(InvalidSetting):
        app.configure(TRIGGER_NOTHING=1)
    app.close()
