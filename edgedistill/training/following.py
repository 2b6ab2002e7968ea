"""What a decoder minimises: losses at the positions that count, on what is known of the teacher, or on gold alone.

Every term is a mean over the positions of the batch, so that neither prompts nor padding nor the batch's size weigh.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgedistill import registry
from edgedistill.decoder_values import DecoderSignals
from edgedistill.section import LossOptions
from edgedistill.training.decoder_rows import DecoderRows
from edgedistill.training.known_logits import KnownLogits

LOSSES = "edgedistill.distill.losses"
VALIDATED_TOGETHER = 8


class Following:
    """A weighted sum of losses at each position; the validation metric is how often the likeliest token follows."""

    views = 1

    def __init__(
        self,
        losses: Sequence[LossOptions],
        train: DecoderRows,
        validation: DecoderRows,
        known: tuple[KnownLogits, KnownLogits] | None,
        vocabulary: int,
    ) -> None:
        """Keep what training needs.

        Args:
            losses: as the recipe weighs them.
            known: of the teacher, in train and in validation; None where no loss reads it.
            vocabulary: ids that the tokenizer knows; a model's further rows stand for no token, and are left out.
        """
        self._losses = tuple((options, registry.load(LOSSES, options.loss)) for options in losses)
        self._train, self._validation, self._known, self._vocabulary = train, validation, known, vocabulary

    def asked(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Return which tokens of these training rows are followed by one that counts."""
        return {"kept": torch.from_numpy(self._train.kept(rows))}

    def loss(self, said: Tensor, rows: np.ndarray) -> Tensor:
        """Return the sum of the terms for what the model says, (batch, kept, vocabulary), of these training rows."""
        return torch.stack(list(self.terms(said, rows).values())).sum()

    def terms(self, said: Tensor, rows: np.ndarray) -> dict[str, Tensor]:
        """Return each loss, weighted."""
        return self._terms(said, self._train, rows, None if self._known is None else self._known[0])

    @torch.no_grad()
    def validate(self, model: Any) -> tuple[float, float]:
        """Return the mean of the sum over validation positions, and the share whose token is the likeliest."""
        held_out, device = self._validation, next(model.parameters()).device
        known = None if self._known is None else self._known[1]
        model.eval()
        loss, right, seen = 0.0, 0, 0
        for start in range(0, len(held_out.tokens), VALIDATED_TOGETHER):
            batch = np.arange(start, min(start + VALIDATED_TOGETHER, len(held_out.tokens)))
            ids, mask = (torch.from_numpy(array).to(device) for array in held_out.tokens.padded(batch))
            said = model(ids, mask, kept=torch.from_numpy(held_out.kept(batch))).float()
            places, befores, numbers = held_out.targets(batch)
            terms = self._terms(said, held_out, batch, known)
            loss += float(torch.stack(list(terms.values())).sum()) * len(numbers)
            gold = torch.from_numpy(held_out.gold[numbers]).to(device)
            right += int((said[places, befores, : self._vocabulary].argmax(dim=-1) == gold).sum())
            seen += len(numbers)
        return loss / seen, right / seen

    def _terms(
        self, said: Tensor, rows: DecoderRows, batch: np.ndarray, known: KnownLogits | None
    ) -> dict[str, Tensor]:
        places, befores, numbers = rows.targets(batch)
        logits = said[torch.from_numpy(places), torch.from_numpy(befores), : self._vocabulary]
        return {
            options.loss: options.weight * self._term(options, module, logits, rows, numbers, known)
            for options, module in self._losses
        }

    def _term(
        self, options: LossOptions, module: Any, logits: Tensor, rows: DecoderRows, numbers: np.ndarray,
        known: KnownLogits | None,
    ) -> Tensor:  # fmt: skip
        gold = torch.from_numpy(rows.gold[numbers]).to(logits.device)
        if known is None or {"gold"} == options.NEEDS:
            term: Tensor = module.loss(options, logits, logits.detach(), gold)
        elif known.every_token:
            term = module.loss(options, logits, known.dense_at(numbers, logits.device), gold)
        else:
            term = module.loss_of_known(options, logits, known.at(numbers, logits.device))
        return term


def known_of(signals: DecoderSignals) -> tuple[KnownLogits, KnownLogits]:
    """Return what is known of the teacher in train and in validation."""
    train, validation = (
        KnownLogits(*(signals.path(part) for part in (said.offsets, said.tokens, said.weights)))
        for said in (signals.logits[name] for name in ("train", "validation"))
    )
    return train, validation
