"""The task of sentence vectors: what is found, what agrees, and what a collapsed model is worth."""

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.metrics.pairwise import cosine_similarity

from edgedistill.tasks import sentence_embedding as task

RANDOM = np.random.default_rng(0)
VECTORS = RANDOM.normal(size=(60, 8)).astype(np.float32)
DOCUMENTS = 40
SEARCH = np.concatenate([np.full(DOCUMENTS, -1), RANDOM.integers(0, DOCUMENTS, 20)])


def found_by_hand(vectors: np.ndarray, gold: np.ndarray, among: int = 5) -> list[bool]:
    """Return the same with scikit-learn's cosines and a sort."""
    found, documents = [], np.flatnonzero(gold < 0)
    for query in np.flatnonzero(gold >= 0):
        candidates = documents if len(documents) else np.array([i for i in range(len(gold)) if i != query])
        similar = cosine_similarity(vectors[[query]], vectors[candidates])[0]
        found.append(gold[query] in candidates[np.argsort(-similar)[:among]])
    return found


@pytest.mark.parametrize("gold", [SEARCH, np.roll(np.arange(60), 7)])
def test_found_is_what_stands_among_the_five_most_similar(gold: np.ndarray) -> None:
    found = task.right(VECTORS, gold)
    assert found.dtype == bool
    assert found.tolist() == found_by_hand(VECTORS, gold)
    assert 0 < found.mean() < 1
    assert found.tolist() != found_by_hand(VECTORS, gold, among=1), "the check can fail"


def test_many_queries_are_taken_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = task.right(VECTORS, SEARCH)
    monkeypatch.setattr(task, "QUERIES_AT_ONCE", 3)
    assert np.array_equal(task.right(VECTORS, SEARCH), whole)


def test_a_collapsed_model_finds_nothing() -> None:
    assert not task.right(np.ones((60, 8), dtype=np.float32), SEARCH).any()
    assert not task.right(np.zeros((60, 8), dtype=np.float32), SEARCH).any()


def test_neither_length_nor_rotation_changes_what_is_found() -> None:
    turned = VECTORS @ np.linalg.qr(RANDOM.normal(size=(8, 8)))[0] * RANDOM.uniform(1, 9, (60, 1))
    assert np.array_equal(task.right(turned, SEARCH), task.right(VECTORS, SEARCH))


def test_without_gold_the_teacher_says_what_is_near() -> None:
    given = np.full(60, -1)
    nearest = task.gold(given, VECTORS)
    similar = cosine_similarity(VECTORS)
    np.fill_diagonal(similar, -1)
    assert np.array_equal(nearest, similar.argmax(axis=1))
    assert task.right(VECTORS, nearest).all(), "the teacher finds what it has said itself"
    assert np.array_equal(task.gold(SEARCH, VECTORS), SEARCH), "what is given stays"


@pytest.mark.parametrize("gold", [SEARCH, np.full(60, -1)])
def test_a_model_agrees_with_itself_and_not_with_another(gold: np.ndarray) -> None:
    queries = (gold >= 0).sum() or 60
    assert task.agree(VECTORS, VECTORS, gold).tolist() == [True] * queries
    assert task.agree(VECTORS, VECTORS + 1e-4, gold).mean() > 0.9
    assert task.agree(VECTORS, RANDOM.normal(size=VECTORS.shape), gold).mean() < 0.5


def test_divergence_is_the_mean_of_one_minus_cosine() -> None:
    other = RANDOM.normal(size=VECTORS.shape).astype(np.float32)
    expected = 1 - np.diag(cosine_similarity(VECTORS, other)).mean()
    assert task.divergence(VECTORS, other) == pytest.approx(expected, abs=1e-6)
    assert task.divergence(VECTORS, 3 * VECTORS) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "wrong", [{"truncations": [64, 32]}, {"truncations": [0]}, {"dimensions": 4}, {"labels": ["a"]}]
)
def test_shapes_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    assert task.Options(kind="sentence_embedding", truncations=(32, 64)).truncations == (32, 64)
    with pytest.raises(ValidationError):
        task.Options.model_validate({"kind": "sentence_embedding", **wrong})
