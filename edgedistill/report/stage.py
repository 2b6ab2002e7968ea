"""The stage that says what was measured: one page to read, one to paste into release notes, one to compute with.

It computes no statistic: every number is a given one, formatted, or the ratio of two given ones. Nothing here
depends on the time or on the place of the run folder, so the same values give the same report.
"""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from edgedistill.files import canonical_json, sha256_of_text, write_atomic
from edgedistill.recipe import Recipe
from edgedistill.report.budget import judge, overall, recommend
from edgedistill.report.decoder.evidence import DecoderEvidence
from edgedistill.report.evidence import AnyBenchmark, Evidence
from edgedistill.report.sentence import Summary, summarise
from edgedistill.results import BenchmarkResult, BudgetLine, Report
from edgedistill.run import plain
from edgedistill.student_values import Search, Tokens
from edgedistill.values import Artifact, Controls, Corpus, QuantizedModel, Signals, Student, Teacher

SCHEMA_VERSION = 1


def report(
    recipe: Recipe,
    *,
    corpus: Corpus,
    teacher: Teacher,
    signals: Signals,
    tokens: Tokens,
    student: Student,
    controls: Controls,
    quantized: Mapping[str, QuantizedModel],
    artifacts: Mapping[str, Artifact],
    benchmark: BenchmarkResult,
    search: Search | None = None,
    folder: Path,
) -> Report:
    """Write report.md, report.html and report.json into `folder`, and return the verdict with its reasons."""
    from edgedistill.report import html, markdown  # matplotlib: only when there is a page to draw

    evidence = Evidence(
        recipe=recipe,
        corpus=corpus,
        teacher=teacher,
        signals=signals,
        tokens=tokens,
        student=student,
        controls=controls,
        quantized=quantized,
        artifacts=artifacts,
        benchmark=benchmark,
        search=search,
    )
    lines = judge(recipe.budget, benchmark)
    recommended = recommend(lines, benchmark)
    summary = summarise(evidence, lines, recommended)
    made = concluded(benchmark, lines, summary)
    return write(evidence, made, html.render(evidence, made, summary), markdown.render(evidence, made, summary), folder)


def concluded(benchmark: AnyBenchmark, lines: tuple[BudgetLine, ...], summary: Summary) -> Report:
    """Return what the report of one build says."""
    return Report(
        schema_version=SCHEMA_VERSION,
        verdict=overall(lines, benchmark),
        sentence=summary.sentences,
        budget=lines,
        recommended=recommend(lines, benchmark),
        markdown=PurePosixPath("report.md"),
        html=PurePosixPath("report.html"),
        data=PurePosixPath("report.json"),
    )


def write(evidence: Evidence | DecoderEvidence, made: Report, page: str, document: str, folder: Path) -> Report:
    """Write report.html, report.md and report.json into `folder`."""
    write_atomic(folder / made.html, page)
    write_atomic(folder / made.markdown, document)
    write_atomic(folder / made.data, _data(evidence, made))
    return made


def _data(evidence: Evidence | DecoderEvidence, made: Report) -> str:
    """Return the report and every value that it was made from, each with its stage folder, as JSON."""
    recipe = plain(evidence.recipe)
    values = {
        name: {"folder": value.folder.name, "value": plain(value)} for name, value in evidence.stage_values().items()
    }
    said = made.model_dump(mode="json", include={"schema_version", "verdict", "sentence", "budget", "recommended"})
    return canonical_json(
        said | {"recipe": recipe, "recipe_sha256": sha256_of_text(canonical_json(recipe)), "values": values}
    )
