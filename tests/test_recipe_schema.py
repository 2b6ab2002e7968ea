"""The JSON Schema agrees with the loader, as far as a schema can, and an independent library says so."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from recipe_texts import GOOD

from edgedistill import yaml_text
from edgedistill.recipe_schema import recipe_schema

RECIPES = sorted((Path(__file__).parent.parent / "recipes").rglob("*.yaml"))


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(recipe_schema())
    return read


def _references(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for inner in part.values():
            yield from _references(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _references(inner)


def test_it_is_a_schema_and_every_reference_leads_somewhere(schema: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(schema)
    references = set(_references(schema))
    assert references
    assert {reference.removeprefix("#/$defs/") for reference in references} <= schema["$defs"].keys()


@pytest.mark.parametrize("text", [GOOD, *(file.read_text(encoding="utf-8") for file in RECIPES)])
def test_it_accepts_what_the_loader_accepts(schema: dict[str, Any], text: str) -> None:
    errors = list(Draft202012Validator(schema).iter_errors(yaml_text.read(text).value))
    assert not errors, errors


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: tiny", "nam: tiny"),
        ("name: tiny", "name: Tiny One"),
        ("licence: MIT\n", ""),
        ("epochs: 2", "epochs: 0"),
        ("epochs: 2", "epochs: two"),
        ("epochs: 2", "epoch: 2"),
        ("kind: static", "kind: statique"),
        ("kind: static", "kind: layers"),
        ("loss: forward_kl", "loss: forward"),
        ("temperature: 2.0", "temprature: 2.0"),
        ("method: dynamic_int8", "method: static_int9"),
        ("{method: dynamic_int8}", "dynamic_int8"),
        ("hub: org/teacher", "hubb: org/teacher"),
        ("source: jsonl", "source: jsonnl"),
        ("max_file_bytes: 10 MB", "max_file_bytes: 10 MX"),
        ("tweets:", "My Tweets:"),
    ],
)
def test_it_refuses_what_the_loader_refuses(schema: dict[str, Any], old: str, new: str) -> None:
    assert old in GOOD
    assert not Draft202012Validator(schema).is_valid(yaml_text.read(GOOD.replace(old, new)).value)


def test_editors_get_descriptions_and_defaults(schema: dict[str, Any]) -> None:
    epochs = schema["$defs"]["DistillOptions"]["properties"]["epochs"]
    assert epochs["description"]
    assert epochs["default"] == 10
