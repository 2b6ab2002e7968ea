"""What a decoder minimises: its counted positions and nothing else, each with the same weight, computed once more."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgedistill import registry
from edgedistill.tasks.text_generation import CacheOptions
from edgedistill.training.counted_rows import CountedRows
from edgedistill.training.decoder_rows import DecoderRows
from edgedistill.training.following import LOSSES, Following
from edgedistill.training.known_logits import KnownLogits, drawn
from edgedistill.training.rows import TokenRows

VOCABULARY, UNSAID = 11, 3  # further rows of a model's head, which stand for no token


class Table(nn.Module):
    """A model whose logits depend on the token before alone; what it says of no token is far above all else."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        logits = torch.randn(VOCABULARY, VOCABULARY + UNSAID, generator=torch.Generator().manual_seed(seed))
        logits[:, VOCABULARY:] += 20
        self.logits = nn.Parameter(logits)

    def forward(self, ids: Tensor, _mask: Tensor, kept: Tensor) -> Tensor:
        said: Tensor = self.logits[ids][:, kept]
        return said


def rows(lengths: list[int], seed: int = 0) -> DecoderRows:
    """Return rows of which about half of the tokens count; the last one always does."""
    random, offsets = np.random.default_rng(seed), np.cumsum([0, *lengths])
    ids = random.integers(0, VOCABULARY, offsets[-1]).astype(np.int32)
    counts = random.random(len(ids)) < 0.5
    counts[offsets[1:] - 1], counts[offsets[:-1]] = True, False
    return DecoderRows(TokenRows(ids, offsets, 0), CountedRows(ids, offsets, counts), np.arange(len(lengths)))


def teacher_of(some: DecoderRows, folder: Path) -> tuple[KnownLogits, Tensor]:
    """Return all that a teacher says at each position, as it is kept on disk and as it was."""
    said = torch.randn(some.counted.positions, VOCABULARY, generator=torch.Generator().manual_seed(7))
    entries, *arrays = drawn(said.softmax(-1), CacheOptions(way="dense"), torch.Generator())
    files = [folder / f"{name}.npy" for name in ("offsets", "tokens", "weights")]
    for file, array in zip(files, (np.concatenate([[0], np.cumsum(entries)]), *arrays), strict=True):
        np.save(file, array)
    return KnownLogits(*files), said


def one_by_one(model: Table, some: DecoderRows, batch: np.ndarray) -> tuple[Tensor, list[int]]:
    """Return what is said of every counted token, (positions, VOCABULARY), and which token that is."""
    ids, offsets, counts = some.tokens.ids, some.tokens.offsets, some.counted.counts
    places = [at for row in batch for at in range(offsets[row], offsets[row + 1]) if counts[at]]
    return torch.stack([model.logits[ids[at - 1], :VOCABULARY] for at in places]), [int(ids[at]) for at in places]


def numbers_of(some: DecoderRows, batch: np.ndarray) -> list[int]:
    """Return the positions' numbers, through all rows."""
    counts, offsets = some.counted.counts, some.tokens.offsets
    places = [at for row in batch for at in range(offsets[row], offsets[row + 1]) if counts[at]]
    return [int(counts[:at].sum()) for at in places]


def following(some: DecoderRows, known: Any = None, **losses: dict[str, float]) -> Following:
    chosen = [registry.load(LOSSES, loss).Options(loss=loss, **options) for loss, options in losses.items()]
    return Following(chosen, some, some, known, VOCABULARY)


def test_every_counted_token_weighs_the_same_and_nothing_else_weighs(tmp_path: Path) -> None:
    some, model, batch = rows([4, 9, 2, 6]), Table(1), np.array([3, 0, 1])
    known, said = teacher_of(some, tmp_path)
    objective = following(some, (known, known), cross_entropy={"weight": 0.5}, forward_kl={"temperature": 2.0})
    ids, mask = (torch.from_numpy(array) for array in some.tokens.padded(batch))
    terms = objective.terms(model(ids, mask, **objective.asked(batch)), batch)
    logits, gold = one_by_one(model, some, batch)
    teacher = said[numbers_of(some, batch)]
    nats = -sum(logits.log_softmax(-1)[i, token] for i, token in enumerate(gold)) / len(gold)
    soft = [(each / 2).log_softmax(-1) for each in (teacher, logits)]
    kl = 4 * (soft[0].exp() * (soft[0] - soft[1])).sum() / len(gold)
    assert float(terms["cross_entropy"].detach()) == pytest.approx(0.5 * float(nats.detach()), rel=1e-5)
    assert float(terms["forward_kl"].detach()) == pytest.approx(float(kl.detach()), rel=5e-3), "kept as float16"


def test_the_validation_loss_is_the_mean_over_all_positions_however_rows_are_batched() -> None:
    lengths = [3, 40, 5, 2, 31, 8, 2, 17, 60, 4]  # more than are read at once, and the last ones are the longest
    some, model = rows(lengths), Table(2)
    loss, right = following(some, cross_entropy={}).validate(model)
    logits, gold = one_by_one(model, some, np.arange(len(lengths)))
    assert loss == pytest.approx(float(F.cross_entropy(logits, torch.tensor(gold)).detach()), rel=1e-5)
    assert right == pytest.approx(float((logits.argmax(-1) == torch.tensor(gold)).float().mean()))
