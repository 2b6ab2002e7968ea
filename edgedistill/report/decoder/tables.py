"""Tables of what was measured of language models: results, times, quality, waterfall, controls, flips."""

from collections.abc import Iterator, Sequence

from edgedistill.decoder_results import DecoderBenchmark, DecoderSpeedup, DecoderSubject, Flip
from edgedistill.decoder_values import DecoderEvaluation, DecoderQuality
from edgedistill.report.decoder import exact
from edgedistill.report.decoder.evidence import METRIC, DecoderEvidence
from edgedistill.report.decoder.sentence import smaller
from edgedistill.report.evidence import (
    control_name,
    find,
    name_of,
    reference,
    runtime_title,
    split_title,
    stored_title,
    taught_in,
)
from edgedistill.report.page import Cell, Row, Table, missing, row
from edgedistill.report.tables import emulated, memory_tone, metric_cell, percentile, speed_cell, timing_tone, title_of
from edgedistill.report.units import (
    NATS,
    better,
    compared,
    count,
    duration,
    nats,
    per_second,
    perplexity,
    perplexity_interval,
    significant,
    size,
    worse,
)
from edgedistill.results import Ratio
from edgedistill.values import Metric

SURE = 1.0  # logits by which a likeliest token leads that is no near tie; parity counts from the same lead
_STAGES = {"distill": "Distillation", "export": "Export", "quantize": "Quantization"}


def results(evidence: DecoderEvidence, recommended: str | None) -> Table:
    """What each model weighs and how fast it is, with ratios to the teacher where it taught."""
    benchmark = evidence.benchmark
    label, teacher = emulated(benchmark), reference(benchmark)
    columns = (
        "Model", "Model file", "Bits per weight", f"Decode{label}", f"Prefill{label}", f"First token{label}",
        f"Time per token{label}", f"Peak memory{label}", f"KV cache{label}", f"Load{label}",
    )  # fmt: skip
    rows = tuple(_result(evidence, subject, subject.name == recommended) for subject in benchmark.subjects)
    caption = (
        f"Decode is {teacher.decode.name}, prefill {teacher.prefill.name}, in llama-bench's words; ratios are to the "
        f"teacher {taught_in(benchmark)}, the smallest and the largest round with them"
    )
    return Table(caption, columns, rows)


def _result(evidence: DecoderEvidence, subject: DecoderSubject, emphasised: bool) -> Row:
    benchmark = evidence.benchmark
    teacher, tone = reference(benchmark), timing_tone(benchmark)
    own = subject.name == teacher.name
    peak = subject.memory.peak_median_bytes
    return row(
        name_of(subject),
        Cell(size(subject.model_bytes), "" if own else _smaller(benchmark, subject)),
        _bits(evidence, subject),
        _rate(subject.decode.tokens_per_s, None if own else subject.speedup.decode, tone),
        _rate(subject.prefill.tokens_per_s, None if own else subject.speedup.prefill, tone),
        Cell(duration(subject.ttft.p50_s), "" if own else _times(subject.speedup.ttft), tone=tone),
        Cell(duration(subject.decode.tpot.p50_s), "p50", tone=tone),
        Cell(
            size(peak), "" if own else compared(teacher.memory.peak_median_bytes / peak, "less", "more"),
            tone=memory_tone(benchmark),
        ),
        Cell(size(subject.kv_cache_bytes), f"of {count(subject.kv_cache_tokens)} tokens", tone=memory_tone(benchmark)),
        Cell(duration(subject.load_median_s), tone=tone),
        emphasised=emphasised,
    )  # fmt: skip


def _smaller(benchmark: DecoderBenchmark, subject: DecoderSubject) -> str:
    said = compared(reference(benchmark).model_bytes / subject.model_bytes, "smaller", "larger")
    beside = smaller(benchmark, subject, " than its") if subject.role == "artifact" else ""
    return f"{said}; {beside}" if beside else said


def _bits(evidence: DecoderEvidence, subject: DecoderSubject) -> Cell:
    teacher = evidence.teacher
    stored = {name: file.bits_per_weight for name, _, file in evidence.variants()}
    apart = {f"teacher.{name}": one.teacher for name, one in evidence.artifacts.items()}
    stored |= {name: file.bits_per_weight for name, file in apart.items() if file is not None}
    stored["teacher"] = 8 * teacher.weights_bytes / teacher.parameters
    bits = stored.get(subject.name)
    return missing("the file is none of an artifact's") if bits is None else Cell(significant(bits))


