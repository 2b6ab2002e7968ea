"""Forward KL: the student gives every class the probability that the teacher gives it.

Source: Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network",
arXiv:1503.02531, section 2, with its factor of temperature squared.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from edgedistill.section import LossOptions

if TYPE_CHECKING:
    from torch import Tensor

    from edgedistill.training.known_logits import Known


class Options(LossOptions):
    """Weight and softness of the teacher's distribution."""

    loss: Literal["forward_kl"]
    temperature: float = Field(
        2.0, gt=0, le=20, examples=[4.0], description="Divides both models' logits; 1 leaves them as they are."
    )

    NEEDS: ClassVar[frozenset[str]] = frozenset({"logits"})
    TASKS: ClassVar[frozenset[str]] = frozenset({"text_classification", "text_generation"})
    SPARSE: ClassVar[bool] = True
    DIVERGENCE: ClassVar[bool] = True


def loss(options: Options, student: "Tensor", teacher: "Tensor", labels: "Tensor") -> "Tensor":
    """Return the mean of KL(teacher || student) over the rows.

    Zero exactly when both give the same distribution for every row.

    Args:
        options: `weight` is not applied here.
        student: logits, (batch, classes), finite, float32; gradients flow into it.
        teacher: logits, (batch, classes), finite, float32; no gradient flows into it.
        labels: (batch,) int64; not read.

    Returns:
        A scalar in nats, times temperature squared, so that its gradient keeps its size when the
        temperature changes.

    Raises:
        ValueError: the batch is empty.
    """
    import torch.nn.functional as F

    if len(student) == 0:
        raise ValueError("no row is left to learn from: the batch is empty")
    wanted = F.log_softmax(teacher.detach() / options.temperature, dim=-1)
    said = F.log_softmax(student / options.temperature, dim=-1)
    return options.temperature**2 * F.kl_div(said, wanted, reduction="batchmean", log_target=True)


def loss_of_known(options: Options, student: "Tensor", known: "Known") -> "Tensor":
    """Return the mean over positions of KL(what is known of the teacher || student), in nats.

    Where the teacher's tokens were drawn, its gradient is that of the whole distribution on average.
    Source: Anshumann et al. 2025, "Sparse Logit Sampling", arXiv:2503.16870, section 3.

    Args:
        options: temperature is 1; drawn tokens say nothing of any other.
        student: logits, (positions, vocabulary), finite, float32; gradients flow into it.
        known: some tokens of each position, each with its share.

    Raises:
        ValueError: there is no position.
    """
    if len(student) == 0:
        raise ValueError("no position is left to learn from: the batch is empty")
    terms: Tensor = known.weights * (known.weights.log() - known.log_probs(student))
    return terms.sum() / len(student)
