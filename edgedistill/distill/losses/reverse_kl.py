"""Reverse KL: the student puts no probability where the teacher has little, at the price of leaving some out.

Source: Gu et al. 2023, "MiniLLM: Knowledge Distillation of Large Language Models", arXiv:2306.08543, section 2.1.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from edgedistill.section import LossOptions

if TYPE_CHECKING:
    from torch import Tensor


class Options(LossOptions):
    """Weight of the term."""

    loss: Literal["reverse_kl"]

    NEEDS: ClassVar[frozenset[str]] = frozenset({"logits"})
    TASKS: ClassVar[frozenset[str]] = frozenset({"text_classification", "text_generation"})
    DIVERGENCE: ClassVar[bool] = True


def loss(options: Options, student: "Tensor", teacher: "Tensor", labels: "Tensor") -> "Tensor":
    """Return the mean of KL(student || teacher) over the rows, in nats.

    Zero exactly when both give the same distribution for every row.

    Args:
        options: `weight` is not applied here.
        student: logits, (batch, classes), finite, float32; gradients flow into it.
        teacher: logits, (batch, classes), finite, float32; no gradient flows into it.
        labels: (batch,) int64; not read.

    Raises:
        ValueError: the batch is empty.
    """
    import torch.nn.functional as F

    if len(student) == 0:
        raise ValueError("no row is left to learn from: the batch is empty")
    said, wanted = F.log_softmax(student, dim=-1), F.log_softmax(teacher.detach(), dim=-1)
    return F.kl_div(wanted, said, reduction="batchmean", log_target=True)
