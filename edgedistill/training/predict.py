"""Logits of many rows, in batches that are always the same."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgedistill.resumable import resumable
from edgedistill.training.rows import TokenRows, ordered_batches

BATCH_SIZE = 64


@torch.no_grad()
def logits_of(
    model: Any, rows: TokenRows, classes: int, device: torch.device | None = None, batch_size: int = BATCH_SIZE
) -> np.ndarray:
    """Return the model's logits, (rows, classes) float32; the model is left in evaluation mode."""
    model.eval()
    logits = np.empty((len(rows), classes), dtype=np.float32)
    for batch in ordered_batches(rows.lengths, batch_size):
        logits[batch] = _logits(model, rows, batch, device)
    return logits


def resumable_logits(
    model: Any, rows: TokenRows, classes: int, file: Path, progress: Path, what: str, device: torch.device
) -> np.ndarray:
    """Write the model's logits to `file`, a .npy of (rows, classes) float32, going on where an earlier try stopped.

    The batches are fixed by the rows' lengths; a resumed file is bit-identical to an undisturbed one.
    """

    @torch.no_grad()
    def answer(batch: np.ndarray) -> np.ndarray:
        return _logits(model, rows, batch, device)

    model.eval()
    batches = list(ordered_batches(rows.lengths, BATCH_SIZE))
    return resumable(file, (len(rows), classes), batches, answer, progress, what, "rows")


def _logits(model: Any, rows: TokenRows, batch: np.ndarray, device: torch.device | None) -> np.ndarray:
    """Return the logits of one batch, (batch, classes) float32."""
    ids, mask = (torch.from_numpy(array).to(device) for array in rows.padded(batch))
    logits: np.ndarray = model(ids, mask).float().cpu().numpy()
    return logits
