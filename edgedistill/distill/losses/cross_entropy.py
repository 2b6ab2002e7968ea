"""Cross-entropy with the gold label, on the rows that have one."""

from typing import TYPE_CHECKING, ClassVar, Literal

from edgedistill.section import LossOptions

if TYPE_CHECKING:
    from torch import Tensor


class Options(LossOptions):
    """Weight of the gold labels."""

    loss: Literal["cross_entropy"]

    NEEDS: ClassVar[frozenset[str]] = frozenset({"gold"})
    TASKS: ClassVar[frozenset[str]] = frozenset({"text_classification", "text_generation"})
    DIVERGENCE: ClassVar[bool] = False  # equal logits do not make it zero: it compares with labels, not with a teacher


def loss(options: Options, student: "Tensor", teacher: "Tensor", labels: "Tensor") -> "Tensor":
    """Return the mean negative log-probability of the gold label over the labelled rows.

    A batch without any labelled row gives a zero that carries no gradient to any logit.

    Args:
        options: `weight` is not applied here.
        student: logits, (batch, classes), finite, float32; gradients flow into it.
        teacher: (batch, classes); not read.
        labels: (batch,) int64; -1 where the row has no label.

    Returns:
        A scalar in nats.

    Raises:
        ValueError: the batch is empty.
    """
    import torch.nn.functional as F

    if len(student) == 0:
        raise ValueError("no row is left to learn from: the batch is empty")
    if not bool((labels >= 0).any()):
        return student.sum() * 0.0
    return F.cross_entropy(student, labels, ignore_index=-1)
