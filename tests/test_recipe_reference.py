"""The reference page is the one that the code makes, leaves nothing out, and its examples are valid."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from click.testing import CliRunner
from finished_build import ROOT
from pydantic import Field, TypeAdapter, ValidationError

from edgedistill import registry, yaml_text
from edgedistill.cli import main
from edgedistill.distill import losses
from edgedistill.recipe import Recipe
from edgedistill.recipe_examples import example_of, placed, reader_of
from edgedistill.recipe_reference import recipe_reference
from edgedistill.recipe_schema import recipe_schema
from edgedistill.recipe_wording import annotation_of
from edgedistill.section import Section

FILE = ROOT / "recipes" / "REFERENCE.md"
COMMAND = "edgedistill schema --reference > recipes/REFERENCE.md"
FOLDERS = {
    "tasks": "task.kind", "teachers": "teacher.kind", "corpus.sources": "source", "models.students": "student.kind",
    "distill.losses": "loss", "quantize.methods": "method", "export.formats": "format",
}  # fmt: skip
"""Folder -> the key that chooses among its files; two folders may have a file of the same name."""


@pytest.fixture(scope="module")
def page() -> str:
    return recipe_reference()


def properties(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every key that a JSON Schema describes, wherever it stands, but for the words that choose a file."""
    if isinstance(schema, dict):
        keys = schema.get("properties", {})
        yield from ((key, said) for key, said in keys.items() if "const" not in said and "oneOf" not in schema)
        for part in schema.values():
            yield from properties(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from properties(part)


def without_description(schema: Any) -> set[str]:
    return {key for key, said in properties(schema) if not said.get("description")}


def blocks(text: str) -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def check(example: dict[str, Any]) -> None:
    """Read each section of an example as a recipe's loader does, but for what sections must agree on."""
    for name, value in example.items():
        TypeAdapter(annotation_of(Recipe.model_fields[name])).validate_python(value)


def test_the_page_in_the_project_is_the_one_that_the_code_makes() -> None:
    made = CliRunner().invoke(main, ["schema", "--reference"]).output
    same = FILE.read_text(encoding="utf-8") == made
    assert same, f"recipes/REFERENCE.md is not what the code says; make it anew: {COMMAND}"


def test_every_key_has_a_description_and_the_page_tells_it(page: str) -> None:
    schema = json.loads(recipe_schema())
    assert not without_description(schema), 'give them Field(description="...")'
    written = page.replace("\\", "")
    for key, said in properties(schema):
        assert re.search(rf"`([\w\[\].<>]+\.)?{key}`", page), key
        assert said["description"] in written, key


def test_a_key_without_a_description_is_seen() -> None:
    class Silent(Section):
        kind: Literal["silent"]
        told: int = Field(1, description="Words.")
        untold: int = 1

    assert without_description({"$defs": {"Silent": Silent.model_json_schema()}}) == {"untold"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_choice_is_told_with_what_it_is(page: str, folder: str) -> None:
    for name in registry.names(f"edgedistill.{folder}"):
        heading = rf"^### `[\w.\[\]]*{FOLDERS[folder]}: {name}`"
        found = re.search(rf"{heading}\n\n(.*?)(?=\n\n|\Z)", page, flags=re.MULTILINE | re.DOTALL)
        assert found, f"{folder}: {name}"
        doc = registry.load(f"edgedistill.{folder}", name).__doc__
        assert doc is not None
        assert found[1].split()[:5] == doc.split()[:5]
        assert ("Source: " in found[1]) == ("Source: " in doc)


def test_every_target_is_told(page: str) -> None:
    for name in registry.names("edgedistill.targets"):
        assert f"* **`{name}`**: " in page


def test_defaults_that_depend_on_other_keys_are_told(page: str) -> None:
    for words in (
        "`distill.epochs`**: whole number, at least 1; default `10`; `15` with `student.kind: static`.",
        "default `14`; `22` with `benchmark.rounds: 3`.",
        "`[{loss: forward_kl}]` with texts without labels in `data.train`.",
    ):
        assert words in page


def test_each_section_has_an_example_and_all_are_valid(page: str) -> None:
    examples = [yaml_text.read(block).value for block in blocks(page)]
    assert {name for example in examples for name in example} == Recipe.model_fields.keys()
    assert len(examples) == page.count("\n### ") + page.count("\n## ") - 6  # some sections are all choices; targets
    for example in examples:
        check(example)


def test_an_example_that_is_not_valid_is_seen() -> None:
    with pytest.raises(ValidationError, match="extra"):
        check({"distill": {"epoch": 3}})


def test_a_required_key_without_an_example_makes_an_example_that_is_not_valid() -> None:
    class Silent(Section):
        needed: int = Field(description="Words.")
        inside: Recipe = Field(description="Words.")

    example = example_of(Silent, {})
    assert "needed" not in example
    assert example["inside"]["name"]
    with pytest.raises(ValidationError, match="needed"):
        Silent.model_validate(example)


def test_every_link_leads_to_a_heading(page: str) -> None:
    anchors = {
        "".join(c for c in heading.lower() if c.isalnum() or c in "-_ ").replace(" ", "-")
        for heading in re.findall(r"^##+ (.*)$", page, flags=re.MULTILINE)
    }
    links = re.findall(r"\]\(#([^)]*)\)", page)
    assert links
    assert set(links) <= anchors


def test_lines_are_short_enough_to_read_and_no_word_of_python_is_left(page: str) -> None:
    assert not re.search(r"None|True|False|Annotated|FieldInfo|<class|frozenset", page)
    assert not re.search(r"^ *$\n^ *$", page, flags=re.MULTILINE), "two blank lines"
    assert not re.search(r"[ \t]$", page, flags=re.MULTILINE)


def test_a_new_file_in_a_folder_of_choices_appears_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "squares.py").write_text(
        '"""The mean of squared *differences*. Not told.\n\nSource: Gauss 1809,\nsection 3.\n"""\n'
        "from typing import ClassVar, Literal\n"
        "from pydantic import Field\n"
        "from edgedistill.section import LossOptions\n"
        "class Options(LossOptions):\n"
        '    loss: Literal["squares"]\n'
        '    root: bool = Field(False, examples=[True], description="Of the mean.")\n'
        '    NEEDS: ClassVar[frozenset[str]] = frozenset({"logits"})\n',
        encoding="utf-8",
    )
    monkeypatch.setattr(losses, "__path__", [*losses.__path__, str(tmp_path)])
    try:
        page = recipe_reference()
    finally:
        sys.modules.pop("edgedistill.distill.losses.squares", None)
    assert (
        "### `distill.losses[].loss: squares`\n\n"
        "The mean of squared \\*differences\\*.\nNeeds: `logits`.\nSource: Gauss 1809, section 3.\n\n"
        "* **`distill.losses[].weight`**: number, more than 0; default `1.0`.\n"
        "  Factor of this term in the sum.\n"
        "* **`distill.losses[].root`**: true or false; default `false`.\n"
        "  Of the mean.\n\n"
        "```yaml\ndistill:\n  losses:\n  - {loss: squares, root: true}\n```\n"
    ) in page
    assert "[`squares`](#distilllossesloss-squares)" in page


@pytest.mark.parametrize(
    ("path", "placed_there"),
    [("export[]", {"export": [1]}), ("a.b[]", {"a": {"b": [1]}}), ("data.train", {"data": {"train": 1}})],
)
def test_a_value_is_placed_where_its_path_says(path: str, placed_there: dict[str, Any]) -> None:
    assert placed(path, 1) == placed_there


def test_what_reads_a_field_is_found_through_lists_names_and_null() -> None:
    class Inner(Section):
        pass

    assert reader_of(Inner | None) == (Inner, "")
    assert reader_of(dict[str, tuple[Inner, ...]]) == (Inner, ".<name>[]")
    assert reader_of(int | str) is None
