"""Generalised Jensen-Shannon divergence: both models against their mixture, so that neither can make it infinite.

Source: Agarwal et al. 2023, "On-Policy Distillation of Language Models" (GKD), arXiv:2306.13649, section 2, equation 1.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from edgedistill.section import LossOptions

if TYPE_CHECKING:
    from torch import Tensor


class Options(LossOptions):
    """Where between forward and reverse KL."""

    loss: Literal["jensen_shannon"]
    beta: float = Field(0.5, gt=0, lt=1, description="Share of the teacher in the mixture; 0.5 is the symmetric one.")

    NEEDS: ClassVar[frozenset[str]] = frozenset({"logits"})
    TASKS: ClassVar[frozenset[str]] = frozenset({"text_classification", "text_generation"})
    DIVERGENCE: ClassVar[bool] = True


def loss(options: Options, student: "Tensor", teacher: "Tensor", labels: "Tensor") -> "Tensor":
    """Return the mean of beta KL(teacher || mixture) + (1 - beta) KL(student || mixture) over the rows, in nats.

    Zero exactly when both give the same distribution for every row; at most log 2 at beta 0.5.

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
    mixed = torch.logaddexp(wanted + math.log(options.beta), said + math.log(1 - options.beta))
    of_teacher = F.kl_div(mixed, wanted, reduction="batchmean", log_target=True)
    of_student = F.kl_div(mixed, said, reduction="batchmean", log_target=True)
    return options.beta * of_teacher + (1 - options.beta) * of_student
