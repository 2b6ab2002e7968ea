"""What a model says of many rows, logits or sentence vectors, in batches that are always the same."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgedistill.resumable import resumable
from edgedistill.training.rows import TokenRows, ordered_batches

BATCH_SIZE = 64


@torch.no_grad()
def outputs_of(
    model: Any, rows: TokenRows, device: torch.device | None = None, batch_size: int = BATCH_SIZE
) -> np.ndarray:
    """Return what the model says, (rows, width) float32, of at least one row; the model is left in evaluation mode."""
    model.eval()
    outputs = np.empty(0, dtype=np.float32)
    for batch in ordered_batches(rows.lengths, batch_size):
        said = _said(model, rows, batch, device)
        outputs = outputs if outputs.size else np.empty((len(rows), said.shape[1]), dtype=np.float32)
        outputs[batch] = said
    return outputs


def resumable_outputs(
    model: Any, rows: TokenRows, width: int, file: Path, progress: Path, what: str, device: torch.device
) -> np.ndarray:
    """Write what the model says to `file`, a .npy of (rows, width) float32, going on where an earlier try stopped.

    The batches are fixed by the rows' lengths; a resumed file is bit-identical to an undisturbed one.
    """

    @torch.no_grad()
    def answer(batch: np.ndarray) -> np.ndarray:
        return _said(model, rows, batch, device)

    model.eval()
    batches = list(ordered_batches(rows.lengths, BATCH_SIZE))
    return resumable(file, (len(rows), width), batches, answer, progress, what, "rows")


def _said(model: Any, rows: TokenRows, batch: np.ndarray, device: torch.device | None) -> np.ndarray:
    """Return the outputs for one batch, (batch, width) float32."""
    ids, mask = (torch.from_numpy(array).to(device) for array in rows.padded(batch))
    outputs: np.ndarray = model(ids, mask).float().cpu().numpy()
    return outputs
