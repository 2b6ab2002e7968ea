"""Tables of answers judged whole: which stage cost how many of them, and how many the controls give."""

from collections.abc import Sequence

from edgedistill.decoder_results import DecoderBenchmark
from edgedistill.decoder_values import DecoderQuality
from edgedistill.report.evidence import control_name, find, name_of, reference, split_title
from edgedistill.report.page import Cell, Table, missing, row
from edgedistill.report.tables import change_cell, metric_cell, title_of
from edgedistill.results import Comparison, Step

TITLE = "Exact answers"


def titles(benchmark: DecoderBenchmark) -> list[str]:
    """Return the title of a column of answers judged whole; nothing where documents are judged."""
    return [TITLE] * benchmark.conversations


def cells(quality: DecoderQuality | None, benchmark: DecoderBenchmark) -> list[Cell]:
    """Return what stands below `titles`."""
    if not benchmark.conversations:
        return []
    exact = None if quality is None else quality.exact_match
    return [missing("not measured on this set") if exact is None else metric_cell(exact)]


def waterfall(benchmark: DecoderBenchmark, recommended: str | None) -> Table:
    """What each stage did to the answers of each split; paired differences in percentage points."""
    subject, teacher = find(benchmark, recommended), reference(benchmark)
    steps = benchmark.exact_waterfall
    names = (title_of(benchmark, step.after) for step in steps)
    rows = [
        row(
            split_title(split), *cells(teacher.quality.get(split), benchmark), *_changes(steps, split),
            *cells(None if subject is None else subject.quality.get(split), benchmark), emphasised=split == "test",
        )
        for split in benchmark.splits
    ]  # fmt: skip
    ships = "Artifact" if subject is None else name_of(subject)
    caption = "Where exact answers went (changes in percentage points of the conversations; paired 95 % intervals)"
    return Table(caption, ("Set", "Teacher", *(f"→ {name}" for name in names), ships), tuple(rows))


def differences(benchmark: DecoderBenchmark) -> Table:
    """The float student's exact answers against every control's, in pairs."""
    controls = benchmark.exact_controls
    rows = [row(split_title(split), *_changes(controls, split)) for split in benchmark.splits]
    columns = ("Set", *(f"Student minus {control_name(one)}" for one in controls))
    caption = "Exact answers of the student against its controls (percentage points; paired 95 % intervals)"
    return Table(caption, columns, tuple(rows))


def _changes(differences: Sequence[Step | Comparison], split: str) -> list[Cell]:
    return [change_cell(one.differences.get(split)) for one in differences]
