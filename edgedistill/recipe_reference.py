"""Everything that a recipe can say, as one page of Markdown, read off the sections and the folders of choices.

A section, a key or a choice that is added appears by itself: its words are its field's description, and the first
sentence and the source of its module. What depends on other keys comes from the very function that fills it in.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from edgedistill import yaml_text
from edgedistill.recipe import STUDENTS, Recipe, with_defaults
from edgedistill.recipe_examples import example_of, placed, reader_of
from edgedistill.recipe_wording import annotation_of
from edgedistill.registry import Choice, load, names
from edgedistill.schema_wording import allowed, either, value_text
from edgedistill.section import Section

TARGETS = "edgedistill.targets"
INTRODUCTION = """\
# Everything that a recipe can say

Made from the code by `edgedistill schema --reference`; `edgedistill schema` prints the same for editors, as a JSON
Schema. What a section of one recipe must agree on with another is told by `edgedistill validate`.

Keys are named as error messages name them: `distill.epochs` is the key `epochs` in the section `distill`; `[]` stands
for any item of a list, and `<name>` for a name of your own. What is left out gets its default, and
`runs/<name of the recipe>/recipe.yaml` has all of them written out. An unknown key is an error. Paths of files and
folders start from the recipe's own folder.
"""
DECLARED: Mapping[str, str] = {
    "TASKS": "Does",
    "SIGNALS": "Gives the signals",
    "NEEDS": "Needs",
    "SCHEME": "Makes the scheme",
    "STORES": "Stores the schemes",
}
"""What a choice declares about itself, and how the page says it."""


def recipe_reference() -> str:
    """Return the page; the same text wherever it is made."""
    chapters = "".join(_chapters())
    headings = re.findall(r"^##(#?) (`.*)$", chapters, flags=re.MULTILINE)
    contents = "".join(f"{'  ' * len(below)}* {_link(heading)}\n" for below, heading in headings)
    return f"{INTRODUCTION}\n{contents}{chapters}"


def _chapters() -> Iterator[str]:
    """Yield one chapter for each section, one for the plain keys beside them, and one for the devices."""
    fields = {name: (field, reader_of(annotation_of(field))) for name, field in Recipe.model_fields.items()}
    plain = [name for name, (_, found) in fields.items() if found is None]
    yield _heading("##", ", ".join(f"`{name}`" for name in plain))
    yield from (_key(Recipe, name, name, "") for name in plain)
    yield _example({name: example for name, example in example_of(Recipe, {}).items() if name in plain})
    for name, (field, found) in fields.items():
        if found is not None:
            reader, step = found
            yield _heading("##", f"`{name}`")
            facts = _facts(Recipe, name, name)
            yield f"{_escaped(field.description or '')}\n{facts[0].upper()}{facts[1:]}\n"
            if not isinstance(reader, Choice):
                yield "\n" + "".join(_keys(reader, name, "")) + _example({name: example_of(reader, {})})
            yield from _choices(reader, f"{name}{step}")
    yield _heading("##", "`benchmark.target`, `quantize[].cpus`") + "Devices that these keys can name.\n\n"
    yield from (f"* **`{name}`**: {_sentence(load(TARGETS, name).__doc__)}\n" for name in names(TARGETS))


def _choices(reader: type[Section] | Choice, path: str) -> Iterator[str]:
    """Yield a part for each choice at or below `path`, unless another path has told of that folder before."""
    for place, choice in _places(reader, path):
        if place == _first_places()[choice.package]:
            yield from (_choice(choice, word, place) for word in names(choice.package))


def _choice(choice: Choice, word: str, path: str) -> str:
    """Return all there is to say about one file of a folder of choices."""
    module = load(choice.package, word)
    options: type[Section] = module.Options
    declared = {words: getattr(options, name, None) for name, words in DECLARED.items()}
    about = [
        _sentence(module.__doc__),
        *(f"{words}: {_listed(value)}." for words, value in declared.items() if value),
        *(f"Source: {source}" for source in [_source(module.__doc__)] if source),
    ]
    keys = "".join(_keys(options, path, "", without=choice.key))
    return (
        _heading("###", f"`{path}.{choice.key}: {word}`")
        + "\n".join(about)
        + (f"\n\n{keys}" if keys else "\n")
        + _example(placed(path.replace("<name>", "name"), example_of(options, {choice.key: word})))
    )


def _places(reader: type[Section] | Choice, path: str) -> Iterator[tuple[str, Choice]]:
    """Yield the path of every choice at or below `path`, with the choice."""
    sections = [reader] if not isinstance(reader, Choice) else []
    if isinstance(reader, Choice):
        yield path, reader
        sections = [load(reader.package, word).Options for word in names(reader.package)]
    for section in sections:
        for name, field in section.model_fields.items():
            found = reader_of(annotation_of(field))
            if found is not None:
                yield from _places(found[0], f"{path}.{name}{found[1]}".removeprefix("."))


@cache
def _first_places() -> dict[str, str]:
    """Return folder of choices -> the first path that reads one of them, where the page tells of them."""
    return {choice.package: path for path, choice in reversed(list(_places(Recipe, "")))}


def _keys(section: type[Section], path: str, indent: str, without: str = "") -> Iterator[str]:
    """Yield a list item for each key of a section, and below it those of a section inside."""
    for name, field in section.model_fields.items():
        if name != without:
            yield _key(section, name, f"{path}.{name}", indent)
            found = reader_of(annotation_of(field))
            if found is not None and not isinstance(found[0], Choice):
                yield from _keys(found[0], f"{path}.{name}{found[1]}", f"{indent}  ")


def _key(section: type[Section], name: str, path: str, indent: str) -> str:
    field = section.model_fields[name]
    found = reader_of(annotation_of(field))
    source = _source(found[0].__doc__) if found is not None and not isinstance(found[0], Choice) else ""
    about = _escaped(field.description or "") + (f" Source: {source}" if source else "")
    return f"{indent}* **`{path}`**: {_facts(section, name, path)}\n{indent}  {about}\n"


def _facts(section: type[Section], name: str, path: str) -> str:
    """Return what a key must be, whether it is required, and its defaults."""
    field = section.model_fields[name]
    schema = _properties(section)[name]
    found = reader_of(annotation_of(field))
    if found is None:
        optional = "default" in schema and schema["default"] is None
        branches = [branch for branch in schema.get("anyOf", []) if not (optional and branch == {"type": "null"})]
        what = allowed({**schema, "anyOf": branches} if branches else schema)
    else:
        what = _described(*found, path)
    facts = [what, _default(field, schema), *_other_defaults().get(path, ())]
    return f"{'; '.join(fact for fact in facts if fact)}."


def _described(reader: type[Section] | Choice, step: str, path: str) -> str:
    """Return what stands where a section or a choice is read."""
    container = "list, each item a " if "[]" in step else "names of your own, each with a " if step else ""
    if not isinstance(reader, Choice):
        return f"{container}section"
    first = _first_places()[reader.package]
    if first != path + step:
        return f"{container}section as `{first}`"
    links = [_link(f"`{first}.{reader.key}: {word}`", word) for word in names(reader.package)]
    return f"{container}section whose `{reader.key}` is {either(links)}"


def _default(field: FieldInfo, schema: Mapping[str, Any]) -> str:
    if field.is_required():
        return "required"
    default = schema.get("default", field.get_default(call_default_factory=True))
    return "may be left out" if isinstance(field.default, BaseModel) else f"default {value_text(default)}"


@cache
def _other_defaults() -> dict[str, list[str]]:
    """Return path -> what its default becomes where the recipe says something else elsewhere."""
    cases: dict[str, dict[str, Any]] = {
        f"`student.kind: {kind}`": {"student": {"kind": kind}} for kind in names(STUDENTS)
    }
    cases["texts without labels in `data.train`"] = {"data": {"train": {"source": "text"}}}
    cases["`benchmark.rounds: 3`"] = {"benchmark": {"rounds": 3}}
    found: dict[str, list[str]] = {}
    for words, said in cases.items():
        for section, values in with_defaults(said).items():
            for key in values.keys() - said.get(section, {}).keys():
                found.setdefault(f"{section}.{key}", []).append(f"{value_text(values[key])} with {words}")
    return found


@cache
def _properties(section: type[Section]) -> dict[str, Any]:
    properties: dict[str, Any] = section.model_json_schema()["properties"]
    return properties


def _heading(level: str, text: str) -> str:
    return f"\n{level} {text}\n\n"


def _link(heading: str, text: str | None = None) -> str:
    """Return a link to a heading, whose anchor is made as GitHub makes it."""
    anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
    return f"[{f'`{text}`' if text else heading}](#{anchor})"


def _example(recipe: Mapping[str, Any]) -> str:
    flat = not any(isinstance(value, (Mapping, list)) for value in recipe.values())
    return f"\n```yaml\n{yaml_text.write(recipe) if flat else yaml_text.write_compact(recipe)}```\n"


def _listed(value: str | frozenset[str]) -> str:
    return ", ".join(f"`{word}`" for word in ([value] if isinstance(value, str) else sorted(value)))


def _sentence(doc: str | None) -> str:
    """Return the first sentence of a docstring, on one line."""
    found = re.match(r".*?\.(?=\s|$)", doc or "", flags=re.DOTALL)
    return _escaped(" ".join(found[0].split())) if found else ""


def _source(doc: str | None) -> str:
    """Return what a docstring gives as its source, on one line; empty where it gives none."""
    found = re.search(r"^ *Source: (.*?)(?:\n *\n|\Z)", doc or "", flags=re.DOTALL | re.MULTILINE)
    return _escaped(" ".join(found[1].split())) if found else ""


def _escaped(text: str) -> str:
    """Return text whose characters mean themselves in Markdown, outside of its code."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"[*<]", r"\\\g<0>", part) for part in parts)
