"""Binary cross-entropy with the gold labels, each label for itself, on the rows of which they are known.

The number behind each row is a set: bit i says whether label i holds.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from edgedistill.section import LossOptions

if TYPE_CHECKING:
    from torch import Tensor


class Options(LossOptions):
    """Weight of the gold labels."""

    loss: Literal["binary_cross_entropy"]

    NEEDS: ClassVar[frozenset[str]] = frozenset({"gold"})
    TASKS: ClassVar[frozenset[str]] = frozenset({"multi_label_classification"})
    DIVERGENCE: ClassVar[bool] = False  # equal logits do not make it zero: it compares with labels, not with a teacher


def loss(options: Options, student: "Tensor", teacher: "Tensor", labels: "Tensor") -> "Tensor":
    """Return the mean over the known rows of the negative log-probability of what holds and what does not.

    Summed over labels, as `binary_kl` is, so that the weights of the two compare. A batch without any known row gives
    a zero that carries no gradient to any logit.

    Args:
        options: `weight` is not applied here.
        student: logits, (batch, labels), finite, float32; gradients flow into it.
        teacher: (batch, labels); not read.
        labels: (batch,) int64; sets of labels, -1 where nothing is known.

    Returns:
        A scalar in nats.

    Raises:
        ValueError: the batch is empty.
    """
    import torch
    import torch.nn.functional as F

    if len(student) == 0:
        raise ValueError("no row is left to learn from: the batch is empty")
    known = labels >= 0
    if not bool(known.any()):
        return student.sum() * 0.0
    places = torch.arange(student.shape[1], device=labels.device)
    holds = (labels[known][:, None] >> places) & 1  # (known rows, labels)
    summed = F.binary_cross_entropy_with_logits(student[known], holds.to(student.dtype), reduction="sum")
    return summed / int(known.sum())
