"""Learning sentence vectors from texts alone: two passes with other dropout are two views of one text.

Source: Gao, Yao, Chen 2021, "SimCSE", arXiv:2104.08821, section 3 (unsupervised), temperature 0.05.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from edgedistill.training.rows import TokenRows, ordered_batches

TEMPERATURE = 0.05
VALIDATED_TOGETHER = 64


class DropoutPairs:
    """Each text's other view is to be found among the views of its batch; the validation metric is how often it is."""

    views = 2

    def __init__(self, validation: TokenRows, seed: int) -> None:
        """Keep what training needs.

        Args:
            validation: rows to choose the epoch on.
            seed: of the dropout under which they are read, the same one in every epoch.
        """
        self._validation, self._seed = validation, seed

    def asked(self, rows: np.ndarray) -> dict[str, torch.Tensor]:  # noqa: ARG002 - as every objective's
        """Return nothing: the model says one thing of each row."""
        return {}

    def loss(self, said: torch.Tensor, rows: np.ndarray) -> torch.Tensor:  # noqa: ARG002 - a text is its own target
        """Return the mean cross-entropy, in nats, of finding each text's other view.

        Args:
            said: (2 * batch, width); all texts, then all of them again.
            rows: (2 * batch,) int; not read.
        """
        return F.cross_entropy(_similarities(said), torch.arange(len(said) // 2, device=said.device))

    @torch.no_grad()
    def validate(self, model: Any) -> tuple[float, float]:
        """Return mean loss and share of views found, with dropout on, as without it both views are one."""
        device = next(model.parameters()).device
        losses, found, rows = 0.0, 0.0, self._validation
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            model.train()
            for batch in ordered_batches(rows.lengths, VALIDATED_TOGETHER):
                ids, mask = (torch.from_numpy(array).to(device) for array in rows.padded(np.tile(batch, 2)))
                similar = _similarities(model(ids, mask).float())
                own = torch.arange(len(batch), device=device)
                losses += float(F.cross_entropy(similar, own, reduction="sum"))
                found += float((similar.argmax(dim=1) == own).sum())
            model.eval()
        return losses / len(rows), found / len(rows)


def _similarities(said: torch.Tensor) -> torch.Tensor:
    """Return cosine over temperature of every first view with every second one, (batch, batch)."""
    first, second = F.normalize(said, dim=-1).chunk(2)
    return first @ second.T / TEMPERATURE
