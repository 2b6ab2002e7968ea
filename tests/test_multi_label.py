"""Several labels for one text: metric, agreement, divergence, losses and baselines against other implementations."""

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from recipe_texts import GOOD
from scipy.special import expit, rel_entr  # type: ignore[import-untyped]
from scipy.stats import entropy  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from sklearn.multiclass import OneVsRestClassifier

from edgedistill import yaml_text
from edgedistill.distill import baselines
from edgedistill.distill.losses import binary_cross_entropy, binary_kl
from edgedistill.recipe import Recipe, with_defaults
from edgedistill.tasks import multi_label_classification as task
from edgedistill.tasks._labels import MOST_AT_ONCE, as_sets, members

ROWS, LABELS = 200, 5
random = np.random.default_rng(0)
LOGITS, OTHERS = (4 * random.normal(size=(ROWS, LABELS)).astype(np.float32) for _ in range(2))
GOLD = random.integers(0, 2**LABELS, ROWS)
HELD = np.array([[bool(int(row) & 2**label) for label in range(LABELS)] for row in GOLD])
NONE = torch.full((ROWS,), -1)


def near(logits: np.ndarray) -> np.ndarray:
    """Return answers of which some are right and some are not."""
    return np.where(random.random((ROWS, LABELS)) < 0.1, -1, 1) * np.where(HELD, 1, -1) * np.abs(logits)


def test_sets_are_read_bit_by_bit_and_written_back() -> None:
    assert (members(GOLD, LABELS) == HELD).all()
    assert (as_sets(HELD) == GOLD).all()
    last = np.array([0, 1 << (MOST_AT_ONCE - 1), (1 << MOST_AT_ONCE) - 1])
    assert members(last, MOST_AT_ONCE).sum(axis=1).tolist() == [0, 1, MOST_AT_ONCE]
    assert (as_sets(members(last, MOST_AT_ONCE)) == last).all()


def faults(right: Any) -> list[str]:
    """Return what is wrong with a function that says which rows are right."""
    found, said = [], near(LOGITS)
    if right(said, GOLD).mean() != accuracy_score(HELD, said > 0):
        found.append("it is the subset accuracy of multilabel indicators")
    partly = np.where(np.arange(ROWS) % 3 == 0, -1, GOLD)
    if len(right(said, partly)) != (partly >= 0).sum():
        found.append("rows of which nothing is known are left out")
    if not right(np.full((1, LABELS), -0.1), np.array([0])).all():
        found.append("a row without labels is right where none is said")
    return found


def test_a_row_is_right_where_exactly_its_labels_hold() -> None:
    def top(outputs: np.ndarray, gold: np.ndarray) -> np.ndarray:
        known = gold >= 0
        return members(gold[known], LABELS)[np.arange(known.sum()), outputs[known].argmax(axis=1)]

    def some(outputs: np.ndarray, gold: np.ndarray) -> np.ndarray:
        known = gold > 0
        return ((outputs[known] > 0) & members(gold[known], LABELS)).any(axis=1)

    def half(outputs: np.ndarray, gold: np.ndarray) -> np.ndarray:
        return ((outputs > 0.5) == members(gold, LABELS)).all(axis=1)

    assert faults(task.right) == []
    assert all(faults(broken) for broken in (top, some, half))


def test_agreement_is_the_same_set_of_labels() -> None:
    said, nothing = near(LOGITS), np.full(ROWS, -1)
    assert task.agree(said, 7 * said, nothing).all()
    assert task.agree(said, LOGITS, nothing).mean() == accuracy_score(said > 0, LOGITS > 0)
    assert not task.agree(said, -said, nothing).any()


def test_divergence_is_the_sum_of_binary_kls() -> None:
    p, q = (expit(array.astype(np.float64)) for array in (LOGITS, OTHERS))
    pairs = np.stack([p, 1 - p]), np.stack([q, 1 - q])
    assert task.divergence(LOGITS, OTHERS) == pytest.approx(entropy(*pairs, axis=0).sum(axis=1).mean(), rel=1e-9)
    assert task.divergence(LOGITS, LOGITS) == 0
    assert task.divergence(LOGITS, LOGITS + 3) > 0.1, "a constant added to all logits makes every label likelier"
    far = np.array([[1e4, -1e4]], dtype=np.float32)
    assert task.divergence(far, far) == 0
    assert np.isfinite(task.divergence(far, -far))


def test_gold_is_what_the_corpus_says() -> None:
    assert task.gold(GOLD, LOGITS) is GOLD


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 8.0])
def test_binary_kl_is_scipys_for_each_label(temperature: float) -> None:
    options = binary_kl.Options(loss="binary_kl", temperature=temperature)
    found = float(binary_kl.loss(options, torch.from_numpy(OTHERS), torch.from_numpy(LOGITS), NONE))
    p, q = (expit(array.astype(np.float64) / temperature) for array in (LOGITS, OTHERS))
    expected = (rel_entr(p, q) + rel_entr(1 - p, 1 - q)).sum(axis=1).mean()
    assert found == pytest.approx(temperature**2 * expected, rel=1e-4)
    if temperature == 1.0:
        assert found == pytest.approx(task.divergence(LOGITS, OTHERS), rel=1e-4)


