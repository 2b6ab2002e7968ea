"""L2: the student's vector lies where the teacher's lies, length included.

Source: Vujanic, Rueckstiess 2025, "LEAF", arXiv:2509.12539, section 3 (L2 to the teacher's vectors, without negatives).
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from edgedistill.section import LossOptions

if TYPE_CHECKING:
    from torch import Tensor


class Options(LossOptions):
    """Weight of the distance between the vectors."""

    loss: Literal["l2"]

    NEEDS: ClassVar[frozenset[str]] = frozenset({"embeddings"})
    TASKS: ClassVar[frozenset[str]] = frozenset({"sentence_embedding"})
    DIVERGENCE: ClassVar[bool] = True
    LENGTHS: ClassVar[bool] = True  # zero only where the vectors are equally long, too


def loss(options: Options, student: "Tensor", teacher: "Tensor", labels: "Tensor") -> "Tensor":
    """Return the mean over the rows of the squared distance between the two vectors.

    Zero exactly when all vectors are equal. Of vectors of length 1 it is twice 1 - cosine.

    Args:
        options: `weight` is not applied here.
        student: (batch, width), finite, float32; gradients flow into it.
        teacher: (batch, width), finite, float32; no gradient flows into it.
        labels: (batch,) int64; not read.

    Raises:
        ValueError: the batch is empty.
    """
    if len(student) == 0:
        raise ValueError("no row is left to learn from: the batch is empty")
    return (student - teacher.detach()).square().sum(dim=-1).mean()
