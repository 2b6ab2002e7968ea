"""Tiny decoders to prune, and the importance of their parts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny_decoders import VOCAB
from tiny_gguf import write_checkpoint

from edgedistill.models.activation_importance import Importance, measure
from edgedistill.models.decoder import load_decoder
from edgedistill.models.layer_choice import choose
from edgedistill.models.students import pruned
from edgedistill.training.rows import TokenRows

IDS = torch.randint(3, VOCAB, (3, 9), generator=torch.Generator().manual_seed(0))
MASK = torch.tensor([[1] * 9, [1] * 5 + [0] * 4, [1] + [0] * 8])
STAY = 2  # layers of a teacher with more


def calibration_rows(seed: int = 0) -> TokenRows:
    """Return rows of several lengths."""
    ids = np.random.default_rng(seed).integers(3, VOCAB, 150).astype(np.int32)
    return TokenRows(ids, np.array([0, 40, 49, 99, 101, 150]), pad_id=0)


def write_measured(folder: Path, family: str = "llama", layers: int = 3, **changes: Any) -> Any:
    """Write a teacher with its importance beside it, and return it as it is loaded."""
    write_checkpoint(folder, family, num_hidden_layers=layers, **changes)
    return measured(folder)


def measured(folder: Path, importance: Importance | None = None) -> Any:
    """Write what is measured of a checkpoint, or what is given, beside it; and return it as it is loaded."""
    decoder = load_decoder(folder)
    (measure(decoder, calibration_rows()) if importance is None else importance).save(folder / pruned.IMPORTANCE)
    if len(decoder.model.base_model.layers) > STAY:
        choose(decoder, loss_of(decoder), STAY, folder / pruned.LAYERS)
    return decoder


def loss_of(decoder: Any) -> Callable[[], float]:
    """Return what computes a decoder's loss on a few rows, as it stands then."""

    @torch.no_grad()
    def loss() -> float:
        said = decoder(IDS, MASK)[:, :-1].log_softmax(-1)
        read = MASK[:, 1:].bool()
        return -float(said.gather(-1, IDS[:, 1:, None])[..., 0][read].mean())

    return loss


def prune(folder: Path, **options: Any) -> Any:
    """Return the student that is cut out of the teacher in `folder`, in evaluation mode."""
    return pruned.make(pruned.Options(kind="pruned", **options), folder, (), folder).eval()


def logits(decoder: Any) -> torch.Tensor:
    with torch.no_grad():
        said: torch.Tensor = decoder(IDS, MASK)[MASK.bool()]
        return said
