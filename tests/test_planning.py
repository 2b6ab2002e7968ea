"""A plan guesses what never ran, and remembers what did."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from finished_build import Finished
from tiny_artifact import write_checkpoint
from tiny_build import HEADED_RECIPE, RECIPE, write_headed_recipe, write_recipe
from tiny_decoders import documents, write_decoder

from edgedistill import pipeline, planning
from edgedistill.errors import ModelError
from edgedistill.files import size_of
from edgedistill.recipe import Recipe
from edgedistill.recipe_file import load


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"))


def planned(file: Path, out: Path) -> dict[str, planning.PlannedStage]:
    return {stage.stage: stage for stage in pipeline.plan(load(file), file.parent, out)}


DECODER_RECIPE = """\
name: tiny
licence: MIT
task: {kind: text_generation, max_length: 48}
teacher: {kind: transformers, licence: MIT, model: {path: teacher}, fit: {method: full, epochs: 8}}
data: {train: {source: jsonl, file: train.jsonl, label: null}}
student: {kind: layers, layers: 1}
distill: {epochs: 9}
quantize: [{method: onnx_int8}]
export: [{format: onnx_genai}]
"""


def test_a_first_plan_guesses_every_stage_and_writes_nothing(recipe: Path, tmp_path: Path) -> None:
    stages = planned(recipe, tmp_path / "runs")
    assert list(stages) == [
        "corpus", "teacher", "signals", "tokens", "student", "controls", "quantize-dynamic_int8", "export-onnx",
        "benchmark", "report",
    ]  # fmt: skip
    for stage in stages.values():
        assert not stage.finished
        assert not stage.why
        assert stage.seconds is not None
        assert stage.seconds > 0
        assert stage.bytes is not None
        assert stage.bytes > 0
    assert not (tmp_path / "runs").exists()


def test_a_plan_after_a_build_says_what_was_measured(finished: Finished) -> None:
    for stage in planned(finished.recipe, finished.out).values():
        assert stage.finished
        assert stage.folder == finished.stage(stage.stage)
        assert stage.seconds == json.loads((stage.folder / "took.json").read_text(encoding="utf-8"))["seconds"]
        assert stage.bytes == size_of(stage.folder)


def test_a_stage_that_would_run_again_costs_what_the_newest_of_its_name_did(finished: Finished, tmp_path: Path) -> None:
    copy = finished.copied(tmp_path)
    old = copy.stage("student")
    copy.edit(("epochs: 6", "epochs: 7"))
    after = planned(copy.recipe, copy.out)["student"]
    assert not after.finished
    assert after.why == ("distill.epochs: 6 -> 7",)
    assert after.seconds == json.loads((old / "took.json").read_text(encoding="utf-8"))["seconds"]
    assert after.bytes == size_of(old)


def test_the_newest_counts_and_an_unfinished_one_does_not(tmp_path: Path) -> None:
    for age, (name, seconds, finished) in enumerate([("s-1", 1.0, True), ("s-2", 2.0, True), ("s-3", 3.0, False)]):
        (tmp_path / name).mkdir()
        (tmp_path / name / "took.json").write_text(json.dumps({"seconds": seconds}), encoding="utf-8")
        if finished:
            (tmp_path / name / "result.json").write_text("{}", encoding="utf-8")
        os.utime(tmp_path / name, (age, age))
    assert planning.cost(tmp_path / "s-0", "s", (9.0, 9))[0] == 2.0
    assert planning.cost(tmp_path / "s-1", "s", (9.0, 9))[0] == 1.0, "its own time, where it ran itself"
    assert planning.cost(tmp_path / "t-0", "t", (9.0, 9)) == (9.0, 9)
    assert planning.cost(tmp_path / "t-0", "t", None) == (None, None)


@pytest.mark.parametrize(
    ("old", "new", "grown"),
    [
        ("fit: {method: full, epochs: 3", "fit: {method: full, epochs: 300", {"teacher"}),
        ("distill: {epochs: 6", "distill: {epochs: 600", {"student", "controls"}),
        ("distill: {epochs: 6", "distill: {augment: {copies: 30}, epochs: 6", {"signals", "student"}),
        ("distill: {epochs: 6", "distill: {augment: {}, seeds: 2, epochs: 6", {"signals", "student", "controls"}),
    ],
)
def test_more_work_is_guessed_to_take_longer(recipe: Path, old: str, new: str, grown: set[str]) -> None:
    def guesses(text: str) -> dict[str, tuple[float, int]]:
        file = recipe.with_name("changed.yaml")
        file.write_text(text, encoding="utf-8")
        read: Recipe = load(file)
        return planning.guesses(read, file.parent, pipeline.anatomy(read, file.parent))

    before, after = guesses(RECIPE), guesses(RECIPE.replace(old, new))
    assert RECIPE.replace(old, new) != RECIPE
    assert {name for name in before if after[name][0] > before[name][0]} == grown


@pytest.mark.parametrize(
    ("old", "new", "grown"),
    [
        ("epochs: 2}", "epochs: 200}", {"search"}),
        ("[1]", "[1, 2, 3]", {"search"}),
        ("copies: 1", "copies: 90", {"augment", "signals", "search", "student"}),
    ],
)
def test_a_search_costs_its_trials_and_further_texts_cost_those_who_read_them(
    recipe: Path, old: str, new: str, grown: set[str]
) -> None:
    both = RECIPE.replace(
        "{epochs: 6", "{search: {temperatures: [1], epochs: 2}, augment: {copies: 1, seed: 3}, epochs: 6"
    )

    def seconds(text: str) -> dict[str, float]:
        file = recipe.with_name("changed.yaml")
        file.write_text(text, encoding="utf-8")
        return {name: stage.seconds or 0.0 for name, stage in planned(file, recipe.parent / "runs").items()}

    before, after = seconds(both), seconds(both.replace(old, new, 1))
    assert min(before.values()) > 0, "every stage is guessed"
    assert {name for name in before if after[name] > before[name]} == grown


def counted(folder: Path) -> int:
    """Return the parameters that a checkpoint's file holds."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", framework="np") as opened:
        return sum(opened.get_tensor(name).size for name in opened.keys())  # noqa: SIM118 - no mapping


