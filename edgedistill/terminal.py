"""What the command line prints: tables of a plan, of models, of results, of a machine."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgedistill.decoder_results import DecoderBenchmark
from edgedistill.report import units
from edgedistill.report.evidence import taught_in
from edgedistill.results import BenchmarkResult, BudgetLine, Subject

if TYPE_CHECKING:
    from edgedistill.doctor import Finding
    from edgedistill.models.anatomy import Anatomy
    from edgedistill.planning import PlannedStage

VERDICT_STYLES = {"PASS": "bold green", "FAIL": "bold red", "INCONCLUSIVE": "bold yellow"}
FIRST_WORKLOAD, SPACED_WORKLOAD = "batch_1_short", "batch_1_spaced"


REASONS_SHOWN = 2


def plan_table(stages: Iterable["PlannedStage"]) -> Table:
    """Return what a build would do, stage by stage, with the totals of what would run."""
    stages = tuple(stages)
    table = _table("stage", "state", "why", "time", "size", title="plan")
    for stage in stages:
        why = "\n".join(map(_reason, stage.why)) if stage.why else "" if stage.finished else "never ran"
        state = Text("cached", "green") if stage.finished else Text("will run", "yellow")
        _add(table, stage.stage, state, why, *_cost(stage.seconds, stage.bytes, measured=stage.finished))
    to_run = [stage for stage in stages if not stage.finished]
    seconds, sizes = sum(stage.seconds or 0 for stage in to_run), sum(stage.bytes or 0 for stage in to_run)
    table.add_section()
    _add(table, "total", f"{len(to_run)} of {len(stages)} run", "", *_cost(seconds, sizes, measured=not to_run))
    return table


def anatomy_table(models: Iterable["Anatomy"]) -> Table:
    """Return what teacher and student weigh, and how many times the teacher weighs the others."""
    models = tuple(models)
    table = _table("model", "parameters", "float32 weights", "FLOPs per token", "smaller", title="models")
    for model in models:
        smaller = (
            units.times(models[0].weights_bytes / model.weights_bytes, 2) if model is not models[0] else units.DASH
        )
        flops = units.rounded_count(model.flops_per_token)
        _add(table, model.name, units.rounded_count(model.parameters), units.size(model.weights_bytes), flops, smaller)
    return table


def results_table(benchmark: BenchmarkResult | DecoderBenchmark) -> Table:
    """Return the few numbers a person wants first; the report has the others."""
    table = _spoken(benchmark) if isinstance(benchmark, DecoderBenchmark) else _answered(benchmark)
    if not benchmark.validity.valid:
        first, more = benchmark.validity.reasons[:REASONS_SHOWN], len(benchmark.validity.reasons) - REASONS_SHOWN
        rest = f"; and {more} more reason{'s' if more > 1 else ''}, all of them in the report" if more > 0 else ""
        table.caption = Text(f"not valid: {'; '.join(first)}{rest}", "yellow")
    return table


def _answered(benchmark: BenchmarkResult) -> Table:
    """Return what was measured of single short texts."""
    table = _table(
        "model", "file", "p50 (spaced)", "speed-up", "peak memory", "test", "retained",
        title="results: one short text, calls back to back; spaced: idle time before each",
    )  # fmt: skip
    teacher = next(subject for subject in benchmark.subjects if subject.role == "teacher")
    for subject in benchmark.subjects:
        _add(table, *_result(subject, teacher))
    return table


def _spoken(benchmark: DecoderBenchmark) -> Table:
    """Return what was measured of language models; its columns are narrow enough for a terminal of 80."""
    whole = any(quality.exact_match for subject in benchmark.subjects for quality in subject.quality.values())
    table = _table(
        "model", "file", "decode", "prefill", "faster", "memory", "perpl.", *["exact"] * whole, "kept",
        title=f"results: decode and prefill in tokens/s; faster in decoding than the teacher {taught_in(benchmark)}; "
        "peak memory; perplexity; kept of the teacher's quality",
    )  # fmt: skip
    for subject in benchmark.subjects:
        quality = subject.quality.get("test")
        kept = None if quality is None else quality.retained
        speed = subject.speedup.decode
        _add(
            table, subject.title, units.size(subject.model_bytes), units.significant(subject.decode.tokens_per_s),
            units.significant(subject.prefill.tokens_per_s),
            "" if subject.role == "teacher" else units.times(speed.median, units.ratio_digits(speed)),
            units.size(subject.memory.peak_median_bytes),
            units.DASH if quality is None else units.perplexity(quality.perplexity),
            *[units.DASH if quality is None else units.share(quality.judged)] * whole,
            units.DASH if kept is None else units.share(kept),
        )  # fmt: skip
    return table


def doctor_table(findings: Iterable["Finding"]) -> Table:
    """Return what the machine and the installation are like."""
    table = _table("what", "found", "state", "cure", title="doctor")
    for finding in findings:
        state = {True: Text("ok", "green"), False: Text("broken", "bold red"), None: Text("note", "dim")}[finding.good]
        _add(table, finding.what, finding.found, state, finding.cure)
    return table


def show_end(console: Console, folder: Path) -> None:
    """Print the end of a build: verdict, sentence, numbers, budget, and where everything lies.

    Args:
        console: where to print.
        folder: the run folder; what is printed is read from its report.json.
    """
    said = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    measured: TypeAdapter[BenchmarkResult | DecoderBenchmark] = TypeAdapter(BenchmarkResult | DecoderBenchmark)
    benchmark = measured.validate_python(said["values"]["benchmark"]["value"])
    console.print()
    console.print(_verdict(said["verdict"]).append(f"  {said['sentence']}", "not bold default"))
    console.print()
    console.print(results_table(benchmark))
    console.print()
    for line in (BudgetLine.model_validate(line) for line in said["budget"]):
        console.print(_verdict(line.verdict).append(f"  {_promise(line)}", "not bold default"))
    for name in ("report.html",) if said["verdict"] == "FAIL" else ("report.html", "artifacts"):
        console.print(Text(str(folder / name), "bold"), soft_wrap=True)


def _reason(difference: str) -> str:
    """Return a difference in a stage's needs as a person would say it; hashes say nothing to one."""
    key = difference.partition(":")[0]
    if key == "code":
        return "edgedistill's own code for it changed"
    if key == "train_and_validation":
        return "other texts in train or validation"
    return f"{key.removeprefix('after.')} runs again" if key.startswith("after.") else difference


