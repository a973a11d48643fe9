"""What `setup` does to a Celery app, and what it refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, _state
from celery_fleet import Fleet

from triggers_celery import UnsafeContent, setup
from triggers_celery.adapter import options_of, register_tasks
from triggers_celery.connect import connect
from triggers_celery.content_check import check_content
from triggers_celery.identity import SWEEP, id_of, parse_message, process_name, token_belongs_to
from triggers_celery.options import current_celery_app, import_celery_app, read_options
from triggers_core import TriggerTask
from triggers_core.application import Application
from triggers_core.exceptions import DuplicateKey, InvalidConfiguration, InvalidSetting, UnknownKey
from triggers_core.running.messages import Message
from triggers_core.settings import Settings
from triggers_core.tasks import registry


@pytest.fixture
def application(tmp_path: Path) -> Iterator[Application]:
    application = Application("default", isolated())
    yield application
    application.close()


@pytest.fixture
def celery_app() -> Celery:
    return Celery("shop", broker="redis://127.0.0.1:1/0", set_as_current=False)


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Forget the task classes that a test defines."""
    before = dict(registry.declared)
    yield
    registry.declared.clear()
    registry.declared.update(before)


def isolated(**more: Any) -> Settings:
    return Settings.isolated(
        TRIGGER_STORAGE_TYPE="memory", TRIGGER_RUNNER="celery", TRIGGER_PLUGINS=[], **more
    )


def define(name: str, **members: Any) -> type[TriggerTask]:
    members = {"name": name, "_run": lambda self, context: None, **members}
    return type("Defined", (TriggerTask,), members)


# -- unsafe content -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("accept_content", ["json", "pickle"]),
        ("accept_content", ["json", "application/x-python-serialize"]),
        ("accept_content", ["json", "YAML"]),
        ("result_accept_content", ["pickle"]),
        ("task_serializer", "pickle"),
        ("task_serializer", "yaml"),
        ("result_serializer", "pickle"),
        ("event_serializer", "yaml"),
        ("accept_content", ["msgpack"]),
    ],
)
def test_content_that_can_carry_code_is_refused(
    celery_app: Celery, setting: str, value: Any
) -> None:
    check_content(celery_app)
    celery_app.conf[setting] = value
    with pytest.raises(UnsafeContent, match=rf"'shop'.*{setting}.*Set {setting} = .*json"):
        check_content(celery_app)


def test_a_firing_process_sends_nothing_through_an_unsafe_app(
    application: Application, celery_app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    connect(celery_app, application)
    celery_app.conf.accept_content = ["json", "pickle"]
    manager = application.manager("unsafe")
    manager.update_configuration({"t_x": {"after": ["go"], "run": "any"}})
    assert manager.fire("go").scheduled == ("t_x#0",)
    assert "could run code" in caplog.text


def test_a_worker_does_not_start_with_unsafe_content(fleet: Fleet) -> None:
    late = '{"accept_content": ["json", "yaml"]}'
    with fleet.worker(ready=False, TEST_CELERY_LATE=late) as worker:
        assert worker.process.wait(60) == 1
    assert "Set accept_content = ['json']" in worker.said()


# -- defaults -------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [False, True])
def test_prefetch_is_one_unless_the_user_says_otherwise(
    application: Application, celery_app: Celery, late: bool
) -> None:
    if not late:
        celery_app.conf.worker_prefetch_multiplier = 7
    connect(celery_app, application)
    if late:
        assert celery_app.conf.worker_prefetch_multiplier == 1
        celery_app.conf.worker_prefetch_multiplier = 7
    assert celery_app.conf.worker_prefetch_multiplier == 7


def test_the_defaults_of_a_task_are_those_of_the_protocol(
    application: Application, celery_app: Celery, forgotten: None
) -> None:
    define("shop.ship", celery_options={"rate_limit": "10/m", "track_started": True})
    celery_app.conf.task_ignore_result = False
    connect(celery_app, application)
    task = celery_app.tasks["shop.ship"]
    assert task.acks_late
    assert task.reject_on_worker_lost
    assert task.ignore_result
    assert task.serializer == "json"
    assert task.rate_limit == "10/m"
    assert task.track_started


def test_a_task_defined_after_the_app_was_finalized_is_registered_too(
    application: Application, celery_app: Celery, forgotten: None
) -> None:
    celery_app.finalize()
    integration = connect(celery_app, application)
    define("shop.late")
    assert "shop.late" not in celery_app.tasks
    register_tasks(integration)
    assert celery_app.tasks["shop.late"].name == "shop.late"


# -- the sweep in Celery beat ---------------------------------------------------------------------


def test_beat_gets_an_entry(application: Application, celery_app: Celery) -> None:
    application.configure(TRIGGER_TIMING={"sweep": 3})
    connect(celery_app, application)
    celery_app.finalize()
    entry = celery_app.conf.beat_schedule[SWEEP]
    assert entry == {"task": SWEEP, "schedule": 3, "options": {"expires": 3}}
    assert SWEEP in celery_app.tasks


def test_beat_gets_none_when_it_is_not_wanted(application: Application, celery_app: Celery) -> None:
    application.configure(TRIGGER_RUNNER_OPTIONS={"beat": False})
    connect(celery_app, application)
    celery_app.finalize()
    assert SWEEP not in celery_app.conf.beat_schedule


# -- applications ---------------------------------------------------------------------------------


def test_setup_twice_is_setup_once(application: Application, celery_app: Celery) -> None:
    assert connect(celery_app, application) is connect(celery_app, application)


def test_several_applications_share_a_celery_app(
    application: Application, celery_app: Celery
) -> None:
    other = Application("other", isolated())
    setup(celery_app, application)
    setup(celery_app, other)
    integration = celery_app.triggers
    assert integration.application("other") is other
    assert integration.application("default") is application
    with pytest.raises(UnknownKey, match="no application named 'third', only 'default', 'other'"):
        integration.application("third")
    with pytest.raises(UnknownKey, match="has an application named 'other' already"):
        connect(celery_app, Application("other", isolated()))


def test_the_celery_app_is_found_by_path(
    application: Application, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "import celery\napp = celery.Celery('found', set_as_current=False)\nnone = 3\n"
    (tmp_path / "findable_app.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    application.configure(TRIGGER_RUNNER_OPTIONS={"app": "findable_app:app"})
    assert application.runner().integration.celery_app.main == "found"
    for path, problem in (("findable_app:none", "is a int"), ("nowhere:app", "cannot be imported")):
        with pytest.raises(InvalidSetting, match=re.escape(path) + f".*{problem}"):
            import_celery_app(path)


def test_the_only_celery_app_is_found(
    application: Application, celery_app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    apps: list[Celery] = []
    monkeypatch.setattr(_state._tls, "current_app", None)
    monkeypatch.setattr(_state, "_get_active_apps", lambda: apps)
    with pytest.raises(InvalidSetting, match=r"no Celery app.*triggers_celery\.setup"):
        current_celery_app()
    apps.append(celery_app)
    assert application.runner().integration.celery_app is celery_app
    apps.append(Celery("second", set_as_current=False))
    with pytest.raises(InvalidSetting, match="several Celery apps"):
        current_celery_app()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"ap": "shop:app"}, "no option 'ap': did you mean 'app'"),
        ({"sweep": "often"}, "sweep"),
        ({"publish_timeout": 0}, "publish_timeout must be above 0"),
        ({"publish_timeout": 300}, "at most 60"),
    ],
)
def test_impossible_options_are_refused(
    application: Application, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidSetting, match=problem):
        read_options(application, options)