def test_teacher_and_student_are_counted_before_they_exist(finished: Finished) -> None:
    read = load(finished.recipe)
    teacher, student = pipeline.anatomy(read, finished.recipe.parent)
    made: dict[str, Any] = {name: finished.value(name) for name in ("teacher", "student")}
    assert teacher.parameters == made["teacher"].parameters == counted(made["teacher"].path(made["teacher"].checkpoint))
    assert student.parameters == made["student"].parameters == counted(made["student"].path(made["student"].checkpoint))
    assert student.flops_per_token == made["student"].flops_per_token


def test_a_teacher_with_a_head_and_a_student_with_layers_are_counted(tmp_path: Path) -> None:
    file = write_headed_recipe(tmp_path, HEADED_RECIPE)
    teacher, student = pipeline.anatomy(load(file), tmp_path)
    assert teacher.parameters == counted(tmp_path / "headed")
    assert student.parameters < teacher.parameters < 2 * student.parameters


def test_a_teacher_that_is_not_there_is_told(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE, encoding="utf-8")
    with pytest.raises(ModelError, match="teacher is not a directory"):
        pipeline.anatomy(load(file), tmp_path)


@pytest.mark.parametrize(
    ("options", "most"),
    [("vocabulary: {size: 50}", 50), ("vocabulary: {min_count: 1}", 128), ("vocabulary: null", 128)],
)
def test_a_trimmed_student_is_counted_as_large_as_it_can_become(tmp_path: Path, options: str, most: int) -> None:
    file = write_recipe(tmp_path, RECIPE.replace("hidden_size: 8}", f"hidden_size: 8, {options}}}"))
    _, student = pipeline.anatomy(load(file), tmp_path)
    assert student.vocab_size == most
    assert student.parameters == most * 16 + 16 * 8 + 8 + 8 * 2 + 2
    assert student.name == ("student" if "null" in options else f"student, with at most {most} tokens")


def test_a_students_own_checkpoint_is_counted(tmp_path: Path) -> None:
    own = "student: {kind: pretrained, licence: MIT, model: {path: headed}, embedding_rank: 8}"
    file = write_recipe(tmp_path, RECIPE.replace("student: {kind: static, dimensions: 16, hidden_size: 8}", own))
    write_checkpoint(tmp_path / "headed")
    teacher, student = pipeline.anatomy(load(file), tmp_path)
    assert student.parameters == counted(tmp_path / "headed") - 128 * 64 + 8 * (128 + 64)
    assert student.layers == teacher.layers == 2


@pytest.mark.parametrize(
    ("old", "new", "cheaper"),
    [
        ("epochs: 9", "epochs: 9, controls: false", {"controls"}),
        ("epochs: 9", "epochs: 3", {"student", "controls"}),
        ("epochs: 8}", "epochs: 2}", {"teacher"}),
        ("max_length: 48", "max_length: 48, train_tokens: 500", {"teacher", "signals", "student", "controls"}),
    ],
)
def test_less_work_of_a_language_model_is_guessed_to_be_less(
    tmp_path: Path, old: str, new: str, cheaper: set[str]
) -> None:
    write_decoder(tmp_path / "teacher")
    lines = "".join(json.dumps({"text": text}) + "\n" for text in documents(60))
    (tmp_path / "train.jsonl").write_text(lines, encoding="utf-8")

    def seconds(text: str) -> dict[str, float]:
        file = tmp_path / "recipe.yaml"
        file.write_text(text, encoding="utf-8")
        read: Recipe = load(file)
        guessed = planning.guesses(read, tmp_path, pipeline.anatomy(read, tmp_path))
        return {name: guess for name, (guess, _) in guessed.items()}

    before, after = seconds(DECODER_RECIPE), seconds(DECODER_RECIPE.replace(old, new))
    assert {name for name in before if after[name] < before[name]} == cheaper