def _verdict(verdict: str) -> Text:
    return Text(verdict, VERDICT_STYLES[verdict])


def _promise(line: BudgetLine) -> str:
    return f"{line.subject}: {line.key}: {line.measured}; promised: {line.promise}"


def _result(subject: Subject, teacher: Subject) -> list[str]:
    ratio = subject.speedup.get(FIRST_WORKLOAD)
    quality = subject.quality.get("test")
    retained = quality.retained if quality is not None and subject is not teacher else None
    return [
        subject.title,
        units.size(subject.model_bytes),
        f"{_p50(subject, FIRST_WORKLOAD)} ({_p50(subject, SPACED_WORKLOAD)})",
        units.times(ratio.median, units.ratio_digits(ratio))
        if ratio is not None and subject is not teacher
        else units.DASH,
        units.size(subject.memory.peak_median_bytes),
        units.share(quality.metric) if quality is not None else units.DASH,
        f"{units.share(retained)} ({units.interval(retained)})" if retained is not None else units.DASH,
    ]


def _p50(subject: Subject, workload: str) -> str:
    timed = next((result for result in subject.workloads if result.workload == workload), None)
    return units.duration(timed.latency.p50_s) if timed is not None else units.DASH


def _add(table: Table, *cells: str | Text) -> None:
    """Add a row whose words are shown as they are; a plain string would be read as markup, `[gguf]` as a style."""
    table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))


def _cost(seconds: float | None, size_bytes: int | None, *, measured: bool) -> tuple[str, str]:
    """Return time and size as text; what is an estimate says so."""
    about = "" if measured else "~"
    return (
        units.DASH if seconds is None else f"{about}{units.duration(seconds, 2)}",
        units.DASH if size_bytes is None else f"{about}{units.size(size_bytes, 2)}",
    )


def _table(*columns: str, title: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for column in columns:
        numeric = column not in ("stage", "state", "why", "model", "what", "found", "cure")
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    return table
