"""recipe.yaml to Recipe and back; every problem at once, as `file:line: key: what, rule, cure`.

Sections are validated one by one, and a check between sections runs as soon as the sections it needs are valid: a
typo in `benchmark` does not hide that `distill` asks for what `teacher` cannot give.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from edgedistill import yaml_text
from edgedistill.agreement import problems_between
from edgedistill.errors import RecipeError
from edgedistill.recipe import Recipe, with_defaults
from edgedistill.recipe_wording import annotation_of, kind_at, missing_key, unknown_key, wording
from edgedistill.yaml_text import Document, KeyPath, Problem, key_path, key_text

Found = Iterable[tuple[str, str]]  # (key path, what is wrong)


def load(file: Path, more_problems: Callable[[Mapping[str, Any]], Found] = lambda _: ()) -> Recipe:
    """Return the recipe that `file` holds.

    Args:
        file: the recipe's.
        more_problems: what else the valid sections, by name, may be held against; told with all other problems.

    Raises:
        RecipeError: with one line per problem.
    """
    document = yaml_text.read(_text_of(file))
    problems = list(document.problems)
    sections: dict[str, Any] = {}
    if isinstance(document.value, Mapping):
        sections, more = _sections(document)
        problems += more
        found = (*problems_between(sections), *more_problems(sections))
        problems += [Problem(document.line_of(key_path(key)), key, text) for key, text in found]
    elif not problems:
        problems.append(Problem(1, "", "a recipe is a mapping of sections; start with: name: my-model"))
    if problems:
        raise RecipeError("\n".join(_line(file, problem) for problem in sorted(set(problems))))
    return Recipe.model_validate(sections)


def dump(recipe: Recipe) -> str:
    """Return the whole recipe as YAML, every default written out; `load` gives it back equal."""
    return yaml_text.write(recipe.model_dump(mode="json"))


def _text_of(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start]
        raise RecipeError(f"{file}:{line}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8") from None
    except OSError as error:
        raise RecipeError(f"{file}: cannot be read ({error.strerror}); name a recipe, or write one with init") from None


def _line(file: Path, problem: Problem) -> str:
    key = f"{problem.key}: " if problem.key else ""
    return f"{file}:{problem.line}: {key}{problem.text}"


def _sections(document: Document) -> tuple[dict[str, Any], list[Problem]]:
    """Return the valid sections, defaults included, and what is wrong with the others."""
    sections: dict[str, Any] = {}
    plain = with_defaults(document.value)
    problems = [
        Problem(document.line_of((name,)), str(name), unknown_key(str(name), Recipe.model_fields))
        for name in document.value
        if name not in Recipe.model_fields
    ]
    for name, field in Recipe.model_fields.items():
        if name not in document.value and field.is_required():
            problems.append(Problem(document.line_of(()), name, missing_key(name, field)))
            continue
        try:
            sections[name] = _validated(name, field, plain)
        except ValidationError as error:
            problems += _problems_of(error, name, document)
    problems += _numbers_given_as_truth((), document.value, document)
    return sections, problems


def _validated(name: str, field: FieldInfo, plain: Mapping[str, Any]) -> Any:
    adapter: TypeAdapter[Any] = TypeAdapter(annotation_of(field))
    return adapter.validate_python(plain[name] if name in plain else field.get_default(call_default_factory=True))


def _problems_of(error: ValidationError, section: str, document: Document) -> Iterator[Problem]:
    for path, details in _deepest(error.errors(include_url=False), section, document.value):
        found, text = wording(details, path, Recipe, document.value)
        yield Problem(document.line_of(found), key_text(found), text)


def _deepest(errors: list[ErrorDetails], section: str, plain: Any) -> list[tuple[KeyPath, ErrorDetails]]:
    """Return each error with its path in the file; of a union's branches only the one that read furthest.

    pydantic puts the name of the branch into the path (`layers`, `tuple[...]`, 1); the file has no such step.
    """
    chosen: dict[KeyPath, tuple[KeyPath, ErrorDetails]] = {}
    for details in errors:
        path: KeyPath = ()
        union: KeyPath | None = None
        value = plain
        for step in (section, *details["loc"]):
            if _has(value, step) or _names_a_key(details, step):
                path, value = (*path, step), value[step] if _has(value, step) else None
            else:
                union = path if union is None else union
        group = path if union is None else union
        if group not in chosen or len(path) > len(chosen[group][0]):
            chosen[group] = (path, details)
    return list(chosen.values())


def _has(value: Any, step: str | int) -> bool:
    if isinstance(value, list):
        return isinstance(step, int) and step < len(value)
    return isinstance(value, Mapping) and step in value


def _names_a_key(details: ErrorDetails, step: str | int) -> bool:
    return step == "[key]" or (details["type"] == "missing" and step == details["loc"][-1])


def _numbers_given_as_truth(path: KeyPath, plain: Any, document: Document) -> Iterator[Problem]:
    """Yield each true or false where a number belongs; pydantic would let it pass as 1 or 0."""
    if isinstance(plain, (Mapping, list)):
        for step, inner in plain.items() if isinstance(plain, Mapping) else enumerate(plain):
            yield from _numbers_given_as_truth((*path, step), inner, document)
    elif isinstance(plain, bool):
        with suppress(KeyError):  # an unknown key is told elsewhere
            if kind_at(Recipe, path, document.value) in (int, float):
                text = f"{str(plain).lower()} is no number; write digits"
                yield Problem(document.line_of(path), key_text(path), text)
