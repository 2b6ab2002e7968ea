"""The first screen of a language model in words; the rules are those of every report's sentences."""

from collections.abc import Sequence

from edgedistill.decoder_results import DecoderBenchmark, DecoderSubject
from edgedistill.decoder_values import DecoderEvaluation, DecoderQuality
from edgedistill.report.decoder.evidence import DecoderEvidence, fallen_back, gains
from edgedistill.report.evidence import find, format_title, name_of, reference, taught_in, way_to
from edgedistill.report.sentence import (
    Summary,
    Unit,
    against,
    believed,
    cost_of,
    domains,
    doubts,
    factor_of,
    kept_promises,
    moved,
    ranged,
    trained_once,
    unproven,
    without_controls,
)
from edgedistill.report.units import (
    NATS,
    POINTS,
    compared,
    count,
    duration,
    interval,
    listed,
    nats,
    per_second,
    perplexity,
    perplexity_interval,
    share,
    significant,
    tiny,
)
from edgedistill.results import BudgetLine
from edgedistill.values import Metric

NATS_A_TOKEN = Unit("log-likelihood", "nats a token", "nats a token", NATS)
EXACT = Unit("exact match", "points of exact match", "points", POINTS)


def summarise(evidence: DecoderEvidence, lines: Sequence[BudgetLine], recommended: str | None) -> Summary:
    """Return the summary of the artifact that is put forward."""
    benchmark = evidence.benchmark
    subject = find(benchmark, recommended)
    if subject is None:
        nothing = "Nothing was exported, so there is nothing to ship."
        return Summary(nothing, "", "", "", _controls(evidence), _trust(evidence, None), "")
    return Summary(
        headline=_headline(benchmark, subject),
        cost=_cost(evidence, subject),
        speed=_speed(benchmark, subject),
        domains=domains(subject),
        controls=_controls(evidence),
        trust=_trust(evidence, subject),
        budget=kept_promises([line for line in lines if line.subject == subject.name]),
        quantization=_quantization(evidence, subject),
    )


def smaller(benchmark: DecoderBenchmark, subject: DecoderSubject, words: str = " than the teacher in") -> str:
    """Return how much smaller the file is than the teacher's in the same format; empty where there is none."""
    exported = find(benchmark, f"teacher.{subject.name.partition('.')[0]}")
    if exported is None:
        return ""
    return f"{compared(exported.model_bytes / subject.model_bytes, 'smaller', 'larger')}{words} {format_title(subject)}"


def _headline(benchmark: DecoderBenchmark, subject: DecoderSubject) -> str:
    teacher = reference(benchmark)
    gained = compared(teacher.model_bytes / subject.model_bytes, "smaller", "larger").replace("×", " times")
    size = "as large as its teacher" if gained == "the same" else f"{gained} than its teacher"
    faster = f"{factor_of(subject.speedup.decode)} in decoding, {factor_of(subject.speedup.prefill)} in prefill"
    return (
        f"The {name_of(subject)} is {size}, {faster}{doubts(benchmark)}, and {_kept(subject.quality.get('test'))}."
        f"{unproven(benchmark)}"
    )


def _kept(quality: DecoderQuality | None) -> str:
    if quality is None:
        return "its quality on the test set was not measured"
    if quality.retained is None:
        return f"has {share(quality.judged)} {quality.metric} on the test set ({interval(quality.judged)})"
    kept = f"{share(quality.retained)} of its {quality.metric} on the test set ({interval(quality.retained)})"
    return f"has more than its teacher: {kept}" if quality.retained.low > 1 else f"keeps {kept}"


