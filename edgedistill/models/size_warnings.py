"""A student that is too large or too small to be sensible, told with numbers. None of this is refused."""

from collections.abc import Iterator

from edgedistill.models.anatomy import Anatomy
from edgedistill.section import StudentOptions

MOST_OPERATIONS = 0.5
"""Of the teacher's: above, the teacher itself in a quantized format is about as fast, and loses nothing."""
FEWEST_OPERATIONS = 0.02
"""Of the teacher's, for a transformer: fifty times fewer is where what does not shrink with it, the tokenizer and the
call itself, begins to decide; a static student is still faster there, and trains in seconds."""
MOST_TABLE = 0.8
"""Of the weights, for a token table that is whole: what is done to the other fifth cannot change the file by much."""
BLOCK, LARGE_BLOCK = 32, 256
"""Numbers of a row that share a scale in ggml: in q8_0, q4_0 and their like, and in the mixtures that end in _k."""
FEWEST_SAVED = 0.1
"""Of the table: where the texts use nearly all tokens, dropping the others is not worth a word."""


def size_warnings(
    options: StudentOptions, teacher: Anatomy, student: Anatomy, seen: int | None = None
) -> tuple[str, ...]:
    """Return what about the student's size a person should think over: the numbers, and what to change.

    Args:
        seen: tokens of the whole vocabulary that occur in the training texts; None before they were counted.
    """
    return (
        *_operations(teacher, student, counted=options.vocabulary is None or seen is not None),
        *_table(options, student, seen),
        *_dimensions(teacher, student),
        *_rows(options),
    )


def _operations(teacher: Anatomy, student: Anatomy, *, counted: bool) -> Iterator[str]:
    # Before its vocabulary is counted, a student has as many operations as it has with all tokens, or fewer.
    share = student.flops_per_token / teacher.flops_per_token
    numbers = (
        f"{100 * share:.1f} % of the teacher's operations per token "
        f"({student.flops_per_token / 1e6:.3g} of {teacher.flops_per_token / 1e6:.3g} million)"
    )
    if share > MOST_OPERATIONS and counted:
        yield f"the student needs {numbers}, so it saves less than half; choose a smaller one"
    if student.layers > 0 and share < FEWEST_OPERATIONS:
        yield (
            f"the student is a transformer with {numbers}; a static student costs less still, and a larger transformer "
            "keeps more quality: choose one of them"
        )


def _table(options: StudentOptions, student: Anatomy, seen: int | None) -> Iterator[str]:
    share = student.table_parameters / student.parameters
    if options.vocabulary is not None or options.embedding_rank is not None or share <= MOST_TABLE:
        return
    token_bytes = 4 * student.embedding_width
    told = (
        f"{100 * share:.0f} % of the student's weights are its table of {student.vocab_size:,} tokens "
        f"({4 * student.table_parameters / 1e6:.1f} of {student.weights_bytes / 1e6:.1f} MB as float32)"
    )
    if seen is None:
        yield (
            f"{told}; student.vocabulary drops those that the training texts do not need, and every 1,000 of them "
            f"save {token_bytes / 1e3:.2g} MB"
        )
    elif 1 - seen / student.vocab_size > FEWEST_SAVED:
        saved = token_bytes * (student.vocab_size - seen) / 1e6
        yield (
            f"{told}, and the training texts use {seen:,} of them; "
            f"student.vocabulary: {{min_count: 1}} saves about {saved:.1f} MB"
        )


def _dimensions(teacher: Anatomy, student: Anatomy) -> Iterator[str]:
    unused = student.embedding_width - teacher.hidden_size
    if student.layers == 0 and unused > 0:
        yield (
            f"the student's {student.embedding_width} dimensions are more than the {teacher.hidden_size} that the "
            f"teacher's token vectors have; the other {unused} start at zero and cost "
            f"{4 * unused * student.vocab_size / 1e6:.1f} MB: write student.dimensions: {teacher.hidden_size} or less"
        )


def _rows(options: StudentOptions) -> Iterator[str]:
    """Tell of widths that a language model's file could not store in blocks."""
    for name in ("hidden_size", "intermediate_size"):
        width = getattr(options, name, None)
        if "text_generation" not in options.TASKS or width is None or width % BLOCK == 0:
            continue
        near = [below for block in (BLOCK, LARGE_BLOCK) if (below := width - width % block)] or [BLOCK]
        yield (
            f"student.{name}: {width} is not a multiple of {BLOCK}, so no quantized type of ggml has blocks for its "
            f"rows, and they stay as wide as F16; write {' or '.join(map(str, dict.fromkeys(near)))}"
            + (f" ({LARGE_BLOCK} divides the second, as q4_k_m and its like want it)" if len(near) > 1 else "")
        )
