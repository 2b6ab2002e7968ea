"""What was measured of language models; what is the same for all models is in `results.py`."""

from typing import Literal

from pydantic import Field

from edgedistill.decoder_values import DecoderQuality
from edgedistill.results import (
    Comparison,
    Environment,
    Latency,
    Memory,
    Noise,
    Ratio,
    SeedResult,
    Step,
    Validity,
)
from edgedistill.values import Sha256, StageValue, Value


class Prefill(Value):
    """Reading a prompt in one go."""

    name: str = Field(description="In llama-bench's words: pp128 reads 128 tokens.")
    tokens: int
    latency: Latency = Field(description="Token ids in, likeliest next token out.")
    tokens_per_s: float = Field(description="Median over rounds of the prompt's tokens over the round's p50.")
    round_tokens_per_s: tuple[float, ...]


class Decode(Value):
    """Reading one token after another."""

    name: str = Field(description="In llama-bench's words: tg32 @ d128 reads 32 tokens after 128 others.")
    tokens: int
    depth: int = Field(description="Tokens that are in the cache before the first.")
    tpot: Latency = Field(description="Time per output token: token in, likeliest next token out; over all tokens.")
    tokens_per_s: float = Field(description="Median over rounds of tokens over their time.")
    round_tokens_per_s: tuple[float, ...]
    over_single_thread: float | None = Field(
        description="p50 of the time per token over that with one thread; None where one was asked for."
    )


class Flip(Value):
    """A position where the likeliest token is not the reference's."""

    position: int = Field(description="Through all rows of the split.")
    row: int
    token: str = Field(description="The reference's likeliest.")
    instead: str = Field(description="The subject's.")
    reference_margin: float = Field(description="Logits between the reference's likeliest two; near 0 it was a tie.")
    margin: float = Field(description="The same of the subject.")


class DecoderSpeedup(Value):
    """The other model's time over this one's, round by round."""

    prefill: Ratio = Field(description="Of p50.")
    decode: Ratio = Field(description="Of means, as tokens per second are.")
    ttft: Ratio = Field(description="Of p50.")


class DecoderSubject(Value):
    """One model that was measured: the teacher where it taught, the teacher exported, or a variant of an artifact."""

    name: str = Field(description="teacher, teacher.gguf, or <format>.<variant>, e.g. gguf.q4_k_m")
    title: str = Field(description="As a person would call it.")
    role: Literal["teacher", "teacher_exported", "artifact"]
    runtime: str
    scheme: str
    sha256: Sha256
    model_bytes: int
    shipped_bytes: int = Field(description="Model file plus what else a runtime needs, and the licence.")
    load_median_s: float
    load_max_s: float
    memory: Memory
    threads: int = Field(description="As the runtime itself says it.")
    kv_cache_tokens: int
    kv_cache_bytes: int = Field(description="Of so many tokens.")
    prefill: Prefill
    decode: Decode
    ttft: Latency = Field(description="Time to first token: text in, first token known; tokenizer and prefill.")
    speedup: DecoderSpeedup = Field(
        description="Over the teacher where it taught: in PyTorch, or a GGUF file in llama.cpp."
    )
    speedup_float: DecoderSpeedup | None = Field(
        None, description="Over the float student in the same format; None for itself and where there is none."
    )
    speedup_exported: DecoderSpeedup | None = Field(
        None, description="Over the teacher in the same format; None for itself and where there is none."
    )
    quality: dict[str, DecoderQuality] = Field(description="By split, through its own runtime.")
    flips: dict[str, int] = Field(description="split -> positions with another likeliest token than the float student.")
    worst_flips: dict[str, tuple[Flip, ...]] = Field(description="Where the float student was surest, first.")
    noise: Noise
    outputs_checked: bool = Field(description="The timed passes said what the quality run said.")


class DecoderBenchmark(StageValue):
    """Teacher and every artifact, measured side by side."""

    splits: tuple[str, ...]
    conversations: bool = Field(description="Rows are conversations, whose answers are judged whole, too.")
    rounds: int
    subjects: tuple[DecoderSubject, ...]
    waterfall: tuple[Step, ...] = Field(
        description="Of the mean loss in nats a token, above zero is worse; its mean is over all splits' positions."
    )
    controls: tuple[Comparison, ...] = Field(
        (), description="Differences of the mean loss in nats a token: below zero the student is better."
    )
    seeds: tuple[SeedResult, ...] = Field(
        (), description="Every seed, the shipped student's first; quality is the perplexity, differences are nats."
    )
    exact_waterfall: tuple[Step, ...] = Field(
        (), description="Of the share of exact answers, below zero is worse; nothing where documents are judged."
    )
    exact_controls: tuple[Comparison, ...] = Field(
        (), description="Differences of the share of exact answers: above zero the student is better."
    )
    student_quality: dict[str, DecoderQuality] = Field(description="The float student in PyTorch, before export.")
    simulated_quality: dict[str, dict[str, DecoderQuality]] = Field(description="method -> split, before export.")
    environment: Environment
    validity: Validity
    seconds: float