def _rate(tokens_per_s: float, ratio: Ratio | None, tone: str) -> Cell:
    return Cell(per_second(tokens_per_s), "" if ratio is None else _times(ratio), tone=tone)


def _times(ratio: Ratio) -> str:
    """Return a ratio with the smallest and the largest round."""
    told = speed_cell(ratio, "")
    return f"{told.text} ({told.detail})"


def times(benchmark: DecoderBenchmark) -> Table:
    """Every time of every model, with the percentiles that the calls carry."""
    label, tone = emulated(benchmark), timing_tone(benchmark)
    columns = (
        "Model", "What", "Calls", f"p50{label}", f"p90{label}", f"p95{label}", f"p99{label}", "Tokens per s, rounds",
    )  # fmt: skip
    rows = []
    for subject in benchmark.subjects:
        prefill, decode = subject.prefill, subject.decode
        measured = (
            (prefill.name, "a prompt", prefill.latency, _span(prefill.round_tokens_per_s)),
            (decode.name, "a token", decode.tpot, _span(decode.round_tokens_per_s)),
            ("first token", "tokenizer and prefill", subject.ttft, missing("a wait, not a rate")),
        )
        for name, each, latency, rounds in measured:
            rows.append(
                row(
                    name_of(subject), Cell(name, each), count(latency.count), Cell(duration(latency.p50_s), tone=tone),
                    *(percentile(latency, one, tone) for one in ("p90_s", "p95_s", "p99_s")), rounds,
                )
            )  # fmt: skip
    return Table("Every time", columns, tuple(rows), folded=True)


def _span(rates: Sequence[float]) -> Cell:
    return Cell(f"{significant(min(rates))} to {significant(max(rates))}")


def against_others(benchmark: DecoderBenchmark) -> Table:
    """How many times faster each file is than the teacher's and the float student's in the same format."""
    columns = (
        "Model", "Decode over teacher's file", "Prefill over teacher's file", "Decode over float student's",
        "Prefill over float student's", "A token, over one thread",
    )  # fmt: skip
    rows = tuple(
        row(
            name_of(subject),
            *_both(benchmark, subject.speedup_exported, _not_exported(benchmark)),
            *_both(benchmark, subject.speedup_float, "it is the float student, or there is none in its format"),
            _threads(subject),
        )
        for subject in benchmark.subjects
        if subject.role == "artifact"
    )
    return Table("Against the teacher's and the float student's own files", columns, rows)


def _not_exported(benchmark: DecoderBenchmark) -> str:
    if taught_in(benchmark) == "in llama.cpp":
        return "the teacher is a GGUF file itself, and laid out as nothing else: the ratios to it stand above"
    return "not measured against the teacher in the same format"


def _both(benchmark: DecoderBenchmark, speed: DecoderSpeedup | None, why: str) -> tuple[Cell, Cell]:
    if speed is None:
        return missing(why), missing(why)
    tones = ["" if one.low > 1 else "bad" if one.high < 1 else "weak" for one in (speed.decode, speed.prefill)]
    doubtful = timing_tone(benchmark)
    return speed_cell(speed.decode, doubtful or tones[0]), speed_cell(speed.prefill, doubtful or tones[1])


def _threads(subject: DecoderSubject) -> Cell:
    over = subject.decode.over_single_thread
    if over is None:
        return missing("one thread was asked for")
    return Cell(f"{significant(over, 2)}×", f"{subject.threads} threads", tone="bad" if over > 1 else "")


def path(evidence: DecoderEvidence) -> Table:
    """Quality on the test set of every model on the way from the teacher to the files."""
    benchmark = evidence.benchmark
    rows = tuple(
        row(name, *exact.cells(quality, benchmark), *quality_cells(quality)) for name, quality in _on_the_way(evidence)
    )
    columns = (
        "Model", *exact.titles(benchmark), "Perplexity", METRIC.capitalize(), "Kept of the teacher's",
        "KL from the teacher", "99th percentile", "Same likeliest token", "KL from the float student",
        "99th percentile", "Same likeliest token",
    )  # fmt: skip
    return Table("On the test set, stage by stage; KL in nats a token", columns, rows)


