"""Skew KL: forward KL against the student with a little of the teacher mixed in, whose gradient stays bounded.

Source: Ko et al. 2024, "DistiLLM: Towards Streamlined Distillation for Large Language Models", arXiv:2402.03898,
section 3.1.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from edgedistill.section import LossOptions

if TYPE_CHECKING:
    from torch import Tensor


class Options(LossOptions):
    """How much of the teacher is mixed in."""

    loss: Literal["skew_kl"]
    skew: float = Field(0.1, gt=0, lt=1, description="Share of the teacher in what it is compared with; as DistiLLM.")

    NEEDS: ClassVar[frozenset[str]] = frozenset({"logits"})
    TASKS: ClassVar[frozenset[str]] = frozenset({"text_classification", "text_generation"})
    DIVERGENCE: ClassVar[bool] = True


def loss(options: Options, student: "Tensor", teacher: "Tensor", labels: "Tensor") -> "Tensor":
    """Return the mean of KL(teacher || skew * teacher + (1 - skew) * student) over the rows, in nats.

    Zero exactly when both give the same distribution for every row.

    Args:
        options: `weight` is not applied here.
        student: logits, (batch, classes), finite, float32; gradients flow into it.
        teacher: logits, (batch, classes), finite, float32; no gradient flows into it.
        labels: (batch,) int64; not read.

    Raises:
        ValueError: the batch is empty.
    """
    import math

    import torch
    import torch.nn.functional as F

    if len(student) == 0:
        raise ValueError("no row is left to learn from: the batch is empty")
    said, wanted = F.log_softmax(student, dim=-1), F.log_softmax(teacher.detach(), dim=-1)
    mixed = torch.logaddexp(wanted + math.log(options.skew), said + math.log(1 - options.skew))
    return F.kl_div(mixed, wanted, reduction="batchmean", log_target=True)
