"""A recipe's problems are told all at once, each at its line with its cure; a good recipe survives a dump."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recipe_texts import GOOD

from edgedistill import recipe_file, registry
from edgedistill.errors import RecipeError
from edgedistill.recipe import Recipe

RECIPES = sorted((Path(__file__).parent.parent / "recipes").rglob("*.yaml"))


def load(folder: Path, text: str) -> Recipe:
    file = folder / "recipe.yaml"
    file.write_text(text, encoding="utf-8")
    return recipe_file.load(file)


def problems(folder: Path, text: str) -> list[str]:
    """Return the problems of a recipe without the folder's name, `line: key: text`."""
    with pytest.raises(RecipeError) as caught:
        load(folder, text)
    lines = str(caught.value).splitlines()
    prefix = f"{folder / 'recipe.yaml'}:"
    assert all(line.startswith(prefix) for line in lines)
    return [line.removeprefix(prefix) for line in lines]


@pytest.mark.parametrize(
    ("old", "new", "at", "key", "said"),
    [
        ("name: tiny", "name: Tiny One", "Tiny One", "name", "'Tiny One' does not match"),
        ("version: 1.2.3", "version: 1.2", "version", "version", "1.2 is not text; put it in quotes"),
        ("licence: MIT\n", "", "name: tiny", "licence", "is missing"),
        ("distill:", "distil:", "distil:", "distil", "unknown key; did you mean 'distill'?"),
        ("epochs: 2", "epoch: 2", "epoch: 2", "distill.epoch", "did you mean 'epochs'?"),
        ("epochs: 2", "epochs: 0", "epochs: 0", "distill.epochs", "0 is too small; it must be at least 1"),
        ("epochs: 2", "epochs: two", "epochs: two", "distill.epochs", "'two' is no whole number"),
        ("epochs: 2", "epochs: 2.5", "epochs: 2.5", "distill.epochs", "2.5 is no whole number"),
        ("epochs: 2", "epochs: true", "epochs: true", "distill.epochs", "true is no number"),
        ("epochs: 2", "epochs: [2]", "epochs: [2]", "distill.epochs", "[2] is no whole number"),
        ("epochs: 2", "epochs: 2\n  epochs: 3", "epochs: 3", "distill.epochs", "is given twice"),
        ("1e-3", "fast", "fast", "distill.learning_rate", "'fast' is no number"),
        ("controls: true", "controls: perhaps", "perhaps", "distill.controls", "neither true nor false"),
        ("temperature: 2.0", "temperature: 50", "50", "distill.losses[0].temperature", "must be at most 20"),
        ("loss: forward_kl", "loss: forward", "forward,", "distill.losses[0].loss", "did you mean 'forward_kl'?"),
        ("method: dynamic_int8", "method: int9", "int9", "quantize[0].method", "choose one of:"),
        ("{method: dynamic_int8}", "dynamic_int8", "- dynamic", "quantize[0]", "needs 'method', one of:"),
        ("{format: onnx}", "{format: onnx, opsett: 18}", "opsett", "export[0].opsett", "did you mean 'opset'?"),
        ("method: head,", "method: heads,", "heads", "teacher.fit.method", "choose 'full' or 'head'"),
        ("revision: abc123", "revison: abc123", "revison", "teacher.model.revison", "did you mean 'revision'?"),
        (", revision: abc123", "", "org/teacher", "teacher.model", "hub needs it"),
        ("file: tweets.jsonl", "fil: tweets.jsonl", "fil:", "data.challenge.tweets.fil", "did you mean 'file'?"),
        ("    tweets:", "    My Tweets:", "My Tweets", "data.challenge.My Tweets", "cannot be a name"),
        (
            "kind: static, dimensions: 64",
            "kind: layers, layers: [0, -1]",
            "layers, layers",
            "student.layers[1]",
            "at least 0",
        ),
        (
            "kind: static, dimensions: 64",
            "kind: layers, layers: two",
            "two",
            "student.layers",
            "'two' is no whole number",
        ),
        ("{kind: static, dimensions: 64}", "static", "student", "student", "needs 'kind', one of:"),
        ("benchmark: {threads: 1}", "benchmark: {target: toaster}", "toaster", "benchmark.target", "unknown target"),
        ("benchmark: {threads: 1}", "benchmark: 3", "benchmark", "benchmark", "3 is no section"),
        ("[negative, positive]", "[a, b, a]", "[a, b", "task.labels", "names 'a' more than once; name each label once"),
        ("[negative, positive]", "[a, '']", "[a,", "task.labels", "holds an empty label, which in data means"),
        ("[negative, positive]", "[only]", "[only]", "task.labels", "has 1 label(s); a classifier tells at least two"),
        ("[negative, positive]", "['1', 2]", "['1'", "task.labels[1]", "2 is not text; put it in quotes"),
        ("10 MB", "10 MX", "10 MX", "budget.max_file_bytes", "no whole number"),
        ("  - {format: onnx}", "  []", "export", "export", "names no format"),
    ],
)
def test_one_mistake_is_one_problem_at_its_line(
    tmp_path: Path, old: str, new: str, at: str, key: str, said: str
) -> None:
    assert GOOD.count(old) == 1
    text = GOOD.replace(old, new)
    found = problems(tmp_path, text)
    expected = [f"{number}: {key}: " for number, line in enumerate(text.splitlines(), 1) if at in line]
    about = [line for line in found if said in line]
    assert len(about) == 1, found
    assert about[0].startswith(expected[0])
    others = {line for line in found if line not in about}
    assert all("is missing" in line for line in others), "a misspelt required key is also a missing one, nothing more"


