"""A student whose vectors all have length 1 is not trained towards longer ones."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from edgedistill.distill.preflight import _check_lengths
from edgedistill.errors import TrainingError
from edgedistill.recipe_sections import DistillOptions

RANDOM = np.random.default_rng(0)
VECTORS = RANDOM.normal(size=(6, 8)).astype(np.float32)
UNIT = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)


class Fixed(torch.nn.Module):
    def __init__(self, *, normalize: bool) -> None:
        super().__init__()
        self.normalize = normalize

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        said = torch.from_numpy(VECTORS[::-1].copy())
        return F.normalize(said, dim=-1) if self.normalize else said


@pytest.mark.parametrize(
    ("loss", "normalize", "taught", "refused"),
    [
        ("l2", True, VECTORS, True),
        ("l2", True, UNIT, False),
        ("l2", False, VECTORS, False),
        ("cosine", True, VECTORS, False),
    ],
)
def test_longer_vectors_are_refused_where_a_loss_reads_lengths(
    loss: str, normalize: bool, taught: np.ndarray, refused: bool
) -> None:
    rows = SimpleNamespace(padded=lambda rows: (np.zeros((6, 2), np.int64), np.ones((6, 2), np.int64)))
    train: Any = SimpleNamespace(rows=rows, targets=lambda rows: taught)
    options = DistillOptions.model_validate({"losses": [{"loss": loss}], "epochs": 1, "batch_size": 2})
    said = r"have length 1, the teacher's 2\.\d+ on average, and 'l2' compares lengths; write cosine in its place"
    with pytest.raises(TrainingError, match=said) if refused else nullcontext():
        _check_lengths(options, Fixed(normalize=normalize), train, np.arange(6))
