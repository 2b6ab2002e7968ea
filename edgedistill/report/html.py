"""report.html: one file that opens offline, on a phone and on a desktop, in light, dark and print."""

import re
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from edgedistill.report.evidence import FIRST_WORKLOAD, SPACED_WORKLOAD, Evidence, find, reference, workload
from edgedistill.report.sections import sections
from edgedistill.report.sentence import Summary, metric_of
from edgedistill.report.tables import VERDICT_TONE, idling, memory_tone, shipped, timing_tone
from edgedistill.report.units import compared, interval, percent, ratio_digits, ratio_range, share, size
from edgedistill.results import BenchmarkResult, Ratio, Report, Subject

_UNIT = re.compile(r"(?<=\d) (?=(?:%|ms|µs|s|min|h|MB|kB|GB|points|times)\b|%)")


@dataclass(frozen=True)
class Tile:
    """One of the large numbers on the first screen."""

    figure: str
    what: str
    detail: str
    tone: str = ""


def render(evidence: Evidence, report: Report, summary: Summary) -> str:
    """Return the whole page."""
    environment = Environment(
        loader=PackageLoader("edgedistill.report"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["tight"] = tight
    subject = find(evidence.benchmark, report.recommended)
    return environment.get_template("report.html.j2").render(
        recipe=evidence.recipe,
        report=report,
        summary=summary,
        tone=VERDICT_TONE[report.verdict],
        tones=VERDICT_TONE,
        tiles=() if subject is None else tiles(evidence.benchmark, subject),
        own_budget=[line for line in report.budget if line.subject == report.recommended],
        sections=sections(evidence, report.budget, report.recommended),
        environment=evidence.benchmark.environment,
        benchmark=evidence.benchmark,
    )


def tiles(benchmark: BenchmarkResult, subject: Subject) -> tuple[Tile, ...]:
    """Return what is larger than life: how much faster, smaller, lighter, and what quality is kept."""
    teacher = reference(benchmark)
    smaller = compared(teacher.model_bytes / subject.model_bytes, "smaller", "larger")
    less = compared(teacher.memory.peak_median_bytes / subject.memory.peak_median_bytes, "less", "more")
    memory = f"{_wrong(benchmark)}{_emulated(benchmark)}{less} than its teacher"
    return (
        _speed(benchmark, subject),
        _tile(smaller, f"{_wrong(benchmark)}{size(subject.model_bytes)} model file; {shipped(benchmark, subject)}"),
        _quality(benchmark, subject),
        Tile(size(subject.memory.peak_median_bytes), "peak memory", memory, memory_tone(benchmark)),
    )


def _tile(comparison: str, detail: str, tone: str = "") -> Tile:
    """Return a tile for a factor in words, such as 11.4x smaller."""
    figure, _, direction = comparison.partition(" ")
    return Tile(figure, f"{direction} than its teacher", detail, tone)


def _speed(benchmark: BenchmarkResult, subject: Subject) -> Tile:
    speed = subject.speedup.get(FIRST_WORKLOAD)
    if speed is None:
        return Tile("—", "speed", "one short text was not measured", "weak")
    details = [f"{' to '.join(ratio_range(speed))}×, one short text"]
    spaced, paused = subject.speedup.get(SPACED_WORKLOAD), workload(subject, SPACED_WORKLOAD)
    if spaced is not None and paused is not None:
        details.append(f"{_factor(spaced)} {idling(paused)}")
    return _tile(_factor(speed), f"{_doubt(benchmark)}{'; '.join(details)}", timing_tone(benchmark))


def _factor(speed: Ratio) -> str:
    return compared(speed.median, "faster", "slower", ratio_digits(speed))


def _wrong(benchmark: BenchmarkResult) -> str:
    """Return what stands before quality, size and memory where another thing was measured than the one that ships."""
    return "not valid; " * bool(benchmark.validity.wrong)


def _doubt(benchmark: BenchmarkResult) -> str:
    """Return what stands before every time on the first screen that is not to be relied on."""
    return "not valid; " * (not benchmark.validity.valid) + _emulated(benchmark)


def _emulated(benchmark: BenchmarkResult) -> str:
    return "emulated; " * benchmark.environment.emulated


def _quality(benchmark: BenchmarkResult, subject: Subject) -> Tile:
    quality, name = subject.quality.get("test"), metric_of(benchmark)
    if quality is None:
        return Tile("—", name, "not measured on the test set", "weak")
    if quality.retained is None:
        return Tile(share(quality.metric), name, f"{_wrong(benchmark)}{interval(quality.metric)}, test set")
    kept = f"{_wrong(benchmark)}{interval(quality.retained)}; {name} {percent(quality.metric.value)}, test set"
    return Tile(share(quality.retained), f"of its {name} kept", kept)


def tight(text: str) -> Markup:
    """Return escaped text in which no number is torn from its unit."""
    return Markup(_UNIT.sub("&nbsp;", str(escape(text))))
