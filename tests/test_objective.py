"""What a student minimises is the recipe's sum, on its rows' own teacher logits and labels."""

from typing import Any

import numpy as np
import pytest
import torch
from tiny_distill import DISTILL

from edgedistill.distill.objective import TeacherSignals
from edgedistill.recipe_sections import DistillOptions
from edgedistill.training.signals import SplitSignals
from edgedistill.values import Signals

BOTH: list[dict[str, Any]] = [
    {"loss": "forward_kl", "weight": 0.7, "temperature": 3.0},
    {"loss": "cross_entropy", "weight": 0.3},
]


def objective_of(signals: Signals, losses: list[dict[str, Any]]) -> TeacherSignals:
    options = DistillOptions.model_validate({"losses": losses})
    return TeacherSignals(options.losses, SplitSignals(signals, "train"), SplitSignals(signals, "validation"), signals)


class Echo(torch.nn.Module):
    """Answers every row of a split with given logits, whatever its ids: rows are told by their order of asking."""

    def __init__(self, split: SplitSignals, logits: np.ndarray) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        parts = np.split(split.rows.ids, split.rows.offsets[1:-1])
        self._said = {tuple(part.tolist()): logits[i] for i, part in enumerate(parts)}

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        rows = [tuple(row[: int(count)].tolist()) for row, count in zip(ids, mask.sum(dim=1), strict=True)]
        return torch.from_numpy(np.stack([self._said[row] for row in rows])) + self.weight


def test_the_loss_is_the_weighted_sum_of_its_terms(signals: Signals) -> None:
    objective, rows = objective_of(signals, BOTH), np.array([5, 0, 17])
    student_logits = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    terms = objective.terms(student_logits, rows)
    assert list(terms) == ["forward_kl", "cross_entropy"]
    assert float(objective.loss(student_logits, rows)) == pytest.approx(sum(float(term) for term in terms.values()))
    for options in BOTH:
        alone = objective_of(signals, [{**options, "weight": 1.0}]).loss(student_logits, rows)
        assert float(terms[options["loss"]]) == pytest.approx(options["weight"] * float(alone), rel=1e-6)


def test_every_row_is_held_against_its_own_teacher_logits(signals: Signals) -> None:
    objective, train = objective_of(signals, [{"loss": "forward_kl"}]), SplitSignals(signals, "train")
    rows = np.array([30, 2, 11, 7])
    own = torch.from_numpy(np.asarray(train.outputs[rows]))
    assert abs(float(objective.loss(own, rows))) < 1e-6
    assert float(objective.loss(own, rows[::-1])) > 1e-3, "the same logits beside other rows"


def test_every_row_is_held_against_its_own_label(signals: Signals) -> None:
    objective, train = objective_of(signals, [{"loss": "cross_entropy"}]), SplitSignals(signals, "train")
    rows = np.flatnonzero(train.labels >= 0)[[9, 4, 2, 8, 1]]
    right = torch.from_numpy(20 * np.eye(2, dtype=np.float32)[train.labels[rows]])
    assert float(objective.loss(right, rows)) < 1e-6
    assert float(objective.loss(-right, rows)) > 10


def test_validation_is_accuracy_on_gold(signals: Signals) -> None:
    objective, held_out = objective_of(signals, BOTH), SplitSignals(signals, "validation")
    right = np.eye(2, dtype=np.float32)[held_out.labels]
    assert objective.validate(Echo(held_out, right))[1] == 1.0
    assert objective.validate(Echo(held_out, -right))[1] == 0.0
    some = right.copy()
    some[:10] *= -1
    assert objective.validate(Echo(held_out, some))[1] == pytest.approx(1 - 10 / len(right))


def test_validation_loss_is_zero_for_the_teacher_alone(signals: Signals) -> None:
    objective, held_out = objective_of(signals, [{"loss": "forward_kl"}]), SplitSignals(signals, "validation")
    said = np.asarray(held_out.outputs)
    assert abs(objective.validate(Echo(held_out, said))[0]) < 1e-6
    assert objective.validate(Echo(held_out, said[::-1].copy()))[0] > 1e-3


def test_without_gold_validation_is_agreement_with_the_teacher(signals: Signals) -> None:
    split = SplitSignals(signals, "validation")
    split.labels = np.full_like(split.labels, -1)
    objective = TeacherSignals(
        DistillOptions.model_validate({"losses": [{"loss": "forward_kl"}]}).losses,
        SplitSignals(signals, "train"),
        split,
        signals,
    )
    said = np.asarray(split.outputs)
    assert objective.validate(Echo(split, said))[1] == 1.0
    assert objective.validate(Echo(split, -said))[1] == 0.0


def test_gradients_reach_the_student_alone(signals: Signals) -> None:
    objective = objective_of(signals, BOTH)
    student_logits = torch.randn(4, 2, requires_grad=True, generator=torch.Generator().manual_seed(0))
    torch.autograd.backward(objective.loss(student_logits, np.arange(4)))
    assert student_logits.grad is not None
    assert student_logits.grad.abs().sum(dim=1).all()


def test_the_losses_by_default_are_soft_labels_and_some_gold() -> None:
    assert [(loss.loss, loss.weight) for loss in DISTILL.losses] == [("forward_kl", 0.9), ("cross_entropy", 0.1)]
