"""Evidence: the values that a report is made from, and where in them to look."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from edgedistill.decoder_results import DecoderSubject
from edgedistill.recipe import Recipe
from edgedistill.report.units import listed
from edgedistill.results import BenchmarkResult, Comparison, Environment, Step, Subject, Validity, WorkloadResult
from edgedistill.student_values import Search, Tokens
from edgedistill.values import (
    Artifact,
    Controls,
    Corpus,
    QuantizedModel,
    Signals,
    StageValue,
    Student,
    Teacher,
    Variant,
)

FIRST_WORKLOAD = "batch_1_short"
"""What is quoted first, and what a latency budget is held against: one short text, as an app sends it."""

SPACED_WORKLOAD = "batch_1_spaced"
"""The same texts, with idle time before each call, as an app leaves it; the first one runs back to back."""

AnySubject = Subject | DecoderSubject
Measured = TypeVar("Measured", bound=AnySubject, covariant=True)
One = TypeVar("One", bound=AnySubject)


class Compared(Protocol[Measured]):
    """A benchmark, whatever its models do: what was measured side by side, and whether to believe it."""

    @property
    def subjects(self) -> Sequence[Measured]:
        """Every model, the teacher among them."""

    @property
    def waterfall(self) -> Sequence[Step]:
        """What each stage did."""

    @property
    def environment(self) -> Environment:
        """Where it was measured."""

    @property
    def validity(self) -> Validity:
        """Whether the measurements can be trusted."""

    @property
    def splits(self) -> Sequence[str]:
        """Held-out ones, test first."""

    @property
    def rounds(self) -> int:
        """How often each model was measured."""


AnyBenchmark = Compared[AnySubject]

_FORMATS = {"gguf": "GGUF", "onnx_genai": "ONNX"}
_RUNTIMES = {"pytorch_decoder": "PyTorch", "llama_cpp": "llama.cpp", "onnxruntime_genai": "onnxruntime-genai"}
_CONTROLS = {
    "no_teacher": "the same student trained without the teacher",
    "tfidf_linear": "TF-IDF with a linear model",
    "tfidf_words": "search by TF-IDF of words",
    "tfidf_characters": "search by TF-IDF of characters",
    "untrained": "the same student before any training",
    "majority": "the most frequent answer",
}


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything the stages before have said about one build."""

    recipe: Recipe
    corpus: Corpus
    teacher: Teacher
    signals: Signals
    tokens: Tokens
    student: Student
    controls: Controls
    quantized: Mapping[str, QuantizedModel]
    artifacts: Mapping[str, Artifact]
    benchmark: BenchmarkResult
    search: Search | None = None

    def stage_values(self) -> dict[str, StageValue]:
        """Return every value by name; a method's or format's name follows a dot."""
        single = ("corpus", "teacher", "signals", "tokens", "student", "controls")
        values: dict[str, StageValue] = {name: getattr(self, name) for name in single}
        values |= {} if self.search is None else {"search": self.search}
        values |= {f"quantized.{method}": model for method, model in self.quantized.items()}
        values |= {f"artifacts.{name}": artifact for name, artifact in self.artifacts.items()}
        return values | {"benchmark": self.benchmark}

    def variants(self) -> list[tuple[str, Artifact, Variant]]:
        """Return every shipped model file as (subject name, artifact, variant)."""
        return [
            (f"{name}.{variant.name}", artifact, variant)
            for name, artifact in self.artifacts.items()
            for variant in artifact.variants
        ]


def reference(benchmark: Compared[One]) -> One:
    """Return the teacher as users run it, which every ratio is against."""
    return next(subject for subject in benchmark.subjects if subject.role == "teacher")


def taught_in(benchmark: Compared[One]) -> str:
    """Return where the teacher that every ratio is against runs, as a sentence says it."""
    return "in llama.cpp" if reference(benchmark).runtime == "llama_cpp" else "in PyTorch"


def exported_teacher(benchmark: Compared[One]) -> One | None:
    """Return the teacher in the artifact's own runtime, where it was measured."""
    return next((subject for subject in benchmark.subjects if subject.role == "teacher_exported"), None)