def _on_the_way(evidence: DecoderEvidence) -> Iterator[tuple[str, DecoderQuality | None]]:
    benchmark = evidence.benchmark
    models = [("teacher", reference(benchmark).quality), ("float student, PyTorch", benchmark.student_quality)]
    models += [
        (f"{stored_title(method)}, weights alone, PyTorch", quality)
        for method, quality in benchmark.simulated_quality.items()
    ]
    models += [
        (f"{name_of(subject)}, {runtime_title(subject)}", subject.quality)
        for subject in benchmark.subjects
        if subject.role == "artifact"
    ]
    for name, quality in models:
        yield name, quality.get("test")


def quality_cells(quality: DecoderQuality | None) -> tuple[Cell, ...]:
    """Return what stands under the titles of `path`."""
    if quality is None:
        return (missing("not measured on this set"),) * 9
    reference_itself = missing("it is what others are held against")
    kept = reference_itself if quality.kl_teacher is None else kept_cell(quality)
    return (
        perplexity_cell(quality),
        metric_cell(quality.accuracy),
        kept,
        *_apart(quality.kl_teacher, quality.kl_teacher_p99, quality.agreement_teacher, reference_itself),
        *_apart(
            quality.kl_student, quality.kl_student_p99, quality.agreement_student,
            missing("it came before the float student, or is it"),
        ),
    )  # fmt: skip


def perplexity_cell(quality: DecoderQuality) -> Cell:
    """Return a perplexity with its interval."""
    return Cell(perplexity(quality.perplexity), perplexity_interval(quality.perplexity))


def kept_cell(quality: DecoderQuality) -> Cell:
    """Return what is kept of the teacher's right answers or tokens, with its interval."""
    if quality.retained is None:
        return missing("no ratio with an interval: the teacher is hardly ever right here, or it was not taken")
    return metric_cell(quality.retained)


def _apart(kl: Metric | None, p99: float | None, agreement: Metric | None, none: Cell) -> tuple[Cell, Cell, Cell]:
    return (
        none if kl is None else Cell(nats(kl.value), f"{nats(kl.low)} to {nats(kl.high)}"),
        none if p99 is None else Cell(nats(p99)),
        none if agreement is None else metric_cell(agreement),
    )


def sets(benchmark: DecoderBenchmark, subject: DecoderSubject, *, folded: bool) -> Table:
    """One artifact on every held-out set."""
    columns = (
        "Set", *exact.titles(benchmark), "Perplexity", METRIC.capitalize(), "Kept", "KL from teacher",
        "99th percentile", "Same token", "KL from float student", "99th percentile", "Same token", "Positions",
    )  # fmt: skip
    rows = []
    for split in (split for split in benchmark.splits if split in subject.quality):
        quality = subject.quality[split]
        cells = [*exact.cells(quality, benchmark), *quality_cells(quality), Cell(count(quality.perplexity.n))]
        rows.append(row(split_title(split), *cells, emphasised=split == "test"))
    return Table(f"{name_of(subject)}, through {runtime_title(subject)}", columns, tuple(rows), folded=folded)


def waterfall(benchmark: DecoderBenchmark, recommended: str | None) -> Table:
    """What each stage did to each split; paired differences of the mean loss."""
    steps, subject, teacher = benchmark.waterfall, find(benchmark, recommended), reference(benchmark)
    titles = (f"{_STAGES[step.stage]} → {title_of(benchmark, step.after)}" for step in steps)
    rows = [
        row(
            split_title(split),
            _perplexity_on(teacher, split),
            *(loss_cell(step.differences.get(split)) for step in steps),
            _perplexity_on(subject, split),
            emphasised=split == "test",
        )
        for split in benchmark.splits
    ]
    average = missing("the benchmark takes a mean of the changes only")
    if len(benchmark.splits) > 1:
        rows.append(row("mean of sets", average, *(loss_cell(step.mean) for step in steps), average))
    ships = "Artifact" if subject is None else name_of(subject)
    caption = "Where the likelihood went (changes in nats a token, above zero is worse; paired 95 % intervals)"
    return Table(caption, ("Set", "Teacher, perplexity", *titles, f"{ships}, perplexity"), tuple(rows))


def _perplexity_on(subject: DecoderSubject | None, split: str) -> Cell:
    quality = None if subject is None else subject.quality.get(split)
    return missing("not measured on this set") if quality is None else perplexity_cell(quality)


