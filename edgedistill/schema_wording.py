"""What a JSON Schema allows, in words: `whole number, at least 1`."""

from collections.abc import Mapping
from typing import Any

from edgedistill import yaml_text

NAMES = {
    "string": ("text", "texts"),
    "integer": ("whole number", "whole numbers"),
    "number": ("number", "numbers"),
    "boolean": ("true or false", "true or false"),
    "null": ("null", "null"),
}
"""Type of a JSON Schema to what a user calls one value of it, and several."""
BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
}
LENGTHS = {
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} of them",
}


def allowed(schema: Mapping[str, Any]) -> str:
    """Return what a value must be.

    Args:
        schema: of a plain value, a list or a mapping of them; a reference to another schema is not followed.
    """
    if "anyOf" in schema:
        return _either([allowed(branch) for branch in schema["anyOf"]])
    if "enum" in schema or "const" in schema:
        return _either([value_text(value) for value in schema.get("enum", [schema.get("const")])])
    if schema["type"] == "array":
        items = schema["items"]
        return _joined(f"list of {_several(items)}", *_limits(schema))
    if schema["type"] == "object":
        values = [*schema.get("patternProperties", {}).values(), schema.get("additionalProperties")]
        return f"names, each with {allowed(values[0])}"
    return _joined(_one(schema), *_limits(schema))


def value_text(value: Any) -> str:
    """Return a value as it stands in a recipe, on one line, as Markdown code."""
    text = yaml_text.on_one_line(value)
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def either(words: list[str]) -> str:
    """Return `a`, `a or b`, or `a, b or c`."""
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _either(words: list[str]) -> str:
    """Return the alternatives; those that have commas of their own stand between semicolons."""
    different = list(dict.fromkeys(words))
    return ", or ".join(different) if any(", " in word for word in different) else either(different)


def _one(schema: Mapping[str, Any]) -> str:
    if "examples" in schema and "pattern" in schema:
        return f"text such as {value_text(schema['examples'][0])}"
    if "pattern" in schema:
        return f"text that matches `{schema['pattern']}`"
    return NAMES[schema["type"]][0]


def _several(items: Mapping[str, Any]) -> str:
    if items.get("type") in NAMES and "enum" not in items:
        limits = _joined(*_limits(items))
        return NAMES[items["type"]][1] + (f", each {limits}" if limits else "")
    return allowed(items)


def _limits(schema: Mapping[str, Any]) -> list[str]:
    if schema.get("minLength") == schema.get("maxLength") == 1:
        return ["one character"]
    if schema.get("minLength") == 1:
        return ["not empty"]
    if "minimum" in schema and "maximum" in schema:
        return [f"{schema['minimum']} to {schema['maximum']}"]
    return [words.format(schema[key]) for key, words in (BOUNDS | LENGTHS).items() if key in schema]


def _joined(*parts: str) -> str:
    return ", ".join(parts)
