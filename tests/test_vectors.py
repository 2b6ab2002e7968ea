"""What is checked and measured of sentence vectors alone, and how the teacher's are turned."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.metrics.pairwise import cosine_similarity

from edgedistill.distill import signals
from edgedistill.distill.signals import principal_directions
from edgedistill.distill.vectors import check_spread, mean_cosine
from edgedistill.errors import StageError, TrainingError
from edgedistill.tasks import sentence_embedding
from edgedistill.training.signals import turned

RANDOM = np.random.default_rng(0)
SPREAD = RANDOM.normal(size=(50, 16)).astype(np.float32)
LEANING = SPREAD * np.linspace(4, 0.1, 16, dtype=np.float32) + 1


def test_the_mean_cosine_is_that_of_all_pairs() -> None:
    similar = cosine_similarity(LEANING)
    expected = similar[np.triu_indices(50, k=1)].mean()
    assert mean_cosine(LEANING) == pytest.approx(expected, abs=1e-6)
    assert mean_cosine(np.ones((5, 3))) == pytest.approx(1)


@pytest.mark.parametrize("teacher", [SPREAD, np.abs(SPREAD) + 1])
def test_a_collapsed_student_is_refused_whatever_the_teacher_is_like(teacher: np.ndarray) -> None:
    held_out: Any = SimpleNamespace(outputs=teacher)
    assert check_spread(teacher + 0.01, held_out).value == pytest.approx(mean_cosine(teacher), abs=0.02)
    nearly_one = np.ones_like(SPREAD) + 1e-3 * SPREAD
    with pytest.raises(TrainingError, match=r"the vectors have collapsed: the mean cosine .* is 1, the teacher's"):
        check_spread(nearly_one, held_out)


@pytest.mark.parametrize("width", [3, 16])
def test_principal_directions_are_those_of_an_uncentred_svd(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgedistill.distill.signals.ROWS_AT_ONCE", 7)
    directions = principal_directions(LEANING, width)
    assert np.allclose(directions.T @ directions, np.eye(width), atol=1e-5)
    expected = TruncatedSVD(width, algorithm="arpack" if width < 16 else "randomized", random_state=0).fit(LEANING)
    assert np.allclose(np.abs(expected.components_ @ directions), np.eye(width), atol=1e-3)
    assert not np.allclose(np.abs(PCA(3).fit(LEANING).components_ @ directions[:, :3]), np.eye(3), atol=1e-1)


def test_all_directions_keep_cosines_and_fewer_keep_lengths() -> None:
    whole, short = (turned(LEANING, principal_directions(LEANING, width)) for width in (16, 4))
    assert np.allclose(cosine_similarity(whole), cosine_similarity(LEANING), atol=1e-5)
    assert np.allclose(np.linalg.norm(short, axis=1), np.linalg.norm(LEANING, axis=1), rtol=1e-5)
    error = [np.abs(cosine_similarity(whole[:, :n]) - cosine_similarity(LEANING)).mean() for n in (2, 4, 8)]
    assert error == sorted(error, reverse=True), "the first numbers hold most"


@pytest.mark.parametrize(
    ("more", "said"), [({"dimensions": 17}, "17 is more than"), ({"truncations": [16]}, "no short")]
)
def test_a_length_that_cannot_be_is_told_before_the_teacher_reads_anything(
    more: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr(signals, "load_tokenizer", lambda folder: None)
    monkeypatch.setattr(signals, "load_model", lambda folder: SimpleNamespace(width=16, to=lambda device: model))
    model = SimpleNamespace(width=16)
    monkeypatch.setattr(signals, "texts_of", lambda corpus, name: read.append(name))
    teacher: Any = SimpleNamespace(checkpoint="", path=lambda part: tmp_path)
    corpus: Any = SimpleNamespace(splits={"train": None})
    options = sentence_embedding.Options(kind="sentence_embedding", **more)
    with pytest.raises(StageError, match=said):
        signals.record(teacher, corpus, options, tmp_path)
    assert not read