def candidates(benchmark: Compared[One]) -> list[One]:
    """Return what may be shipped: the quantized artifacts, or the float ones where nothing was quantized."""
    artifacts = [subject for subject in benchmark.subjects if subject.role == "artifact"]
    return [subject for subject in artifacts if not subject.name.endswith(".float32")] or artifacts


def find(benchmark: Compared[One], name: str | None) -> One | None:
    """Return the subject of this name, if there is one."""
    return next((subject for subject in benchmark.subjects if subject.name == name), None)


def name_of(subject: AnySubject) -> str:
    """Return a subject as a sentence calls it: an artifact by what its numbers are, such as dynamic int8 student."""
    if subject.role != "artifact":
        return subject.title
    return f"{scheme_title(subject)} student"


def stored_title(method: str) -> str:
    """Return what a language model's method stores weights as: Q4_K_M, F16, INT4."""
    return method.removeprefix("gguf_").removeprefix("onnx_").upper()


def scheme_title(subject: AnySubject) -> str:
    """Return what an artifact's numbers are: ggml's own words for a language model."""
    scheme = subject.name.partition(".")[2]
    if isinstance(subject, DecoderSubject):
        return stored_title(scheme) if scheme != "float32" else f"{format_title(subject)} float32"
    return scheme.replace("_", " ")


def format_title(subject: DecoderSubject) -> str:
    """Return a format of language models as a sentence calls it."""
    return _FORMATS.get(name := subject.name.partition(".")[0], name)


def runtime_title(subject: DecoderSubject) -> str:
    """Return what runs a language model, as it calls itself."""
    return _RUNTIMES.get(subject.runtime, subject.runtime)


def control_name(comparison: Comparison) -> str:
    """Return a control as a sentence calls it."""
    return _CONTROLS.get(comparison.control, comparison.title)


def reasons(validity: Validity, most: int = 2) -> str:
    """Return the first reasons why measurements are not valid, and how many more there are."""
    more = len(validity.reasons) - most
    return "; ".join(
        [
            *validity.reasons[:most],
            *([f"and {more} more reasons" if more > 1 else "and one more reason"] if more > 0 else []),
        ]
    )


def workload(subject: Subject, name: str = FIRST_WORKLOAD) -> WorkloadResult | None:
    """Return what one subject did on one workload, where it was measured."""
    return next((result for result in subject.workloads if result.workload == name), None)


def way_to(benchmark: AnyBenchmark, name: str) -> tuple[Step, ...]:
    """Return the waterfall's steps from the teacher to one subject, in order."""
    steps: list[Step] = []
    at = name
    while step := next((step for step in benchmark.waterfall if step.after == at and step not in steps), None):
        steps.append(step)
        at = step.before
    return tuple(reversed(steps))


def judged_by_teacher(corpus: Corpus, splits: Sequence[str]) -> list[str]:
    """Return the sets of texts alone, whose labels nobody knows: there the teacher says what is right."""
    return [] if corpus.labels else [split for split in splits if not corpus.splits[split].documents]


def what_the_teacher_judges(corpus: Corpus, splits: Sequence[str]) -> str:
    """Return what a metric is worth where the teacher itself says what is right; empty where it does so nowhere."""
    sets = [split_title(split) for split in judged_by_teacher(corpus, splits)]
    if not sets:
        return ""
    return (
        f"On {listed(sets)} the teacher alone says what is right, by its own most similar text: its 100 % there is so "
        "by definition, a student's number is how often it agrees, and a control that finds other texts counts as "
        "wrong, whatever they are worth. A set of queries and documents would tell."
    )


def never_seen(corpus: Corpus, teacher: Teacher) -> list[str]:
    """Return the labels that neither teacher nor student can have learned, as no row of train has them."""
    train = corpus.splits["train"]
    return [label for label, rows in train.label_counts.items() if rows == 0 and teacher.fit is not None]


def split_title(split: str) -> str:
    """Return a split as a person calls it: a challenge set by its bare name."""
    return split.removeprefix("challenge.")
