"""Learning from texts alone: a text's other view is to be found, and finding it can be learned."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_training import OPTIONS, token_rows

from edgedistill.models.embedder import StaticEmbedder
from edgedistill.training.dropout_pairs import TEMPERATURE, DropoutPairs
from edgedistill.training.loop import train

ROWS, HELD_OUT = token_rows([6] * 40), token_rows([5] * 20)


def model() -> Any:
    torch.manual_seed(0)
    return StaticEmbedder(60, 16, 8, ())


def test_the_loss_is_cross_entropy_over_scaled_cosines() -> None:
    said = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    units = said / said.norm(dim=1, keepdim=True)
    expected = -torch.log_softmax(units[:4] @ units[4:].T / TEMPERATURE, dim=1).diagonal().mean()
    pairs = DropoutPairs(HELD_OUT, 0)
    assert torch.isclose(pairs.loss(said, np.tile(np.arange(4), 2)), expected, rtol=1e-5)
    alike = torch.eye(4).repeat(2, 1)
    assert float(pairs.loss(alike, np.arange(8))) < 1e-6 < float(pairs.loss(alike.roll(1, 0)[:8], np.arange(8))) + 1
    assert float(pairs.loss(torch.cat([torch.eye(4), torch.eye(4).roll(1, 0)]), np.arange(8))) > 10


def test_each_row_stands_twice_in_a_batch_under_other_dropout(tmp_path: Path) -> None:
    seen: list[tuple[np.ndarray, torch.Tensor]] = []

    class Watched(DropoutPairs):
        def loss(self, said: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
            seen.append((rows, said.detach()))
            return super().loss(said, rows)

    train(model(), ROWS, Watched(HELD_OUT, 0), OPTIONS, tmp_path, "tiny")
    for rows, said in seen:
        first, second = np.split(rows, 2)
        assert np.array_equal(first, second)
        views = said.chunk(2)
        assert not torch.equal(*views)
        assert F.cosine_similarity(*views).mean() > 0.5


def test_training_finds_more_views_and_validation_repeats(tmp_path: Path) -> None:
    learner, pairs = model(), DropoutPairs(HELD_OUT, 0)
    before = pairs.validate(learner)
    assert pairs.validate(learner) == before, "the same dropout each time"
    assert not learner.training
    train(learner, ROWS, pairs, OPTIONS, tmp_path, "tiny")
    assert pairs.validate(learner)[0] < before[0]


def test_validation_draws_no_random_numbers_from_the_training(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    DropoutPairs(HELD_OUT, 0).validate(model_without_seed())
    assert torch.equal(torch.rand(2), expected)


def model_without_seed() -> Any:
    with torch.random.fork_rng(devices=[]):
        return model()


@pytest.mark.parametrize("seed", [0, 1])
def test_the_seed_decides_the_dropout(seed: int) -> None:
    losses = {DropoutPairs(HELD_OUT, other).validate(model_without_seed())[0] for other in (seed, seed + 10)}
    assert len(losses) == 2
