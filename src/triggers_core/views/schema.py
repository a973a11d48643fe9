"""The JSON Schema of configurations, generated from types: the core's directives and the plugins'.

The words of the language of conditions are in `schema_words`. The schema says what an editor can
know. What needs more than one value (a task that waits for its own name) is found by `triggers
check`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from triggers_core.engine.configuration import Directive
from triggers_core.engine.names import MAX_LENGTH
from triggers_core.views.schema_words import (
    NO_CONTROLS,
    language_definitions,
    language_properties,
)

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_GIVEN: Final = {"not": {"type": "null"}}

Name = Annotated[str, Meta(min_length=1, max_length=MAX_LENGTH, extra_json_schema=NO_CONTROLS)]


class TaskDirectives(
    msgspec.Struct,
    kw_only=True,
    forbid_unknown_fields=True,
    rename={"with_params": "withParams"},
):
    """One task: *after* these, *and every* that, *unless* those, *run* this."""

    # And those of the language of conditions, whose shapes no type tells.
    run: Annotated[Name, Meta(description="The registered name of the task class to run.")]
    with_params: Annotated[
        dict[str, dict[str, Any]] | None,
        Meta(description="Default kwargs by key; what was really fired wins over them."),
    ] = None
    using: Annotated[
        Name | None, Meta(description="The key of the runner, if not the usual one.")
    ] = None
    extra: Annotated[
        dict[str, Any] | None, Meta(description="The application's own directives.")
    ] = None


def configuration_schema(
    directives: Mapping[str, Directive],
    max_tasks: int | None = None,
    max_width: int | None = None,
) -> dict[str, Any]:
    """The JSON Schema of a configuration.

    :param directives: those that plugins own, by name.
    :param max_tasks: the limit of tasks.
    :param max_width: the limit of members of a condition.

    Example::

        configuration_schema(app.plugins.directives(), app.settings.limits.tasks)
    """
    kind: type[msgspec.Struct] = TaskDirectives
    if directives:
        fields = [(name, _described(each), UNSET) for name, each in directives.items()]
        kind = msgspec.defstruct("TaskDirectives", fields, bases=(TaskDirectives,), kw_only=True)
        kind.__doc__ = TaskDirectives.__doc__
    (reference,), definitions = msgspec.json.schema_components([kind])
    task = definitions[reference["$ref"].rpartition("/")[2]]
    task["properties"] = {**language_properties(), **task["properties"]}
    task["anyOf"] = [
        {"required": ["after"], "properties": {"after": {"minItems": 1}}},
        {"required": ["andEvery"], "properties": {"andEvery": _GIVEN}},
    ]
    # everyTime beside andEvery.
    task["not"] = {
        "required": ["andEvery", "everyTime"],
        "properties": {"andEvery": _GIVEN, "everyTime": {"const": True}},
    }
    root: dict[str, Any] = {
        "$schema": DIALECT,
        "title": "Triggers configuration",
        "description": "Task name → directives.",
        "type": "object",
        "properties": {"$schema": {"type": "string"}},
        "propertyNames": {"minLength": 1, "maxLength": MAX_LENGTH, **NO_CONTROLS},
        "additionalProperties": reference,
        "$defs": {**definitions, **language_definitions(max_width)},
    }
    if max_tasks is not None:
        root["maxProperties"] = max_tasks + 1  # and $schema
    return root


def _described(directive: Directive) -> Any:
    text = f"Directive of the plugin {directive.owner}."
    described: Any = Annotated[directive.type | UnsetType, Meta(description=text)]
    try:
        msgspec.json.schema(described)
    except TypeError:  # checked by the plugin's own means: anything may stand there
        described = Annotated[Any, Meta(description=text)]
    return described
