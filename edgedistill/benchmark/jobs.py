"""What the benchmark asks of a fresh process, and what that answers: one line of JSON each way.

Standard library only, as the process that measures must import nothing but the runtime that it measures.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from edgedistill.benchmark.noise import Counters

WORKER = "edgedistill.benchmark.worker"
Batches = dict[str, list[list[str]]]  # workload -> batches of texts


@dataclass(frozen=True)
class LatencyJob:
    """Load one model and time it on every workload."""

    KIND: ClassVar[str] = "latency"
    WORKER: ClassVar[str] = WORKER
    runtime: str
    root: str
    file: str
    threads: int
    workloads: Batches
    pauses_s: dict[str, float]  # workload -> idle time before each of its calls
    calls: int  # fewest for each workload
    seconds: float  # fewest for each workload
    kernels: bool  # also say which operators ran, after everything was measured


@dataclass(frozen=True)
class AnswersJob:
    """Load one model and write down what it says of every text of some splits."""

    KIND: ClassVar[str] = "answers"
    WORKER: ClassVar[str] = WORKER
    runtime: str
    root: str
    file: str
    threads: int
    workloads: Batches  # also answered in these very batches
    batch_size: int
    splits: dict[str, str]  # .json of a list of texts -> .npy of (rows, classes) float32


@dataclass(frozen=True)
class Timing:
    """One workload in one process."""

    tokens: float  # median of one text
    whole_ns: list[int]  # text in, logits out; one number for each call
    model_ns: list[int]  # the part of the same calls that began with token ids
    logits: list[list[list[float]]]  # the timed calls' own, for each batch
    noise: Counters  # of the timed calls
    pause_s: float  # idle time before each call


@dataclass(frozen=True)
class LatencyAnswer:
    """One process that ran one model."""

    load_s: float
    imported_bytes: int
    peak_bytes: int
    memory_source: str
    workloads: dict[str, Timing]
    kernels: dict[str, int]

    @classmethod
    def read(cls, answer: dict[str, Any]) -> "LatencyAnswer":
        """Return the answer that a process wrote as JSON."""
        workloads = {
            name: Timing(**{**timing, "noise": Counters(**timing["noise"])})
            for name, timing in answer["workloads"].items()
        }
        return cls(**{**answer, "workloads": workloads})
