"""The first screen in words: what was gained, what it cost, what it is worth, and whether to believe it.

Each statement follows the intervals: a difference whose interval holds zero is never told as a gain or a loss,
and a speedup is told with its range and with the way it was called, and never as valid where the benchmark says no.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from edgedistill.report.evidence import (
    FIRST_WORKLOAD,
    SPACED_WORKLOAD,
    AnyBenchmark,
    AnySubject,
    Evidence,
    candidates,
    control_name,
    find,
    judged_by_teacher,
    name_of,
    reasons,
    reference,
    split_title,
    way_to,
    what_the_teacher_judges,
    workload,
)
from edgedistill.report.units import (
    POINTS,
    Scale,
    better,
    compared,
    duration,
    interval,
    listed,
    lost,
    points,
    ratio_digits,
    ratio_range,
    share,
    significant,
    worse,
)
from edgedistill.results import BenchmarkResult, BudgetLine, Comparison, Ratio, SeedResult, Step, Subject
from edgedistill.values import Metric

_STAGE = {"distill": "distillation", "export": "export", "quantize": "quantization"}


@dataclass(frozen=True)
class Unit:
    """What a loss is told in."""

    metric: str
    whole: str
    short: str
    scale: Scale


@dataclass(frozen=True)
class Summary:
    """What a reader of the first screen knows; each field is one or two whole sentences."""

    headline: str
    cost: str
    speed: str
    domains: str
    controls: str
    trust: str
    budget: str
    quantization: str = ""
    judge: str = ""

    @property
    def sentences(self) -> str:
        """All of it as running text."""
        parts = (
            self.headline,
            self.judge,
            self.cost,
            self.speed,
            self.quantization,
            self.domains,
            self.controls,
            self.trust,
            self.budget,
        )
        return " ".join(part for part in parts if part)


def summarise(evidence: Evidence, lines: Sequence[BudgetLine], recommended: str | None) -> Summary:
    """Return the summary of the artifact that is put forward."""
    benchmark = evidence.benchmark
    subject = find(benchmark, recommended)
    if subject is None:
        nothing = "Nothing was exported, so there is nothing to ship."
        return Summary(nothing, "", "", "", _controls(evidence), _trust(evidence), "")
    return Summary(
        headline=_headline(evidence, subject),
        judge=what_the_teacher_judges(evidence.corpus, benchmark.splits),
        cost=cost_of(way_to(benchmark, subject.name), _points_of(metric_of(benchmark))),
        speed=_speed(subject),
        domains=domains(subject),
        controls=_controls(evidence),
        trust=_trust(evidence),
        budget=kept_promises([line for line in lines if line.subject == subject.name]),
        quantization=_quantization(evidence),
    )


def metric_of(benchmark: BenchmarkResult) -> str:
    """Return the metric's name in words."""
    return benchmark.metric_name.replace("_", " ")


def _headline(evidence: Evidence, subject: Subject) -> str:
    benchmark = evidence.benchmark
    teacher = reference(benchmark)
    gains = compared(teacher.model_bytes / subject.model_bytes, "smaller", "larger").replace("×", " times")
    gained = "as large as its teacher" if gains == "the same" else f"{gains} than its teacher"
    return (
        f"The {name_of(subject)} is {gained}, {_faster(benchmark, subject)}, and {_kept(evidence, subject)}."
        f"{unproven(benchmark)}"
    )


def unproven(benchmark: AnyBenchmark) -> str:
    """Return what stands behind a headline that nothing was proven of."""
    wrong = benchmark.validity.wrong
    return f" None of this is proven, because the measurements are wrong: {wrong[0]}." if wrong else ""


def _faster(benchmark: BenchmarkResult, subject: Subject) -> str:
    """Return the gain in speed in a few words, with every doubt beside it."""
    speed = subject.speedup.get(FIRST_WORKLOAD)
    return "not measured for speed" if speed is None else f"{factor_of(speed)}{doubts(benchmark)}"


def doubts(benchmark: AnyBenchmark) -> str:
    """Return what stands behind a time in a headline that is not to be relied on."""
    told = ["emulated"] * benchmark.environment.emulated + ["not validly measured"] * (not benchmark.validity.valid)
    return f" ({', '.join(told)})" if told else ""


