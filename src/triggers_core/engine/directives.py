"""Values of the directives that are no conditions: what to run, with which params, on what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from triggers_core.engine.refusals import checked_name, plain_mapping, plain_value, refusal
from triggers_core.texts import convert, short_repr


def read_run(name: str, raw: Mapping[Any, Any]) -> str:
    """The name of the task to run; `run` may be the task class itself."""
    if "run" not in raw:
        raise refusal(f"{name}.run", "missing: name the task to run")
    run = raw["run"]
    if isinstance(run, type):
        run = getattr(run, "name", run)  # the task class itself
    named = optional_name(f"{name}.run", "the name of a task", run)
    if named is None:
        raise refusal(f"{name}.run", "expected the name of a task, got None")
    return named


def optional_name(place: str, expected: str, value: object) -> str | None:
    """A name, or None where there is none.

    :param expected: what the name is.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise refusal(place, f"expected {expected}, got {short_repr(value)}")
    return checked_name(place, value)


def read_params(place: str, value: object) -> dict[str, dict[str, Any]]:
    """The kwargs of `withParams`, by key."""
    params = plain_mapping(place, value)
    for trigger, kwargs in params.items():
        if not isinstance(kwargs, dict):
            raise refusal(
                f"{place}.{trigger}",
                "expected a mapping of that trigger's kwargs (withParams is"
                f" {{trigger: {{name: value}}}}), got {short_repr(kwargs)}",
            )
    return params


def read_owned(place: str, value: object, kind: Any, owner: str) -> Any:
    """The value of a plugin's directive, in plain form.

    :param kind: its type.
    :param owner: the plugin's name.
    """
    plain = plain_value(place, value)
    try:
        convert(plain, kind, place)
    except ValueError as error:
        raise refusal(place, f"{error} (directive of {owner})") from None
    return plain
