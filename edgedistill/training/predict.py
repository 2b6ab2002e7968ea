"""Logits of many rows, in batches that are always the same."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgedistill.files import write_atomic
from edgedistill.progress import bar
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
        ids, mask = rows.padded(batch)
        logits[batch] = model(torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)).float().cpu().numpy()
    return logits


def resumable_logits(
    model: Any, rows: TokenRows, classes: int, file: Path, progress: Path, what: str, device: torch.device
) -> np.ndarray:
    """Write the model's logits to `file`, a .npy of (rows, classes) float32, going on where an earlier try stopped.

    A batch counts as done only after its logits are on disk, so a row is never half written. The batches are fixed
    by the rows' lengths; a resumed file is bit-identical to an undisturbed one.
    """
    batches = list(ordered_batches(rows.lengths, BATCH_SIZE))
    counter = progress / f"{file.stem}.batches_done"
    done = int(counter.read_text()) if counter.exists() and file.exists() else 0
    if not done:  # written out in full: in a file with holes, a full disk would be a bus error and not an exception
        np.save(file, np.zeros((len(rows), classes), dtype=np.float32))
    logits = np.lib.format.open_memmap(file, mode="r+")
    model.eval()
    finished_rows = sum(len(batch) for batch in batches[:done])
    with torch.no_grad(), bar(what, len(rows), "rows", done=finished_rows) as advance:
        for i, batch in enumerate(batches[done:], start=done + 1):
            ids, mask = rows.padded(batch)
            output = model(torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device))
            logits[batch] = output.float().cpu().numpy()
            advance(len(batch))
            if i % 32 == 0 or i == len(batches):
                logits.flush()
                write_atomic(counter, str(i))
    return logits
