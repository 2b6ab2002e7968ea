"""A training small enough to be run some hundred times: texts as ids, a static model, labels that the ids decide."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny_artifact import LABELS

from edgedistill.models.classifier import StaticClassifier
from edgedistill.recipe_sections import TrainingOptions
from edgedistill.training.gold import GoldLabels
from edgedistill.training.loop import train
from edgedistill.training.rows import TokenRows
from edgedistill.values import Training

VOCAB = 40
OPTIONS = TrainingOptions(epochs=4, batch_size=8, learning_rate=0.03, patience=4)
STEPS = 20  # 40 rows in batches of 8, four times
Weights = dict[str, torch.Tensor]


def token_rows(lengths: list[int], seed: int = 0) -> TokenRows:
    """Return rows of these lengths; seven in eight ids are from the half of the vocabulary that is the row's label."""
    random, half = np.random.default_rng(seed), VOCAB // 2
    own = np.repeat(np.arange(len(lengths)) % 2, lengths) ^ (random.random(sum(lengths)) < 1 / 8)
    return TokenRows(
        (random.integers(0, half, sum(lengths)) + half * own).astype(np.int32), np.cumsum([0, *lengths]), 0
    )


def labels_for(rows: TokenRows) -> np.ndarray:
    """Return the label of each row, (rows,) int64."""
    return np.arange(len(rows), dtype=np.int64) % 2


def gold() -> tuple[TokenRows, GoldLabels]:
    """Return training rows and the objective that goes with them."""
    rows, held_out = token_rows([3, 9, 5, 12, 7] * 8, seed=1), token_rows([4, 8] * 10, seed=2)
    return rows, GoldLabels(labels_for(rows), held_out, labels_for(held_out))


def model(seed: int = 0) -> StaticClassifier:
    """Return an untrained static classifier; it has dropout, so that random numbers matter."""
    torch.manual_seed(seed)
    return StaticClassifier(VOCAB, 8, 8, LABELS)


def trained(
    progress: Path, objective: Any = None, options: TrainingOptions = OPTIONS, start: Any = None
) -> tuple[Weights, Training]:
    """Train a fresh model, or go on where `progress` stands; return its weights and how it came by them."""
    rows, sound = gold()
    learner = start or model()
    found = train(learner, rows, objective or sound, options, progress, "tiny")
    return learner.state_dict(), found


def same(a: tuple[Weights, Training], b: tuple[Weights, Training]) -> bool:
    """Whether two trainings ended alike, to the last bit; time alone may differ."""
    equal = all(torch.equal(a[0][name], b[0][name]) for name in a[0])
    return equal and a[0].keys() == b[0].keys() and not _apart(a[1], b[1])


def _apart(a: Training, b: Training) -> bool:
    return a.model_copy(update={"seconds": 0.0}) != b.model_copy(update={"seconds": 0.0})


class Killed(Exception):
    """Stands for the end of the process."""


class Dying:
    """A sound objective that does not survive the calls whose numbers are given: losses and validations, counted."""

    views = 1

    def __init__(self, *calls: int) -> None:
        self._sound, self._fatal, self._calls = gold()[1], calls, 0

    def asked(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        return self._sound.asked(rows)

    def loss(self, logits: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        self._live()
        return self._sound.loss(logits, rows)

    def validate(self, learner: Any) -> tuple[float, float]:
        self._live()
        return self._sound.validate(learner)

    def _live(self) -> None:
        self._calls += 1
        if self._calls in self._fatal:
            raise Killed


class Scripted:
    """Learns, but is told what each validation finds."""

    views = 1

    def __init__(self, *found: tuple[float, float]) -> None:
        self._sound, self._found, self.seen = gold()[1], iter(found), list[dict[str, torch.Tensor]]()

    def asked(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        return self._sound.asked(rows)

    def loss(self, logits: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        return self._sound.loss(logits, rows)

    def validate(self, learner: Any) -> tuple[float, float]:
        self.seen.append({name: tensor.clone() for name, tensor in learner.state_dict().items()})
        return next(self._found)
