"""The task that Django's workers run: one attempt at one instance.

Imported by the runner `django`, and by workers, under the path that is in every task: the framework
checks a task where it is declared, against backends that another process may not have.
"""

from __future__ import annotations

from typing import Any

from triggers_core.application import default_application
from triggers_core.exceptions import InvalidSetting
from triggers_core.running.messages import Message
from triggers_django.tasks import RUNNER, applications, framework


def _declared() -> dict[str, Any]:
    settings = default_application.settings
    if settings.TRIGGER_RUNNER != RUNNER:
        return {}
    options = settings.TRIGGER_RUNNER_OPTIONS
    return {name: options[name] for name in ("backend", "queue_name") if name in options}


@framework().task(**_declared())  # type: ignore[untyped-decorator]
def run_attempt(app: str, uid: str, generation: str, instance: str, attempt: int) -> str:
    """Make the attempt that a message asks for.

    :returns: what became of it, in a word: ``finished``, ``skipped``, ``stale`` (there was nothing
        to do), ``lost`` (another attempt follows) or ``passed on`` (to a worker that knows it).
    :raises AttemptFailed: the instance has failed; so it has for Django.
    """
    application = applications.get(app)
    if application is None and app == default_application.name:
        application = default_application
    if application is None:
        raise InvalidSetting(
            f"{instance} belongs to the application {app!r}, which this process does not have: its"
            " module has to be imported when a worker starts, by an AppConfig.ready() for example"
        )
    runner: Any = application.runner(RUNNER)
    made: str = runner.attempt(Message(app, uid, generation, instance, attempt))
    return made
