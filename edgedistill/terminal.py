"""What the command line prints: tables of a plan, of models, of results, of a machine."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgedistill.decoder_results import DecoderBenchmark
from edgedistill.report import units
from edgedistill.report.units import significant, size
from edgedistill.results import BenchmarkResult, BudgetLine, Subject, Validity

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


def table_of(benchmark: BenchmarkResult | DecoderBenchmark) -> Table:
    """Return the first numbers of either kind of model."""
    return results_table(benchmark) if isinstance(benchmark, BenchmarkResult) else decoders_table(benchmark)


def results_table(benchmark: BenchmarkResult) -> Table:
    """Return the few numbers a person wants first, of single short texts; the report has the others."""
    table = _table(
        "model", "file", "p50 (spaced)", "speed-up", "peak memory", "test", "retained",
        title="results: one short text, calls back to back; spaced: idle time before each",
    )  # fmt: skip
    teacher = next(subject for subject in benchmark.subjects if subject.role == "teacher")
    for subject in benchmark.subjects:
        _add(table, *_result(subject, teacher))
    if not benchmark.validity.valid:
        table.caption = _not_valid(benchmark.validity)
    return table


def _not_valid(validity: Validity) -> Text:
    first, more = validity.reasons[:REASONS_SHOWN], len(validity.reasons) - REASONS_SHOWN
    rest = f"; and {more} more reason{'s' if more > 1 else ''}, all of them in the report" if more > 0 else ""
    return Text(f"not valid: {'; '.join(first)}{rest}", "yellow")


def decoders_table(benchmark: DecoderBenchmark) -> Table:
    """Return the few numbers a person wants first of language models; the report has the others."""
    table = _table(
        "model", "file", "prompt", "decode", "speed-up", "peak memory", "perplexity", "from teacher",
        title="results: tokens a second; speed-up of decoding; from teacher: KL in nats, same likeliest token",
    )  # fmt: skip
    teacher = next(subject for subject in benchmark.subjects if subject.role == "teacher")
    for subject in benchmark.subjects:
        quality, own = subject.quality.get("test"), subject is teacher
        apart = "-"
        if quality is not None and quality.kl_teacher is not None and quality.agreement_teacher is not None:
            apart = f"{quality.kl_teacher.value:.2g}, {quality.agreement_teacher.value:.1%}"
        _add(
            table, subject.title, size(subject.model_bytes), significant(subject.prefill.tokens_per_s),
            significant(subject.decode.tokens_per_s), "-" if own else f"{subject.speedup.decode.median:.2g}x",
            size(subject.memory.peak_median_bytes), "-" if quality is None else f"{quality.perplexity.value:.4g}",
            apart,
        )  # fmt: skip
    if not benchmark.validity.valid:
        table.caption = _not_valid(benchmark.validity)
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
    measured = said["values"]["benchmark"]["value"]
    console.print()
    console.print(_verdict(said["verdict"]).append(f"  {said['sentence']}", "not bold default"))
    console.print()
    if "metric_name" in measured:
        console.print(results_table(BenchmarkResult.model_validate(measured)))
    else:
        console.print(decoders_table(DecoderBenchmark.model_validate(measured)))
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
