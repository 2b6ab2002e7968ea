"""report.html: one file that opens offline, on a phone and on a desktop, in light, dark and print."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from edgedistill.recipe import Recipe
from edgedistill.report.evidence import (
    FIRST_WORKLOAD,
    SPACED_WORKLOAD,
    AnyBenchmark,
    Evidence,
    find,
    reference,
    workload,
)
from edgedistill.report.page import Section
from edgedistill.report.sections import sections
from edgedistill.report.sentence import Summary, metric_of
from edgedistill.report.tables import VERDICT_TONE, idling, memory_tone, shipped, timing_tone
from edgedistill.report.units import compared, interval, percent, ratio_digits, ratio_range, share, size
from edgedistill.results import BenchmarkResult, Ratio, Report, Subject

_UNIT = re.compile(r"(?<=\d) (?=(?:%|ms|µs|s|min|h|MB|kB|GB|points|times|tokens|nats)\b|%)")


@dataclass(frozen=True)
class Tile:
    """One of the large numbers on the first screen."""

    figure: str
    what: str
    detail: str
    tone: str = ""


def render(evidence: Evidence, report: Report, summary: Summary) -> str:
    """Return the whole page."""
    benchmark = evidence.benchmark
    subject = find(benchmark, report.recommended)
    return page(
        evidence.recipe,
        benchmark,
        report,
        summary,
        () if subject is None else tiles(benchmark, subject),
        sections(evidence, report.budget, report.recommended),
    )


def page(
    recipe: Recipe, benchmark: AnyBenchmark, report: Report, summary: Summary, first: Sequence[Tile],
    parts: Sequence[Section],
) -> str:  # fmt: skip
    """Return the page of one build, whatever its models do.

    Args:
        first: large numbers of the first screen.
        parts: what stands below it.
    """
    environment = Environment(
        loader=PackageLoader("edgedistill.report"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["tight"] = tight
    return environment.get_template("report.html.j2").render(
        recipe=recipe,
        report=report,
        summary=summary,
        tone=VERDICT_TONE[report.verdict],
        tones=VERDICT_TONE,
        tiles=first,
        own_budget=[line for line in report.budget if line.subject == report.recommended],
        sections=parts,
        environment=benchmark.environment,
        benchmark=benchmark,
    )


def tiles(benchmark: BenchmarkResult, subject: Subject) -> tuple[Tile, ...]:
    """Return what is larger than life: how much faster, smaller, lighter, and what quality is kept."""
    teacher = reference(benchmark)
    smaller = compared(teacher.model_bytes / subject.model_bytes, "smaller", "larger")
    less = compared(teacher.memory.peak_median_bytes / subject.memory.peak_median_bytes, "less", "more")
    memory = f"{wrong(benchmark)}{_emulated(benchmark)}{less} than its teacher"
    return (
        _speed(benchmark, subject),
        compared_tile(
            smaller, f"{wrong(benchmark)}{size(subject.model_bytes)} model file; {shipped(benchmark, subject)}"
        ),
        _quality(benchmark, subject),
        Tile(size(subject.memory.peak_median_bytes), "peak memory", memory, memory_tone(benchmark)),
    )


def compared_tile(comparison: str, detail: str, tone: str = "", at: str = "") -> Tile:
    """Return a tile for a factor in words, such as 11.4x smaller; `at` says at what."""
    figure, _, direction = comparison.partition(" ")
    if comparison == "the same":
        return Tile(comparison, f"as its teacher{at}", detail, tone)
    return Tile(figure, f"{direction} than its teacher{at}", detail, tone)


def _speed(benchmark: BenchmarkResult, subject: Subject) -> Tile:
    speed = subject.speedup.get(FIRST_WORKLOAD)
    if speed is None:
        return Tile("—", "speed", "one short text was not measured", "weak")
    details = [f"{' to '.join(ratio_range(speed))}×, one short text"]
    spaced, paused = subject.speedup.get(SPACED_WORKLOAD), workload(subject, SPACED_WORKLOAD)
    if spaced is not None and paused is not None:
        details.append(f"{_factor(spaced)} {idling(paused)}")
    return compared_tile(_factor(speed), f"{doubt(benchmark)}{'; '.join(details)}", timing_tone(benchmark))


def _factor(speed: Ratio) -> str:
    return compared(speed.median, "faster", "slower", ratio_digits(speed))


def wrong(benchmark: AnyBenchmark) -> str:
    """Return what stands before quality, size and memory where another thing was measured than the one that ships."""
    return "not valid; " * bool(benchmark.validity.wrong)


def doubt(benchmark: AnyBenchmark) -> str:
    """Return what stands before every time on the first screen that is not to be relied on."""
    return "not valid; " * (not benchmark.validity.valid) + _emulated(benchmark)


def _emulated(benchmark: AnyBenchmark) -> str:
    return "emulated; " * benchmark.environment.emulated


def _quality(benchmark: BenchmarkResult, subject: Subject) -> Tile:
    quality, name = subject.quality.get("test"), metric_of(benchmark)
    if quality is None:
        return Tile("—", name, "not measured on the test set", "weak")
    if quality.retained is None:
        return Tile(share(quality.metric), name, f"{wrong(benchmark)}{interval(quality.metric)}, test set")
    kept = f"{wrong(benchmark)}{interval(quality.retained)}; {name} {percent(quality.metric.value)}, test set"
    return Tile(share(quality.retained), f"of its {name} kept", kept)


def tight(text: str) -> Markup:
    """Return escaped text in which no number is torn from its unit."""
    return Markup(_UNIT.sub("&nbsp;", str(escape(text))))