def test_plugin_options_are_read_where_the_runner_is_not_the_default() -> None:
    settings = isolated(TRIGGER_PLUGIN_OPTIONS={"celery": {"app": "shop:app", "beat": False}})
    application = Application("default", settings)
    settings.configure(TRIGGER_RUNNER="threading")
    options = application.runner("celery")._options
    assert (options.app, options.beat, options.sweep) == ("shop:app", False, True)
    application.close()


# -- tasks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"serializer": "pickle"}, "'serializer' is not yours to set"),
        ({"autoretry_for": (OSError,)}, r"retries are made by Triggers \(raise self\.retry"),
        ({"rate_limt": "1/s"}, "no option 'rate_limt': did you mean 'rate_limit'"),
        (["queue"], "expected a dict of Celery task options, got list"),
    ],
)
def test_impossible_celery_options_are_refused(forgotten: None, options: Any, problem: str) -> None:
    task_class = define("shop.bad", celery_options=options)
    with pytest.raises(InvalidConfiguration, match=f"celery_options: .*{problem}"):
        options_of(task_class)


def test_a_celery_task_of_the_same_name_is_an_error(
    application: Application, celery_app: Celery, forgotten: None
) -> None:
    define("shop.twice")

    def another() -> None:
        """A task of Celery's own kind."""

    celery_app.task(another, name="shop.twice")
    integration = connect(celery_app, application)
    with pytest.raises(DuplicateKey, match=r"'shop\.twice'.*Defined.*rename one"):
        register_tasks(integration)


# -- identities -----------------------------------------------------------------------------------


def test_the_task_id_names_the_attempt() -> None:
    message = Message("app", "a uid", "generation", "t_x#0", 1)
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", id_of(message))
    others = [
        Message("ap", "pa uid", "generation", "t_x#0", 1),
        Message("app", "a uid", "generation", "t_x#0", 2),
        Message("app", "a uid", "another", "t_x#0", 1),
    ]
    assert len({id_of(each) for each in (message, *others)}) == 4
    assert id_of(Message(*("app", "a uid", "generation", "t_x#0", 1))) == id_of(message)


def test_arguments_that_are_no_message_are_refused() -> None:
    with pytest.raises(TypeError, match="no arguments of a Triggers task"):
        parse_message([{"__class__": "os.system"}, 1, 2, 3, 4])


def test_a_holder_is_known_by_its_token() -> None:
    pid = int(process_name("w@host").rpartition("/")[2])
    token = f"random@{process_name('w@host')}"
    assert token_belongs_to(token, "w@host")
    assert token_belongs_to(token, "w@host", pid)
    assert not token_belongs_to(token, "w@host", pid + 1)
    assert not token_belongs_to(token, "w@hos")
    assert not token_belongs_to("", "w@host")
    assert not token_belongs_to("random", "")