def _speed(subject: Subject) -> str:
    """Return what the gain in speed was measured on, against which teacher, and what pauses between calls leave."""
    speed, spaced = subject.speedup.get(FIRST_WORKLOAD), subject.speedup.get(SPACED_WORKLOAD)
    if speed is None:
        return ""
    exported, paused = subject.speedup_exported.get(FIRST_WORKLOAD), workload(subject, SPACED_WORKLOAD)
    said = f"One short text at a time, calls back to back: {ranged(speed)} than the teacher in PyTorch"
    if exported is not None:
        said += f", {ranged(exported)} than the teacher in {subject.name.partition('.')[0].upper()}"
    if spaced is not None and paused is not None:
        said += f"; after {duration(paused.pause_s, 2)} of idling before each call, {ranged(spaced)} than in PyTorch"
    return f"{said}."


def _quantization(evidence: Evidence) -> str:
    """Return which quantized files are no faster than the float student's own, and which were made otherwise."""
    slow = [_slow(subject) for subject in candidates(evidence.benchmark) if not _faster_than_float(subject)]
    doubt = "" if evidence.benchmark.validity.valid else " (not validly measured)"
    said = f"On this CPU{doubt}: {'; '.join(slow)}. What that saves is size, not time." if slow else ""
    repaired = [
        f"{method.replace('_', ' ')} missed its gate as the recipe had it, and was repaired: {model.repaired}."
        for method, model in evidence.quantized.items()
        if model.repaired
    ]
    return " ".join([said, *repaired]).strip()


def _faster_than_float(subject: Subject) -> bool:
    """Whether all rounds say so; a subject that was not held against the float student is not called slow."""
    speed = subject.speedup_float.get(FIRST_WORKLOAD)
    return speed is None or speed.low > 1


def _slow(subject: Subject) -> str:
    speed, format_name = ranged(subject.speedup_float[FIRST_WORKLOAD]), subject.name.partition(".")[0].upper()
    return f"the {name_of(subject)} is {speed} than the float student in {format_name}"


def factor_of(speed: Ratio) -> str:
    """Return how many times faster; no faster where one round was not."""
    if level(speed):
        return "no faster"
    return compared(speed.median, "faster", "slower", ratio_digits(speed)).replace("×", " times")


def level(speed: Ratio) -> bool:
    """Whether rounds disagree on which is faster, or no digit that they carry tells the two apart."""
    same = compared(speed.median, "faster", "slower", ratio_digits(speed)) == "the same"
    return same or speed.low <= 1 <= speed.high


def ranged(speed: Ratio) -> str:
    """Return a factor with the smallest and the largest of any round."""
    if level(speed):
        digits = ratio_digits(speed)
        return f"no faster ({significant(speed.low, digits)} to {significant(speed.high, digits)} times as fast)"
    return f"{factor_of(speed)} ({' to '.join(ratio_range(speed))})"


def _kept(evidence: Evidence, subject: Subject) -> str:
    quality, name = subject.quality.get("test"), metric_of(evidence.benchmark)
    if quality is None:
        return f"its {name} on the test set was not measured"
    if judged_by_teacher(evidence.corpus, ["test"]):
        agreed = f"{share(quality.metric)} of the test set ({interval(quality.metric)})"
        return f"finds its teacher's nearest text among five for {agreed}"
    if quality.retained is None:
        return f"has {share(quality.metric)} {name} on the test set ({interval(quality.metric)})"
    kept = f"{share(quality.retained)} of its {name} on the test set ({interval(quality.retained)})"
    return f"has more than its teacher: {kept}" if quality.retained.low > 1 else f"keeps {kept}"


def _points_of(metric_name: str) -> Unit:
    return Unit(metric_name, f"points of {metric_name}", "points", POINTS)


