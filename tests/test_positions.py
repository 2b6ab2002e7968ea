"""What is measured of a language model, against PyTorch's and transformers' own losses."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_decoders import VOCAB, documents, write_decoder

from edgedistill.decoder_values import POSITION
from edgedistill.errors import StageError
from edgedistill.models.load import load_tokenizer
from edgedistill.training.counted_rows import CountedRows, mapped
from edgedistill.training.decoder_quality import flips, loss_difference, summary
from edgedistill.training.positions import (
    AT_ONCE,
    divergence,
    log_probabilities,
    positions_of,
    write_reference,
)

ROWS = 24


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A teacher, a student, and a student that is nearly the same."""
    folder = tmp_path_factory.mktemp("decoders")
    found = {name: write_decoder(folder / name, seed=seed) for name, seed in (("teacher", 0), ("student", 1))}
    found["near"] = write_decoder(folder / "near", seed=1)
    with torch.no_grad():
        for weights in found["near"].parameters():
            weights += 0.01 * torch.randn_like(weights)
    return {"tokenizer": load_tokenizer(folder / "teacher"), **found}


@pytest.fixture(scope="module")
def rows(models: dict[str, Any]) -> CountedRows:
    """Documents, of which every token but the first counts in some rows, the second half in others, none in one."""
    encoded = [models["tokenizer"](text)["input_ids"] for text in documents(ROWS)]
    encoded[3] = encoded[3] * 9  # longer than what is computed at a time
    marks = [[i > (0 if number % 2 else len(ids) // 2) for i in range(len(ids))] for number, ids in enumerate(encoded)]
    marks[5] = [False] * len(encoded[5])
    offsets = np.cumsum([0, *map(len, encoded)])
    assert max(map(sum, marks)) > AT_ONCE
    return CountedRows(np.concatenate(encoded).astype(np.int32), offsets, np.concatenate(marks))


def answer(model: Any) -> Any:
    def said(ids: Sequence[int]) -> np.ndarray:
        with torch.no_grad():
            return model(input_ids=torch.tensor([list(ids)])).logits[0].numpy()

    return said


def reference(model: Any, rows: CountedRows, folder: Path, **others: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return a model's reference and its positions, as written to files."""
    folder.mkdir(exist_ok=True)
    files = folder / "reference.npy", folder / "positions.npy"
    found = write_reference(answer(model), rows, VOCAB, *files, folder, "test", **others)
    return np.load(files[0], mmap_mode="r"), found


def test_perplexity_is_that_of_transformers_own_loss(models: dict[str, Any], rows: CountedRows) -> None:
    found = positions_of(answer(models["teacher"]), rows, VOCAB)
    losses, tokens = [], 0
    for row in range(len(rows.offsets) - 1):
        span = slice(*rows.offsets[row : row + 2])
        ids, counts = torch.tensor(rows.ids[span], dtype=torch.int64), torch.tensor(rows.counts[span])
        if counts.any():
            labels = torch.where(counts, ids, -100)
            with torch.no_grad():
                loss = models["teacher"](input_ids=ids[None], labels=labels[None]).loss
            losses.append(float(loss) * int(counts.sum()))
            tokens += int(counts.sum())
    expected = np.exp(sum(losses) / tokens)
    quality = summary(found, rows.starts, tokens=rows.tokens)
    assert quality.perplexity.value == pytest.approx(expected, rel=1e-5)
    assert quality.perplexity.low < expected < quality.perplexity.high
    assert quality.perplexity.n == tokens == rows.positions
    shifted = CountedRows(
        rows.ids, rows.offsets, np.roll(rows.counts, 1) & ~np.isin(np.arange(len(rows.ids)), rows.offsets)
    )
    wrong = summary(positions_of(answer(models["teacher"]), shifted, VOCAB), shifted.starts, tokens=shifted.tokens)
    assert wrong.perplexity.value != pytest.approx(expected, rel=1e-3), "other tokens give another perplexity"


def test_divergence_is_that_of_pytorch(models: dict[str, Any], rows: CountedRows, tmp_path: Path) -> None:
    kept, _ = reference(models["teacher"], rows, tmp_path)
    found = positions_of(answer(models["student"]), rows, VOCAB, teacher=kept, student=kept)
    errors: list[np.ndarray] = []
    for row in rows:
        with torch.no_grad():
            ids = torch.tensor([row.ids])
            teacher, student = (
                models[name](input_ids=ids).logits[0, row.places].double().log_softmax(-1)
                for name in ("teacher", "student")
            )
        expected = F.kl_div(student, teacher, log_target=True, reduction="none").sum(-1).numpy()
        assert np.allclose(found["kl_teacher"][row.positions], expected, rtol=5e-4), "float16 rounds each position"
        assert np.allclose(divergence(teacher.numpy(), student.numpy()), expected, rtol=1e-9)
        errors.append(found["kl_teacher"][row.positions] - expected)
        top = student.topk(2)
        assert np.array_equal(found["top"][row.positions], top.indices[:, 0])
        assert np.allclose(found["margin"][row.positions], top.values[:, 0] - top.values[:, 1], atol=1e-5)
        assert np.allclose(found["log_prob"][row.positions], student[range(len(row.tokens)), row.tokens], atol=1e-5)
    assert abs(np.concatenate(errors).mean()) < 5e-5, "but their mean stays"
    assert np.array_equal(found["kl_teacher"], found["kl_student"])
    assert found["kl_teacher"].mean() > 0.1, "two unlike models, or nothing is shown"
    backwards = reference(models["student"], rows, tmp_path / "student")[0]
    other = positions_of(answer(models["teacher"]), rows, VOCAB, teacher=backwards)
    assert not np.allclose(other["kl_teacher"], found["kl_teacher"], atol=1e-2), "the direction matters"


def test_storing_a_reference_in_float16_costs_next_to_nothing(
    models: dict[str, Any], rows: CountedRows, tmp_path: Path
) -> None:
    kept, _ = reference(models["teacher"], rows, tmp_path)
    assert kept.dtype == np.float16
    again = positions_of(answer(models["teacher"]), rows, VOCAB, teacher=kept)
    assert again["kl_teacher"].max() < 1e-5
    random = np.random.default_rng(0)
    for sharpness in (0.0, 0.3, 1.0, 4.0, 20.0):  # from all alike to all but certain, over a real vocabulary
        logits = sharpness * random.normal(size=(32, 49152))
        exact = log_probabilities(logits)
        stored = exact.astype(np.float16)
        floor = divergence(log_probabilities(stored), exact)
        assert floor.max() < 1e-5, sharpness
    exact = np.log(np.array([[0.3, 0.7]]))
    stored = exact.astype(np.float16).astype(np.float64)
    assert abs((np.exp(stored) * (stored - exact)).sum()) > 1e-5, "without scaling it again it would not be so"


def test_equal_models_diverge_by_nothing() -> None:
    log_probs = log_probabilities(np.random.default_rng(0).normal(size=(5, 100)).astype(np.float32))
    assert (divergence(log_probs, log_probs) == 0).all()
    assert np.allclose(np.exp(log_probs).sum(axis=1), 1)
    assert (divergence(log_probs, log_probs[::-1])[[0, 1, 3, 4]] > 0).all()


def test_a_recording_that_was_killed_goes_on_and_ends_alike(
    models: dict[str, Any], rows: CountedRows, tmp_path: Path
) -> None:
    whole, positions = reference(models["teacher"], rows, tmp_path / "whole")
    asked: list[int] = []

    def tiring(ids: Sequence[int]) -> np.ndarray:
        asked.append(len(ids))
        if len(asked) == 12:
            raise KeyboardInterrupt
        return answer(models["teacher"])(ids)

    files = tmp_path / "reference.npy", tmp_path / "positions.npy"
    for patience in range(2):
        try:
            write_reference(tiring, rows, VOCAB, *files, tmp_path, "test")
        except KeyboardInterrupt:
            assert not patience
    assert np.array_equal(np.load(files[0]), whole)
    assert np.load(files[1]).tobytes() == positions.tobytes()
    before = len(asked)
    write_reference(tiring, rows, VOCAB, *files, tmp_path, "test")
    assert len(asked) == before, "what is finished is not asked again"
    files[1].unlink()
    write_reference(tiring, rows, VOCAB, *files, tmp_path, "test")
    assert np.load(files[1]).tobytes() == positions.tobytes(), "positions that were lost are made anew"


def test_a_summary_tells_near_models_from_far_ones(models: dict[str, Any], rows: CountedRows, tmp_path: Path) -> None:
    teacher_kept, teacher = reference(models["teacher"], rows, tmp_path / "teacher")
    student_kept, student = reference(models["student"], rows, tmp_path / "student", teacher=teacher_kept)
    near = positions_of(answer(models["near"]), rows, VOCAB, teacher=teacher_kept, student=student_kept)
    own = summary(teacher, rows.starts, tokens=rows.tokens)
    assert own.kl_teacher is own.kl_student is own.agreement_teacher is own.kl_teacher_p99 is None
    of_student = summary(student, rows.starts, tokens=rows.tokens, teacher=teacher)
    assert of_student.kl_student is None
    found = summary(near, rows.starts, tokens=rows.tokens, teacher=teacher, student=student)
    for metric in (found.kl_student, found.kl_teacher, found.agreement_student, found.agreement_teacher):
        assert metric is not None
    assert found.kl_student.value < 0.1 * found.kl_teacher.value
    assert found.kl_student.low < found.kl_student.value < found.kl_student.high
    assert found.kl_student.value < (found.kl_student_p99 or 0) <= near["kl_student"].max()
    assert found.agreement_student.value > found.agreement_teacher.value
    assert found.accuracy.value == pytest.approx((near["top"] == rows.tokens).mean())
    same = summary(student, rows.starts, tokens=rows.tokens, student=student)
    assert same.agreement_student is not None
    assert same.agreement_student.value == same.agreement_student.high == 1
    assert 0.8 < same.agreement_student.low < 1, "23 rows without a flip do not promise that there is none"


def test_a_difference_is_paired(models: dict[str, Any], rows: CountedRows) -> None:
    student, near = (positions_of(answer(models[name]), rows, VOCAB) for name in ("student", "near"))
    found = loss_difference(near, student, rows.starts)
    each = [summary(one, rows.starts, tokens=rows.tokens).perplexity for one in (student, near)]
    assert np.exp(found.value) == pytest.approx(each[1].value / each[0].value)
    assert found.low <= found.value <= found.high
    assert found.high - found.low < 0.5 * (np.log(each[0].high) - np.log(each[0].low))
    nothing = loss_difference(student, student, rows.starts)
    assert nothing.value == nothing.low == nothing.high == 0


def test_flips_are_told_with_what_they_mean() -> None:
    reference, model = np.zeros(6, dtype=POSITION), np.zeros(6, dtype=POSITION)
    reference["top"], reference["margin"] = [1, 2, 3, 4, 5, 6], [0.1, 5, 0.2, 3, 0.3, 1]
    model["top"], model["margin"] = [7, 2, 8, 9, 5, 6], [0.5, 1, 0.25, 2, 1, 1]
    starts = np.array([0, 2, 2, 3, 6])
    found = flips(model, reference, starts)
    assert [flip.position for flip in found] == [3, 2, 0], "where the reference was surest comes first"
    assert [flip.row for flip in found] == [3, 2, 0], "a row without positions has none"
    assert (found[0].token, found[0].instead, found[0].reference_margin, found[0].margin) == (4, 9, 3, 2)
    assert flips(model, reference, starts, most=1) == found[:1]
    assert flips(reference, reference, starts) == []


def test_logits_beyond_the_tokenizers_ids_are_left_out(models: dict[str, Any], rows: CountedRows) -> None:
    def padded(ids: Sequence[int]) -> np.ndarray:
        said = answer(models["teacher"])(ids)
        return np.concatenate([said, np.full((len(ids), 8), 50, np.float32)], axis=1)

    plain = positions_of(answer(models["teacher"]), rows, VOCAB)
    assert np.array_equal(positions_of(padded, rows, VOCAB)["log_prob"], plain["log_prob"])
    assert (positions_of(padded, rows, VOCAB + 8)["log_prob"] < plain["log_prob"] - 10).all(), "it can fail"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda ids: np.zeros((len(ids), VOCAB - 1), np.float32), f"a vocabulary of {VOCAB}"),
        (lambda ids: np.zeros((1, VOCAB), np.float32), "for .* tokens"),
        (lambda ids: np.full((len(ids), VOCAB), np.nan, np.float32), "not finite on the row that begins with ids"),
    ],
)
def test_a_model_that_answers_wrongly_is_an_error(wrong: Any, said: str, rows: CountedRows) -> None:
    with pytest.raises(StageError, match=said):
        positions_of(wrong, rows, VOCAB)


def test_a_reference_of_another_split_is_an_error(rows: CountedRows) -> None:
    with pytest.raises(StageError, match="must be of one run"):
        positions_of(lambda ids: np.zeros(0), rows, VOCAB, teacher=np.zeros((3, VOCAB), np.float16))


def test_rows_say_where_their_tokens_are_said(tmp_path: Path) -> None:
    ids, offsets = np.array([5, 6, 7, 8, 9], np.int32), np.array([0, 3, 3, 5])
    counts = np.array([False, True, True, False, True])
    for name, part in (("ids", ids), ("offsets", offsets), ("counts", counts)):
        np.save(tmp_path / f"{name}.npy", part)
    rows = mapped(*(tmp_path / f"{name}.npy" for name in ("ids", "offsets", "counts")))
    found = list(rows)
    assert [(row.ids, row.places.tolist(), row.tokens.tolist(), row.positions) for row in found] == [
        ([5, 6, 7], [0, 1], [6, 7], slice(0, 2)),
        ([8, 9], [0], [9], slice(2, 3)),
    ]
    assert rows.tokens.tolist() == [6, 7, 9]
    assert rows.positions == 3
    with pytest.raises(StageError, match="first token counts"):
        CountedRows(ids, offsets, ~counts)
    with pytest.raises(StageError, match="not of one split"):
        CountedRows(ids, offsets, counts[:4])


def test_what_is_retained_is_the_ratio_of_right_tokens_on_the_same_positions(
    models: dict[str, Any], rows: CountedRows
) -> None:
    found = {name: positions_of(answer(models[name]), rows, VOCAB) for name in ("teacher", "student")}
    right = {name: one["top"] == rows.tokens for name, one in found.items()}
    right["teacher"][::4] = True  # an untrained model is hardly ever right
    right["student"][1::4] = True
    for name, one in found.items():
        one["top"] = np.where(right[name], rows.tokens, one["top"])
    given = {"starts": rows.starts, "tokens": rows.tokens}
    quality = summary(found["student"], **given, teacher=found["teacher"])
    assert quality.retained is not None
    assert quality.retained.value == pytest.approx(right["student"].sum() / right["teacher"].sum())
    assert quality.retained.low < quality.retained.value < quality.retained.high
    itself = summary(found["teacher"], **given, teacher=found["teacher"])
    assert itself.retained is not None
    assert itself.retained.value == 1
    assert summary(found["teacher"], **given).retained is None
    never = found["teacher"].copy()
    never["top"] = -1
    assert summary(found["student"], **given, teacher=never).retained is None, "never right: no ratio"
