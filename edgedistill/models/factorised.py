"""A token table of low rank: (vocabulary, rank) times (rank, width), instead of (vocabulary, width).

Half of a small student's weights are its token table, and a table's rows are far from independent of each other. The
two factors start as the best approximation of the whole table that this rank allows, so that training begins where
the whole table stood, as nearly as it can.

Source: Lan et al. 2020, "ALBERT", arXiv:1909.11942, section 3.1 (factorised embedding parameterisation); Eckart and
Young 1936, "The approximation of one matrix by another of lower rank" (the truncated SVD is the best one).
"""

from typing import Any

import torch
from torch import Tensor, nn

from edgedistill.models.anatomy import check_rank

RANK = "edgedistill_embedding_rank"
"""The key of config.json that says how such a checkpoint is to be loaded."""


class FactorisedEmbedding(nn.Module):
    """Stands in for nn.Embedding; a table and a projection, which quantization finds by itself."""

    def __init__(self, num_embeddings: int, rank: int, embedding_dim: int, padding_idx: int | None = None) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim, self.rank = num_embeddings, embedding_dim, rank
        self.embedding = nn.Embedding(num_embeddings, rank, padding_idx)
        self.projection = nn.Linear(rank, embedding_dim, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Return token vectors, (..., width), of ids, (...) int64."""
        vectors: Tensor = self.projection(self.embedding(ids))
        return vectors

    def whole(self) -> nn.Embedding:
        """Return the table that the two factors stand for."""
        table = nn.Embedding(self.num_embeddings, self.embedding_dim, self.embedding.padding_idx)
        with torch.no_grad():
            table.weight.copy_(self.projection(self.embedding.weight))
        return table


def factorise(classifier: Any, rank: int) -> None:
    """Exchange the token table of a classifier for its best approximation of this rank.

    Raises:
        ModelError: the two factors would hold as many numbers as the table.
    """
    table = classifier.token_table
    check_rank(rank, table.num_embeddings, table.embedding_dim)
    factors = FactorisedEmbedding(table.num_embeddings, rank, table.embedding_dim, table.padding_idx)
    left, right = best_factors(table.weight.detach(), rank)
    with torch.no_grad():
        factors.embedding.weight.copy_(left)
        factors.projection.weight.copy_(right.T)
    classifier.replace_token_table(factors)


def best_factors(table: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return (rows, rank) and (rank, columns) whose product is as near to `table` as this rank allows.

    The columns' Gram matrix is decomposed, in float64, and not the table, which is a hundred times as tall as wide.
    """
    wide = table.double()
    vectors = torch.linalg.eigh(wide.T @ wide).eigenvectors  # columns, by ascending singular value
    right = vectors[:, -rank:].T.flip(0)
    return (wide @ right.T).to(table.dtype), right.to(table.dtype)


def rank_of(classifier: Any) -> int | None:
    """Return the rank of a classifier's token table; None where it is whole."""
    table = classifier.token_table
    return table.rank if isinstance(table, FactorisedEmbedding) else None
