"""The JSON Schema of the language of conditions: what each word takes, for editors.

Written out, as the shapes of a condition can be told apart only by the words in them.
"""

from __future__ import annotations

from typing import Any, Final

from triggers_core.engine.conditions import CALLED_OFF, FAILED, LATE, REASONS, SKIPPED
from triggers_core.engine.names import MAX_LENGTH
from triggers_core.engine.trees import MOST_NAMES

_CONTROLS: Final = r"\u0000-\u001f\u007f-\u009f\u2028\u2029"
NO_CONTROLS: Final = {"not": {"pattern": f"[{_CONTROLS}]"}}
"""What names hold none of: control characters, line breaks."""

_TEN_YEARS: Final = 3_653 * 86_400  # seconds
_HALF_A_MICROSECOND: Final = 5e-7
"""What is less is rounded to none."""


_DIRECTIVES: Final = {
    "andEvery": ("andEvery", "One more trigger; each time it fires, the task runs once."),
    "unless": (
        "conditions",
        "Triggers that, once all of them have fired, call off what waits; or conditions.",
    ),
    "keeping": ("keeping", "Which events an instance keeps: the first, if nothing is said."),
    "everyTime": (
        "everyTime",
        "Begin again once an instance is scheduled, late or called off.",
    ),
    "waiting": ("waiting", "Hold back once the condition holds; `unless` still calls off."),
    "within": ("within", "A deadline for the condition."),
    "otherwise": ("otherwise", "A trigger for when it does not come to a success."),
}
"""Directive that may be null → its definition, and what it does."""


def language_properties() -> dict[str, dict[str, Any]]:
    """Directive → its schema, in which the definitions are referred to."""
    after = {
        "description": "What must all have happened, in any order: triggers, or conditions.",
        **_ref("conditions"),
    }
    optional = {
        name: {"description": text, "anyOf": [_ref(definition), {"type": "null"}]}
        for name, (definition, text) in _DIRECTIVES.items()
    }
    return {"after": after, **optional}


def language_definitions(width: int | None = None) -> dict[str, dict[str, Any]]:
    """The definitions to which they refer, by name.

    :param width: how many members a list, an `anyOf` or an `atLeast` may have below the top.
    """
    return {**_basics(), **_tests(), **_trees(width), **_details()}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}


def _object(
    description: str, properties: dict[str, Any], required: tuple[str, ...], **more: Any
) -> dict[str, Any]:
    return {
        "description": description,
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
        **more,
    }


def _basics() -> dict[str, dict[str, Any]]:
    name = {"type": "string", "minLength": 1, "maxLength": MAX_LENGTH}
    return {
        "name": {**name, **NO_CONTROLS},
        "key": {
            "description": "A name of its own for a leaf, without dots: the body gets the kwargs"
            " under it.",
            **name,
            "not": {"pattern": f"[{_CONTROLS}.]"},
        },
        "reference": {
            "description": "A value that an event names: the key of a required leaf, a dot and a"
            " path into its kwargs.",
            "type": "string",
            "pattern": r"^[\s\S]+\.[^.]+$",
            "examples": ["placed.items"],
        },
        "duration": {
            "description": "A text such as '14 days', or a number of seconds; ten years at most.",
            "anyOf": [
                {
                    "type": "string",
                    "pattern": "^[0-9]{1,40}([.][0-9]{1,40})? (second|minute|hour|day|week)s?$",
                    "allOf": [{"pattern": "[1-9]"}],
                    "examples": ["30 seconds", "5 minutes", "2 hours", "14 days", "2 weeks"],
                },
                {
                    "type": "number",
                    "exclusiveMinimum": _HALF_A_MICROSECOND,
                    "maximum": _TEN_YEARS + _HALF_A_MICROSECOND,
                },
            ],
        },
    }


def _tests() -> dict[str, dict[str, Any]]:
    ordered = {"type": ["number", "string"]}
    values = {
        "anyOf": [
            _ref("value"),
            {"type": "array", "items": _ref("value"), "minItems": 1},
        ]
    }
    return {
        "value": {
            "description": "Equal by value; a bool is no number.",
            "type": ["null", "boolean", "number", "string"],
        },
        "where": {
            "description": "Only events whose kwargs pass: path (names with dots between them) →"
            " a value, a list of values of which one is equal, or tests.",
            "type": "object",
            "propertyNames": {"pattern": r"^[^.]+(\.[^.]+)*$"},
            "additionalProperties": {
                "anyOf": [*values["anyOf"], _ref("tests")],
            },
        },
        "tests": {
            "description": "All of them have to hold for the value at the path.",
            "type": "object",
            "minProperties": 1,
            "additionalProperties": False,
            "properties": {
                "atLeast": {"description": "The value is this or more.", **ordered},
                "atMost": {"description": "The value is this or less.", **ordered},
                "moreThan": {"description": "The value is more than this.", **ordered},
                "lessThan": {"description": "The value is less than this.", **ordered},
                "not": {
                    "description": "The path is there, and its value is (none of) this.",
                    **values,
                },
                "given": {"description": "Whether the path is there.", "type": "boolean"},
            },
        },
    }


