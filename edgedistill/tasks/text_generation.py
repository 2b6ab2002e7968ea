"""Text that goes on: a causal language model says the next token of a document, or of an answer.

An item is a position, and an output a logit for each token; gold is the token that really follows.
"""

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from edgedistill.section import Section, TaskOptions
from edgedistill.tasks.text_classification import agree as agree
from edgedistill.tasks.text_classification import divergence as divergence
from edgedistill.tasks.text_classification import right as right


class CacheOptions(Section):
    """How the teacher's distribution over its vocabulary is kept at each position that the student learns from.

    Sampled: tokens drawn from it, with how often each was drawn. Their expectation is the distribution itself, so the
    student's gradient is right on average, which the likeliest tokens alone cannot give (Anshumann et al. 2025, "Sparse
    Logit Sampling", arXiv:2503.16870, section 3). Top_k: the likeliest tokens, and one entry for the rest of the mass.
    Dense: every token as float16, twice the vocabulary in bytes at each position.
    """

    way: Literal["sampled", "top_k", "dense"] = Field("sampled", description="Which tokens are kept.")
    draws: int = Field(50, ge=1, le=255, description="Of sampled: tokens drawn; of 50, 12 to 20 differ.")
    k: int = Field(64, ge=1, description="Of top_k: tokens kept; all others become one entry.")
    mixed_precision: Literal["no", "fp16", "bf16"] = Field(
        "no",
        description="Half precision while a checkpoint reads train and validation, an error where the hardware lacks "
        "it; test and challenge text is always read in float32.",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Of the draws.")


class AnswerOptions(Section):
    """How the teacher answers prompts that come without answers, `data.unlabelled` with `answer: null`."""

    max_tokens: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="Most tokens of an answer; one that is longer is left out. Null: as many as a row has room for.",
    )
    batch_size: int = Field(
        32,
        ge=1,
        description="Prompts that a checkpoint answers together; a GGUF file always answers one after another.",
    )
    temperature: float = Field(0.0, ge=0, description="Divides the logits before a token is drawn; 0: the likeliest.")
    seed: int = Field(
        0, ge=0, lt=2**32, description="Of the draws; each prompt has its own, made of this and its text."
    )


class Options(TaskOptions):
    """What a row is, and how much of the held-out text is judged."""

    kind: Literal["text_generation"]
    max_length: int = Field(
        256, ge=4, le=8192, description="Tokens of one row; a longer document becomes several rows."
    )
    conversations: bool = Field(
        False,
        description="Rows are conversations, rendered by the tokenizer's chat template; only what the assistant says "
        "is learned and judged.",
    )
    cache: CacheOptions = Field(CacheOptions(), description="How the teacher's logits are kept.")
    answers: AnswerOptions = Field(
        AnswerOptions(), description="How the teacher answers prompts that come without answers."
    )
    train_tokens: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="Most tokens of train that teacher and student read, whole rows, chosen by hash; null reads all.",
    )
    calibration_tokens: int = Field(
        65_536, ge=64, description="Most tokens of calibration that an importance matrix is computed on, whole rows."
    )
    judged_positions: int = Field(
        4096, ge=64, description="Most positions of each held-out split that are judged; 2 bytes per token of the "
        "vocabulary are kept for each."
    )  # fmt: skip

    METRIC: ClassVar[str] = "next_token_accuracy"
    PIPELINE_TAG: ClassVar[str] = "text-generation"
    LABELLED: ClassVar[bool] = False
    GOLD_IN_TEXT: ClassVar[bool] = True
    OUTPUT: ClassVar[str] = "logits"
    AGREEMENT: ClassVar[str] = "likeliest token"
    DIVERGENCE: ClassVar[str] = "KL divergence"


def gold(labels: np.ndarray, teacher: np.ndarray) -> np.ndarray:  # noqa: ARG001 - as every task's
    """Return what is right at each position: the token that follows, which no teacher decides."""
    return labels
