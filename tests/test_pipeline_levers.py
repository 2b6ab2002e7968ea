"""Search and augmentation are stages of their own where a recipe asks for them, and not there where it does not."""

import re
from pathlib import Path
from typing import Any

import pytest
from finished_build import called, contents
from tiny_build import RECIPE, write_recipe

from edgedistill import pipeline
from edgedistill.distill import controls, stage
from edgedistill.distill.mixture import with_best
from edgedistill.recipe_file import load
from edgedistill.run import Run
from edgedistill.stages import Stage
from edgedistill.student_values import Search
from edgedistill.training.signals import SplitSignals
from edgedistill.values import Corpus, Signals, Student

NEW = Run(Path("no-such-run"))
BOTH = RECIPE.replace(
    "distill: {epochs: 6",
    "distill: {search: {temperatures: [2, 8], soft_weights: [0.5], epochs: 2}, augment: {copies: 1}, epochs: 4",
)
LATER = {"quantize-dynamic_int8", "export-onnx", "benchmark", "report"}
LEARNERS = {"student", "controls"} | LATER


def named(folder: Path, text: str) -> dict[str, Stage]:
    file = folder / "named.yaml"
    file.write_text(text, encoding="utf-8")
    return pipeline.stages(load(file), folder, NEW)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("levers"), BOTH)


def test_they_stand_where_they_are_needed_and_only_where_they_are_asked_for(written: Path) -> None:
    assert list(named(written.parent, BOTH))[:8] == [
        "corpus", "teacher", "augment", "signals", "tokens", "search", "student", "controls",
    ]  # fmt: skip
    assert not {"augment", "search"} & named(written.parent, RECIPE).keys()
    off = RECIPE.replace("distill: {epochs: 6", "distill: {search: null, augment: null, epochs: 6")
    assert not {"augment", "search"} & named(written.parent, off).keys()


@pytest.mark.parametrize(
    ("old", "new", "again"),
    [
        ("epochs: 2}", "epochs: 3}", {"search"} | LEARNERS),
        ("soft_weights: [0.5]", "soft_weights: [0.6]", {"search"} | LEARNERS),
        ("epochs: 4", "epochs: 5", LEARNERS),  # the trials have their own
        ("epochs: 4", "epochs: 4, patience: 9", LEARNERS),
        ("epochs: 4", "epochs: 4, seed: 9", {"search"} | LEARNERS),
        ("epochs: 4", "epochs: 4, controls: false", {"controls", "benchmark", "report"}),
        ("copies: 1", "copies: 2", {"augment", "signals", "tokens", "search"} | LEARNERS),
        ("fit: {method: full, epochs: 3", "fit: {method: full, epochs: 2",
         {"teacher", "augment", "signals", "tokens", "search"} | LEARNERS),
    ],
)  # fmt: skip
def test_a_changed_line_runs_again_what_depends_on_it_and_nothing_else(
    written: Path, old: str, new: str, again: set[str]
) -> None:
    assert old in BOTH
    before, after = named(written.parent, BOTH), named(written.parent, BOTH.replace(old, new, 1))
    assert {name for name in before if after[name].fingerprint != before[name].fingerprint} == again


def lettered(folder: Path) -> None:
    """Make words of letters of the tiny recipe's words, which have digits and so are no words to be replaced."""
    letters = str.maketrans("0123456789", "abcdefghij")
    for file in (folder / "train.jsonl", folder / "other.jsonl", folder / "teacher" / "tokenizer.json"):
        text = re.sub(r"\bw\d+\b", lambda found: f"w{found[0][1:].translate(letters)}", file.read_text("utf-8"))
        file.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return recipe and runs of a build that ended after its distillation."""
    folder = tmp_path_factory.mktemp("levers_built")
    file = write_recipe(folder / "recipe", BOTH)
    lettered(file.parent)
    ended = called(file, folder / "runs", "distill")
    assert ended.exit_code == 0, ended.output
    return file, folder / "runs"


def value(built: tuple[Path, Path], name: str, kind: Any) -> Any:
    file, out = built
    run = Run(out / "tiny")
    return kind.load(run.folder_of(name, pipeline.stages(load(file), file.parent, run)[name].needs))


def test_teacher_and_student_read_the_further_texts_and_the_teachers_fit_does_not(built: tuple[Path, Path]) -> None:
    corpus, augmented = value(built, "corpus", Corpus), value(built, "augment", Corpus)
    signals, student = value(built, "signals", Signals), value(built, "student", Student)
    assert augmented.augmentation is not None
    assert corpus.augmentation is None
    rows = augmented.splits["train"].rows
    assert rows == signals.splits["train"].rows == student.training.rows > 1.5 * corpus.splits["train"].rows
    assert (SplitSignals(signals, "train").labels < 0).sum() == augmented.augmentation.rows


def test_student_and_control_are_trained_with_what_the_search_chose(
    built: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = built
    found = value(built, "search", Search)
    assert [(trial.temperature, trial.soft_weight) for trial in found.trials] == [(2.0, 0.9), (2.0, 0.5), (8.0, 0.5)]
    given = []

    def learning(options: Any, *_: Any, **__: Any) -> None:
        given.append(options)
        raise KeyboardInterrupt

    recipe = load(file)
    for name, module in (("student", stage), ("controls", controls)):
        other = Run(out / "tiny").folder_of(name, pipeline.stages(recipe, file.parent, Run(out / "tiny"))[name].needs)
        result = (other / "result.json").rename(other / "kept.json")
        monkeypatch.setattr(module, {"student": "distill", "controls": "control"}[name], learning)
        with pytest.raises(KeyboardInterrupt):
            pipeline.build(recipe, file.parent, out, "distill")
        result.rename(other / "result.json")
    assert given == [with_best(recipe.distill, found)] * 2


def test_a_second_build_has_nothing_to_do(built: tuple[Path, Path]) -> None:
    file, out = built
    before = contents(out / "tiny" / "stages")
    assert all(one.finished for one in pipeline.plan(load(file), file.parent, out) if one.verb == "distill")
    assert called(file, out, "distill").exit_code == 0
    assert contents(out / "tiny" / "stages") == before
