"""The sections of a recipe that are not a choice among files: data, distill, benchmark, budget, and what they share.

Defaults come from the literature, and each says from where. `recipe.py` puts the sections together.
"""

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from edgedistill.registry import Choice
from edgedistill.section import LossOptions, Section, SourceOptions

SetName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_]*$")]
Source = Annotated[SourceOptions, Choice("edgedistill.corpus.sources", key="source")]


class ModelReference(Section):
    """Where a model lies: a hub id, a directory, or a directory inside an installed or a downloaded package.

    There it is a checkpoint of transformers, or one GGUF file of a causal language model.
    """

    hub: str | None = Field(None, examples=["org/name"], description="Hub id; needs revision.")
    revision: str | None = Field(None, examples=["v1.0"], description="Commit hash or tag of the hub repository.")
    path: str | None = Field(None, description="Local directory, relative to the recipe's file.")
    package: str | None = Field(None, description="Installed Python distribution; needs folder.")
    archive: str | None = Field(
        None, description="Downloaded .whl, .zip or .tar.gz, relative to the recipe; needs folder."
    )
    folder: str | None = Field(None, description="Directory inside the package or archive.")
    file: str | None = Field(
        None,
        examples=["model-q8_0.gguf"],
        description="GGUF file in that place, instead of a checkpoint; what it stands for is read as floats, but where "
        "a teacher of kind gguf runs it.",
    )

    @model_validator(mode="after")
    def _names_one_place(self) -> Self:
        places = [name for name in ("hub", "path", "package", "archive") if getattr(self, name) is not None]
        if len(places) != 1:
            raise ValueError(f"name exactly one of hub, path, package, archive; this names {places or 'none'}")
        if (self.folder is not None) != (places[0] in ("package", "archive")):
            raise ValueError("folder goes with package and archive, and with them only")
        if (self.revision is not None) != (places[0] == "hub"):
            raise ValueError("revision goes with hub, and hub needs it: a build must name the very weights it used")
        if self.file is not None:
            path = PurePosixPath(self.file)
            if path.suffix != ".gguf" or path.is_absolute() or ".." in path.parts:
                raise ValueError(f"file names a .gguf file inside the place that is named beside it, not {self.file!r}")
        return self


class SplitOptions(Section):
    """Shares that are cut from the training rows, by hash of the text, where no file of their own is given."""

    validation: float = Field(0.1, gt=0, lt=0.5, description="Share for early stopping and choosing.")
    calibration: float = Field(0.05, gt=0, lt=0.5, description="Share whose activations may set quantization ranges.")
    test: float = Field(0.1, gt=0, lt=0.5, description="Share that nothing is chosen on.")
    salt: str = Field("edgedistill", description="Mixed into the hash; another salt gives another split.")

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> Self:
        if self.validation + self.calibration + self.test > 0.6 + 1e-9:
            raise ValueError("validation + calibration + test must leave at least 0.4 of the rows to train on")
        return self


class DataOptions(Section):
    """The texts. Only `train` is required; the other splits are then cut from it by hash."""

    train: Source = Field(
        examples=[{"source": "jsonl", "file": "../data/reviews.jsonl"}],
        description="Rows to learn from; may lack labels where the teacher gives them.",
    )
    unlabelled: Source | None = Field(
        None,
        description="More texts to learn from, without labels; or prompts without answers (answer: null of "
        "conversations), which the teacher answers for the student alone.",
    )
    validation: Source | None = Field(None, description="Labelled rows for early stopping; null: cut from train.")
    calibration: Source | None = Field(
        None, description="Texts that may set quantization ranges; null: cut from train."
    )
    test: Source | None = Field(None, description="Labelled rows that nothing is chosen on; null: cut from train.")
    challenge: dict[SetName, Source] = Field(
        default={},
        examples=[{"tweets": {"source": "jsonl", "file": "../data/tweets.jsonl"}}],
        description="Other domains, same labels; never trained on.",
    )
    split: SplitOptions = Field(SplitOptions(), description="How large the splits are that are cut from train.")
    near_duplicate_similarity: float = Field(
        0.8, gt=0.5, le=1, description="Jaccard similarity of character 5-grams above which two texts are one."
    )

    @property
    def system(self) -> str | None:
        """What the system says before every conversation of train; None where nothing."""
        said: str | None = getattr(self.train, "system", None)
        return said


Losses = tuple[Annotated[LossOptions, Choice("edgedistill.distill.losses", key="loss")], ...]


def _default_losses() -> list[dict[str, Any]]:
    # Mixing weight and temperature: the middle of the published range (DistilBERT T=2, TextBrewer T=4..8, 0.9 soft).
    return [{"loss": "forward_kl", "weight": 0.9, "temperature": 2.0}, {"loss": "cross_entropy", "weight": 0.1}]


