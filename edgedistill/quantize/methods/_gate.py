"""How close to its float student a quantized model must stay, and whether a miss may be mended by other options."""

from pydantic import Field

from edgedistill.section import LayerOptions, Section


class Gate(Section):
    """What must hold on the validation split; of few rows, one may differ.

    Damage by quantization is silent: a file of chance answers loads and runs. So the gate is there unless a recipe
    writes `gate: null`.
    """

    min_agreement: float = Field(
        0.99,
        gt=0,
        le=1,
        description="Least share of validation texts with the float student's top class, or with its labels where "
        "several may hold, or, of sentence vectors, with its nearest text among the five nearest.",
    )
    max_metric_loss: float = Field(
        0.005, ge=0, lt=1, description="Most that the metric may fall below the float student's, where gold exists."
    )
    max_kl: float | None = Field(
        None,
        gt=0,
        description="Most mean divergence from the float student: KL in nats, or of sentence vectors 1 - cosine.",
    )


class DecoderGate(Section):
    """What must hold of a language model on the validation split.

    It is there unless a recipe writes `gate: null`. Only weights are rounded in it; what a runtime adds when it rounds
    activations, too, is measured by the benchmark.
    """

    max_kl: float = Field(
        0.1, gt=0, examples=[0.03], description="Most mean KL divergence from the float student, in nats a token."
    )
    max_metric_loss: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="Most that the share of right next tokens may fall, and of conversations that of answers which are "
        "right whole, where the fall is more than chance.",
    )


class GatedOptions(LayerOptions):
    """Options of a method whose damage is measured before anything is exported."""

    gate: Gate | None = Field(Gate(), description="How close to its float student the model must stay; null: anything.")
    repair: bool = Field(True, description="Where the gate is missed, try other options, one after the other.")
