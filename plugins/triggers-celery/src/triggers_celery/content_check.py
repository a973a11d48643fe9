"""Start-up check of content types: what a worker reads from its broker is data, never code."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from celery.exceptions import SecurityError

from triggers_core.exceptions import InvalidSetting

_EXECUTABLE: Final = frozenset(
    {
        "pickle",
        "application/x-python-serialize",
        "yaml",
        "application/x-yaml",
        "application/yaml",
        "text/yaml",
    }
)
"""Content that can run code when it is read (YAML: by loaders that build objects)."""

_JSON: Final = frozenset({"json", "application/json"})


class UnsafeContent(InvalidSetting, SecurityError):  # type: ignore[misc]
    """The Celery app reads or writes content that can carry code.

    A `SecurityError` too, which ``celery worker`` shows as one line before it ends.
    """


def check_content(celery_app: Any) -> None:
    """Refuse a Celery app that reads or writes pickle or YAML, or that does not read JSON.

    Writing JSON is not enough: while pickle is accepted, whoever can write to the broker can run
    code in every worker.

    :raises UnsafeContent: names the Celery setting and the fix.
    """
    conf, name = celery_app.conf, celery_app.main or "celery"
    for setting in ("accept_content", "result_accept_content"):
        for content in _names(conf[setting]):
            if content in _EXECUTABLE:
                raise UnsafeContent(
                    f"Celery app {name!r}: {setting} lists {content!r}: whoever can write to the"
                    f" broker could run code in this process. Set {setting} = ['json']"
                )
    for setting in ("task_serializer", "result_serializer", "event_serializer"):
        if str(conf[setting]).lower() in _EXECUTABLE:
            raise UnsafeContent(
                f"Celery app {name!r}: {setting} is {conf[setting]!r}, which can carry code. Set"
                f" {setting} = 'json'"
            )
    if not _JSON.intersection(_names(conf["accept_content"])):
        raise UnsafeContent(
            f"Celery app {name!r}: accept_content lacks 'json', in which Triggers sends its"
            " messages. Set accept_content = ['json']"
        )


def _names(contents: Iterable[object] | None) -> list[str]:
    return [str(each).lower() for each in contents or ()]
