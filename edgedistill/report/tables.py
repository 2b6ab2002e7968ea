"""Tables of what was measured: budget, results, waterfall, sets, controls. Formatting and ratios only."""

from collections.abc import Sequence
from dataclasses import replace

from edgedistill.report.evidence import (
    FIRST_WORKLOAD,
    SPACED_WORKLOAD,
    AnyBenchmark,
    control_name,
    exported_teacher,
    find,
    name_of,
    reference,
    split_title,
    workload,
)
from edgedistill.report.page import Cell, Row, Table, missing, row
from edgedistill.report.sentence import metric_of
from edgedistill.report.units import (
    better,
    compared,
    count,
    duration,
    interval,
    points,
    ratio_digits,
    ratio_range,
    share,
    significant,
    size,
    tiny,
    worse,
)
from edgedistill.results import (
    BenchmarkResult,
    BudgetLine,
    Latency,
    Ratio,
    SplitQuality,
    Subject,
    WorkloadResult,
)
from edgedistill.values import Metric

VERDICT_TONE = {"PASS": "good", "FAIL": "bad", "INCONCLUSIVE": "weak"}
_STAGE_TITLES = {"distill": "Distillation", "export": "Export", "quantize": "Quantization"}
_NEEDS = {"p90_s": 64, "p95_s": 130, "p99_s": 662}


def budget(lines: Sequence[BudgetLine], benchmark: AnyBenchmark) -> Table:
    """Every promise against every artifact."""
    rows = tuple(
        row(
            title_of(benchmark, line.subject),
            line.promise,
            line.measured,
            Cell(line.verdict, tone=VERDICT_TONE[line.verdict]),
        )
        for line in lines
    )
    return Table("Budget", ("Artifact", "Promise", "Measured", "Verdict"), rows)


def results(benchmark: BenchmarkResult, recommended: str | None) -> Table:
    """What each model weighs, how fast it is and how good, with ratios to the teacher."""
    metric, label = metric_of(benchmark).capitalize(), emulated(benchmark)
    columns = (
        "Model",
        f"{metric}, test",
        "Kept",
        "Model file",
        f"p50{label}",
        f"p90{label}",
        "Against teacher",
        "Against teacher in ONNX",
        f"Peak memory{label}",
        "Load",
    )
    rows = tuple(_result(benchmark, subject, subject.name == recommended) for subject in benchmark.subjects)
    caption = "Batch 1, short texts, calls back to back; text in, answer out; ratios are to the teacher in PyTorch"
    return Table(caption, columns, rows)


def _result(benchmark: BenchmarkResult, subject: Subject, emphasised: bool) -> Row:
    teacher = reference(benchmark)
    test, run, tone = subject.quality.get("test"), workload(subject), timing_tone(benchmark)
    no_run = missing("this workload was not measured")
    own = subject.name == teacher.name
    memory = subject.memory.peak_median_bytes
    lighter = "" if own else compared(teacher.memory.peak_median_bytes / memory, "less", "more")
    smaller = "" if own else f"{compared(teacher.model_bytes / subject.model_bytes, 'smaller', 'larger')}; "
    return row(
        name_of(subject),
        missing("not measured on the test set") if test is None else metric_cell(test.metric),
        Cell("reference") if own else kept_cell(test),
        Cell(size(subject.model_bytes), smaller + shipped(benchmark, subject)),
        no_run if run is None else Cell(duration(run.latency.p50_s), _spaced(subject), tone=tone),
        no_run if run is None else percentile(run.latency, "p90_s", tone),
        Cell("reference") if own else speed_cell(subject.speedup.get(FIRST_WORKLOAD), tone),
        _against_exported(benchmark, subject, tone),
        Cell(size(memory), lighter, tone=memory_tone(benchmark)),
        Cell(duration(subject.load_median_s), tone=tone),
        emphasised=emphasised,
    )


def shipped(benchmark: BenchmarkResult, subject: Subject) -> str:
    """Return what a model weighs with all that it needs beside its file, and how that compares with the teacher's."""
    teacher, whole = reference(benchmark), f"{size(subject.shipped_bytes)} with tokenizer"
    if subject.name == teacher.name:
        return whole
    return f"{whole}, {compared(teacher.shipped_bytes / subject.shipped_bytes, 'smaller', 'larger')}"


def _spaced(subject: Subject) -> str:
    result = workload(subject, SPACED_WORKLOAD)
    return "" if result is None else f"{duration(result.latency.p50_s)} {idling(result)}"


def idling(result: WorkloadResult) -> str:
    """Return what went before each call of a workload with pauses."""
    return f"after {duration(result.pause_s, 2)} of idling"