def test_all_problems_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = GOOD.replace("name: tiny", "name: T").replace("epochs: 2", "epochs: 0").replace("threads", "treads")
    found = problems(tmp_path, text)
    assert [line.split(": ")[1] for line in found] == ["name", "distill.epochs", "benchmark.treads"]


def test_a_typo_elsewhere_does_not_hide_what_two_sections_disagree_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = registry.load("edgedistill.teachers", "transformers").Options
    monkeypatch.setattr(options, "SIGNALS", frozenset({"labels"}))
    found = problems(tmp_path, GOOD.replace("threads", "treads"))
    assert [line.split(": ")[1] for line in found] == ["distill.losses[0].loss", "benchmark.treads"]


def test_a_secret_under_a_wrong_key_is_not_repeated(tmp_path: Path) -> None:
    found = problems(tmp_path, GOOD.replace("  licence: Apache-2.0", "  licence: Apache-2.0\n  token: abc-secret-xyz"))
    assert len(found) == 1
    assert "secret" not in found[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "is missing"), ("- a\n", "a recipe is a mapping"), ("just words\n", "a recipe is a mapping")],
)
def test_a_file_that_is_no_recipe_is_told(tmp_path: Path, text: str, said: str) -> None:
    assert all(said in line for line in problems(tmp_path, text))


def test_a_file_in_another_encoding_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_bytes(b"name: tiny\nlicence: caf\xe9\n")
    with pytest.raises(RecipeError, match=r"recipe.yaml:2: byte 0xe9 is not UTF-8; save the file as UTF-8"):
        recipe_file.load(file)


def test_a_byte_order_mark_and_windows_line_ends_are_no_problem(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert recipe_file.load(file).name == "tiny"


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        recipe_file.load(tmp_path / "none.yaml")


def test_a_value_of_many_lines_is_told_on_one(tmp_path: Path) -> None:
    assert len(problems(tmp_path, GOOD.replace("epochs: 2", "epochs: |\n    one\n    two"))) == 1


@pytest.mark.parametrize(
    ("word", "size_bytes"),
    [
        ("10 MB", 10_000_000), ("10MB", 10_000_000), ("'10MB'", 10_000_000), ("10mb", 10_000_000),
        ("10_000 kB", None), ("10000kB", 10_000_000), ("10000000", 10_000_000), ("10 MiB", 10_485_760),
        ("1.5 MiB", 1_572_864), ("1.5MiB", 1_572_864), ("10  MB", None), ("10 M B", None), ("10M", None),
    ],
)  # fmt: skip
def test_a_size_may_have_a_unit_with_or_without_a_blank(tmp_path: Path, word: str, size_bytes: int | None) -> None:
    text = GOOD.replace("10 MB", word)
    if size_bytes is None:
        assert len(problems(tmp_path, text)) == 1
    else:
        assert load(tmp_path, text).budget.max_file_bytes == size_bytes


def test_labels_may_be_numbers_in_quotes(tmp_path: Path) -> None:
    text = GOOD.replace("[negative, positive]", "['1', \"2\"]")
    assert load(tmp_path, text).task.model_dump()["labels"] == ("1", "2")


def test_a_dump_says_everything_and_loads_back_equal(tmp_path: Path) -> None:
    recipe = load(tmp_path, GOOD)
    text = recipe_file.dump(recipe)
    assert load(tmp_path, text) == recipe
    assert recipe_file.dump(load(tmp_path, text)) == text
    for default in ("weight_decay: 0.01", "near_duplicate_similarity: 0.8", "rounds: 5"):
        assert default in text
        assert default not in GOOD


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(
    words=st.lists(
        st.text(min_size=1).filter(lambda word: word.strip() and word.isprintable()),
        min_size=2,
        max_size=4,
        unique=True,
    ),
    rate=st.floats(1e-12, 1.0),
)
def test_whatever_the_words_and_numbers_a_dump_loads_back_equal(tmp_path: Path, words: list[str], rate: float) -> None:
    recipe = load(tmp_path, GOOD)
    odd = Recipe.model_validate(
        recipe.model_dump(mode="json")
        | {
            "licence": words[0],
            "task": {"kind": "text_classification", "labels": words},
            "distill": {"learning_rate": rate},
        }
    )
    assert load(tmp_path, recipe_file.dump(odd)) == odd


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.name)
def test_every_shipped_recipe_is_valid(file: Path) -> None:
    assert recipe_file.load(file).name
