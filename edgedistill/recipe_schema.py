"""The JSON Schema of a recipe, so that an editor completes and checks it; what sections must agree on is beyond it."""

import json
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from edgedistill.recipe import Recipe


class _StrictSchema(GenerateJsonSchema):
    """As pydantic writes it, but a name that breaks its pattern is refused, as the recipe refuses it."""

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        made = super().dict_schema(schema)
        return {**made, "additionalProperties": False} if "patternProperties" in made else made


def recipe_schema() -> str:
    """Return the schema, draft 2020-12, as JSON text."""
    generated = Recipe.model_json_schema(schema_generator=_StrictSchema)
    schema: dict[str, Any] = {"$schema": GenerateJsonSchema.schema_dialect, **generated}
    return json.dumps(schema, indent=2, ensure_ascii=False)
