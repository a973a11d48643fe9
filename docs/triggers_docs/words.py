"""The words of a configuration, from their JSON Schema; and that schema itself."""

from __future__ import annotations

import json
from typing import Any

from triggers_core.application import Application
from triggers_core.limits import Limits
from triggers_core.settings import Settings
from triggers_core.views.schema import configuration_schema


def full_schema() -> dict[str, Any]:
    """The JSON Schema with the default limits and the directives of every installed plugin."""
    limits = Limits()
    directives = Application("docs", Settings.isolated()).plugins.directives()
    return configuration_schema(directives, limits.tasks, limits.condition_width)


def schema() -> str:
    """All of it, as JSON."""
    return f"```json\n{json.dumps(full_schema(), indent=2, ensure_ascii=False)}\n```"


def markdown() -> str:
    """The directives of a task; then each definition that they refer to."""
    whole = full_schema()
    definitions = whole["$defs"]
    [task] = [each for each in definitions if each.startswith("TaskDirectives")]
    parts = ["## Directives of a task"]
    required = definitions[task].get("required", ())
    for name, each in definitions[task]["properties"].items():
        needed = " Required." if name in required else ""
        parts.append(f"`{name}`\n: {_text(each)}{needed} Takes: {_shape(each)}.")
    parts.append("At least one of `after` and `andEvery` has to say something.")
    parts.append("## What they take")
    for name, each in definitions.items():
        if name != task:
            parts += [f"### {name}", _definition(each)]
    return "\n\n".join(parts)


def _text(schema: dict[str, Any]) -> str:
    return str(schema.get("description", ""))


def _definition(schema: dict[str, Any]) -> str:
    parts = [" ".join(filter(None, [_text(schema), f"Takes: {_shape(schema)}."]))]
    required = schema.get("required", ())
    for key, value in schema.get("properties", {}).items():
        needed = " Required." if key in required else ""
        parts.append(f"`{key}`\n: {_text(value)}{needed} Takes: {_shape(value)}.")
    return "\n\n".join(parts)


def _shape(schema: dict[str, Any]) -> str:
    """What a schema takes, in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema and "type" not in schema:
        return " or ".join(dict.fromkeys(_shape(each) for each in schema["anyOf"]))
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(each)}`" for each in schema["enum"])
    kind = schema.get("type", "anything")
    if isinstance(kind, list):
        return " or ".join(map(_plain, kind))
    if kind == "array":
        least = " of at least one" if schema.get("minItems") else ""
        return f"a list{least} of {_shape(schema['items'])}" if "items" in schema else "a list"
    if kind == "object" and schema.get("properties"):
        return "an object with " + ", ".join(f"`{key}`" for key in schema["properties"])
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"an object, each value of it {_shape(schema['additionalProperties'])}"
    return _plain(kind)


def _plain(kind: str) -> str:
    names = {"null": "null", "boolean": "true or false", "string": "a text", "number": "a number"}
    names |= {"integer": "a whole number", "object": "an object", "array": "a list"}
    return names.get(kind, kind)
