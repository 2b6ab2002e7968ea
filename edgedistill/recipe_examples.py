"""Small examples of a recipe's parts, read off the sections: what is required, and what a field gives an example of.

A field says `Field(examples=[...])`; the first one counts. A test holds that every example made here is valid.
"""

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from edgedistill.recipe_wording import annotation_of
from edgedistill.registry import Choice, load, names
from edgedistill.section import Section

Reader = type[Section] | Choice


def reader_of(annotation: Any) -> tuple[Reader, str] | None:
    """Return what reads the keys inside a field, and how their paths go on; None for a plain value.

    Paths go on with `[]` in a list and with `.<name>` in a mapping.
    """
    kind, parts = get_origin(annotation), get_args(annotation)
    if kind is Annotated:
        choice = next((part for part in parts[1:] if isinstance(part, Choice)), None)
        return (choice, "") if choice is not None else reader_of(parts[0])
    if kind in (Union, UnionType):
        return next((found for part in parts if part is not NoneType and (found := reader_of(part))), None)
    if kind in (tuple, dict):
        found = reader_of(parts[0 if kind is tuple else 1])
        return found and (found[0], ("[]" if kind is tuple else ".<name>") + found[1])
    return (annotation, "") if isinstance(annotation, type) and issubclass(annotation, Section) else None


def example_of(section: type[Section], said: Mapping[str, Any]) -> dict[str, Any]:
    """Return a small example of a section.

    Args:
        section: whose fields are asked.
        said: what the example says already, such as the word that chose this section.
    """
    wanted = {name: _example(field) for name, field in section.model_fields.items() if name not in said}
    return {**said, **{name: value for name, value in wanted.items() if value is not None}}


def placed(path: str, value: Any) -> Any:
    """Return a recipe that has one value only, such as {"export": [value]} for the path `export[]`."""
    for step in reversed(path.split(".")):
        name = step.removesuffix("[]")
        value = {name: [value] if name != step else value}
    return value


def _example(field: FieldInfo) -> Any:
    """Return the field's own example; else, where it is required, one of what stands inside it; else None."""
    if field.examples:
        return field.examples[0]
    found = reader_of(annotation_of(field)) if field.is_required() else None
    if found is None:
        return None
    reader, step = found
    if isinstance(reader, Choice):
        word = names(reader.package)[0]
        inside = example_of(load(reader.package, word).Options, {reader.key: word})
    else:
        inside = example_of(reader, {})
    return placed(f"it{step}", inside)["it"]
