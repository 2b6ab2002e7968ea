"""The large numbers on the first screen of a language model."""

from edgedistill.decoder_results import DecoderBenchmark, DecoderSubject
from edgedistill.decoder_values import DecoderQuality
from edgedistill.report.decoder.sentence import smaller
from edgedistill.report.evidence import AnyBenchmark, reference
from edgedistill.report.html import Tile, compared_tile, doubt, wrong
from edgedistill.report.tables import memory_tone, timing_tone
from edgedistill.report.units import (
    compared,
    count,
    duration,
    interval,
    nats,
    per_second,
    percent,
    perplexity,
    ratio_digits,
    ratio_range,
    share,
    size,
)
from edgedistill.results import Ratio


def tiles(benchmark: DecoderBenchmark, subject: DecoderSubject) -> tuple[Tile, ...]:
    """Return how much smaller, faster and lighter, and what that cost in quality."""
    speed, decode, prefill = subject.speedup, subject.decode, subject.prefill
    first = f"{per_second(prefill.tokens_per_s)}; first token after {duration(subject.ttft.p50_s)}"
    return (
        _size(benchmark, subject),
        _speed(benchmark, speed.decode, "decoding", per_second(decode.tokens_per_s)),
        _speed(benchmark, speed.prefill, "prefill", first),
        _memory(benchmark, subject),
        *_quality(benchmark, subject.quality.get("test")),
    )


def _size(benchmark: DecoderBenchmark, subject: DecoderSubject) -> Tile:
    said = compared(reference(benchmark).model_bytes / subject.model_bytes, "smaller", "larger")
    beside = smaller(benchmark, subject)
    return compared_tile(
        said, f"{wrong(benchmark)}{size(subject.model_bytes)} model file{f'; {beside}' if beside else ''}"
    )


def _speed(benchmark: DecoderBenchmark, speed: Ratio, what: str, detail: str) -> Tile:
    said = compared(speed.median, "faster", "slower", ratio_digits(speed))
    told = f"{doubt(benchmark)}{' to '.join(ratio_range(speed))}×; {detail}"
    return compared_tile(said, told, timing_tone(benchmark), f" in {what}")


def _memory(benchmark: DecoderBenchmark, subject: DecoderSubject) -> Tile:
    peak = subject.memory.peak_median_bytes
    less = compared(reference(benchmark).memory.peak_median_bytes / peak, "less", "more")
    cache = f"KV cache of {count(subject.kv_cache_tokens)} tokens: {size(subject.kv_cache_bytes)}"
    emulated = "emulated; " * benchmark.environment.emulated
    detail = f"{wrong(benchmark)}{emulated}{less} than its teacher; {cache}"
    return Tile(size(peak), "peak memory", detail, memory_tone(benchmark))


def _quality(benchmark: DecoderBenchmark, quality: DecoderQuality | None) -> tuple[Tile, ...]:
    if quality is None:
        return (Tile("—", "quality", "not measured on the test set", "weak"),)
    found = [_kept(benchmark, quality), _perplexity(benchmark, quality)]
    if quality.kl_teacher is not None:
        found.append(_divergence(benchmark, quality))
    if quality.agreement_teacher is not None:
        found.append(_agreement(benchmark, quality))
    return tuple(found)


def _kept(benchmark: AnyBenchmark, quality: DecoderQuality) -> Tile:
    if quality.retained is None:
        return Tile(share(quality.judged), quality.metric, f"{wrong(benchmark)}{interval(quality.judged)}, test set")
    own = f"{percent(quality.judged.value)} of test {'tokens' if quality.exact_match is None else 'answers'}"
    kept = f"{wrong(benchmark)}{interval(quality.retained)}; {own}"
    return Tile(share(quality.retained), f"of its {quality.metric} kept", kept)


def _perplexity(benchmark: DecoderBenchmark, quality: DecoderQuality) -> Tile:
    others = (("teacher", reference(benchmark).quality), ("float student", benchmark.student_quality))
    known = [f"{name} {perplexity(found['test'].perplexity)}" for name, found in others if "test" in found]
    return Tile(perplexity(quality.perplexity), "perplexity, test set", wrong(benchmark) + ", ".join(known))


def _divergence(benchmark: AnyBenchmark, quality: DecoderQuality) -> Tile:
    kl, p99 = quality.kl_teacher, quality.kl_teacher_p99
    parts = [] if p99 is None else [f"99th percentile {nats(p99)}"]
    if quality.kl_student is not None:
        parts.append(f"from the float student {nats(quality.kl_student.value)}")
    figure = "—" if kl is None else nats(kl.value)
    return Tile(figure, "nats of KL divergence from its teacher", wrong(benchmark) + "; ".join(parts))


def _agreement(benchmark: AnyBenchmark, quality: DecoderQuality) -> Tile:
    agreement, own = quality.agreement_teacher, quality.agreement_student
    figure = "—" if agreement is None else share(agreement)
    span = "" if agreement is None else interval(agreement)
    student = "" if own is None else f"; the float student's at {share(own)}"
    return Tile(figure, "same likeliest token as its teacher", f"{wrong(benchmark)}{span}{student}")