def _cost(evidence: DecoderEvidence, subject: DecoderSubject) -> str:
    """Return which stage cost how much of the likelihood, and what perplexity and divergence became."""
    benchmark = evidence.benchmark
    steps = way_to(benchmark, subject.name)
    exact = [step for step in benchmark.exact_waterfall if step.after in {one.after for one in steps}]
    told = [cost_of(exact, EXACT)] if exact else [cost_of(gains(steps), NATS_A_TOKEN)]
    path = [("teacher", reference(benchmark).quality.get("test"))]
    path += [("float student", benchmark.student_quality.get("test")), ("this file", subject.quality.get("test"))]
    known = [f"{name} {perplexity(quality.perplexity)}" for name, quality in path if quality is not None]
    if known:
        told.append(f"Perplexity on the test set: {', '.join(known)}.")
    quality = subject.quality.get("test")
    if quality is not None and quality.kl_teacher is not None:
        told.append(f"From the teacher: {apart(quality, 'teacher')}.")
    return " ".join(told)


def apart(quality: DecoderQuality, whose: str) -> str:
    """Return how far a model is from the teacher, or from the float student (`student`), in words."""
    kl: Metric | None = getattr(quality, f"kl_{whose}")
    p99: float | None = getattr(quality, f"kl_{whose}_p99")
    agreement: Metric | None = getattr(quality, f"agreement_{whose}")
    parts = [] if kl is None else [f"KL divergence {nats(kl.value)} nats a token"]
    parts += [] if p99 is None else [f"{nats(p99)} at the 99th percentile"]
    parts += [] if agreement is None else [f"same likeliest token at {share(agreement)} ({interval(agreement)})"]
    return ", ".join(parts) or "not compared"


def _speed(benchmark: DecoderBenchmark, subject: DecoderSubject) -> str:
    decode, prefill, exported = subject.decode, subject.prefill, subject.speedup_exported
    alike = {name: "" for name in ("decode", "prefill")}
    if exported is not None:
        alike = {name: f", {ranged(getattr(exported, name))} than in {format_title(subject)}" for name in alike}
    than = f"than the teacher {taught_in(benchmark)}"
    return (
        f"Decoding after {count(decode.depth)} tokens: {per_second(decode.tokens_per_s)}, "
        f"{ranged(subject.speedup.decode)} {than}{alike['decode']}. "
        f"Prefill of {count(prefill.tokens)} tokens: {per_second(prefill.tokens_per_s)}, "
        f"{ranged(subject.speedup.prefill)} {than}{alike['prefill']}. "
        f"First token after {duration(subject.ttft.p50_s)}, {ranged(subject.speedup.ttft)} {than}."
        f"{_no_gain(benchmark, subject)}"
    )


def _no_gain(benchmark: DecoderBenchmark, subject: DecoderSubject) -> str:
    """Return what is no faster than the float student's own file: there quantization saves size, not time."""
    held = subject.speedup_float
    if held is None:
        return ""
    slow = [
        f"{name} is {ranged(speed)} than the float student's own file"
        for name, speed in (("decoding", held.decode), ("prefill", held.prefill))
        if speed.low <= 1
    ]
    doubt = "" if benchmark.validity.valid else " (not validly measured)"
    return f" On this CPU{doubt}: {'; '.join(slow)}." if slow else ""


def _quantization(evidence: DecoderEvidence, subject: DecoderSubject) -> str:
    model = evidence.quantized.get(subject.name.partition(".")[2])
    if model is None:
        return ""
    quality, told = subject.quality.get("test"), []
    if quality is not None and quality.kl_student is not None:
        told.append(f"From the float student: {apart(quality, 'student')}.")
    told.append(f"{significant(model.bits_per_weight)} bits a weight, {_weighed(model.importance_positions)}.")
    if model.repaired:
        told.append(f"{model.method} missed its gate as the recipe had it, and was repaired: {model.repaired}.")
    fallen = [tensor.name for tensor in fallen_back(model)]
    if fallen:
        told.append(
            f"{count(len(fallen))} of {count(len(model.tensors))} tensors could not be stored as the scheme has it: "
            f"{listed(fallen)}."
        )
    return " ".join(told)


