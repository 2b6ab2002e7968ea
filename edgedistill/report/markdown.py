"""report.md: what goes into release notes, in plain GitHub Markdown."""

from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from edgedistill.report import tables
from edgedistill.report.decoder.evidence import DecoderEvidence
from edgedistill.report.evidence import Evidence
from edgedistill.report.page import Cell, Table
from edgedistill.report.sentence import Summary
from edgedistill.results import Report

_SPECIAL = str.maketrans(
    {character: f"\\{character}" for character in "\\`*_[]|#"} | {"<": "&lt;", ">": "&gt;", "\n": " "}
)


def render(evidence: Evidence, report: Report, summary: Summary) -> str:
    """Return the whole document."""
    benchmark = evidence.benchmark
    shown = [tables.results(benchmark, report.recommended), tables.waterfall(benchmark, report.recommended)]
    shown += [tables.controls(benchmark)] if benchmark.controls else []
    return document(evidence, report, summary, shown)


def document(evidence: Evidence | DecoderEvidence, report: Report, summary: Summary, shown: Sequence[Table]) -> str:
    """Return the document of one build, whatever its models do, with these tables and the budget's."""
    benchmark = evidence.benchmark
    promised = [tables.budget(report.budget, benchmark)] if report.budget else []
    environment = environment_with_filters()
    return environment.get_template("report.md.j2").render(
        evidence=evidence, report=report, summary=summary, tables=[*shown, *promised], environment=benchmark.environment
    )


def environment_with_filters() -> Environment:
    """Return the templates of Markdown files, which escape by filter instead of everywhere."""
    environment = Environment(
        loader=PackageLoader("edgedistill.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"plain": plain, "table": table}
    return environment


def plain(text: object) -> str:
    """Return text that Markdown shows as it is."""
    return str(text).translate(_SPECIAL)


def table(content: Table) -> str:
    """Return a table with its numbered notes."""
    columns = content.columns or ("", "")
    lines = ["| " + " | ".join(plain(title) for title in columns) + " |", "|---" * len(columns) + "|"]
    for each in content.rows:
        cells = [_cell(content, cell) for cell in each.cells]
        if each.emphasised:
            cells[0] = f"**{cells[0]}**"
        lines.append("| " + " | ".join(cells) + " |")
    notes = [f"<sup>{number}</sup> {plain(note)}" for number, note in enumerate(content.notes, 1)]
    return "\n".join(lines) + ("\n\n" + "<br>\n".join(notes) if notes else "")


def _cell(content: Table, cell: Cell) -> str:
    text = plain(cell.text)
    if cell.why:
        return f"{text}<sup>{content.note_of(cell)}</sup>"
    return f"{text} ({plain(cell.detail)})" if cell.detail else text
