"""A folder is a registry: one new file is one new choice, and nothing else is touched."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pytest
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter, ValidationError

from edgedistill import registry
from edgedistill.errors import UnknownChoice
from edgedistill.registry import Choice
from edgedistill.section import MethodOptions

MODULE = """
from typing import ClassVar, Literal
from edgedistill.section import MethodOptions, Section

class Inner(Section):
    depth: int = 1

class Options(MethodOptions):
    method: Literal["{name}"] = "{name}"  # a default changes nothing: a choice must be named
    bits: int = 8
    inner: Inner = Inner()
    SCHEME: ClassVar[str] = "{name}_scheme"
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "colours"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    for name in ("red", "blue", "_shared"):
        (folder / f"{name}.py").write_text(MODULE.format(name=name))
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "colours"]:
        del sys.modules[name]


def _adapter() -> TypeAdapter[MethodOptions]:
    return TypeAdapter(Annotated[MethodOptions, Choice("colours", key="method")])


@pytest.mark.usefixtures("package")
def test_names_are_the_files_without_the_shared_ones() -> None:
    assert registry.names("colours") == ("blue", "red")


@pytest.mark.usefixtures("package")
def test_listing_imports_no_choice() -> None:
    registry.names("colours")
    assert "colours.red" not in sys.modules


def test_one_new_file_is_one_new_choice(package: Path) -> None:
    (package / "green.py").write_text(MODULE.format(name="green"))
    options = _adapter().validate_python({"method": "green", "bits": 4})
    assert type(options).__module__ == "colours.green"
    assert options.SCHEME == "green_scheme"
    assert _adapter().dump_python(options) == {"method": "green", "bits": 4, "inner": {"depth": 1}}


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("name", ["purple", "_shared", "red.py", "../red"])
def test_what_is_no_choice_is_refused_with_the_choices(name: str) -> None:
    with pytest.raises(UnknownChoice, match="blue, red"):
        registry.load("colours", name)
    with pytest.raises(ValidationError, match="blue, red"):
        _adapter().validate_python({"method": name})


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("value", [{}, "red", None, {"method": 3}, []])
def test_a_choice_needs_its_key(value: object) -> None:
    with pytest.raises(ValidationError, match="needs 'method', one of: blue, red"):
        _adapter().validate_python(value)


@pytest.mark.usefixtures("package")
def test_problems_inside_a_choice_keep_their_place() -> None:
    with pytest.raises(ValidationError) as caught:
        _adapter().validate_python({"method": "red", "bits": "many", "inner": {"dept": 1}})
    assert {error["loc"] for error in caught.value.errors()} == {("bits",), ("inner", "dept")}


@pytest.mark.usefixtures("package")
def test_the_schema_accepts_what_one_file_reads_and_refuses_the_rest() -> None:
    schema = _adapter().json_schema()
    Draft202012Validator.check_schema(schema)
    accepts = Draft202012Validator(schema).is_valid
    assert accepts({"method": "red", "bits": 4, "inner": {"depth": 2}})
    assert not accepts({"method": "purple"})
    assert not accepts({"bits": 4})
    assert not accepts({"method": "blue", "inner": {"dept": 2}})


def test_the_schema_asks_for_the_choice_even_where_there_is_only_one(package: Path) -> None:
    (package / "blue.py").unlink()
    schema = _adapter().json_schema()
    assert Draft202012Validator(schema).is_valid({"method": "red"})
    assert not Draft202012Validator(schema).is_valid({"bits": 4})
    assert not Draft202012Validator({**schema, "required": []}).is_valid({"method": "purple"})
    assert Draft202012Validator({**schema, "required": []}).is_valid({"bits": 4}), "without it, this would pass"
