"""The values of the two stages that change nothing: what was measured, and what is to be made of it."""

from typing import Literal

from pydantic import Field

from edgedistill.values import Metric, RelativePath, Sha256, StageValue, Value

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE"]


class Latency(Value):
    """Wall time of one call, in seconds, over all rounds; a percentile is None where the sample cannot carry it."""

    count: int = Field(ge=1)
    min_s: float
    p50_s: float
    p90_s: float | None = Field(description="Needs 64 calls.")
    p95_s: float | None = Field(description="Needs 130 calls.")
    p99_s: float | None = Field(description="Needs 662 calls.")
    p90_low_s: float | None = Field(
        description="Of the 99 % order-statistic interval of the p90, widened to hold each round's own p90."
    )
    p90_high_s: float | None


class WorkloadResult(Value):
    """One subject on one workload."""

    workload: str = Field(description="batch_1_short, batch_1_spaced, batch_1_long, batch_8_short, batch_8_long")
    pause_s: float = Field(ge=0, description="Idle before each call, as in an app; 0 is back to back. Not timed.")
    batch: int
    tokens: int = Field(description="Median tokens of one text, special tokens included.")
    latency: Latency = Field(description="Text in, logits out: tokenizer and model.")
    model_only: Latency = Field(description="Token ids in, logits out.")
    items_per_s: float = Field(description="Of the timed calls; pauses do not count.")
    round_p50_s: tuple[float, ...] = Field(description="p50 of each round: do the rounds agree?")
    samples_s: tuple[float, ...] = Field(description="At most 500 evenly chosen calls, sorted, for the plot.")


class Ratio(Value):
    """How many times the subject is faster (or smaller) than the teacher, over interleaved rounds."""

    median: float
    low: float = Field(description="Smallest ratio of any round.")
    high: float


class Memory(Value):
    """High-water marks of processes that ran this one model (VmHWM), in bytes."""

    peak_median_bytes: int
    peak_max_bytes: int
    imported_median_bytes: int = Field(description="Peak after importing the runtime, before the model.")
    source: str = Field(description="VmHWM, or how else it was read.")


class SplitQuality(Value):
    """One subject on one split, through its own runtime."""

    metric: Metric
    retained: Metric | None = Field(description="Its metric over the teacher's, same items, paired interval.")
    teacher_agreement: Metric
    teacher_flips: int = Field(
        description="Items of another answer than the teacher's: class, labels, or nearest text."
    )
    teacher_divergence: float | None = Field(
        None,
        description="Mean KL from the teacher, or 1 - cosine of the vectors; None where these are turned or shorter.",
    )
    student_agreement: Metric | None = Field(description="With the float student in PyTorch.")
    student_flips: int | None
    student_divergence: float | None = Field(None, description="Of the float student in PyTorch.")


class Noise(Value):
    """What else the machine did while this subject was measured."""

    cpu_pressure_percent: float | None = Field(description="Time in which some task waited for a CPU.")
    involuntary_switches_per_s: float
    steal_percent: float | None
    cpu_per_wall: float = Field(description="CPU time over wall time and threads; 1 is undisturbed.")


class Subject(Value):
    """One model that was measured: the teacher in PyTorch, the teacher in ONNX, or a variant of an artifact."""

    name: str = Field(description="teacher, teacher.onnx, or <format>.<variant>, e.g. onnx.dynamic_int8")
    title: str = Field(description="As a person would call it.")
    role: Literal["teacher", "teacher_exported", "artifact"]
    runtime: str
    scheme: str
    sha256: Sha256
    model_bytes: int
    shipped_bytes: int = Field(description="Model file plus tokenizer, config and licence files.")
    load_median_s: float
    load_max_s: float
    memory: Memory
    workloads: tuple[WorkloadResult, ...]
    speedup: dict[str, Ratio] = Field(description="workload -> teacher's p50 over this one's, end to end.")
    speedup_model_only: dict[str, Ratio]
    speedup_exported: dict[str, Ratio] = Field(
        description="workload -> p50 of the teacher in the same format over this one's; empty where there is none."
    )
    speedup_float: dict[str, Ratio] = Field(
        {}, description="workload -> p50 of the float student in the same format over this one's; empty for itself."
    )
    quality: dict[str, SplitQuality]
    noise: Noise
    kernels: dict[str, int] = Field(description="Operator types that really ran, with their count.")
    outputs_checked: bool = Field(description="The timed runs gave the logits that the quality run gave.")


class Step(Value):
    """One bar of the loss waterfall: what going from one model to the next did to the metric."""

    before: str
    after: str
    stage: Literal["distill", "export", "quantize"]
    artifact: str | None
    differences: dict[str, Metric] = Field(description="split -> metric after minus before, paired interval.")
    mean: Metric = Field(description="Mean of the splits' differences.")


class Comparison(Value):
    """The student against a control, on the same items."""

    control: str
    title: str
    quality: dict[str, Metric] = Field(description="The control's own metric.")
    differences: dict[str, Metric] = Field(description="split -> student minus control, paired interval.")
    mean: Metric = Field(description="Mean of the splits' differences: is the student better at all?")


class SeedResult(Value):
    """Student and control trained with one seed, on the same items."""

    seed: int
    quality: dict[str, Metric] = Field(description="split -> the student's own metric.")
    differences: dict[str, Metric] = Field(description="split -> student minus the same student without the teacher.")
    mean: Metric = Field(description="Mean of the splits' differences.")


class Environment(Value):
    """Where the numbers were measured."""

    machine: str
    cpu: str
    cpu_features: tuple[str, ...]
    logical_cpus: int
    memory_bytes: int
    operating_system: str
    threads: int
    versions: dict[str, str]
    target: str
    emulated: bool


class Validity(Value):
    """Whether the measurements can be trusted, with every reason why not.

    Valid exactly when both lists are empty. What disturbed the machine makes times doubtful; what is wrong
    (another file ran, other logits came out, no integer kernel ran) makes every number doubtful, quality too.
    """

    valid: bool
    disturbed: tuple[str, ...]
    wrong: tuple[str, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Everything that speaks against the measurements, the worst first."""
        return (*self.wrong, *self.disturbed)


class BenchmarkResult(StageValue):
    """Teacher and every artifact, measured side by side."""

    metric_name: str = Field(description="accuracy, recall_at_5")
    agreement_name: str = Field("same top class", description="What counts as the same answer, in words.")
    divergence_name: str = Field("KL, nats", description="What the divergences are.")
    splits: tuple[str, ...]
    rounds: int
    subjects: tuple[Subject, ...]
    waterfall: tuple[Step, ...]
    controls: tuple[Comparison, ...]
    seeds: tuple[SeedResult, ...] = Field(description="Every seed, the shipped student's first; empty if only one ran.")
    student_quality: dict[str, SplitQuality] = Field(description="The float student in PyTorch, before export.")
    simulated_quality: dict[str, dict[str, SplitQuality]] = Field(description="method -> split, before export.")
    environment: Environment
    validity: Validity
    seconds: float


class BudgetLine(Value):
    """One promise of the recipe, held against one artifact."""

    subject: str
    key: str
    promise: str
    measured: str
    verdict: Verdict


class Report(StageValue):
    """What is attached to the release."""

    schema_version: int
    verdict: Verdict
    sentence: str
    budget: tuple[BudgetLine, ...]
    recommended: str | None = Field(description="The subject to ship.")
    markdown: RelativePath
    html: RelativePath
    data: RelativePath
