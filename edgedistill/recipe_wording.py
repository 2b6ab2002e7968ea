"""pydantic's errors in the words of this project: what is wrong, the user's value, the rule, the cure."""

import difflib
import json
from collections.abc import Iterable, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from edgedistill.registry import Choice, load, names
from edgedistill.yaml_text import KeyPath

LONGEST_QUOTE = 60

_RULES = {
    "greater_than": "{given} is too small; it must be greater than {gt}",
    "greater_than_equal": "{given} is too small; it must be at least {ge}",
    "less_than": "{given} is too large; it must be less than {lt}",
    "less_than_equal": "{given} is too large; it must be at most {le}",
    "int_type": "{given} is no whole number; write digits alone",
    "int_parsing": "{given} is no whole number; write digits alone",
    "int_from_float": "{given} is no whole number; leave out the fraction",
    "float_type": "{given} is no number; write digits alone, such as 0.95",
    "float_parsing": "{given} is no number; write digits alone, such as 0.95",
    "finite_number": "{given} is not finite; write a finite number",
    "bool_type": "{given} is neither true nor false; write one of them",
    "bool_parsing": "{given} is neither true nor false; write one of them",
    "string_type": "{given} is not text; put it in quotes if it is meant as text",
    "string_pattern_mismatch": "{given} does not match {pattern}",
    "string_too_short": "{given} is too short; it needs at least {min_length} characters",
    "literal_error": "{given} is not a choice; choose {expected}",
    "unknown_choice": "unknown {key} '{given_word}'; choose one of: {choices}",
    "model_type": "{given} is no section; write its keys as indented lines below",
    "dict_type": "{given} is no section; write its keys as indented lines below",
    "tuple_type": "{given} is no list; write each item on a line of its own, after '- '",
    "too_short": "{given} has too few items; it needs at least {min_length}",
    "too_long": "{given} has too many items; it takes at most {max_length}",
    "value_error": "{error}",
}


def wording(error: ErrorDetails, path: KeyPath, root: type[BaseModel], plain: Any) -> tuple[KeyPath, str]:
    """Return the path that an error is about, and what to tell its user.

    Args:
        error: one of a ValidationError's errors.
        path: where `error` happened, from the recipe's root.
        root: the section that reads the whole file.
        plain: the whole file as plain values.
    """
    kind = error["type"]
    if path[-1:] == ("[key]",):
        path = path[:-1]
        return path, f"{_quoted(path[-1])} cannot be a name here; use lower-case letters, digits and underscores"
    if kind == "extra_forbidden":
        return path, unknown_key(str(path[-1]), _fields_at(root, path[:-1], plain))
    if kind == "missing":
        return path, missing_key(str(path[-1]), _fields_at(root, path[:-1], plain)[str(path[-1])])
    context = dict(error.get("ctx", {}))
    if kind == "unknown_choice":
        path, context["given_word"] = (*path, context["key"]), context["given"]
        near = difflib.get_close_matches(context["given"], context["choices"].split(", "), n=1)
        return path, _RULES[kind].format(**context) + (f"; did you mean '{near[0]}'?" if near else "")
    context["given"] = _quoted(error["input"])
    rule = _RULES.get(kind)
    said = rule.format(**context) if rule else f"{context['given']} does not fit: {error['msg'].lower()}"
    return path, said + _hint(_fields_at(root, path[:-1], plain).get(str(path[-1])))


def unknown_key(key: str, allowed: Iterable[str]) -> str:
    """Return the text for a key that its section does not know; its value is not shown, it may be a secret."""
    near = difflib.get_close_matches(key, list(allowed), n=1)
    cure = f"did you mean '{near[0]}'?" if near else f"use one of: {', '.join(allowed)}"
    return f"unknown key; {cure}"


def missing_key(key: str, field: FieldInfo) -> str:
    """Return the text for a required key that is not there."""
    about = f" ({field.description.rstrip('.')})" if field.description else ""
    return f"is missing{about}; add '{key}: ...'"


def kind_at(root: Any, path: KeyPath, plain: Any) -> Any:
    """Return the type that reads `path`, following the choices that the file makes: a section, or a plain type.

    Args:
        root: an annotation: a section, or one inside Annotated, Optional, a tuple or a dict.
        path: from `root` on.
        plain: what the file says for `root`.

    Raises:
        KeyError: nothing reads `path`.
    """
    kind = _resolved(root, plain)
    if not path:
        return kind
    step, rest = path[0], path[1:]
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        inner = annotation_of(kind.model_fields[str(step)])
    elif get_origin(kind) in (dict, tuple):
        inner = get_args(kind)[1 if get_origin(kind) is dict else 0]
    else:
        raise KeyError(step)
    return kind_at(inner, rest, plain[step])


def annotation_of(field: FieldInfo) -> Any:
    """Return the annotation that a field was declared with, its constraints and its Choice included."""
    return Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation


def _fields_at(root: Any, path: KeyPath, plain: Any) -> Mapping[str, FieldInfo]:
    """Return the keys that may stand at `path`; none where it is no section."""
    kind = kind_at(root, path, plain)
    return kind.model_fields if isinstance(kind, type) and issubclass(kind, BaseModel) else {}


def _resolved(kind: Any, plain: Any) -> Any:
    """Return what `kind` really is, without Annotated, Optional, and the choice among files."""
    if get_origin(kind) is Annotated:
        choice = next((part for part in get_args(kind)[1:] if isinstance(part, Choice)), None)
        if choice is not None and isinstance(plain, Mapping) and plain.get(choice.key) in names(choice.package):
            return load(choice.package, plain[choice.key]).Options
        return _resolved(get_args(kind)[0], plain)
    if get_origin(kind) in (Union, UnionType):
        return _resolved(next(part for part in get_args(kind) if part is not NoneType), plain)
    return kind


def _hint(field: FieldInfo | None) -> str:
    if field is None:
        return ""
    about = f" ({field.description.rstrip('.')})" if field.description else ""
    plain_default = isinstance(field.default, (str, int, float))
    return about + (f"; the default is {_quoted(field.default)}" if plain_default else "")


def _quoted(value: object) -> str:
    """Return a value as the user wrote it, shortened, on one line."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST_QUOTE else f"{text[: LONGEST_QUOTE - 3]}..."
