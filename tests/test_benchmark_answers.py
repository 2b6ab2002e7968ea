import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_artifact import LABELS, texts, write_onnx

from edgedistill.benchmark import answers, process
from edgedistill.benchmark.subjects import Candidate
from edgedistill.errors import StageError
from edgedistill.files import sha256_of

TEXTS = {"test": texts(40), "challenge.other": texts(9, seed=1)}
WORKLOADS = {"batch_8_short": [TEXTS["test"][:8]]}


@pytest.fixture
def candidate(tmp_path: Path) -> Candidate:
    file = write_onnx(tmp_path / "artifact", "onnx/model.onnx")
    size = file.stat().st_size
    return Candidate(
        "onnx.float32", "student", "artifact", "onnxruntime", tmp_path / "artifact", "onnx/model.onnx", "float32",
        sha256_of(file), size, size,
    )  # fmt: skip


def collect(candidates: list[Candidate], folder: Path) -> dict[str, answers.Answers]:
    return answers.collect(candidates, TEXTS, WORKLOADS, LABELS, 1, folder)


def test_finished_artifacts_are_not_asked_again_and_unfinished_ones_are(
    candidate: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "answers"
    first = collect([candidate], folder)
    other = replace(candidate, name="onnx.other")
    asked: list[str] = []
    monkeypatch.setattr(answers.process, "run", lambda job, what, run=process.run: asked.append(what) or run(job, what))
    (folder / "onnx.other").mkdir()
    np.save(folder / "onnx.other" / "test.npy", np.zeros((40, 2), dtype=np.float32))  # left by a killed process
    second = collect([candidate, other], folder)
    assert asked == ["student"], "one process, for the unfinished one"
    for split in TEXTS:
        assert len(first["onnx.float32"].logits[split]) == len(TEXTS[split])
        assert np.array_equal(first["onnx.float32"].logits[split], second["onnx.float32"].logits[split])
        assert np.array_equal(second["onnx.other"].logits[split], second["onnx.float32"].logits[split])
    assert not list(folder.rglob("challenge.other.json")), "the texts are not kept"


def test_swapped_labels_are_refused(candidate: Candidate, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"student calls its classes \['negative', 'positive'\]; the data calls them"):
        answers.collect([candidate], TEXTS, WORKLOADS, LABELS[::-1], 1, tmp_path / "answers")


def test_a_logit_that_is_not_finite_is_refused_with_its_split(candidate: Candidate, tmp_path: Path) -> None:
    folder = tmp_path / "answers"
    collect([candidate], folder)
    logits = np.load(folder / "onnx.float32" / "challenge.other.npy")
    logits[3, 1] = np.nan
    np.save(folder / "onnx.float32" / "challenge.other.npy", logits)
    with pytest.raises(StageError, match=r"not finite on 1 texts of challenge\.other"):
        collect([candidate], folder)


def test_done_is_written_last(candidate: Candidate, tmp_path: Path) -> None:
    with pytest.raises(StageError):
        collect([replace(candidate, file="onnx/missing.onnx")], tmp_path / "answers")
    assert not (tmp_path / "answers" / "onnx.float32" / "done.json").exists()
    collect([candidate], tmp_path / "answers")
    assert json.loads((tmp_path / "answers" / "onnx.float32" / "done.json").read_text(encoding="utf-8"))