def _against_exported(benchmark: BenchmarkResult, subject: Subject, tone: str) -> Cell:
    if subject.role == "teacher_exported":
        return Cell("reference")
    exported = exported_teacher(benchmark)
    if exported is None:
        return missing("the teacher was not measured in ONNX")
    ratio = subject.speedup_exported.get(FIRST_WORKLOAD)
    if subject.role == "teacher" and (inverse := exported.speedup.get(FIRST_WORKLOAD)) is not None:
        ratio = Ratio(median=1 / inverse.median, low=1 / inverse.high, high=1 / inverse.low)
    return speed_cell(ratio, tone)


def workloads(benchmark: BenchmarkResult) -> Table:
    """Every subject on every workload."""
    label, tone = emulated(benchmark), timing_tone(benchmark)
    columns = (
        "Model", "Workload", "Tokens", f"p50{label}", f"p90{label}", f"p95{label}", f"p99{label}",
        "Model alone, p50", "Texts per s", "Against teacher",
    )  # fmt: skip
    rows = []
    for subject in benchmark.subjects:
        for result in subject.workloads:
            latency = result.latency
            speed = (
                Cell("reference")
                if subject.role == "teacher"
                else speed_cell(subject.speedup.get(result.workload), tone)
            )
            rows.append(
                row(
                    name_of(subject),
                    Cell(result.workload.replace("_", " "), idling(result) if result.pause_s else ""),
                    count(result.tokens),
                    Cell(duration(latency.p50_s), f"{count(latency.count)} calls; {_rounds(result)}", tone=tone),
                    *(percentile(latency, name, tone) for name in _NEEDS),
                    Cell(duration(result.model_only.p50_s), tone=tone),
                    Cell(significant(result.items_per_s), tone=tone),
                    speed,
                )
            )
    return Table("Every workload", columns, tuple(rows), folded=True)


def against_float(benchmark: BenchmarkResult) -> Table:
    """How many times faster each quantized file is than the float student's own, on every workload."""
    held = [subject for subject in benchmark.subjects if subject.speedup_float]
    names = list(dict.fromkeys(name for subject in held for name in subject.speedup_float))
    rows = tuple(
        row(name_of(subject), *(_beside_float(benchmark, subject.speedup_float.get(name)) for name in names))
        for subject in held
    )
    columns = ("Model", *(f"{name.replace('_', ' ')}{emulated(benchmark)}" for name in names))
    return Table("Quantized files against the float student's own", columns, rows)


def _beside_float(benchmark: BenchmarkResult, ratio: Ratio | None) -> Cell:
    tone = "" if ratio is None or ratio.low > 1 else "bad" if ratio.high < 1 else "weak"
    return speed_cell(ratio, timing_tone(benchmark) or tone)


def _rounds(result: WorkloadResult) -> str:
    """Return how far the rounds agree."""
    return f"rounds {duration(min(result.round_p50_s))} to {duration(max(result.round_p50_s))}"


def waterfall(benchmark: BenchmarkResult, recommended: str | None) -> Table:
    """What each stage did to each split; paired differences in percentage points."""
    steps = benchmark.waterfall
    subject, teacher = find(benchmark, recommended), reference(benchmark)
    columns = (
        "Set",
        "Teacher",
        *(f"{_STAGE_TITLES[step.stage]}{_step_detail(benchmark, step.after)}" for step in steps),
    )
    rows = []
    for split in benchmark.splits:
        changes = [change_cell(step.differences.get(split)) for step in steps]
        rows.append(
            row(split_title(split), _on(teacher, split), *changes, _on(subject, split), emphasised=split == "test")
        )
    average = missing("the benchmark takes a mean of the changes only")
    if len(rows) > 1:
        rows.append(row("mean of sets", average, *(change_cell(step.mean) for step in steps), average))
    ships = "Artifact" if subject is None else name_of(subject)
    unit = f"{metric_of(benchmark)}; changes in percentage points, paired 95 % intervals"
    return Table(f"Where the quality went ({unit})", (*columns, ships), tuple(rows))


def _step_detail(benchmark: BenchmarkResult, after: str) -> str:
    return f" → {title_of(benchmark, after)}"


def _on(subject: Subject | None, split: str) -> Cell:
    quality = None if subject is None else subject.quality.get(split)
    return missing("not measured on this set") if quality is None else metric_cell(quality.metric)


def sets(benchmark: BenchmarkResult, subject: Subject) -> Table:
    """One artifact on every held-out set: quality, and how often it answers as the teacher and the student do."""
    metric = metric_of(benchmark).capitalize()
    apart = benchmark.divergence_name
    columns = (
        "Set", metric, "Kept", "Agrees with teacher", "Flips", f"From teacher: {apart}", "Agrees with float student",
        "Flips", f"From float student: {apart}", "Texts measured",
    )  # fmt: skip
    rows = []
    for split, quality in ((split, subject.quality[split]) for split in benchmark.splits if split in subject.quality):
        student = missing("not compared with the float student")
        rows.append(
            row(
                split_title(split),
                metric_cell(quality.metric),
                kept_cell(quality),
                metric_cell(quality.teacher_agreement),
                count(quality.teacher_flips),
                _apart(quality.teacher_divergence),
                student if quality.student_agreement is None else metric_cell(quality.student_agreement),
                student if quality.student_flips is None else count(quality.student_flips),
                _apart(quality.student_divergence),
                count(quality.metric.n),
                emphasised=split == "test",
            )
        )
    return Table(f"{name_of(subject)}, through {subject.runtime}", columns, tuple(rows))


