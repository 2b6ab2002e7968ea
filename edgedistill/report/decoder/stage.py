"""The report stage of a language model: the same page, other numbers.

As every report it computes no statistic: each number is a given one, formatted, or the ratio of two given ones; a mean
loss is the logarithm of a given perplexity.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgedistill.decoder_results import DecoderBenchmark
from edgedistill.decoder_values import (
    DecoderArtifact,
    DecoderControls,
    DecoderSignals,
    DecoderStart,
    DecoderStudent,
    DecoderTokens,
    QuantizedDecoder,
)
from edgedistill.recipe import Recipe
from edgedistill.report.budget import judge, recommend
from edgedistill.report.decoder.evidence import DecoderEvidence
from edgedistill.report.decoder.sentence import summarise
from edgedistill.report.evidence import find
from edgedistill.report.stage import concluded, write
from edgedistill.results import Report
from edgedistill.values import Corpus, Teacher


def report(
    recipe: Recipe,
    *,
    task: Any,
    corpus: Corpus,
    teacher: Teacher,
    signals: DecoderSignals,
    student: DecoderStudent,
    controls: DecoderControls,
    quantized: Mapping[str, QuantizedDecoder],
    artifacts: Mapping[str, DecoderArtifact],
    benchmark: DecoderBenchmark,
    start: DecoderStart | None = None,
    folder: Path,
    tokens: DecoderTokens | None = None,
) -> Report:
    """Write report.md, report.html and report.json into `folder`, and return the verdict with its reasons.

    Args:
        task: its options.
        start: what the student started from beside its teacher.
        quantized: method -> model.
        artifacts: format -> artifact.
        tokens: those that the student keeps; None where that is all of the teacher's.
    """
    from edgedistill.report import html, markdown  # matplotlib: only when there is a page to draw
    from edgedistill.report.decoder import exact, tables
    from edgedistill.report.decoder.sections import sections
    from edgedistill.report.decoder.tiles import tiles

    evidence = DecoderEvidence(
        recipe=recipe, task=task, corpus=corpus, teacher=teacher, signals=signals, start=start, student=student,
        controls=controls, quantized=quantized, artifacts=artifacts, benchmark=benchmark, tokens=tokens,
    )  # fmt: skip
    lines = judge(recipe.budget, benchmark)
    name = recommend(lines, benchmark)
    subject = find(benchmark, name)
    summary = summarise(evidence, lines, name)
    made = concluded(benchmark, lines, summary)
    first = () if subject is None else tiles(benchmark, subject)
    page = html.page(recipe, benchmark, made, summary, first, sections(evidence, lines, name))
    shown = [tables.results(evidence, name), tables.path(evidence)]
    shown += [exact.waterfall(benchmark, name)] if benchmark.conversations else []
    shown += [tables.waterfall(benchmark, name)]
    shown += [exact.differences(benchmark)] if benchmark.exact_controls else []
    shown += [tables.differences(benchmark)] if benchmark.controls else []
    document = markdown.document(evidence, made, summary, [*shown, tables.controls(evidence)])
    return write(evidence, made, page, document, folder)
