"""Types and limits in words, for whatever pydantic's schema can say."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, StringConstraints, TypeAdapter

from edgedistill import yaml_text
from edgedistill.schema_wording import allowed, either, value_text

Positive = Annotated[int, Field(ge=1)]


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (str, "text"),
        (Annotated[str, StringConstraints(min_length=1)], "text, not empty"),
        (Annotated[str, StringConstraints(min_length=1, max_length=1)], "text, one character"),
        (Annotated[str, StringConstraints(min_length=2)], "text, at least 2 characters"),
        (Annotated[str, StringConstraints(pattern="^a+$")], "text that matches `^a+$`"),
        (Annotated[str, StringConstraints(pattern="^a+$"), Field(examples=["aa"])], "text such as `aa`"),
        (bool, "true or false"),
        (Annotated[int, Field(ge=4, le=8192)], "whole number, 4 to 8192"),
        (Annotated[float, Field(gt=0, lt=0.5)], "number, more than 0, less than 0.5"),
        (Annotated[float, Field(gt=0, le=20)], "number, more than 0, at most 20"),
        (float | None, "number or null"),
        (Positive | None, "whole number, at least 1, or null"),
        (Literal["auto"], "`auto`"),
        (Literal["a", "b", "no"], "`a`, `b` or `no`"),
        (Literal[16, 32], "`16` or `32`"),
        (tuple[str, ...], "list of texts"),
        (tuple[Literal["a", "b"], ...], "list of `a` or `b`"),
        (tuple[Positive, ...], "list of whole numbers, each at least 1"),
        (tuple[Annotated[float, Field(gt=0, le=1)], ...], "list of numbers, each more than 0, at most 1"),
        (Annotated[tuple[str, ...], Field(min_length=1)], "list of texts, at least 1 of them"),
        (Positive | tuple[Positive, ...], "whole number, at least 1, or list of whole numbers, each at least 1"),
        (dict[str, Literal["int8", "int4"]], "names, each with `int8` or `int4`"),
        (dict[Annotated[str, StringConstraints(pattern="^[a-z]+$")], int], "names, each with whole number"),
    ],
)
def test_what_a_type_allows_is_said(annotation: Any, words: str) -> None:
    assert allowed(TypeAdapter(annotation).json_schema()) == words


@pytest.mark.parametrize("value", [None, True, 0.1, 1e-5, "no", "a: b", ",", "`", [], {}, [{"a": 1, "b": "x y"}]])
def test_a_value_stands_on_one_line_and_reads_back(value: Any) -> None:
    text = value_text(value)
    assert "\n" not in text
    assert yaml_text.read(f"key: {text.strip('`').strip() if value != '`' else text[3:-3]}").value == {"key": value}


def test_alternatives_are_joined_as_one_says_them() -> None:
    assert [either(list(words)) for words in ("a", "ab", "abc")] == ["a", "a or b", "a, b or c"]