def cost_of(steps: Sequence[Step], unit: Unit) -> str:
    """Return which stage cost how much of the test metric, the dearest first; a loss is a difference below zero.

    A stage is without effect only where neither the test set nor the mean of all sets shows one.
    """
    told = [step for step in steps if "test" in step.differences]
    changes = [(_STAGE[step.stage], step.differences["test"]) for step in told]
    if not changes:
        return "Which stage cost how much was not measured."
    losses = sorted(((name, change) for name, change in changes if worse(change)), key=lambda pair: pair[1].value)
    scale = unit.scale
    gained = [f"{name} gained {scale.magnitude(change)}" for name, change in changes if better(change)]
    if not losses and not gained:
        means = "".join(f"; but {_STAGE[step.stage]} {_on_mean(step, unit)}" for step in _elsewhere(told))
        return f"No stage changed its {unit.metric} on the test set measurably: {_each(changes, scale)}{means}."
    parts = [f"{name} cost {scale.magnitude(change)}" for name, change in losses[1:]] + gained + _still(told, unit)
    if not losses:
        return f"No stage cost {unit.metric} on the test set; in {unit.short}, {'; '.join(parts)}."
    name, change = losses[0]
    amount = f"{scale.magnitude(change)} {unit.whole} ({scale.interval(lost(change))})"
    most = f"{name.capitalize()} cost most: {amount}"
    return "; ".join([most, *parts]) + "."


def _still(steps: Sequence[Step], unit: Unit) -> list[str]:
    """Return what is told of the steps whose interval on the test set holds zero."""
    elsewhere = _elsewhere(steps)
    level = [_STAGE[step.stage] for step in steps if not moved(step.differences["test"]) and not moved(step.mean)]
    parts = [f"{listed(level)} nothing measurable"] if level else []
    return parts + [
        f"{_STAGE[step.stage]} nothing measurable on test, but {_on_mean(step, unit)}" for step in elsewhere
    ]


def _elsewhere(steps: Sequence[Step]) -> list[Step]:
    """Return the steps that only the mean of all sets shows."""
    return [step for step in steps if not moved(step.differences["test"]) and moved(step.mean)]


def moved(change: Metric) -> bool:
    """Whether a difference's whole interval lies on one side of zero."""
    return worse(change) or better(change)


def _on_mean(step: Step, unit: Unit) -> str:
    mean, scale = step.mean, unit.scale
    span = scale.interval(mean if better(mean) else lost(mean))
    amount = f"{scale.magnitude(mean)} {unit.short} on the mean of all sets ({span})"
    return f"{'gained' if better(mean) else 'cost'} {amount}"


def _each(changes: Sequence[tuple[str, Metric]], scale: Scale) -> str:
    return ", ".join(f"{name} {scale.signed(change)} ({scale.interval(change)})" for name, change in changes)


def domains(subject: AnySubject) -> str:
    """Return what is kept on the best and the worst challenge set."""
    kept = {
        split_title(split): quality.retained
        for split, quality in subject.quality.items()
        if split != "test" and quality.retained is not None
    }
    if not kept:
        return ""
    ordered = sorted(kept, key=lambda name: kept[name].value)
    least = f"{share(kept[ordered[0]])} on {ordered[0]} ({interval(kept[ordered[0]])})"
    if len(ordered) == 1:
        return f"On other data it keeps {least}."
    return (
        f"On {len(ordered)} other data sets it keeps between {least} and {share(kept[ordered[-1]])} on {ordered[-1]}."
    )


def _controls(evidence: Evidence) -> str:
    comparisons, unit = evidence.benchmark.controls, _points_of(metric_of(evidence.benchmark))
    if not comparisons:
        return without_controls(evidence.controls.skipped)
    told = [against(comparison, unit) for comparison in comparisons if comparison.control != "majority"]
    told += [against(comparison, unit) for comparison in comparisons if _unbeaten_majority(comparison)]
    told += [text for comparison in comparisons if (text := _unbeaten_by_the_teacher(evidence.benchmark, comparison))]
    if evidence.controls.skipped:
        told.append(f"Not every control ran: {evidence.controls.skipped}.")
    return " ".join(told)


def without_controls(reason: str | None) -> str:
    """Return what a build without controls does not show."""
    reason = reason or "no control was run"
    return f"Without controls nobody can tell distillation from quality that comes for free: {reason}."


