"""Cosine: the student's vector points where the teacher's points; how long they are does not matter.

Source: Sanh et al. 2019, "DistilBERT", arXiv:1910.01108, section 2 (as the cosine embedding loss, there of hidden
states); for sentence vectors, the cosine of EmbedDistillLoss in sentence-transformers.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from edgedistill.section import LossOptions

if TYPE_CHECKING:
    from torch import Tensor


class Options(LossOptions):
    """Weight of the direction of the vectors."""

    loss: Literal["cosine"]

    NEEDS: ClassVar[frozenset[str]] = frozenset({"embeddings"})
    TASKS: ClassVar[frozenset[str]] = frozenset({"sentence_embedding"})
    DIVERGENCE: ClassVar[bool] = True


def loss(options: Options, student: "Tensor", teacher: "Tensor", labels: "Tensor") -> "Tensor":
    """Return the mean of 1 - cosine over the rows, from 0 to 2.

    Zero exactly when both vectors of every row point the same way.

    Args:
        options: `weight` is not applied here.
        student: (batch, width), finite, float32; gradients flow into it.
        teacher: (batch, width), finite, float32; no gradient flows into it.
        labels: (batch,) int64; not read.

    Raises:
        ValueError: the batch is empty.
    """
    import torch.nn.functional as F

    if len(student) == 0:
        raise ValueError("no row is left to learn from: the batch is empty")
    return (1 - F.cosine_similarity(student, teacher.detach(), dim=-1)).mean()