def _apart(divergence: float | None) -> Cell:
    return missing("not comparable number by number") if divergence is None else Cell(tiny(divergence))


def controls(benchmark: BenchmarkResult) -> Table:
    """The float student against every control; the paired difference and the control's own metric."""
    columns = ("Set", *(f"Student minus {control_name(comparison)}" for comparison in benchmark.controls))
    mean = row("mean of sets", *(change_cell(comparison.mean) for comparison in benchmark.controls), emphasised=True)
    rows = []
    for split in benchmark.splits:
        cells = []
        for comparison in benchmark.controls:
            own = comparison.quality.get(split)
            detail = "" if own is None else f"control: {share(own)}"
            cells.append(change_cell(comparison.differences.get(split), detail))
        rows.append(row(split_title(split), *cells))
    unit = f"{metric_of(benchmark)}, percentage points, paired 95 % intervals"
    return Table(f"The student against its controls ({unit})", columns, (mean, *rows) if len(rows) > 1 else tuple(rows))


def seeds(benchmark: BenchmarkResult) -> Table:
    """What each seed of student and control gave: how far luck moves the numbers."""
    columns = ("Seed", "Student, test", "Gain, mean of sets", *(f"Gain, {split_title(s)}" for s in benchmark.splits))
    rows = tuple(
        row(
            f"{result.seed} (shipped)" if number == 0 else str(result.seed),
            metric_cell(result.quality["test"]),
            change_cell(result.mean),
            *(change_cell(result.differences.get(split)) for split in benchmark.splits),
            emphasised=number == 0,
        )
        for number, result in enumerate(benchmark.seeds)
    )
    return Table("Every seed: the student minus the same student trained without the teacher", columns, rows)


def folded(table: Table) -> Table:
    """Return the table, closed until asked for."""
    return replace(table, folded=True)


def title_of(benchmark: AnyBenchmark, name: str) -> str:
    """Return what a person calls a subject; a step's other names stand for themselves."""
    subject = find(benchmark, name)
    return name.replace("_", " ") if subject is None else name_of(subject)


def metric_cell(metric: Metric) -> Cell:
    """Return a proportion with its interval."""
    return Cell(share(metric), interval(metric))


def kept_cell(quality: SplitQuality | None) -> Cell:
    """Return the retained quality with its interval."""
    if quality is None or quality.retained is None:
        return missing("no ratio to the teacher: one of the two has no metric here, or the teacher's is zero")
    return metric_cell(quality.retained)


def change_cell(change: Metric | None, more: str = "") -> Cell:
    """Return a paired difference, toned by its interval: grey where it holds zero."""
    if change is None:
        return missing("not measured on this set")
    tone = "good" if better(change) else "bad" if worse(change) else "weak"
    return Cell(points(change), "; ".join(part for part in (interval(change), more) if part), tone=tone)


def percentile(latency: Latency, name: str, tone: str) -> Cell:
    """Return a percentile, or a dash that says how many calls it would have needed."""
    value: float | None = getattr(latency, name)
    if value is None:
        return missing(f"a {name.removesuffix('_s')} needs {_NEEDS[name]} calls; there were {count(latency.count)}")
    if name != "p90_s" or latency.p90_low_s is None or latency.p90_high_s is None:
        return Cell(duration(value), tone=tone)
    return Cell(duration(value), f"{duration(latency.p90_low_s)} to {duration(latency.p90_high_s)}", tone=tone)


def speed_cell(ratio: Ratio | None, tone: str) -> Cell:
    """Return how many times faster than the teacher, with the range over the rounds."""
    if ratio is None:
        return missing("not measured against the teacher")
    low, high = ratio_range(ratio)
    return Cell(compared(ratio.median, "faster", "slower", ratio_digits(ratio)), f"{low} to {high}×", tone=tone)


def timing_tone(benchmark: AnyBenchmark) -> str:
    """Return the tone of times: weak where the benchmark calls them invalid."""
    return "" if benchmark.validity.valid else "weak"


def memory_tone(benchmark: AnyBenchmark) -> str:
    """Return the tone of memory: a busy machine makes nothing larger, so only another model's makes it weak."""
    return "weak" if benchmark.validity.wrong else ""


def emulated(benchmark: AnyBenchmark) -> str:
    """Return what stands behind the name of every time and memory that no real device gave."""
    return " (emulated)" if benchmark.environment.emulated else ""
