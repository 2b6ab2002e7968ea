"""The values that stages hand to each other.

Each is frozen, and says on disk (`result.json` in its stage's folder) exactly what it says in Python. Files of a value
lie there; `value.path(relative)` finds them. `student_values.py` and `results.py` have what other stages say.
"""

from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, PrivateAttr, field_serializer


def _inside(path: PurePosixPath) -> PurePosixPath:
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{path} leaves the stage folder")
    return path


RelativePath = Annotated[PurePosixPath, AfterValidator(_inside)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Value(BaseModel):
    """A frozen part of what a stage says."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StageValue(Value):
    """What a stage returns; `run.py` writes it as `result.json`, last, so where that file is, the stage finished."""

    _folder: Path = PrivateAttr()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the value that the finished stage in `folder` made."""
        value = cls.model_validate_json((folder / "result.json").read_text(encoding="utf-8"))
        value._folder = folder
        return value

    @property
    def folder(self) -> Path:
        """The stage's folder, absolute."""
        return self._folder

    def path(self, relative: PurePosixPath) -> Path:
        """Return where a file of this value lies."""
        return self._folder / relative


class Metric(Value):
    """A number on held-out items, with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float
    n: int = Field(ge=1, description="Items it was measured on.")


# --- corpus ---------------------------------------------------------------------------------------------------


class Split(Value):
    """Rows that are used for one purpose, as a parquet file with columns text, label, row_hash.

    `label` is an index into the corpus' labels, -1 where the row has none; where several labels may hold of a row, it
    is the set of them: bit i is label i, and 0 says that none holds. In a split of queries and documents it is
    a query's document, as its row in the split, and -1 at a document. `row_hash` is the first 16 hex digits
    of the SHA-256 of the text as stored, and is what ties a cached teacher output to its very input.
    """

    file: RelativePath
    rows: int = Field(ge=0)
    labelled_rows: int = Field(ge=0)
    documents: int = Field(0, ge=0, description="Rows that are searched among; the others are queries then.")
    label_counts: dict[str, int] = Field(
        description="Rows of each label; where a row may have several, it counts often."
    )
    exact_duplicates_removed: int = Field(ge=0)
    near_duplicates_removed: int = Field(ge=0)
    conflicting_rows_removed: int = Field(ge=0, description="Same text, different labels: no one can be right on both.")
    empty_rows_removed: int = Field(ge=0, description="Texts of white space alone: nothing to learn from or to judge.")
    sha256: Sha256


class Overlap(Value):
    """Rows of `removed_from` that also stand (exactly or nearly) in `kept_in`; they were taken out."""

    kept_in: str
    removed_from: str
    exact: int = Field(ge=0)
    near: int = Field(ge=0)


class Augmentation(Value):
    """How texts of train became further ones, by replacing words; what is counted are texts unless it says words."""

    copies: int
    probability: float
    neighbours: int
    seed: int
    vocabulary: int = Field(description="Whole words of the teacher's vocabulary, which can be replaced.")
    made_from: int = Field(description="Rows of train before.")
    rows: int = Field(ge=1, description="New rows, which only the teacher labels.")
    equal_to_held_out: int = Field(ge=0, description="Dropped.")
    equal_to_train: int = Field(ge=0, description="Dropped: the text itself, another one, or an earlier copy.")
    words: int = Field(ge=0, description="Words in all copies that could have been replaced.")
    words_replaced: int = Field(ge=0)


class Corpus(StageValue):
    """Disjoint splits. Names: train, validation, calibration, test, and `challenge.<name>` for each other domain."""

    labels: tuple[str, ...] = Field(description="In the order of the model's logits; empty for a task without labels.")
    splits: dict[str, Split]
    prompts: Split | None = Field(None, description="Prompts that the teacher is to answer; None where there are none.")
    overlaps: tuple[Overlap, ...]
    near_duplicate_rule: str = Field(description="What counts as nearly the same text, in words.")
    sources: dict[str, Sha256 | str] = Field(description="Content hash of each source file, or hub id and revision.")
    augmentation: Augmentation | None = Field(None, description="None where train holds the user's texts alone.")

    @property
    def evaluation_splits(self) -> tuple[str, ...]:
        """The held-out splits that quality is reported on: test first, then the challenge sets."""
        return ("test", *sorted(name for name in self.splits if name.startswith("challenge.")))


# --- teacher, signals, student -------------------------------------------------------------------------------


class Epoch(Value):
    """One pass over the training rows."""

    epoch: int = Field(ge=1)
    train_loss: float
    validation_loss: float
    validation_metric: float
    learning_rate: float


class Training(Value):
    """How a model came by its weights."""

    curve: tuple[Epoch, ...]
    best_epoch: int
    steps: int
    seconds: float = Field(description="Wall time of training, over all interruptions.")
    rows: int
    seed: int
    device: str = Field(description="cpu, cuda, mps: another one sums in another order.")
    threads: int = Field(description="PyTorch's on the CPU; with another number the last bits of the weights differ.")


class Check(Value):
    """A pre-flight check that held."""

    name: str
    value: float
    limit: str
    explanation: str


class Evaluation(Value):
    """What a model says of the held-out splits: float32 .npy of (rows, width), and its metric."""

    outputs: dict[str, RelativePath]
    metrics: dict[str, Metric]


class Teacher(StageValue):
    """A checkpoint that can do the task, with a head for exactly the corpus' labels."""

    kind: str
    source: str = Field(description="Where the checkpoint came from, as a person would cite it.")
    revision: str | None
    licence: str
    task: str
    labels: tuple[str, ...]
    signals: frozenset[str]
    checkpoint: RelativePath = Field(description="Folder with config.json, model.safetensors and tokenizer files.")
    gguf: RelativePath | None = Field(None, description="File that llama.cpp runs; the checkpoint has no weights then.")
    base: RelativePath | None = Field(description="The checkpoint before fitting; None where nothing was fitted.")
    weights_sha256: Sha256
    source_weights_sha256: Sha256
    parameters: int
    weights_bytes: int
    fit_method: Literal["full", "head"] | None
    fit: Training | None

    @field_serializer("signals", when_used="json")
    def _in_order(self, signals: frozenset[str]) -> list[str]:
        return sorted(signals)  # a set has another order in every process, and a file must not


class SignalSplit(Value):
    """One split as the teacher read it and what it said; all files are memory-mapped .npy."""

    rows: int
    token_ids: RelativePath = Field(description="(tokens of all rows,) int32, rows one after another.")
    offsets: RelativePath = Field(description="(rows + 1,) int64; row i is token_ids[offsets[i]:offsets[i + 1]].")
    row_hashes: RelativePath = Field(description="(rows,) 16 ASCII bytes, equal to the corpus' row_hash.")
    outputs: RelativePath = Field(description="(rows, width) float32: logits, or sentence vectors.")
    labels: RelativePath = Field(description="(rows,) int64; the task's gold, -1 where the row has none.")


class Signals(StageValue):
    """The teacher's outputs on every split, computed once."""

    task: str
    splits: dict[str, SignalSplit]
    width: int = Field(description="Numbers that the student is to say of a text: one for each class, or its vector.")
    truncations: tuple[int, ...] = Field((), description="Shorter lengths of the vector that are taught, too.")
    projection: RelativePath | None = Field(
        None, description="(teacher's width, width) float32: turns the teacher's vectors into the student's; .npy."
    )
    tokenizer_sha256: Sha256
    pad_token_id: int = Field(description="What shorter rows of a batch are filled with.")
    teacher_weights_sha256: Sha256
    metrics: dict[str, Metric] = Field(description="The teacher's own metric on each labelled split.")
    seconds: float
    rows: int


class Truncation(Value):
    """Vectors cut to their first numbers, on the held-out splits."""

    length: int
    student: dict[str, Metric]
    teacher: dict[str, Metric] = Field(description="The teacher's vectors, turned and cut in the same way.")


class Student(StageValue):
    """A small model that learned from the teacher (or, as a control, without it)."""

    kind: str
    checkpoint: RelativePath = Field(description="Folder with config.json, model.safetensors and tokenizer files.")
    initialised_from: str
    parameters: int
    weights_bytes: int
    flops_per_token: int
    training: Training
    preflight: tuple[Check, ...]
    evaluation: Evaluation
    truncations: tuple[Truncation, ...] = Field((), description="What shorter vectors are worth, longest first.")
    spread: Check | None = Field(None, description="That not all vectors point the same way; None for a classifier.")
    weights_sha256: Sha256
    size_warnings: tuple[str, ...] = Field(description="Why it may be too small or too large to be sensible, in words.")


class Baseline(Value):
    """A cheap model that a student must beat to be worth anything."""

    name: Literal["tfidf_linear", "tfidf_words", "tfidf_characters", "untrained", "majority"]
    description: str
    evaluation: Evaluation


class Repeat(Value):
    """Student and control once more, with another seed; neither is shipped."""

    seed: int
    student: Evaluation
    no_teacher: Evaluation


class Controls(StageValue):
    """What tells distillation from quality that comes for free, and from luck with the seed."""

    baselines: tuple[Baseline, ...]
    no_teacher: Evaluation | None = Field(
        description="The same student trained on gold labels alone, or where there are none on its own texts."
    )
    no_teacher_training: Training | None
    no_teacher_initialised_from: str | None
    repeats: tuple[Repeat, ...] = Field(description="With every further seed; empty where the recipe asks for one.")
    skipped: str | None = Field(description="Why a control is missing, in words; None where all ran.")


# --- quantize, export -----------------------------------------------------------------------------------------


class QuantizedTensor(Value):
    """One weight, as it is stored."""

    name: str
    shape: tuple[int, ...]
    scheme: str = Field(description="float32, or e.g. int8 per_channel symmetric")
    bits: int
    code_limit: int | None = Field(description="8-bit codes lie in -code_limit..code_limit; None for other widths.")
    stored_bytes: int
    max_error_in_steps: float = Field(ge=0, description="Largest rounding error, in units of the scale.")


class QuantizationCost(Value):
    """What quantization changes on held-out rows, against the float student on the same rows."""

    rows: int = Field(ge=1)
    kl: float = Field(
        ge=0, description="Mean of KL(float student || quantized) over rows, in nats; of vectors, of 1 - cosine."
    )
    agreement: Metric = Field(
        description="Rows with the float student's top class, labels, or nearest text among five."
    )
    metric: Metric | None = Field(description="The quantized model's own; None where no row has a gold label.")
    metric_loss: Metric | None = Field(description="The float student's metric minus the quantized model's, paired.")


class Sensitivity(Value):
    """What one layer costs when it alone is quantized, everything else float."""

    layer: str
    scheme: str = Field(description="float16, int8 per_channel symmetric, ...")
    saved_bytes: int = Field(description="Against float32.")
    cost: QuantizationCost


class Rung(Value):
    """One try at the quality asked for: what was changed, and what came of it."""

    name: str = Field(description="What was changed, in words; the first rung is the recipe itself.")
    changed: dict[str, JsonValue] = Field(description="Options that differ from the recipe's, as a recipe says them.")
    stored_bytes: int = Field(description="All weights of the model; 0 where the rung was skipped.")
    cost: QuantizationCost | None = Field(description="On validation rows; None where the rung was skipped.")
    passed: bool
    kept: bool = Field(description="The next rung builds on this one.")
    skipped: str = Field(description="Why this rung was not tried; empty where it was.")


class QuantizedModel(StageValue):
    """A student whose every stored number is decided."""

    method: str
    scheme: str
    tensors: tuple[QuantizedTensor, ...]
    weights: RelativePath = Field(description="safetensors: codes and scales, and what stayed float.")
    weights_bytes: int
    weights_sha256: Sha256
    reduced_range: bool
    reduced_range_reason: str
    evaluation: Evaluation = Field(description="Simulated in PyTorch, before any export.")
    sensitivity: tuple[Sensitivity, ...] = Field((), description="Dearest first; empty where nobody asked for it.")
    rungs: tuple[Rung, ...] = Field((), description="Every try, in order; empty where no quality was asked for.")
    repaired: str = Field("", description="What was changed to pass the gate; empty where the recipe's options did.")


class ParityCheck(Value):
    """How far what an exported file says is from what its checkpoint says, on the same inputs."""

    max_abs_diff: float
    tolerance: float | None = Field(description="None where it is a measurement, not a gate.")
    top1_agreement: float = Field(
        description="Share of inputs with the same top class or labels, or vectors with a cosine of 0.99."
    )
    inputs: int
    worst: str = Field(description="The input with the largest difference, in words.")


class Parity(Value):
    """The proof that export changed no number."""

    exact: ParityCheck = Field(description="Graph optimizations off: must agree to float rounding.")
    deployed: ParityCheck = Field(description="The runtime's default session, as users run it.")
    weights_bit_equal: bool = Field(description="Every stored code and scale equals what quantize decided.")
    tokenizer_texts: int = Field(description="Texts on which every runtime's tokenizer gave the same ids.")
    read_otherwise: tuple[str, ...] = Field(
        (), description="Beginnings of those it gave other ids, as the format says that it does of such texts."
    )


class Variant(Value):
    """One model file of an artifact."""

    name: str = Field(description="float32, or the quantization method.")
    scheme: str
    file: RelativePath = Field(description="Relative to the artifact's folder, e.g. onnx/model_quantized.onnx.")
    sha256: Sha256
    size_bytes: int = Field(gt=0)
    opset: int | None = Field(description="Of ONNX; None for a file of another format.")
    ir_version: int | None
    oldest_runtime: str | None = Field(None, description="Oldest release of the runtime that is known to run the file.")
    exporter: str
    exporters_refused: tuple[str, ...] = Field(description="Exporters tried before, each with why it was refused.")
    parity: Parity


class Artifact(StageValue):
    """A folder that stock tools load with nothing of ours."""

    format: str
    runtime: str = Field(description="A word of runtimes/.")
    root: RelativePath = Field(description="The folder to ship, inside the stage's folder.")
    variants: tuple[Variant, ...]
    shared_files: dict[str, Sha256] = Field(
        description="Tokenizer, config, licence: what every variant needs beside it."
    )
    shared_bytes: int
    teacher: Variant | None = Field(description="The teacher in the same format, to compare against; never shipped.")
    teacher_root: RelativePath | None
    recipe_sha256: Sha256 = Field(description="Of the recipe sections that decide the files' bytes.")
