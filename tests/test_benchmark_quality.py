from pathlib import Path

import numpy as np
import pytest

from edgedistill.benchmark.quality import Yardstick, comparisons, seeds, waterfall
from edgedistill.errors import DataError, StageError
from edgedistill.tasks._task import task_of
from edgedistill.values import Artifact, Baseline, Controls, Evaluation, Parity, ParityCheck, Repeat, Variant

SHA = "0" * 64


def logits(classes: list[int]) -> np.ndarray:
    """Return logits whose top class is the given one."""
    return np.eye(2, dtype=np.float32)[classes] * 3 - 1


GOLD = np.array([0, 1, 0, 1, 0, 1, 0, 1, -1, -1])
TEACHER = logits([0, 1, 0, 1, 0, 1, 0, 0, 1, 1])  # 7 of 8 right
STUDENT = logits([0, 1, 0, 1, 0, 1, 1, 0, 1, 0])  # 6 of 8 right, 2 of 10 unlike the teacher
WORSE = logits([0, 1, 0, 1, 0, 0, 1, 0, 1, 0])  # 5 of 8 right, 1 of 10 unlike the student


@pytest.fixture
def yardstick() -> Yardstick:
    return Yardstick(task_of("text_classification"), {"test": GOLD}, {"test": TEACHER}, {"test": STUDENT})


def artifact(names: tuple[str, ...]) -> Artifact:
    check = ParityCheck(max_abs_diff=0, tolerance=None, top1_agreement=1, inputs=1, worst="none")
    proof = Parity(exact=check, deployed=check, weights_bit_equal=True, tokenizer_texts=1)
    variants = [
        Variant(
            name=name, scheme=name, file=f"{name}.onnx", sha256=SHA, size_bytes=1, opset=18, ir_version=8,
            exporter="x", exporters_refused=(), parity=proof,
        )
        for name in names
    ]  # fmt: skip
    return Artifact(
        format="onnx", runtime="onnxruntime", root="a", variants=variants, shared_files={}, shared_bytes=0,
        teacher=None, teacher_root=None, recipe_sha256=SHA,
    )  # fmt: skip


def test_rows_without_a_label_count_for_agreement_and_not_for_the_metric(yardstick: Yardstick) -> None:
    found = yardstick.quality({"test": STUDENT})["test"]
    assert (found.metric.n, found.metric.value) == (8, 6 / 8)
    assert (found.teacher_agreement.n, found.teacher_flips) == (10, 2)
    assert found.retained is not None
    assert found.retained.value == pytest.approx(6 / 7)
    assert (found.student_flips, found.student_agreement and found.student_agreement.value) == (0, 1)


def test_flips_and_agreement_are_two_sides_of_one_count(yardstick: Yardstick) -> None:
    found = yardstick.quality({"test": WORSE})["test"]
    assert found.teacher_agreement.value == pytest.approx(1 - found.teacher_flips / 10)
    assert found.student_agreement is not None
    assert found.student_agreement.value == pytest.approx(1 - found.student_flips / 10)


def test_the_teacher_retains_itself_and_the_student_is_not_held_against_itself(yardstick: Yardstick) -> None:
    itself = yardstick.quality(yardstick.teacher)["test"]
    assert itself.retained is not None
    assert itself.retained.value == 1
    assert itself.retained.low < 1 < itself.retained.high
    assert itself.teacher_flips == 0
    alone = yardstick.quality(yardstick.student, beside_student=False)["test"]
    assert (alone.student_agreement, alone.student_flips) == (None, None)


def test_the_waterfall_goes_step_by_step_and_its_steps_add_up(yardstick: Yardstick) -> None:
    answers = {"onnx.float32": {"test": STUDENT}, "onnx.dynamic_int8": {"test": WORSE}}
    steps = list(waterfall(yardstick, {"onnx": artifact(("float32", "dynamic_int8"))}, answers))
    assert [(step.stage, step.before, step.after) for step in steps] == [
        ("distill", "teacher", "student"),
        ("export", "student", "onnx.float32"),
        ("quantize", "onnx.float32", "onnx.dynamic_int8"),
    ]
    costs = [step.differences["test"].value for step in steps]
    assert costs == pytest.approx([-1 / 8, 0, -1 / 8]), "a loss is negative, and belongs to the stage that made it"
    assert sum(costs) == pytest.approx(5 / 8 - 7 / 8)


def test_a_control_that_is_better_than_the_student_makes_the_difference_negative(
    yardstick: Yardstick, tmp_path: Path
) -> None:
    np.save(tmp_path / "better.npy", TEACHER)
    np.save(tmp_path / "worse.npy", WORSE)
    better, worse = (Evaluation(outputs={"test": f"{name}.npy"}, metrics={}) for name in ("better", "worse"))
    controls = Controls(
        baselines=(Baseline(name="majority", description="the commonest class", evaluation=worse),),
        no_teacher=better,
        no_teacher_training=None,
        no_teacher_initialised_from=None,
        repeats=(),
        skipped=None,
    )
    (tmp_path / "result.json").write_text(controls.model_dump_json(), encoding="utf-8")
    no_teacher, majority = comparisons(yardstick, Controls.load(tmp_path))
    assert (no_teacher.control, majority.control) == ("no_teacher", "majority")
    assert no_teacher.differences["test"].value == pytest.approx(-1 / 8)
    assert majority.differences["test"].value == pytest.approx(1 / 8)
    assert majority.quality["test"].value == pytest.approx(5 / 8)


def test_every_seed_is_told_the_shipped_one_first(yardstick: Yardstick, tmp_path: Path) -> None:
    np.save(tmp_path / "teacher.npy", TEACHER)
    np.save(tmp_path / "worse.npy", WORSE)
    teacher, worse = (Evaluation(outputs={"test": f"{name}.npy"}, metrics={}) for name in ("teacher", "worse"))
    made = {"baselines": (), "no_teacher": worse, "no_teacher_training": None, "no_teacher_initialised_from": None}
    again = Repeat(seed=8, student=worse, no_teacher=teacher)
    (tmp_path / "result.json").write_text(
        Controls(**made, repeats=(again,), skipped=None).model_dump_json(), encoding="utf-8"
    )
    shipped, other = seeds(yardstick, Controls.load(tmp_path), first=7)
    assert (shipped.seed, other.seed) == (7, 8)
    assert shipped.differences["test"].value == pytest.approx(1 / 8), "the student is better than its twin"
    assert other.differences["test"].value == pytest.approx(-2 / 8), "with the other seed it is the other way round"
    assert other.quality["test"].value == pytest.approx(5 / 8)
    once = Controls.load(tmp_path).model_copy(update={"repeats": ()})
    assert not list(seeds(yardstick, once, first=7)), "one seed has no spread"


def test_swapped_labels_are_seen_as_lost_quality(yardstick: Yardstick) -> None:
    swapped = yardstick.quality({"test": TEACHER[:, ::-1]})["test"]
    assert swapped.metric.value == pytest.approx(1 / 8)
    assert swapped.teacher_flips == 10


def test_a_model_must_have_answered_every_row(yardstick: Yardstick) -> None:
    with pytest.raises(StageError, match="test has 10 rows, and a model answered 9"):
        yardstick.quality({"test": STUDENT[:9]})


def test_a_split_without_labels_is_refused() -> None:
    unlabelled = np.full(10, -1)
    with pytest.raises(DataError, match=r"no row of challenge\.news has a label"):
        Yardstick(task_of("text_classification"), {"challenge.news": unlabelled}, {}, {})