def _weighed(positions: int) -> str:
    return f"weighed by an importance matrix of {count(positions)} tokens" if positions else "no importance matrix"


def _controls(evidence: DecoderEvidence) -> str:
    controls = evidence.controls
    benchmark = evidence.benchmark
    told = _held_against(benchmark)
    if not told and controls.no_teacher is not None:
        told.append(
            "The same student trained without the teacher has a perplexity of "
            f"{_perplexity_of(controls.no_teacher)} on the test set, the student "
            f"{_perplexity_of(evidence.student.evaluation)}; their difference was not measured in pairs."
        )
    if not told:
        return without_controls(controls.skipped)
    if controls.untrained is not None:
        told.append(f"Before any training it has a perplexity of {_perplexity_of(controls.untrained)}.")
    if controls.skipped:
        told.append(f"Not every control ran: {controls.skipped}.")
    return " ".join(told)


def _held_against(benchmark: DecoderBenchmark) -> list[str]:
    """Return whether the student beats each control; where exact answers do not tell two apart, in likelihood too."""
    likelier = gains(benchmark.controls)
    if not benchmark.exact_controls:
        return [against(each, NATS_A_TOKEN) for each in likelier]
    told = [against(each, EXACT) for each in benchmark.exact_controls]
    level = {each.control for each in benchmark.exact_controls if not moved(each.mean)}
    apart_yet = [each for each in likelier if each.control in level and moved(each.mean)]
    return told + [against(each, NATS_A_TOKEN).replace("The", "In likelihood the", 1) for each in apart_yet]


def _perplexity_of(evaluation: DecoderEvaluation) -> str:
    quality = evaluation.quality.get("test")
    return "—" if quality is None else f"{perplexity(quality.perplexity)} ({perplexity_interval(quality.perplexity)})"


def _trust(evidence: DecoderEvidence, subject: DecoderSubject | None) -> str:
    """Return whether the measurements are valid, with how many threads, and what the intervals do not cover."""
    told = [believed(evidence.benchmark)]
    if subject is not None and evidence.benchmark.validity.valid:  # otherwise the reasons say what is wrong with them
        told.append(f"{_threads(subject)}.")
    if evidence.teacher.gguf is not None:
        scheme = reference(evidence.benchmark).scheme
        told.append(f"The teacher's numbers are of its {scheme} file in llama.cpp, which rounds activations to 8 bits.")
    return f"{' '.join(told)} Intervals cover the choice of rows; {_over_seeds(evidence)}."


def _threads(subject: DecoderSubject) -> str:
    threads = f"{subject.threads} thread" + "s" * (subject.threads > 1)
    over = subject.decode.over_single_thread
    if over is None:
        return f"With {threads}, as the runtime itself says"
    if over >= 1:
        return (
            f"With {threads} a token takes {significant(over, 2)} times as long as with one: they wait for each other"
        )
    return f"With {threads} a token takes {tiny(over)} of the time that it takes with one"


def _over_seeds(evidence: DecoderEvidence) -> str:
    repeats = evidence.controls.repeats
    if not repeats:
        return trained_once(evidence.student.training.seed)
    own = _sorted([evidence.student.evaluation, *(repeat.student for repeat in repeats)])
    if not own:
        return "no other seed was measured on the test set"
    said = f"over {len(own)} seeds the student's perplexity on the test set went from {own[0]} to {own[-1]}"
    first = [] if evidence.controls.no_teacher is None else [evidence.controls.no_teacher]
    alone = _sorted([*first, *(repeat.no_teacher for repeat in repeats)])
    return f"{said}, without the teacher from {alone[0]} to {alone[-1]}" if alone else said


def _sorted(evaluations: Sequence[DecoderEvaluation]) -> list[str]:
    found = [each.quality["test"].perplexity for each in evaluations if "test" in each.quality]
    return [perplexity(metric) for metric in sorted(found, key=lambda metric: metric.value)]