def loss_cell(change: Metric | None, more: str = "") -> Cell:
    """Return a paired difference of the mean loss, toned by its interval: grey where it holds zero."""
    if change is None:
        return missing("not measured on this set")
    tone = "bad" if better(change) else "good" if worse(change) else "weak"  # a loss above zero is the worse one
    return Cell(NATS.signed(change), "; ".join(part for part in (NATS.interval(change), more) if part), tone=tone)


def differences(benchmark: DecoderBenchmark) -> Table:
    """The float student against every control, in pairs."""
    columns = ("Set", *(f"Student minus {control_name(comparison)}" for comparison in benchmark.controls))
    mean = [row("mean of sets", *(loss_cell(one.mean) for one in benchmark.controls), emphasised=True)]
    rows = [
        row(split_title(split), *(loss_cell(one.differences.get(split)) for one in benchmark.controls))
        for split in benchmark.splits
    ]
    caption = "The student against its controls (nats a token, below zero the student is better; paired 95 % intervals)"
    return Table(caption, columns, (*(mean if len(rows) > 1 else []), *rows))


def seeds(benchmark: DecoderBenchmark) -> Table:
    """What each seed of student and control gave, in pairs: how far luck moves the numbers."""
    columns = (
        "Seed",
        "Student's perplexity, test",
        "Mean of sets",
        *(split_title(split) for split in benchmark.splits),
    )
    rows = tuple(
        row(
            f"{result.seed} (shipped)" if number == 0 else str(result.seed),
            Cell(perplexity(result.quality["test"]), perplexity_interval(result.quality["test"])),
            loss_cell(result.mean),
            *(loss_cell(result.differences.get(split)) for split in benchmark.splits),
            emphasised=number == 0,
        )
        for number, result in enumerate(benchmark.seeds)
    )
    return Table("Every seed: the student minus the same student without the teacher, nats a token", columns, rows)


def controls(evidence: DecoderEvidence) -> Table:
    """The student, its controls and every further seed on the test set."""
    student, held, benchmark = evidence.student, evidence.controls, evidence.benchmark
    seed = student.training.seed
    models: list[tuple[str, DecoderEvaluation | None]] = [(f"student, seed {seed} (shipped)", student.evaluation)]
    models += [("the same student, trained on the texts alone", held.no_teacher)]
    models += [("the student before any training", held.untrained)]
    models += [("the teacher before its fit", held.unfitted)] if evidence.teacher.base is not None else []
    for repeat in held.repeats:
        models += [(f"student, seed {repeat.seed}", repeat.student)]
        models += [(f"the same without the teacher, seed {repeat.seed}", repeat.no_teacher)]
    rows = []
    for number, (name, evaluation) in enumerate(models):
        quality = None if evaluation is None else evaluation.quality.get("test")
        cells = (*exact.cells(quality, benchmark), *quality_cells(quality)[:6])
        if evaluation is None:
            cells = (missing(held.skipped or "this control was not run"),) * len(cells)
        rows.append(row(name, *cells, emphasised=number == 0))
    columns = (
        "Model", *exact.titles(benchmark), "Perplexity", METRIC.capitalize(), "Kept of the teacher's",
        "KL from the teacher", "99th percentile", "Same likeliest token",
    )  # fmt: skip
    return Table("Student, controls and seeds on the test set", columns, tuple(rows))


def flips(subject: DecoderSubject, split: str = "test") -> Table:
    """Where a file says another token than the float student, which was surest there, first."""
    rows = tuple(_flip(flip) for flip in subject.worst_flips.get(split, ()))
    columns = ("Position", "Row", "Float student", "This file", "Float student's lead", "This file's lead", "It is")
    caption = f"{name_of(subject)}, {split_title(split)}: the flips where the float student was surest; leads in logits"
    return Table(caption, columns, rows, folded=True)


def _flip(flip: Flip) -> Row:
    sure = flip.reference_margin >= SURE
    return row(
        count(flip.position), count(flip.row), Cell(_shown(flip.token), tone="code"),
        Cell(_shown(flip.instead), tone="code"), nats(flip.reference_margin), nats(flip.margin),
        Cell("damage" if sure else "a near tie", tone="bad" if sure else "weak"),
    )  # fmt: skip


def _shown(token: str) -> str:
    """Return a token with its white space and its quotes visible."""
    return repr(token)
