"""YAML as a recipe means it: YAML 1.2's words, a line for every key, and nothing that hides what a build will do."""

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edgedistill import yaml_text

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("010", 10),
        ("1e-4", 1e-4),
        ("1.", 1.0),
        ("true", True),
        ("~", None),
        ("1:30", "1:30"),
        ("2024-01-02", "2024-01-02"),
        ("1.0.0", "1.0.0"),
    ],
)
def test_words_are_read_as_yaml_1_2_reads_them(word: str, value: object) -> None:
    read = yaml_text.read(f"key: {word}").value["key"]
    assert read == value
    assert type(read) is type(value)


def test_plain_pyyaml_would_fail_the_test_above() -> None:
    assert yaml.safe_load("key: no") == {"key": False}
    assert yaml.safe_load("key: 1e-4") == {"key": "1e-4"}


@given(PLAIN)
def test_what_is_written_is_read_back(value: object) -> None:
    document = yaml_text.read(yaml_text.write({"value": value}))
    assert not document.problems
    assert document.value == {"value": value}


def test_a_small_number_stays_a_number() -> None:
    assert math.isclose(yaml_text.read(yaml_text.write({"rate": 1e-5})).value["rate"], 1e-5)


@given(st.lists(st.text("abc xyz", min_size=1).map(str.strip).filter(bool), unique=True, min_size=1, max_size=20))
def test_every_key_has_its_line(keys: list[str]) -> None:
    document = yaml_text.read("".join(f"{key}:\n  inner: [1,\n    2]\n" for key in keys))
    for index, key in enumerate(keys):
        assert document.line_of((key,)) == 3 * index + 1
        assert document.line_of((key, "inner")) == 3 * index + 2
        assert document.line_of((key, "inner", 1)) == 3 * index + 3
        assert document.line_of((key, "missing", "deeper")) == 3 * index + 1, "the nearest part that is there"


@pytest.mark.parametrize("path", [("a",), ("a", 0), ("a", 12, "b", "c"), ("challenge", "my_set", "file")])
def test_a_path_survives_being_written(path: yaml_text.KeyPath) -> None:
    assert yaml_text.key_path(yaml_text.key_text(path)) == path


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\nb:\n\tc: 2\n", 3, "a tab indents this line"),
        ("a: 1\nb: x: y\n", 2, "quote a value that contains ': '"),
        ("a: 1\nb: 'open\nc: 2\n", 4, "a quote is not closed"),
        ("a: [1, 2\nb: 3\n", 2, "not closed"),
        ("a: &x {b: 1}\nc: *x\n", 2, "repeat the section"),
        ("a: 1\n---\nb: 2\n", 2, "one document"),
        ("a: 1\nb: \x07\n", 2, "is not allowed in YAML"),
        ("a: 1\nb: !!python/name:os.system\n", 2, "remove the tag"),
        ("a: 1\nb: 2\na: 3\n", 3, "first on line 1"),
        ("? [1, 2]\n: 3\n", 1, "a key is one word"),
    ],
)
def test_what_the_text_alone_shows_is_told_with_its_line(text: str, line: int, said: str) -> None:
    problems = yaml_text.read(text).problems
    assert [problem.line for problem in problems] == [line]
    assert said in problems[0].text


def test_every_tab_is_told_and_a_tab_inside_a_text_is_none_of_them() -> None:
    assert [p.line for p in yaml_text.read("a:\n\tb: 1\n\tc: 2\n").problems] == [2, 3]
    assert not yaml_text.read('a: "x\ty"\n').problems
