"""What the benchmark asks of a fresh process that runs a language model, and what that answers.

Standard library only, as the process that measures must import nothing but the runtime that it measures.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from edgedistill.benchmark.noise import Counters

WORKER = "edgedistill.benchmark.decoder.worker"


@dataclass(frozen=True)
class Load:
    """A model, and how it is loaded."""

    runtime: str
    root: str
    file: str
    threads: int
    context_tokens: int
    folding: tuple[str, str] | None = None  # .npy files of training/folding.py, where rows are in fewer tokens than its


@dataclass(frozen=True)
class Passes:
    """Rows that are read: a prompt in one prefill, and then what follows it token by token.

    What follows is given and not what the model would say: every model does the same work, whatever it thinks.
    """

    rows: list[list[int]]  # ids, all of one length
    prompt_tokens: int  # of each row; all others are decoded

    @property
    def decode_tokens(self) -> int:
        """Tokens that are read one by one."""
        return len(self.rows[0]) - self.prompt_tokens


@dataclass(frozen=True)
class SpeedJob:
    """Load one model and time it."""

    KIND: ClassVar[str] = "speed"
    WORKER: ClassVar[str] = WORKER
    load: Load
    passes: Passes
    calls: int  # fewest passes over a row
    seconds: float  # fewest

    @property
    def threads(self) -> int:
        """Threads that the process may use."""
        return self.load.threads

    @classmethod
    def read(cls, job: dict[str, Any]) -> "SpeedJob":
        """Return the job that was sent as JSON."""
        return cls(**{**job, "load": Load(**job["load"]), "passes": Passes(**job["passes"])})


@dataclass(frozen=True)
class SplitFiles:
    """One held-out split, as .npy files; empty where there is none."""

    token_ids: str
    offsets: str
    counts: str
    teacher: str  # (positions, vocabulary) float16 log-probabilities
    student: str
    positions: str  # to be written, (positions,) of POSITION


@dataclass(frozen=True)
class PositionsJob:
    """Load one model and write down what it says at every position of some splits."""

    KIND: ClassVar[str] = "positions"
    WORKER: ClassVar[str] = WORKER
    load: Load
    passes: Passes  # also answered, as when they are timed
    vocabulary: int  # ids that the tokenizer knows
    splits: dict[str, SplitFiles]

    @property
    def threads(self) -> int:
        """Threads that the process may use."""
        return self.load.threads

    @classmethod
    def read(cls, job: dict[str, Any]) -> "PositionsJob":
        """Return the job that was sent as JSON."""
        splits = {name: SplitFiles(**files) for name, files in job["splits"].items()}
        return cls(**{**job, "load": Load(**job["load"]), "passes": Passes(**job["passes"]), "splits": splits})


@dataclass(frozen=True)
class Tops:
    """What a model said of each row: after its prompt, and after each token that followed."""

    tokens: list[list[int]]  # the likeliest, (rows, 1 + decoded tokens)
    logits: list[list[float]]  # theirs


@dataclass(frozen=True)
class SpeedAnswer:
    """One process that ran one model."""

    load_s: float
    imported_bytes: int
    peak_bytes: int
    memory_source: str
    threads: int  # as the library itself says it
    kv_cache_bytes: int  # of one row
    encode_ns: list[int]  # the prompt's text to ids; one number for each pass
    prefill_ns: list[int]  # ids of the prompt to the likeliest token after it
    step_ns: list[list[int]]  # (passes, decoded tokens); one id to the likeliest token after it
    tops: Tops  # the timed passes' own
    noise: Counters  # of the timed passes

    @classmethod
    def read(cls, answer: dict[str, Any]) -> "SpeedAnswer":
        """Return the answer that a process wrote as JSON."""
        return cls(**{**answer, "tops": Tops(**answer["tops"]), "noise": Counters(**answer["noise"])})
