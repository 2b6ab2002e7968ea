"""A size is warned about on the wrong side of each threshold, with its numbers, and on the other side it is not."""

from typing import Any

import pytest

from edgedistill.models import size_warnings as module
from edgedistill.models.anatomy import Anatomy, of_encoder, of_static
from edgedistill.models.size_warnings import size_warnings
from edgedistill.models.students import pruned, scaled, static
from edgedistill.section import StudentOptions

MINILM = {
    "model_type": "bert", "vocab_size": 30522, "hidden_size": 384, "intermediate_size": 1536,
    "max_position_embeddings": 512, "type_vocab_size": 2,
}  # fmt: skip
TEACHER = of_encoder("teacher", MINILM, 6, 2, 96)


def encoder(layers: int, **changes: int) -> Anatomy:
    return of_encoder("student", {**MINILM, **changes}, layers, 2, 96)


def table(dimensions: int, vocab_size: int = 30522) -> Anatomy:
    return of_static("student", vocab_size, dimensions, 128, 2, 96)


def warned(student: Anatomy, seen: int | None = None, **options: Any) -> tuple[str, ...]:
    chosen: StudentOptions = static.Options(kind="static", **options)  # only what every kind has is looked at
    return size_warnings(chosen, TEACHER, student, seen)


@pytest.mark.parametrize(("layers", "told"), [(6, True), (4, True), (3, False), (2, False), (1, False)])
def test_a_student_that_saves_less_than_half_is_told(layers: int, told: bool) -> None:
    found = [warning for warning in warned(encoder(layers)) if "saves less than half" in warning]
    assert bool(found) == told
    assert all(f"{layers / 6 * 100:.1f} % of the teacher's operations" in warning for warning in found)


def test_operations_are_told_once_a_vocabulary_that_is_trimmed_is_counted() -> None:
    """A language model's head has as many operations as tokens, and before the count those of all stand there."""
    assert not warned(encoder(6), vocabulary={"min_count": 1})
    assert any("saves less than half" in warning for warning in warned(encoder(6), 9000, vocabulary={"min_count": 1}))


@pytest.mark.parametrize(
    ("student", "told"),
    [
        (encoder(1, hidden_size=64, intermediate_size=256), True),
        (encoder(1, hidden_size=128, intermediate_size=512), False),
        (table(256), False),
    ],
)
def test_a_transformer_that_a_static_student_undercuts_is_told(student: Anatomy, told: bool) -> None:
    assert (student.flops_per_token / TEACHER.flops_per_token < module.FEWEST_OPERATIONS) == (
        told or student.layers == 0
    )
    assert any("a static student costs less still" in warning for warning in warned(student)) == told


def test_a_table_that_is_most_of_the_weights_is_told_with_what_trimming_saves() -> None:
    (before,) = warned(table(256))
    assert "100 % of the student's weights are its table of 30,522 tokens (31.3 of 31.4 MB as float32)" in before
    assert "every 1,000 of them save 1 MB" in before
    (after,) = warned(table(256), seen=12_318)
    assert "use 12,318 of them; student.vocabulary: {min_count: 1} saves about 18.6 MB" in after


@pytest.mark.parametrize(
    ("student", "given"),
    [
        (encoder(2), {}),  # 11.7 of 16 million: below four fifths
        (table(256), {"vocabulary": {"min_count": 1}}),
        (table(256), {"embedding_rank": 64}),
        (table(256), {"seen": 30_000}),
    ],
)
def test_nothing_is_said_of_a_table_where_there_is_nothing_to_gain(student: Anatomy, given: dict[str, Any]) -> None:
    assert warned(student, **given) == ()


@pytest.mark.parametrize(("dimensions", "told"), [(384, False), (512, True)])
def test_more_dimensions_than_the_teacher_has_are_told(dimensions: int, told: bool) -> None:
    found = warned(table(dimensions), vocabulary={"min_count": 1})
    assert bool(found) == told
    assert not told or "the other 128 start at zero and cost 15.6 MB: write student.dimensions: 384" in found[0]


@pytest.mark.parametrize(
    ("width", "said"),
    [
        (300, "write 288 or 256 (256 divides the second, as q4_k_m and its like want it)"),
        (100, "write 96"),
        (20, "write 32"),
        (320, None),
        (512, None),
    ],
)
@pytest.mark.parametrize("name", ["hidden_size", "intermediate_size"])
def test_rows_that_no_block_divides_are_told_with_a_width_that_one_does(
    name: str, width: int, said: str | None
) -> None:
    options = pruned.Options.model_validate({"kind": "pruned", name: width})
    found = [one for one in size_warnings(options, TEACHER, encoder(2)) if "is not a multiple of 32" in one]
    assert len(found) == (said is not None)
    assert all(one.startswith(f"student.{name}: {width} ") and said in one for one in found if said)
    encoders = scaled.Options(kind="scaled", hidden_size=300)
    assert not any("multiple of 32" in one for one in size_warnings(encoders, TEACHER, encoder(2))), "no ggml file"