class TrainingOptions(Section):
    """How any model here is trained: AdamW, linear warm-up, cosine decay, early stopping on validation.

    The weights of the best epoch are kept, whether a training ran to its last epoch or not. A long schedule that stops
    early ends while the learning rate is still high; with `patience: null` the rate comes down to zero.
    """

    epochs: int = Field(10, ge=1, examples=[20], description="Most passes over the training rows.")
    batch_size: int = Field(32, ge=1, description="Rows per optimizer step, of like length.")
    learning_rate: float = Field(1e-4, gt=0, description="Peak, after warm-up.")
    weight_decay: float = Field(0.01, ge=0, description="Decoupled; matrices only, as for BERT.")
    warmup: float = Field(0.06, ge=0, lt=1, description="Share of the steps over which the learning rate rises.")
    max_gradient_norm: float = Field(1.0, gt=0, description="Gradients are scaled down to this norm.")
    patience: int | None = Field(
        3, ge=1, description="Epochs without a better validation metric before stopping; null trains to the last epoch."
    )
    averaging: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Decay per step of a moving average of the weights, such as 0.999, which is then validated and "
        "kept in their place; null keeps the weights themselves.",
    )
    mixed_precision: Literal["no", "fp16", "bf16"] = Field(
        "no", description="Half precision while training, where the hardware has it."
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Of initialisation, order and dropout.")


class AugmentOptions(Section):
    """More texts to learn from: those of train again, with words replaced by near ones; only the teacher labels them.

    It stands with distillation and not with the data: it needs a teacher, whose own fit never sees these texts.
    """

    copies: int = Field(2, ge=1, le=100, description="New texts from each training text; TinyBERT makes 10 to 30.")
    probability: float = Field(0.4, gt=0, le=1, description="That a word is replaced, each for itself; as TinyBERT.")
    neighbours: int = Field(
        15, ge=1, le=1000, description="Words to choose from, nearest in the teacher's token table; as TinyBERT."
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Another one gives other texts, from the same training texts.")


Temperature = Annotated[float, Field(gt=0, le=20)]
Share = Annotated[float, Field(gt=0, le=1)]


class SearchOptions(Section):
    """Short trainings of the student before the long one, to choose temperature and mixing weight on validation.

    The teacher's logits are kept, so a trial costs its few epochs of the student; the recipe's own values are tried
    first. It changes the temperature of forward_kl, and its weight against cross_entropy.
    """

    temperatures: tuple[Temperature, ...] = Field(
        (1.0, 2.0, 4.0, 8.0), min_length=1, description="Of forward_kl; each is tried with each soft weight."
    )
    soft_weights: tuple[Share, ...] | None = Field(
        None,
        min_length=1,
        description="Shares of forward_kl in its sum with cross_entropy; null: 0.5, 0.9 and 1 where losses has both.",
    )
    epochs: int = Field(3, ge=1, description="Of each trial, with a learning rate that comes down to zero in them.")


class DistillOptions(TrainingOptions):
    """How the student learns from the teacher."""

    losses: Losses = Field(
        default_factory=_default_losses, validate_default=True, description="Terms of the sum that is minimised."
    )
    search: SearchOptions | None = Field(
        None, description="Choose temperature and mixing weight first; {} takes the defaults, null keeps the losses."
    )
    augment: AugmentOptions | None = Field(
        None, description="Learn from texts with replaced words too; {} takes the defaults, null makes none."
    )
    controls: bool = Field(True, description="Also train the student without the teacher, and TF-IDF + linear.")
    control_learning_rate: float | None = Field(
        None,
        gt=0,
        examples=[3e-5],
        description="Peak, of the student without a teacher, which may need another; null: learning_rate.",
    )
    seeds: int = Field(
        1,
        ge=1,
        le=20,
        examples=[3],
        description="Trainings of student and control: with seed, seed + 1, ...; the first is shipped.",
    )

    @model_validator(mode="after")
    def _has_something_to_minimise(self) -> Self:
        if not self.losses:
            raise ValueError("losses is empty; there is nothing to minimise")
        if self.seeds > 1 and not self.controls:
            raise ValueError(f"seeds: {self.seeds} repeats the student beside its control; switch controls on")
        return self


MOST_THREADS = 512
"""That llama.cpp can have; with more it crashes."""


class BenchmarkOptions(Section):
    """How teacher and artifacts are measured against each other."""

    target: str = Field("host", description="A file of targets/; where latency and memory are measured.")
    threads: int = Field(
        1, ge=1, le=MOST_THREADS, examples=[2], description="Threads of the runtime, the same for every subject."
    )
    rounds: int = Field(5, ge=3, description="Fresh processes per subject, interleaved: A B C A B C.")
    calls: int = Field(
        14, ge=5, description="Fewest timed calls per workload and round; by default enough for a p90 over all rounds."
    )
    seconds: float = Field(0.3, gt=0, description="Fewest seconds of timed calls per workload and round.")
    prompt_tokens: int = Field(
        128, ge=8, le=8192, examples=[512], description="Of text generation: tokens of a timed prompt (prefill)."
    )
    decode_tokens: int = Field(
        32, ge=4, le=8192, examples=[128], description="Of text generation: tokens timed one by one after the prompt."
    )


BYTES = r"^([0-9]+(?:\.[0-9]+)?) ?([kKmMgG][iI]?[bB])$"


def _bytes(value: object) -> object:
    """Read `12 MB` (10^6) and `12 MiB` (2^20) as bytes; leave everything else to the type."""
    units = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
    if isinstance(value, str):
        found = re.fullmatch(BYTES, value.strip())
        if found:
            return round(float(found[1]) * units[found[2].lower()])
    return value


BytesText = Annotated[str, StringConstraints(pattern=BYTES), Field(examples=["10 MB"])]
Size = Annotated[int, Field(gt=0)]
Bytes = Annotated[Size, BeforeValidator(_bytes, json_schema_input_type=Size | BytesText)]


class BudgetOptions(Section):
    """What the release promises; each line is held against every quantized artifact."""

    min_retained_quality: float | None = Field(
        None,
        gt=0,
        le=1.5,
        examples=[0.95],
        description="On the test split, artifact over teacher; of a language model, its next-token accuracy.",
    )
    max_p90_latency_s: float | None = Field(
        None,
        gt=0,
        description="Batch 1, short texts, tokenizer included; of a language model, up to the first token after a "
        "prompt.",
    )
    max_peak_memory_bytes: Bytes | None = Field(None, description="Peak of a process that runs the artifact.")
    max_file_bytes: Bytes | None = Field(None, examples=["10 MB"], description="Size of the model file.")