def test_binary_cross_entropy_is_sklearns_log_loss_of_each_label() -> None:
    options = binary_cross_entropy.Options(loss="binary_cross_entropy")
    found = float(
        binary_cross_entropy.loss(options, torch.from_numpy(LOGITS), torch.from_numpy(OTHERS), torch.from_numpy(GOLD))
    )
    p = expit(LOGITS.astype(np.float64))
    assert found == pytest.approx(sum(log_loss(HELD[:, label], p[:, label]) for label in range(LABELS)), rel=1e-4)
    some = torch.from_numpy(np.where(np.arange(ROWS) < 50, GOLD, -1))
    part = binary_cross_entropy.loss(options, torch.from_numpy(LOGITS), torch.from_numpy(OTHERS), some)
    assert float(part) == pytest.approx(sum(log_loss(HELD[:50, i], p[:50, i]) for i in range(LABELS)), rel=1e-4)


def test_too_many_labels_are_refused_where_they_are_named() -> None:
    names = [f"l{i}" for i in range(MOST_AT_ONCE + 1)]
    assert task.Options(kind="multi_label_classification", labels=names[:-1]).labels == tuple(names[:-1])
    with pytest.raises(ValidationError, match="has 63 labels; a row's labels are chosen among at most 62"):
        task.Options(kind="multi_label_classification", labels=names)


def test_a_recipe_learns_each_label_for_itself_unless_it_says_otherwise() -> None:
    chosen = {"task": {"kind": "multi_label_classification"}}
    soft, hard = with_defaults(chosen)["distill"]["losses"]
    assert (soft, hard) == (
        {"loss": "binary_kl", "weight": 0.9, "temperature": 2.0},
        {"loss": "binary_cross_entropy", "weight": 0.1},
    )
    bare = {**chosen, "data": {"train": {"source": "text", "file": "t.txt"}}}
    assert with_defaults(bare)["distill"]["losses"] == [{"loss": "binary_kl", "temperature": 2.0}]
    own = {**chosen, "distill": {"losses": [{"loss": "binary_kl", "temperature": 4.0}]}}
    assert with_defaults(own)["distill"]["losses"] == [{"loss": "binary_kl", "temperature": 4.0}]


def problems(**sections: Any) -> dict[str, str]:
    """Return what is wrong with a recipe for several labels of which some sections are changed."""
    plain = {**yaml_text.read(GOOD).value, "task": {"kind": "multi_label_classification"}, **sections}
    try:
        Recipe.model_validate(plain)
    except ValidationError as error:
        return dict(
            part.split(": ", 1) for part in error.errors()[0]["msg"].removeprefix("Value error, ").split("; ")[:1]
        )
    return {}


def test_what_compares_classes_with_each_other_is_refused() -> None:
    assert problems(distill={}) == {}
    assert problems(distill={"search": {}}) == {
        "distill.search": "changes the temperature of 'forward_kl', which does not compare what "
        "'multi_label_classification' gives"
    }
    for loss in ("forward_kl", "cross_entropy", "cosine"):
        assert "does not compare what" in problems(distill={"losses": [{"loss": loss}]})["distill.losses[0].loss"]
    alone = {"kind": "text_classification"}
    assert "distill.losses[0].loss" in problems(task=alone, distill={"losses": [{"loss": "binary_kl"}]})


def test_the_linear_baseline_is_a_regression_for_each_label() -> None:
    features = random.normal(size=(ROWS, 8))
    held = features @ random.normal(size=(8, 4)) > 0
    held = np.column_stack([held, np.zeros(ROWS, dtype=bool), np.ones(ROWS, dtype=bool)])
    model = baselines._OneForEachLabel(features, as_sets(held), 6, 1.0)
    sklearns = OneVsRestClassifier(LogisticRegression(C=1.0, max_iter=1000)).fit(features, held[:, :4])
    logits = model.logits(features)
    assert np.allclose(logits[:, :4], sklearns.decision_function(features), atol=1e-5)
    assert ((logits > 0)[:, :4] == sklearns.predict(features)).all()
    assert not (logits[:, 4] > 0).any()
    assert (logits[:, 5] > 0).all()
    assert (model.predict(features) == as_sets(logits > 0)).all()


def test_the_linear_baseline_reads_one_label_that_varies_alone() -> None:
    features = random.normal(size=(ROWS, 3))
    held = np.column_stack([features[:, 0] > 0, np.zeros(ROWS, dtype=bool)])
    assert (
        baselines._OneForEachLabel(features, as_sets(held), 2, 100.0).predict(features) == as_sets(held)
    ).mean() > 0.95


def test_the_majority_is_each_labels_more_frequent_state() -> None:
    gold = as_sets(np.array([[1, 0, 1], [1, 0, 0], [1, 1, 0]], dtype=bool))
    said, words = baselines._states(gold, ("a", "b", "c"))
    assert (said > 0).tolist() == [True, False, False]
    assert words == "always 'a': each label's more frequent state in train"
    assert baselines._states(np.array([0, 0, 1]), ("a", "b", "c"))[1].startswith("always no label")
