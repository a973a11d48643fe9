"""What ``manage.py check`` says about Triggers: its ids are ``triggers.E001`` and so on."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, Info, Tags, Warning, register
from django.db import connections
from django.db.migrations.executor import MigrationExecutor

from triggers_core.application import Application, default_application
from triggers_core.engine.configuration import Configuration
from triggers_core.exceptions import (
    InvalidConfiguration,
    InvalidSetting,
    TaskNotFound,
    TriggersError,
)
from triggers_core.redaction import error_text
from triggers_core.registries import task_runners
from triggers_django.tests_of_applications import in_tests

TAG = "triggers"


def check_settings(app_configs: Sequence[AppConfig] | None = None, **_: Any) -> list[CheckMessage]:
    """Every setting that cannot be read, and what is made of them: storage, runner, plugins."""
    app = default_application
    app.settings.reload()
    found: list[CheckMessage] = [
        Error(str(each), id="triggers.E001") for each in _wrong_settings(app)
    ]
    if found:
        return found
    found += [Warning(each, id="triggers.W001") for each in app.settings.problems()]
    for part, make in (
        ("E002", lambda: app.store),
        ("E003", lambda: app.plugins),
        ("E004", lambda: app.runner()),
    ):
        try:
            make()
        except InvalidConfiguration:
            continue  # E006 tells it
        except TriggersError as error:
            found.append(Error(str(error), id=f"triggers.{part}"))
    return found


def _wrong_settings(app: Application) -> Iterator[InvalidSetting]:
    told = set[str]()
    for name in app.settings.names():
        try:
            getattr(app.settings, name)
        except InvalidSetting as error:
            if str(error) not in told:  # one that keeps a source from being read is told once
                told.add(str(error))
                yield error


def check_tasks(app_configs: Sequence[AppConfig] | None = None, **_: Any) -> list[CheckMessage]:
    """The configuration of the settings, and the tasks that it names."""
    app = default_application
    if any(_wrong_settings(app)):
        return []
    try:
        app.import_tasks()
    except Exception as error:
        notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
        return [Error(f"{error_text(error)}{notes}", id="triggers.E005")]
    try:
        configuration = app.rules.default_configuration
    except TriggersError as error:
        return [Error(f"TRIGGER_CONFIGURATION: {error}", id="triggers.E006")]
    return list(_unknown_tasks(app, configuration)) if configuration is not None else []


def _unknown_tasks(app: Application, configuration: Configuration) -> Iterator[CheckMessage]:
    for task in configuration.tasks.values():
        try:
            task_runners.get_class(task.using or app.settings.TRIGGER_RUNNER)
        except TriggersError as error:
            yield Error(f"TRIGGER_CONFIGURATION: {task.name}.using: {error}", id="triggers.E006")
            continue
        try:
            app.resolve_task(task.run, task.using)
        except TaskNotFound as error:
            yield Error(
                f"TRIGGER_CONFIGURATION: {task.name}.run: {error}",
                hint="Define it in the module trigger_tasks of one of INSTALLED_APPS.",
                id="triggers.E007",
            )


def check_migrations(
    app_configs: Sequence[AppConfig] | None = None,
    databases: Iterable[str] | None = None,
    **_: Any,
) -> list[CheckMessage]:
    """Migrations of ours that are missing, with ``manage.py check --database default``."""
    app = default_application
    if sys.argv[1:2] == ["migrate"]:  # which checks the database before it does what is asked for
        return []
    if any(_wrong_settings(app)) or app.settings.TRIGGER_STORAGE_TYPE != "django":
        return []
    alias = database_of(app)
    if alias not in set(databases or ()):
        return []
    try:
        executor = MigrationExecutor(connections[alias])
        targets = [key for key in executor.loader.graph.leaf_nodes() if key[0] == "triggers"]
        missing = [str(migration) for migration, _ in executor.migration_plan(targets)]
    except Exception as error:
        return [Error(f"the database {alias!r}: {error_text(error)}", id="triggers.E008")]
    if not missing:
        return []
    return [
        Error(
            f"the database {alias!r} lacks {', '.join(missing)}",
            hint=f"manage.py migrate triggers --database {alias}",
            id="triggers.E009",
        )
    ]


def check_sqlite(app_configs: Sequence[AppConfig] | None = None, **_: Any) -> list[CheckMessage]:
    """SQLite under `ATOMIC_REQUESTS`, where a read before the first write loses the turn."""
    app = default_application
    if any(_wrong_settings(app)) or app.settings.TRIGGER_STORAGE_TYPE != "django":
        return []
    alias = database_of(app)
    settings = connections[alias].settings_dict
    mode = settings["OPTIONS"].get("transaction_mode") or "DEFERRED"
    if (
        connections[alias].vendor != "sqlite"
        or not settings.get("ATOMIC_REQUESTS")
        or mode.upper() != "DEFERRED"
    ):
        return []
    return [
        Warning(
            f"The database {alias!r} is SQLite's under ATOMIC_REQUESTS, and its transactions begin"
            " DEFERRED: of two requests that read before they write, at the same time, SQLite"
            " refuses one with 'database is locked', however long its timeout is.",
            hint=f"DATABASES[{alias!r}]['OPTIONS'] = {{'transaction_mode': 'IMMEDIATE'}}, which"
            " Django has since 5.1; or another database.",
            id="triggers.W004",
        )
    ]


def database_of(app: Application) -> str:
    """The alias of the database that holds the sessions of the storage `django`."""
    store: Any = app.store
    return str(getattr(store, "alias", "default"))


def check_runner(app_configs: Sequence[AppConfig] | None = None, **_: Any) -> list[CheckMessage]:
    """Runners that do something else than one expects: an eager Celery, threads beside it."""
    app = default_application
    if any(_wrong_settings(app)):
        return []
    found: list[CheckMessage] = []
    if app.settings.TRIGGER_RUNNER == "celery":
        found += _eager_celery(app)
    if app.settings.TRIGGER_STORAGE_TYPE == "memory" and not in_tests():
        found.append(
            Warning(
                "The sessions are in the memory of one process: another one sees none of them, and"
                " each restart, such as `runserver` makes when a file has changed, erases them.",
                hint="TRIGGER_STORAGE_TYPE = 'django' keeps them in the database.",
                id="triggers.W003",
            )
        )
    if app.settings.TRIGGER_RUNNER == "threading" and _reloads():
        found.append(
            Info(
                "Bodies run in threads of `runserver`. When a file has changed, it restarts once"
                " those that run have ended.",
                hint="A long one is waited for: run such with --noreload, or on workers.",
                id="triggers.I001",
            )
        )
    return found


def _reloads() -> bool:
    return sys.argv[1:2] == ["runserver"] and "--noreload" not in sys.argv


def _eager_celery(app: Application) -> list[CheckMessage]:
    try:
        runner: Any = app.runner()
        eager = bool(runner.integration.celery_app.conf.task_always_eager)
    except Exception:  # no Celery app is found in this process: a worker has it, or says so
        return []
    if not eager:
        return []
    return [
        Warning(
            "Celery is eager (CELERY_TASK_ALWAYS_EAGER): each body runs in the process and thread"
            " that fires, while the request waits for it, and nothing is swept.",
            hint="Meant for tests. Leave the setting out where workers run.",
            id="triggers.W002",
        )
    ]


def register_checks() -> None:
    """Register all of them; again is no error."""
    register(check_settings, TAG)
    register(check_tasks, TAG)
    register(check_runner, TAG)
    register(check_sqlite, TAG)
    register(check_migrations, TAG, Tags.database)
