"""From the vectors of a text's tokens to one vector for the text."""

import torch
from torch import Tensor

from edgedistill.models.sentence_transformers import Pooling


def pooled(vectors: Tensor, attention_mask: Tensor, way: Pooling) -> Tensor:
    """Return one vector for each text, (batch, width).

    Args:
        vectors: (batch, tokens, width).
        attention_mask: (batch, tokens); 0 where no token is.
        way: of pooling; `cls` takes the first token's.
    """
    if way == "cls":
        return vectors[:, 0]
    mask = attention_mask.unsqueeze(-1).to(vectors.dtype)
    if way == "max":
        highest: Tensor = vectors.masked_fill(mask == 0, torch.finfo(vectors.dtype).min).max(dim=1).values
        return highest
    count = mask.sum(dim=1).clamp(min=1)
    total: Tensor = (vectors * mask).sum(dim=1)
    return total / (count if way == "mean" else count.sqrt())
