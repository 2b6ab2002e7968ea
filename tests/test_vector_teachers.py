"""A teacher of sentence vectors is looked at before a build: how it pools, and how long its vectors are."""

import zipfile
from pathlib import Path

import pytest
from test_surroundings import FIT, PATH, at, problems, write
from tiny_build import RECIPE

from edgedistill.errors import ModelError
from edgedistill.models import sentence_transformers
from edgedistill.tasks import sentence_embedding
from edgedistill.teachers import transformers

VECTORS = "kind: sentence_embedding, pooling: mean"


def recipe(task: str) -> str:
    """Return the tiny recipe with this task, and without a head to be fitted."""
    return RECIPE.replace(FIT, "").replace("kind: text_classification, labels: [negative, positive]", task)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("told", [False, True])
def test_something_must_say_how_a_teacher_of_vectors_pools(tmp_path: Path, packed: bool, told: bool) -> None:
    text = recipe(VECTORS)
    (tmp_path / "named").mkdir()
    file = write(tmp_path, text.replace(", pooling: mean", ""))
    if told:
        sentence_transformers.write(tmp_path / "teacher", sentence_transformers.Steps("mean", normalize=True), 8, 8)
    if packed:
        with zipfile.ZipFile(tmp_path / "teacher.zip", "w") as archive:
            for part in (tmp_path / "teacher").rglob("*"):
                archive.write(part, part.relative_to(tmp_path))
        file.write_text(file.read_text().replace(PATH, "{archive: teacher.zip, folder: teacher}"), encoding="utf-8")
    found = problems(file)
    assert len(found) == (not told)
    assert all("task.pooling: is missing, and the teacher's folder does not say" in line for line in found)
    assert told or problems(write(tmp_path / "named", text)) == []


def test_what_a_teachers_folder_says_of_its_vectors_is_read_before_a_build(tmp_path: Path) -> None:
    text = recipe(VECTORS)
    file = write(tmp_path, text)
    (tmp_path / "teacher" / "modules.json").write_text('[{"type": "x.Transformer", "path": ""}]', encoding="utf-8")
    (found,) = problems(file)
    assert "teacher.model: " in found
    assert "has the steps Transformer; known are" in found


def test_vectors_are_no_longer_than_the_teachers(tmp_path: Path) -> None:
    longer = f"{VECTORS}, dimensions: 9"
    text = recipe(longer)
    (found,) = problems(write(tmp_path, text))
    assert found.startswith(at(text, "task:", "task.dimensions"))
    assert "9 is more than the teacher's 8 numbers; write 8 or less" in found
    file = tmp_path / "tiny.yaml"
    file.write_text(text.replace("dimensions: 9", "dimensions: 8, truncations: [4, 8]"), encoding="utf-8")
    (found,) = problems(file)
    assert "task.truncations: 8 is no shorter than the whole vector of 8 numbers; leave it out" in found


def test_a_teacher_with_a_prompt_of_its_own_is_refused_before_a_build(tmp_path: Path) -> None:
    file = write(tmp_path, recipe(VECTORS))
    sentence_transformers.write(tmp_path / "teacher", sentence_transformers.Steps("mean", normalize=True), 8, 8)
    settings = '{"prompts": {"query": "query: "}, "default_prompt_name": "query"}'
    (tmp_path / "teacher" / "config_sentence_transformers.json").write_text(settings, encoding="utf-8")
    (found,) = problems(file)
    assert "teacher.model: " in found
    assert "puts 'query: ' before every text" in found


@pytest.mark.parametrize("lowered", [False, True])
def test_lower_case_that_the_tokenizer_does_not_make_is_refused(tmp_path: Path, lowered: bool) -> None:
    layout = sentence_transformers
    layout.write(tmp_path, layout.Steps("mean", normalize=True), 8, 8)
    (tmp_path / layout.READING).write_text('{"do_lower_case": true}', encoding="utf-8")

    def tokenizer(text: str) -> dict[str, list[int]]:
        return {"input_ids": [ord(letter) for letter in (text.lower() if lowered else text)]}

    task = sentence_embedding.Options(kind="sentence_embedding")
    said = "cannot be read" if lowered else r"in lower case \(do_lower_case\), and the tokenizer does not do it"
    with pytest.raises(ModelError, match=said):  # where it does, the next fault is that there is no checkpoint here
        transformers._embedder(tmp_path, tokenizer, task)


def test_of_a_task_that_is_not_valid_itself_no_head_is_asked_for(tmp_path: Path) -> None:
    text = RECIPE.replace(FIT, "").replace(
        "kind: text_classification, labels: [negative, positive]", "kind: sentence_embedding, poolings: 3"
    )
    (found,) = problems(write(tmp_path, text))
    assert found.startswith(at(text, "task:", "task.poolings"))