def _unbeaten_by_the_teacher(benchmark: BenchmarkResult, comparison: Comparison) -> str:
    """Return the warning that a cheap baseline does as well as the teacher, whose quality is what is retained."""
    teacher, cheap = reference(benchmark).quality.get("test"), comparison.quality.get("test")
    if comparison.control == "no_teacher" or teacher is None or cheap is None or teacher.metric.low > cheap.value:
        return ""
    return (
        f"The teacher itself ({share(teacher.metric)} on the test set) is not clearly better than "
        f"{control_name(comparison)} ({share(cheap)}): there is little to distil."
    )


def _unbeaten_majority(comparison: Comparison) -> bool:
    return comparison.control == "majority" and not better(comparison.mean)


def against(comparison: Comparison, unit: Unit) -> str:
    """Return whether the student beats one control, and on which sets it is otherwise; above zero it is better."""
    mean, scale = comparison.mean, unit.scale
    changes = {split_title(split): change for split, change in comparison.differences.items()}
    wins = [name for name, change in changes.items() if better(change)]
    losses = [name for name, change in changes.items() if worse(change)]
    ties = [name for name in changes if name not in (*wins, *losses)]
    average = " on average" if len(changes) > 1 else ""
    by = f"{scale.magnitude(mean)} {unit.short}{average} ({scale.interval(mean)})"
    if better(mean) and len(changes) == 1:
        return f"The student beats {control_name(comparison)} by {by}."
    if better(mean):
        text = f"The student beats {control_name(comparison)} by {by}"
        otherwise = (("worse on", losses), ("no better on", ties))
        buts = [f"{how} {listed(names)}" for how, names in otherwise if names]
        return f"{text}, but is {' and '.join(buts)}." if buts else f"{text}, and on every set."
    by = f"{scale.signed(mean)} {unit.short}{average}, {scale.interval(mean)}"
    text = f"The student is {'worse than' if worse(mean) else 'no better than'} {control_name(comparison)} ({by})"
    return f"{text}, though better on {listed(wins)}." if wins else f"{text}."


def _trust(evidence: Evidence) -> str:
    """Return whether the measurements are valid, and what their intervals do not cover."""
    benchmark = evidence.benchmark
    said = f"{believed(benchmark)} Intervals cover the choice of texts;"
    if benchmark.seeds:
        return f"{said} {_over_seeds(benchmark.seeds)}."
    return f"{said} {trained_once(evidence.student.training.seed)}."


def believed(benchmark: AnyBenchmark) -> str:
    """Return whether the measurements are valid, and where they were made."""
    environment, validity = benchmark.environment, benchmark.validity
    where = (
        f"{environment.target}, which is emulated, not the device itself" if environment.emulated else environment.cpu
    )
    if validity.valid:
        return f"Measurements are valid: {benchmark.rounds} interleaved rounds on {where}."
    doubtful = "any number here, quality included" if validity.wrong else "times"
    return f"Do not rely on {doubtful} ({where}): {reasons(validity)}."


def trained_once(seed: int) -> str:
    """Return what nobody knows of other seeds."""
    return f"each model was trained once (seed {seed}): another seed differs"


def _over_seeds(results: Sequence[SeedResult]) -> str:
    """Return how far the gain over the control, and the student's own metric, go apart between seeds."""
    gains = sorted((result.mean for result in results), key=lambda mean: mean.value)
    own = sorted((result.quality["test"] for result in results), key=lambda metric: metric.value)
    return (
        f"over {len(results)} seeds the gain from the teacher went from {points(gains[0])} to {points(gains[-1])} "
        f"points on average, and the student's quality on the test set from {share(own[0])} to {share(own[-1])}"
    )


def kept_promises(lines: Sequence[BudgetLine]) -> str:
    """Return whether one artifact keeps what the recipe promises."""
    if not lines:
        return "No budget was set, so there is nothing to pass."
    missed = [f"{line.promise}: {line.measured}" for line in lines if line.verdict == "FAIL"]
    unsure = [f"{line.promise}: {line.measured}" for line in lines if line.verdict == "INCONCLUSIVE"]
    if missed:
        return f"It misses its budget ({'; '.join(missed)})."
    if unsure:
        return f"Whether it meets its budget is open ({'; '.join(unsure)})."
    return f"It keeps {'the one promise' if len(lines) == 1 else f'all {len(lines)} promises'} of its budget."
