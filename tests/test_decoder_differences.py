"""What the benchmark of language models subtracts from what, and who is asked in which ids."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgedistill.benchmark.decoder.differences import Measured
from edgedistill.benchmark.decoder.subjects import candidates
from edgedistill.decoder_values import POSITION
from edgedistill.training.counted_rows import CountedRows

LENGTH = 3  # tokens of a row, of which the first one does not count
ROWS = {"test": 40, "challenge": 10}


def measured() -> Measured:
    """Return two splits in which every token is 1."""
    rows = {}
    for split, count in ROWS.items():
        ids = np.ones(count * LENGTH, dtype=np.int32)
        rows[split] = CountedRows(ids, np.arange(0, len(ids) + 1, LENGTH), np.arange(len(ids)) % LENGTH > 0)
    nothing: Any = None
    signals: Any = SimpleNamespace(reference=dict.fromkeys(ROWS))
    made = Measured(signals, nothing, nothing, {})
    made.__dict__["rows"] = rows
    return made


def said(wrong_rows: dict[str, int], nats: float) -> dict[str, np.ndarray]:
    """Return a model that errs in one token of so many rows, and loses so much at each position."""
    found = {}
    for split, count in ROWS.items():
        positions = np.zeros((count, LENGTH - 1), dtype=POSITION)
        positions["top"], positions["log_prob"] = 1, -nats
        positions["top"][: wrong_rows[split], 1] = 0
        found[split] = positions.ravel()
    return found


def test_more_exact_answers_are_above_zero_and_more_nats_are_worse() -> None:
    before, after = said({"test": 20, "challenge": 5}, nats=2.0), said({"test": 10, "challenge": 5}, nats=1.5)
    exact = measured().exact_differences(after, before)
    assert {split: one.value for split, one in exact["differences"].items()} == {"test": 0.25, "challenge": 0.0}
    assert exact["mean"].value == pytest.approx(0.125), "no split weighs more"
    nats = measured().differences(after, before)
    assert [one.value for one in nats["differences"].values()] == pytest.approx([-0.5, -0.5])
    assert (nats["mean"].value, nats["mean"].n) == (pytest.approx(-0.5), 2 * sum(ROWS.values()))


def test_the_mean_of_all_splits_is_over_positions() -> None:
    before, after = said(dict.fromkeys(ROWS, 0), nats=1.0), said(dict.fromkeys(ROWS, 0), nats=1.0)
    after["challenge"]["log_prob"] = -2.0
    assert measured().differences(after, before)["mean"].value == pytest.approx(10 / 50)


def test_a_teacher_of_more_tokens_is_asked_through_its_folding_and_a_student_is_not(tmp_path: Path) -> None:
    file = SimpleNamespace(name="f16", file="model", sha256="0" * 64, size_bytes=1, beside_bytes=0)
    teacher: Any = SimpleNamespace(
        path=lambda _: tmp_path, checkpoint="checkpoint", gguf=None, weights_sha256="0" * 64, weights_bytes=1
    )
    artifact: Any = SimpleNamespace(
        path=lambda _: tmp_path, root="made", teacher_root="teacher", format="gguf", runtime="llama_cpp",
        teacher=file, files=(file,), shared_bytes=0,
    )  # fmt: skip
    folding = ("kept.npy", "first.npy")
    found = {one.name: one.folding for one in candidates(teacher, {"gguf": artifact}, folding)}
    assert found == {"teacher": folding, "teacher.gguf": folding, "gguf.f16": None}