def _trees(width: int | None) -> dict[str, dict[str, Any]]:
    several: dict[str, Any] = {"type": "array", "minItems": 1, "uniqueItems": True}
    if width is not None:
        several["maxItems"] = width
    conditions = {**several, "items": _ref("condition")}
    objects = [_ref("leaf"), _ref("anyOf"), _ref("atLeast"), _ref("count")]
    return {
        "leaf": _object(
            "Events of one trigger, or those of them that pass `where`.",
            {"trigger": _ref("name"), "where": _ref("where"), "as": _ref("key")},
            ("trigger",),
        ),
        "anyLeaf": {"anyOf": [_ref("name"), _ref("leaf")]},
        "anyOf": _object(
            "The first that holds is enough.",
            {"anyOf": {"description": "Conditions.", **conditions}},
            ("anyOf",),
        ),
        "atLeast": _object(
            "So many of several conditions hold.",
            {
                "atLeast": {
                    "description": "How many; no more than there are.",
                    "type": "integer",
                    "minimum": 1,
                    **({} if width is None else {"maximum": width}),
                },
                "of": {"description": "Conditions.", **conditions},
            },
            ("atLeast", "of"),
        ),
        "count": _object(
            "So many events of one trigger.",
            {
                "atLeast": {
                    "description": "How many; or which event says so, as 'placed.items'.",
                    "anyOf": [{"type": "integer", "minimum": 1}, _ref("reference")],
                },
                "of": {"description": "The trigger to count.", **_ref("anyLeaf")},
            },
            ("atLeast", "of"),
        ),
        "condition": {
            "anyOf": [
                {"description": "A trigger.", **_ref("name")},
                {"description": "All of several conditions.", **conditions},
                *objects,
            ]
        },
        "conditions": {
            "anyOf": [
                {"type": "array", "maxItems": MOST_NAMES, "items": _ref("condition")},
                {"description": "A trigger.", **_ref("name")},
                *objects,
            ]
        },
        "andEvery": {
            "anyOf": [
                {"description": "A trigger.", **_ref("name")},
                _ref("leaf"),
                _object(
                    "Any of several triggers.",
                    {"anyOf": {**several, "items": _ref("anyLeaf")}},
                    ("anyOf",),
                ),
            ]
        },
    }


def _details() -> dict[str, dict[str, Any]]:
    keep = {
        "description": "`first`: each instance keeps the first that it meets; `latest`: the latest;"
        " `all`: all of them, as a list.",
        "enum": ["first", "latest", "all"],
    }
    told = {
        LATE: "When `within` has passed.",
        FAILED: "When it has failed, and no automatic retry is to come.",
        SKIPPED: "When it was skipped.",
        CALLED_OFF: "When `unless` has called it off.",
    }
    return {
        "keep": keep,
        "everyTime": {"type": "boolean"},
        "keeping": {
            "anyOf": [
                _ref("keep"),
                {
                    "description": "Key of a leaf in `after` → which of its events.",
                    "type": "object",
                    "propertyNames": _ref("name"),
                    "additionalProperties": _ref("keep"),
                },
            ]
        },
        "waiting": {
            "anyOf": [
                {"description": "So long after the latest event.", **_ref("duration")},
                _object(
                    "So long after the latest event, as long as none is newer; `atMost` so long"
                    " altogether.",
                    {
                        "time": {"description": "After the latest event.", **_ref("duration")},
                        "atMost": {
                            "description": "After the event with which it began.",
                            **_ref("duration"),
                        },
                    },
                    ("time",),
                ),
                _object(
                    "Until the moment that an event names: ISO 8601 with an offset.",
                    {"until": _ref("reference")},
                    ("until",),
                ),
            ]
        },
        "within": {
            "anyOf": [
                {"description": "So long after it began.", **_ref("duration")},
                _object(
                    "So long after a leaf's event.",
                    {
                        "of": {"description": "The key of the leaf.", **_ref("name")},
                        "time": _ref("duration"),
                    },
                    ("of", "time"),
                ),
            ]
        },
        "otherwise": {
            "anyOf": [
                {"description": "A trigger, for whatever reason.", **_ref("name")},
                _object(
                    "Reason → trigger.",
                    {why: {"description": told[why], **_ref("name")} for why in REASONS},
                    (),
                ),
            ]
        },
    }
