"""What init writes for a language model is a recipe that a build would take, for the file that lies there."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from tiny_decoders import documents, write_decoder, write_gguf

from edgedistill import recipe_file, starter, surroundings
from edgedistill.errors import DataError
from edgedistill.models import gguf_header

PAIRS = [{"id": number, "Instruction": text, "response": text[:20]} for number, text in enumerate(documents(40))]
MESSAGES = [
    {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "yes"}], "id": text[:3]}
    for text in documents(40)
]
TEXTS = [{"id": "a", "speech": text} for text in documents(40)]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher") / "small"
    write_decoder(folder, intermediate_size=128, max_position_embeddings=512)
    return folder


def lines(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("rows", "source", "conversations", "keys"),
    [
        (PAIRS, "conversations", True, {"prompt": "Instruction", "answer": "response"}),
        (MESSAGES, "conversations", True, {"prompt": "prompt"}),
        (TEXTS, "jsonl", False, {"text": "speech", "label": None}),
    ],
)
def test_it_says_what_lies_in_the_file(
    tmp_path: Path, teacher: Path, rows: list[dict[str, Any]], source: str, conversations: bool, keys: dict[str, Any]
) -> None:
    out = tmp_path / "recipes" / "first.yaml"
    said = starter.write(str(teacher), lines(tmp_path / "d.jsonl", rows), out)
    recipe: Any = recipe_file.load(out)
    assert (recipe.task.kind, recipe.task.conversations) == ("text_generation", conversations)
    assert recipe.data.train.source == source
    assert {key: getattr(recipe.data.train, key) for key in keys} == keys
    assert (recipe.student.layers, recipe.student.intermediate_size) == (1, 64)
    assert "40 rows" in said
    assert "40 rows" in out.read_text(encoding="utf-8")


@pytest.mark.parametrize("rows", [PAIRS, MESSAGES, TEXTS])
def test_a_build_would_take_it(tmp_path: Path, teacher: Path, rows: list[dict[str, Any]]) -> None:
    pytest.importorskip("llama_cpp", reason="the recipe names GGUF, which the extra writes")
    starter.write(str(teacher), lines(tmp_path / "d.jsonl", rows), tmp_path / "first.yaml")
    surroundings.load(tmp_path / "first.yaml")


def test_a_gguf_file_is_a_teacher_too(tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_gguf(teacher, tmp_path / "small.gguf")
    monkeypatch.setattr(gguf_header, "metadata", lambda _: {"general.license": "mit"})
    out = tmp_path / "first.yaml"
    starter.write(str(file), lines(tmp_path / "d.jsonl", TEXTS), out)
    recipe: Any = recipe_file.load(out)
    assert (recipe.teacher.model.path, recipe.teacher.model.file) == (".", "small.gguf")
    assert recipe.teacher.licence == "mit"


def test_of_a_teacher_that_cannot_be_pruned_whole_layers_go(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=300, n_positions=512, n_embd=32, n_layer=4, n_head=2, bos_token_id=0, eos_token_id=0)
    )
    model.save_pretrained(tmp_path / "old")
    out = tmp_path / "first.yaml"
    starter.write(str(tmp_path / "old"), lines(tmp_path / "d.jsonl", TEXTS), out)
    recipe: Any = recipe_file.load(out)
    assert (recipe.student.kind, recipe.student.layers) == ("layers", 2)


def test_plain_text_and_columns_are_read_too(tmp_path: Path, teacher: Path) -> None:
    (tmp_path / "d.txt").write_text("\n".join(documents(9)), encoding="utf-8")
    for name, delimiter in (("d.csv", ","), ("d.tsv", "\t")):
        with (tmp_path / name).open("w", encoding="utf-8", newline="") as out:
            writer = csv.DictWriter(out, ["id", "speech"], delimiter=delimiter)
            writer.writeheader()
            writer.writerows(TEXTS)
    table = {"source": "csv", "text": "speech", "label": None}
    for name, keys in (
        ("d.txt", {"source": "text"}), ("d.csv", {**table, "delimiter": ","}), ("d.tsv", {**table, "delimiter": "\t"}),
    ):  # fmt: skip
        out_file = tmp_path / f"{name}.yaml"
        starter.write(str(teacher), tmp_path / name, out_file)
        recipe: Any = recipe_file.load(out_file)
        assert {key: getattr(recipe.data.train, key) for key in keys} == keys


def test_what_holds_nothing_to_learn_is_refused(tmp_path: Path, teacher: Path) -> None:
    numbers = lines(tmp_path / "numbers.jsonl", [{"a": 1}, {"a": 2}])
    with pytest.raises(DataError, match="no column of texts and no conversations"):
        starter.write(str(teacher), numbers, tmp_path / "r.yaml")
    (tmp_path / "empty.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="holds no rows"):
        starter.write(str(teacher), tmp_path / "empty.jsonl", tmp_path / "r.yaml")
    (tmp_path / "latin.txt").write_bytes("caf\u00e9".encode("latin-1"))
    with pytest.raises(DataError, match="is not UTF-8"):
        starter.write(str(teacher), tmp_path / "latin.txt", tmp_path / "r.yaml")
    assert not (tmp_path / "r.yaml").exists()
