"""What a change of the data runs again, and what it does not."""

from pathlib import Path

from finished_build import Finished, built
from tiny_build import rows, write_rows

from edgedistill import pipeline
from edgedistill.recipe_file import load


def test_a_further_challenge_set_does_not_fit_the_teacher_anew(finished: Finished, tmp_path: Path) -> None:
    copy = finished.copied(tmp_path)
    write_rows(copy.recipe.parent / "more.jsonl", rows(40, seed=77))
    text = copy.recipe.read_text(encoding="utf-8")
    more = text.replace("  challenge:\n", "  challenge:\n    more: {source: jsonl, file: more.jsonl}\n")
    assert more != text
    copy.recipe.write_text(more, encoding="utf-8")
    ended = built(copy, verb="distill")
    assert ended.returncode == 0, ended.stderr
    assert "] corpus: done" in ended.stderr
    assert "] teacher: cached" in ended.stderr
    assert "] signals: done" in ended.stderr


def test_other_texts_to_learn_from_fit_the_teacher_anew(finished: Finished, tmp_path: Path) -> None:
    copy = finished.copied(tmp_path)
    before = copy.stage("teacher")
    write_rows(copy.recipe.parent / "train.jsonl", rows(240, seed=5))
    (planned,) = [
        stage for stage in pipeline.plan(load(copy.recipe), copy.recipe.parent, copy.out) if stage.stage == "teacher"
    ]
    assert not planned.finished
    assert built(copy, verb="distill").returncode == 0
    assert copy.stage("teacher") != before


def test_further_seeds_train_controls_anew_and_leave_the_shipped_student_alone(
    finished: Finished, tmp_path: Path
) -> None:
    copy = finished.copied(tmp_path)
    text = copy.recipe.read_text(encoding="utf-8")
    copy.recipe.write_text(text.replace("distill: {", "distill: {seeds: 2, "), encoding="utf-8")
    planned = {stage.stage: stage.finished for stage in pipeline.plan(load(copy.recipe), copy.recipe.parent, copy.out)}
    assert [name for name, done in planned.items() if not done] == ["controls", "benchmark", "report"]
