"""A folder is a registry: each module in it is one choice, named by its file.

To add a choice, add a file; `_`-prefixed modules are helpers, not choices. Loading a choice must stay
cheap, because `plan` and `validate` load every choice that a recipe names: a choice imports its heavy
library inside the function that needs it (a test holds this for all files to come).
"""

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from edgedistill.errors import UnknownChoice
from edgedistill.section import Section


def names(package: str) -> tuple[str, ...]:
    """Return the choices in `package`, sorted, without importing them."""
    path = import_module(package).__path__
    return tuple(sorted(m.name for m in pkgutil.iter_modules(path) if not m.name.startswith("_")))


def load(package: str, name: str) -> ModuleType:
    """Import the module of one choice.

    Raises:
        UnknownChoice: there is no such file in `package`.
    """
    if name not in names(package):
        raise UnknownChoice(package.rpartition(".")[2].removesuffix("s"), name, names(package))
    return import_module(f"{package}.{name}")


@dataclass(frozen=True)
class Choice:
    """Marks a recipe field: its `key` names a module of `package`, whose `Options` reads the rest."""

    package: str
    key: str

    def read(self, value: object) -> Section:
        """Return the chosen module's `Options`, or raise an error that lists the choices."""
        if isinstance(value, Section):
            return value
        choices = ", ".join(names(self.package))
        if not isinstance(value, Mapping) or not isinstance(value.get(self.key), str):
            raise ValueError(f"needs {self.key!r}, one of: {choices}")
        if value[self.key] not in names(self.package):
            raise PydanticCustomError(
                "unknown_choice",
                "unknown {key} '{given}'; choose one of: {choices}",
                {"key": self.key, "given": value[self.key], "choices": choices},
            )
        options: Section = load(self.package, value[self.key]).Options.model_validate(value)
        return options

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.read, serialization=core_schema.plain_serializer_function_ser_schema(_dump)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the schema of any one choice; the generator gathers the definitions in the root's $defs."""
        options = [load(self.package, name).Options for name in names(self.package)]
        return {
            "type": "object",
            "required": [self.key],
            "properties": {self.key: {"enum": list(names(self.package))}},
            "oneOf": [handler(choice.__pydantic_core_schema__) for choice in options],
        }


def _dump(options: Section) -> dict[str, Any]:
    return options.model_dump(mode="json")
