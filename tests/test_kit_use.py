"""The test kit on an application of the user's: its storage is left alone, and all is put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from triggers_core import Application, TaskContext, TriggerManager, TriggerTask, hookimpl
from triggers_core.application import configure, default_application, get_trigger_manager
from triggers_core.exceptions import InvalidConfiguration, WrongState
from triggers_core.runners import ThreadingTaskRunner
from triggers_core.settings import Settings
from triggers_core.storages.memory import MemoryStore
from triggers_core.storages.session import SessionStorage
from triggers_core.testing import Triggers


class Ship(TriggerTask):
    name = "test_kit_use.Ship"

    def _run(self, context: TaskContext) -> dict[str, Any]:
        return {"parcel": 7}


CONFIG = {"t_ship": {"after": ["paid", "packed"], "run": Ship.name}}


class Audit:
    """A plugin that sees events, and has sessions in a place of its own."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.store = MemoryStore()

    @hookimpl
    def post_fire(self, event: Any) -> None:
        self.seen.append(event.trigger)

    @hookimpl
    def storage_load(self, backend: str, uid: str) -> SessionStorage:
        return SessionStorage.on(self.store, uid)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "real.db"


@pytest.fixture
def app(file: Path) -> Iterator[Application]:
    settings = Settings.isolated(
        TRIGGER_STORAGE_OPTIONS={"path": file},
        TRIGGER_PLUGINS=[Audit()],
        TRIGGER_CONFIGURATION=CONFIG,
    )
    app = Application("shop", settings)
    yield app
    app.close()


def web_code(app: Application, trigger: str, uid: str = "order:42") -> None:
    app.manager(uid).fire(trigger)


def test_web_code_fires_into_the_test(app: Application, file: Path, triggers: Triggers) -> None:
    triggers.use(app)
    s = triggers.session(uid="order:42")
    for trigger in ("paid", "packed"):
        web_code(app, trigger)
    assert s.ran("t_ship") == 1
    assert s.result("t_ship") == {"parcel": 7}
    [audit] = [each for _, each in app.plugins.manager.list_name_plugin()]
    assert audit.seen == ["paid", "packed", "t_ship"]
    assert not audit.store.exists
    assert not file.exists()


@pytest.mark.parametrize("fails", [False, True])
def test_all_is_put_back(app: Application, fails: bool) -> None:
    app.manager("order:1").fire("paid")  # on the thread of a hook's store
    before = {name: value for name, value in vars(app).items() if name != "_runners"}
    settings, plugins = app.settings, app.plugins
    with pytest.raises(ZeroDivisionError) if fails else nullcontext(), Triggers() as triggers:
        triggers.use(app, TRIGGER_TIMING={"lease": 600})
        assert app.rules.timing.lease == 600
        app.plugins.register(Audit(), "another")
        app.configure(TRIGGER_LIMITS={"kwargs_bytes": 5_000})
        web_code(app, "paid")
        if fails:
            1 / 0  # noqa: B018
    assert {name: value for name, value in vars(app).items() if name != "_runners"} == before
    assert app.settings is settings
    assert app.rules.timing.lease == 60
    assert app.plugins is plugins
    assert "another" not in plugins.names
    assert isinstance(app.runner(), ThreadingTaskRunner)
    assert len(app.manager("order:1").storage.events) == 1


class _nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *exc_info: object) -> None: ...


def test_a_factory_that_configures_does_not_lead_to_real_sessions(
    app: Application, file: Path, triggers: Triggers
) -> None:
    triggers.use(app)
    app.configure(
        TRIGGER_STORAGE_TYPE="sqlite",
        TRIGGER_STORAGE_OPTIONS={"path": file},
        TRIGGER_RUNNER="threading",
        TRIGGER_PLUGINS=[],
    )
    s = triggers.session(uid="order:42")
    web_code(app, "paid")
    web_code(app, "packed")
    assert s.ran("t_ship") == 1
    assert not file.exists()


def test_an_application_that_starts_and_stops_within_the_test(
    app: Application, triggers: Triggers
) -> None:
    triggers.use(app)
    with app:
        web_code(app, "paid")
        web_code(app, "packed")
    assert triggers.session(uid="order:42").ran("t_ship") == 1


def test_a_manager_of_before_is_refused(triggers: Triggers, file: Path) -> None:
    app = Application("shop", Settings.isolated(TRIGGER_STORAGE_OPTIONS={"path": file}))
    manager = app.manager("order:42")
    manager.fire("paid")
    with Triggers() as inner:
        inner.use(app)
        with pytest.raises(WrongState, match=r"triggers\.use\(app\)"):
            manager.fire("packed")
    manager.fire("packed")
    assert len(manager.storage.events) == 2
    app.close()


def test_the_default_application(
    triggers: Triggers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert triggers.use(TRIGGER_PLUGINS=[], TRIGGER_CONFIGURATION=CONFIG) is default_application
    get_trigger_manager("order:42").fire("paid")
    configure(TRIGGER_RUNNER="threading")
    get_trigger_manager("order:42").fire("packed")
    assert triggers.session(uid="order:42").ran("t_ship") == 1
    assert not list(tmp_path.iterdir())


def test_its_classes_and_runners_are_as_it_says(triggers: Triggers) -> None:
    class Manager(TriggerManager):
        default_task_runner_name = "celery"

    app = Application("shop", Settings.isolated(TRIGGER_PLUGINS=[]))
    triggers.use(app)
    s = triggers.session({"t_ship": {**CONFIG["t_ship"], "using": "celery"}})
    manager = Manager(app.storage(s.uid), app)
    manager.fire("paid")
    manager.fire("packed")
    assert s.ran("t_ship") == 1


def test_a_name_that_no_code_defines(triggers: Triggers) -> None:
    app = Application("shop", Settings.isolated(TRIGGER_PLUGINS=[]))
    unknown = {"t_x": {"after": ["go"], "run": "test_kit_use.Nobody"}}
    triggers.use(app)
    with pytest.raises(InvalidConfiguration, match="Nobody"):
        triggers.session(unknown)
    triggers.use(app, stand_ins=True)
    s = triggers.session(unknown)
    s.fire("go")
    assert s.ran("t_x") == 1


def test_any_order_of_its_events(app: Application, triggers: Triggers) -> None:
    triggers.use(app)
    s = triggers.session()
    s.fire("paid")
    runs = {"t_ship": 1}
    triggers.assert_any_order(
        None, ["paid", "packed"], runs, duplicates=True, crash=True, sample=40
    )
    s.fire("packed")
    assert s.ran("t_ship") == 1
