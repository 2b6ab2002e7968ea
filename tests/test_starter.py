"""What init writes is valid, fits what lies there, and never replaces a file."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from edgedistill import glance, recipe_file, starter, surroundings
from edgedistill.errors import DataError, ModelError, RecipeError
from edgedistill.recipe import Recipe

ROWS = [
    {"id": number, "review": f"the {word} film number {number}", "sentiment": label}
    for number in range(30)
    for word, label in (("good", "positive"), ("bad", "negative"))
]


def write_data(file: Path, rows: list[dict[str, Any]]) -> Path:
    if file.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    elif file.suffix in (".csv", ".tsv"):
        with file.open("w", encoding="utf-8", newline="") as out:
            writer = csv.DictWriter(out, list(rows[0]), delimiter="\t" if file.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def write_teacher(folder: Path, labels: tuple[str, ...] | None = None, **config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if labels is not None:
        config |= {"architectures": ["BertForSequenceClassification"], "id2label": dict(enumerate(labels))}
    config = {"model_type": "bert", "vocab_size": 99, "hidden_size": 8, "num_hidden_layers": 2} | config
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file({"a": np.zeros(1)}, folder / "model.safetensors")
    return folder


def written(folder: Path, teacher: Path, data: Path) -> tuple[Recipe, str]:
    out = folder / "recipes" / "first.yaml"
    starter.write(str(teacher), data, out)
    return recipe_file.load(out), out.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["d.jsonl", "d.csv", "d.tsv", "d.parquet"])
def test_it_is_valid_short_and_points_at_what_lies_there(tmp_path: Path, name: str) -> None:
    teacher, data = write_teacher(tmp_path / "models" / "mini"), write_data(tmp_path / name, ROWS)
    recipe, text = written(tmp_path, teacher, data)
    assert len(text.splitlines()) < 60
    assert (tmp_path / "recipes" / recipe.data.train.file).resolve() == data  # type: ignore[attr-defined]
    assert (tmp_path / "recipes" / recipe.teacher.model.path).resolve() == teacher  # type: ignore[attr-defined]
    assert recipe.data.train.text == "review"  # type: ignore[attr-defined]
    assert recipe.data.train.label == "sentiment"  # type: ignore[attr-defined]
    assert recipe.task.labels == ("negative", "positive")  # type: ignore[attr-defined]
    assert "60 rows" in text


def test_a_headless_teacher_is_fitted(tmp_path: Path) -> None:
    data = write_data(tmp_path / "d.jsonl", ROWS)
    recipe, _ = written(tmp_path, write_teacher(tmp_path / "t"), data)
    assert recipe.teacher.fit.method == "full"  # type: ignore[attr-defined]


def test_a_head_for_these_labels_is_kept_in_its_own_order(tmp_path: Path) -> None:
    data = write_data(tmp_path / "d.jsonl", ROWS)
    recipe, _ = written(tmp_path, write_teacher(tmp_path / "t", ("positive", "negative")), data)
    assert recipe.teacher.fit is None  # type: ignore[attr-defined]
    assert recipe.task.labels == ("positive", "negative")  # type: ignore[attr-defined]


def numbered(count: int) -> list[dict[str, Any]]:
    return [{"text": f"text number {i}", "label": i % count} for i in range(3 * count)]


@pytest.mark.parametrize("count", [2, 3, 40])
def test_numbers_are_read_as_indices_of_the_head_which_stays(tmp_path: Path, count: int) -> None:
    names = tuple(f"class {'abc'[i % 3]}{i}" for i in range(count))
    data, teacher = write_data(tmp_path / "d.jsonl", numbered(count)), write_teacher(tmp_path / "t", names)
    recipe, text = written(tmp_path, teacher, data)
    surroundings.load(tmp_path / "recipes" / "first.yaml")
    assert recipe.teacher.fit is None  # type: ignore[attr-defined]
    assert recipe.task.labels == (names if count <= starter.MOST_LABELS_LISTED else None)  # type: ignore[attr-defined]
    assert "the data's numbers are read as indices" in text
    assert "read as indices of 'class a0'" in starter.write(str(teacher), data, tmp_path / "again.yaml")


def test_names_that_transformers_leaves_out_are_a_head_too(tmp_path: Path) -> None:
    teacher = write_teacher(tmp_path / "t", architectures=["BertForSequenceClassification"])
    recipe, _ = written(tmp_path, teacher, write_data(tmp_path / "d.jsonl", numbered(2)))
    assert recipe.teacher.fit is None  # type: ignore[attr-defined]
    assert recipe.task.labels == ("LABEL_0", "LABEL_1")  # type: ignore[attr-defined]


@pytest.mark.parametrize("names", [("x", "y", "z"), ("1", "x")])
def test_numbers_that_are_no_indices_of_the_head_are_names(tmp_path: Path, names: tuple[str, ...]) -> None:
    data = write_data(tmp_path / "d.jsonl", numbered(2))
    recipe, _ = written(tmp_path, write_teacher(tmp_path / "t", names), data)
    assert recipe.teacher.fit is not None  # type: ignore[attr-defined]
    assert recipe.task.labels == ("0", "1")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("POSITIVE", "Negative"), "these labels in other letters (data: {data}; teacher: {teacher}); to keep"),
        (("joy", "anger"), "knows other labels (data: {data}; teacher: {teacher}); a new head is fitted first"),
        (("positive", "negative", "neutral"), "knows other labels (data: {data}; teacher: {teacher})"),
    ],
)
def test_a_head_that_is_not_kept_is_told_with_both_sets_of_labels(
    tmp_path: Path, names: tuple[str, ...], said: str
) -> None:
    data, teacher = write_data(tmp_path / "d.jsonl", ROWS), write_teacher(tmp_path / "t", names)
    told = starter.write(str(teacher), data, tmp_path / "first.yaml")
    lists = {"data": "'negative', 'positive'", "teacher": ", ".join(map(repr, names))}
    assert said.format(**lists) in told
    assert "\n" not in told
    assert "has no head" not in told
    text = (tmp_path / "first.yaml").read_text(encoding="utf-8")
    assert lists["teacher"] in text
    recipe = recipe_file.load(tmp_path / "first.yaml")
    assert recipe.teacher.fit is not None  # type: ignore[attr-defined]
    surroundings.load(tmp_path / "first.yaml")


def test_a_directory_without_weights_is_refused(tmp_path: Path) -> None:
    teacher = write_teacher(tmp_path / "t", ("a", "b"))
    (teacher / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"has no \.safetensors weights"):
        glance.at_teacher(str(teacher))
    (teacher / "pytorch_model.bin").touch()
    with pytest.raises(ModelError, match="as a pickle"):
        glance.at_teacher(str(teacher))


def test_the_longest_input_is_one_that_the_teacher_can_read(tmp_path: Path) -> None:
    teacher = write_teacher(tmp_path / "t", max_position_embeddings=66, model_type="roberta")
    recipe, _ = written(tmp_path, teacher, write_data(tmp_path / "d.jsonl", ROWS))
    assert recipe.task.max_length == 64  # type: ignore[attr-defined]


def test_a_head_for_other_labels_is_replaced(tmp_path: Path) -> None:
    data = write_data(tmp_path / "d.jsonl", ROWS)
    recipe, _ = written(tmp_path, write_teacher(tmp_path / "t", ("joy", "anger")), data)
    assert recipe.teacher.fit is not None  # type: ignore[attr-defined]
    assert recipe.task.labels == ("negative", "positive")  # type: ignore[attr-defined]


def test_texts_without_labels_learn_from_the_teacher_alone(tmp_path: Path) -> None:
    data = tmp_path / "d.txt"
    data.write_text("one text\n\nanother text\n", encoding="utf-8")
    out = tmp_path / "first.yaml"
    starter.write(str(write_teacher(tmp_path / "t", ("a", "b"))), data, out)
    with pytest.raises(RecipeError, match="nothing could be measured") as told:
        recipe_file.load(out)
    assert [line.split(": ")[1] for line in str(told.value).splitlines()] == ["data.test", "data.validation"]
    text = out.read_text(encoding="utf-8").replace("# validation:", "validation:").replace("# test:", "test:")
    out.write_text(text, encoding="utf-8")
    assert [loss.loss for loss in recipe_file.load(out).distill.losses] == ["forward_kl"]
    assert "2 rows" in text
    with pytest.raises(DataError, match="nothing says what to learn"):
        starter.write(str(write_teacher(tmp_path / "headless")), data, tmp_path / "other.yaml")


def test_odd_names_and_labels_survive(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": ("yes: no", "true", "1", 'it\'s, "so"')[i % 4]} for i in range(40)]
    folder = tmp_path / "a folder, with: signs"
    recipe, _ = written(tmp_path, write_teacher(folder), write_data(tmp_path / "d #1.jsonl", rows))
    assert recipe.task.labels == ("1", 'it\'s, "so"', "true", "yes: no")  # type: ignore[attr-defined]
    assert recipe.name == "d-1"
    assert recipe.teacher.model.path == "../a folder, with: signs"  # type: ignore[attr-defined]


def test_the_teachers_licence_and_length_are_taken_over(tmp_path: Path) -> None:
    teacher = write_teacher(tmp_path / "t", max_position_embeddings=64)
    (teacher / "README.md").write_text("---\ntags: [a]\nlicense: apache-2.0\n---\nlicense: none\n", encoding="utf-8")
    recipe, _ = written(tmp_path, teacher, write_data(tmp_path / "d.jsonl", ROWS))
    assert recipe.licence == "apache-2.0"
    assert recipe.task.max_length == 64  # type: ignore[attr-defined]


def test_a_file_is_never_replaced(tmp_path: Path) -> None:
    out = tmp_path / "mine.yaml"
    out.write_text("mine", encoding="utf-8")
    with pytest.raises(RecipeError, match="exists and is not overwritten"):
        starter.write(str(write_teacher(tmp_path / "t")), write_data(tmp_path / "d.jsonl", ROWS), out)
    assert out.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("d.xlsx", b"x", "ends in none of"),
        ("d.jsonl", b"", "holds no rows"),
        ("d.jsonl", b'{"text": "a"}\nnot json\n', "d.jsonl:2: not JSON"),
        ("d.jsonl", b"[1]\n", "a JSON list, not an object"),
        ("d.jsonl", b'{"number": 1}\n', "no column of texts; its columns: number"),
        ("d.csv", "text,label\ncafé,a\n".encode("latin-1"), "is not UTF-8"),
        ("d.parquet", b"PAR1 no", "cannot be read as parquet"),
    ],
)
def test_data_that_cannot_be_used_is_told(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(DataError, match=said):
        glance.at_data(file)


@pytest.mark.parametrize("reference", ["nowhere", "a/b/c", "org/name with space"])
def test_a_teacher_that_is_neither_directory_nor_hub_id_is_told(reference: str) -> None:
    with pytest.raises(ModelError, match="neither a directory, a GGUF file nor a hub id"):
        glance.at_teacher(reference)


def test_a_directory_without_a_config_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        glance.at_teacher(str(tmp_path))


def test_a_hub_id_is_looked_up_and_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked = []

    def download(repository: str, file: str, revision: str | None) -> str:
        asked.append((repository, file, revision))
        return str(write_teacher(tmp_path / "0123abcd", ("a", "b")) / "config.json")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert glance.at_teacher("org/name").model == {"hub": "org/name", "revision": "0123abcd"}
    assert glance.at_teacher("org/name@v1").labels == ("a", "b")
    assert asked == [("org/name", "config.json", None), ("org/name", "config.json", "v1")]


def test_a_free_text_column_is_not_taken_for_labels(tmp_path: Path) -> None:
    rows = [{"body": f"a long text number {i}", "author": f"person {i}"} for i in range(30)]
    found = glance.at_data(write_data(tmp_path / "d.jsonl", rows))
    assert (found.text, found.label) == ("body", None)
