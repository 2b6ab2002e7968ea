"""Binary KL: the student gives each label the probability that the teacher gives it, whatever the other labels do.

Source: Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531, section 2, with
its factor of temperature squared, here with a sigmoid for each label in place of the softmax over all of them. As a sum
over labels of binary KL divergences: Yang et al. 2023, "Multi-Label Knowledge Distillation", arXiv:2308.06453,
its logits distillation.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from edgedistill.section import LossOptions

if TYPE_CHECKING:
    from torch import Tensor


class Options(LossOptions):
    """Weight and softness of the teacher's probabilities."""

    loss: Literal["binary_kl"]
    temperature: float = Field(
        2.0, gt=0, le=20, examples=[4.0], description="Divides both models' logits; 1 leaves them as they are."
    )

    NEEDS: ClassVar[frozenset[str]] = frozenset({"logits"})
    TASKS: ClassVar[frozenset[str]] = frozenset({"multi_label_classification"})
    DIVERGENCE: ClassVar[bool] = True


def loss(options: Options, student: "Tensor", teacher: "Tensor", labels: "Tensor") -> "Tensor":
    """Return the mean over the rows of the sum over labels of KL(teacher || student).

    Zero exactly when both give every label the same probability, in every row.

    Args:
        options: `weight` is not applied here.
        student: logits, (batch, labels), finite, float32; gradients flow into it.
        teacher: logits, (batch, labels), finite, float32; no gradient flows into it.
        labels: (batch,) int64; not read.

    Returns:
        A scalar in nats, times temperature squared, so that its gradient keeps its size when the
        temperature changes.

    Raises:
        ValueError: the batch is empty.
    """
    import torch
    import torch.nn.functional as F

    if len(student) == 0:
        raise ValueError("no row is left to learn from: the batch is empty")
    holds, said = teacher.detach() / options.temperature, student / options.temperature
    wanted = F.logsigmoid(torch.stack([holds, -holds]))  # (holds or not, batch, labels)
    given = F.logsigmoid(torch.stack([said, -said]))
    return options.temperature**2 * F.kl_div(given, wanted, reduction="sum", log_target=True) / len(student)
