"""The report's charts: drawn for the width of a phone, with the legend left to the page.

Every axis that compares models is logarithmic where it is a time or a size, since a good student is off by factors.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from edgedistill.report.evidence import (
    AnyBenchmark,
    AnySubject,
    name_of,
    reference,
    split_title,
    way_to,
    workload,
)
from edgedistill.report.page import Chart
from edgedistill.report.svg import BAD, GOOD, GRID, INK, MUTED, SERIES, TEACHER, TEACHER_EXPORTED, css, inline, panels
from edgedistill.report.tables import emulated
from edgedistill.report.units import POINTS, Scale, duration, share, tiny
from edgedistill.results import BenchmarkResult, Step, Subject
from edgedistill.values import Metric, QuantizedModel, Training

STAGE_COLOURS = {"distill": SERIES[0], "export": SERIES[1], "quantize": SERIES[2]}
STAGE_TITLES = {"distill": "distillation", "export": "export", "quantize": "quantization"}
_MARKERS = "osD^vPX"


def colours(benchmark: AnyBenchmark) -> dict[str, str]:
    """Return each subject's colour, the same in every chart."""
    fixed = {"teacher": TEACHER, "teacher_exported": TEACHER_EXPORTED}
    artifacts = [subject.name for subject in benchmark.subjects if subject.role == "artifact"]
    series = {name: SERIES[i % len(SERIES)] for i, name in enumerate(artifacts)}
    return {subject.name: series.get(subject.name) or fixed[subject.role] for subject in benchmark.subjects}


def waterfall(benchmark: BenchmarkResult, name: str) -> Chart | None:
    """Draw how the test metric falls from the teacher to one artifact, stage by stage."""
    steps = [step for step in way_to(benchmark, name) if "test" in step.differences]
    start = reference(benchmark).quality.get("test")
    if not steps or start is None:
        return None
    end = next(s for s in benchmark.subjects if s.name == name).quality["test"].metric
    title = f"{benchmark.metric_name.replace('_', ' ')} on the test set, %"
    return cascade(steps, (start.metric.value, share(start.metric)), (end.value, share(end)), POINTS, title)


def cascade(
    steps: Sequence[Step], start: tuple[float, str], end: tuple[float, str], scale: Scale, title: str, *,
    more_is_better: bool = True,
) -> Chart:  # fmt: skip
    """Draw how a number goes from the teacher's to the artifact's, stage by stage.

    Args:
        steps: in order; each has a difference on the test set.
        start: the teacher's number, and as it is said.
        end: the artifact's.
        scale: of the numbers.
        title: of the axis.
        more_is_better: of the number.
    """
    with panels(44 + 46 * (len(steps) + 2)) as (figure, (axes,)):
        level = start[0] * scale.factor
        _level(axes, 0, "teacher", level, start[1])
        for i, step in enumerate(steps, 1):
            level = _fall(axes, i, step, level, scale, (GOOD, BAD) if more_is_better else (BAD, GOOD))
        _level(axes, len(steps) + 1, "the artifact", end[0] * scale.factor, end[1])
        _rows_of_text(axes, len(steps) + 2)
        axes.use_sticky_edges = False
        axes.margins(x=0.17)
        axes.set_xlabel(title)
        svg = inline(figure, "waterfall")
    took = "took away (or gave)" if more_is_better else "added (or took away): further right is worse"
    reading = f"Each bar is what one stage {took}; the thin line is its 95 % interval."
    return Chart("From teacher to artifact", reading, svg, ())


def cost_by_split(
    benchmark: AnyBenchmark, name: str, scale: Scale = POINTS, label: str = "change in percentage points",
    reading: str = "Left of the line is a loss",
) -> Chart | None:  # fmt: skip
    """Draw what each stage did to each split, with its interval."""
    steps = way_to(benchmark, name)
    splits = [split for split in benchmark.splits if any(split in step.differences for step in steps)]
    if len(splits) < 2:
        return None
    titles = ["mean of all sets", *(split_title(split) for split in splits)]
    with panels(44 + 42 * len(titles)) as (figure, (axes,)):
        axes.axvline(0, color=INK, linewidth=1)
        for nth, step in enumerate(steps):
            changes = [step.mean, *(step.differences.get(split) for split in splits)]
            for i, change in enumerate(changes):
                if change is not None:
                    shift = (nth - (len(steps) - 1) / 2) * 0.17 + 0.17
                    marker = _MARKERS[nth % len(_MARKERS)]
                    _dot(axes, i + shift, change, STAGE_COLOURS[step.stage], marker, scale.factor)
        for i, title in enumerate(titles):
            _row_title(axes, i, _shortened(title), bold=i == 0)
        _rows_of_text(axes, len(titles))
        axes.set_xlabel(label)
        svg = inline(figure, "cost-by-split")
    legend = tuple((css(STAGE_COLOURS[step.stage]), STAGE_TITLES[step.stage]) for step in steps)
    return Chart("What each stage did to each set", f"{reading}; lines are 95 % intervals.", svg, legend)


def quality_against(
    benchmark: BenchmarkResult,
    name: str,
    title: str,
    cost: Callable[[Subject], float | None],
    pretty: Callable[[float, int], str],
) -> Chart | None:
    """Draw every subject's test metric against what it costs, on a logarithmic axis.

    Args:
        benchmark: whose subjects are drawn.
        name: identifies the chart in the page.
        title: what a reader sees.
        cost: of a subject, more than 0; None leaves the subject out.
        pretty: of a cost and a number of digits, for the axis.
    """
    shown = [(subject, cost(subject)) for subject in benchmark.subjects if "test" in subject.quality]
    placed = [(subject, x, subject.quality["test"].metric) for subject, x in shown if x is not None]
    metric = f"{benchmark.metric_name.replace('_', ' ')} on the test set, %"
    return scatter(colours(benchmark), name, title, placed, pretty, metric)


def scatter(
    colour_of: Mapping[str, str], name: str, title: str, placed: Sequence[tuple[AnySubject, float, Metric]],
    pretty: Callable[[float, int], str], metric: str,
) -> Chart | None:  # fmt: skip
    """Draw models, each with its cost and the proportion that it is good for; None where there are none.

    Args:
        colour_of: subject -> colour.
        name: identifies the chart in the page.
        title: what a reader sees.
        placed: subject, cost above 0, and quality.
        pretty: of a cost and a number of digits, for the axis.
        metric: title of the other axis.
    """
    if not placed:
        return None
    with panels(270) as (figure, (axes,)):
        for i, (subject, x, quality) in enumerate(placed):
            axes.errorbar(
                x,
                quality.value * 100,
                yerr=[[(quality.value - quality.low) * 100], [(quality.high - quality.value) * 100]],
                fmt=_MARKERS[i % len(_MARKERS)],
                color=colour_of[subject.name],
                markersize=9,
                elinewidth=1.5,
            )
        _log_axis(axes, [x for _, x, _ in placed], pretty)
        axes.set_ylabel(metric)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        svg = inline(figure, name)
    legend = tuple((css(colour_of[subject.name]), name_of(subject)) for subject, _, _ in placed)
    return Chart(title, "Further left and higher is better.", svg, legend)


def latency_of(subject: Subject) -> float | None:
    """Return the p50 of one short text, in seconds."""
    result = workload(subject)
    return None if result is None else result.latency.p50_s


def latencies(benchmark: BenchmarkResult) -> Chart | None:
    """Draw the distribution of every subject's call times."""
    shown = [(subject, result) for subject in benchmark.subjects if (result := workload(subject)) and result.samples_s]
    if not shown:
        return None
    colour_of = colours(benchmark)
    every = [sample for _, result in shown for sample in result.samples_s]
    low, high = math.log10(min(every)), math.log10(max(every))
    edges = np.logspace(low - 0.02, high + 0.02, 120)
    with panels(40 + 50 * len(shown)) as (figure, (axes,)):
        for i, (subject, result) in enumerate(shown):
            heights, _ = np.histogram(result.samples_s, bins=edges)
            floor, colour = i + 0.4, colour_of[subject.name]
            tops = floor - 0.55 * heights / heights.max()
            axes.fill_between(edges[:-1], floor, tops, step="post", color=colour, alpha=0.55, linewidth=0)
            axes.plot([result.latency.p50_s] * 2, [floor, floor - 0.6], color=INK, linewidth=1.5)
            if result.latency.p90_s is not None:
                axes.plot([result.latency.p90_s] * 2, [floor, floor - 0.4], color=MUTED, linewidth=1.5)
            p50 = duration(result.latency.p50_s)
            axes.text(
                0,
                i - 0.36,
                f"{_shortened(name_of(subject))}, p50 {p50}",
                transform=axes.get_yaxis_transform(),
                va="center",
            )
        _rows_of_text(axes, len(shown))
        _log_axis(axes, every, duration)
        svg = inline(figure, "latencies")
    reading = (
        "How often a call took how long: batch 1, short texts, back to back; the tall tick is the p50, the short one "
        "the p90."
    )
    return Chart(f"Time of one call{emulated(benchmark)}", reading, svg, ())


def training_curve(training: Training, metric_name: str) -> Chart | None:
    """Draw loss and validation metric of every epoch, with the epoch that was kept."""
    if not training.curve:
        return None
    epochs = [epoch.epoch for epoch in training.curve]
    with panels(300, rows=2, heights=(1, 1)) as (figure, (losses, metrics)):
        losses.plot(epochs, [epoch.train_loss for epoch in training.curve], color=SERIES[0], marker="o", markersize=4)
        losses.plot(
            epochs, [epoch.validation_loss for epoch in training.curve], color=SERIES[2], marker="s", markersize=4
        )
        metrics.plot(
            epochs,
            [epoch.validation_metric * 100 for epoch in training.curve],
            color=SERIES[1],
            marker="o",
            markersize=4,
        )
        for axes in (losses, metrics):
            axes.axvline(training.best_epoch, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
            axes.yaxis.set_major_locator(MaxNLocator(4))
        losses.set_ylabel("loss")
        metrics.set_ylabel(f"{metric_name.replace('_', ' ')}, %")
        metrics.set_xlabel("epoch")
        metrics.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        svg = inline(figure, "training")
    names = ((SERIES[0], "training loss"), (SERIES[2], "validation loss"), (SERIES[1], f"validation {metric_name}"))
    reading = f"The dashed line is epoch {training.best_epoch}, whose weights were kept."
    return Chart("The student's training", reading, svg, tuple((css(colour), name) for colour, name in names))


def sensitivity(model: QuantizedModel, most: int = 16) -> Chart | None:
    """Draw what each layer costs alone at each width, on a logarithmic axis; of many layers the dearest."""
    layers = list(dict.fromkeys(one.layer for one in model.sensitivity))[:most]
    if not layers:
        return None
    widths = list(dict.fromkeys(one.scheme.partition(" ")[0] for one in model.sensitivity))
    smallest = min((one.cost.kl for one in model.sensitivity if one.cost.kl > 0), default=1e-9)
    with panels(44 + 42 * len(layers)) as (figure, (axes,)):
        shown = [one for one in model.sensitivity if one.layer in layers]
        for one in shown:
            nth = widths.index(one.scheme.partition(" ")[0])
            marker, colour = _MARKERS[nth % len(_MARKERS)], SERIES[nth % len(SERIES)]
            axes.plot(max(one.cost.kl, smallest), layers.index(one.layer) + 0.17, marker, color=colour, markersize=7)
        for i, layer in enumerate(layers):
            _row_title(axes, i, _shortened(layer), bold=False)
        _rows_of_text(axes, len(layers))
        _log_axis(axes, [max(one.cost.kl, smallest) for one in shown], lambda value, _: tiny(value))
        axes.set_xlabel("KL divergence from the float student, nats")
        svg = inline(figure, f"sensitivity-{model.method}")
    legend = tuple((css(SERIES[nth % len(SERIES)]), width) for nth, width in enumerate(widths))
    reading = "Each layer quantized alone, everything else float; further left is better."
    return Chart(f"{model.method}: what each layer costs", reading, svg, legend)


def _level(axes: Axes, i: int, title: str, level: float, text: str) -> None:
    axes.plot(level, i + 0.18, "o", color=TEACHER if i == 0 else INK, markersize=9)
    axes.annotate(text, (level, i + 0.18), (9, 0), textcoords="offset points", va="center", weight="bold")
    _row_title(axes, i, title, bold=True)


def _fall(axes: Axes, i: int, step: Step, level: float, scale: Scale, up_and_down: tuple[str, str]) -> float:
    """Draw one stage's bar from `level`, and return the level after it."""
    change, factor = step.differences["test"], scale.factor
    after = level + change.value * factor
    colour = up_and_down[1] if change.high < 0 else up_and_down[0] if change.low > 0 else MUTED
    axes.barh(i + 0.18, after - level, left=level, height=0.34, color=colour, alpha=0.75)
    axes.plot([level + change.low * factor, level + change.high * factor], [i + 0.18] * 2, color=INK, linewidth=1.2)
    axes.plot([after] * 2, [i + 0.02, i + 0.34], color=INK, linewidth=1.6)
    right = level + max(change.high, change.value, 0) * factor
    axes.annotate(scale.signed(change), (right, i + 0.18), (9, 0), textcoords="offset points", va="center")
    _row_title(axes, i, STAGE_TITLES[step.stage], bold=False)
    return after


def _dot(axes: Axes, y: float, change: Metric, colour: str, marker: str, factor: float) -> None:
    axes.plot([change.low * factor, change.high * factor], [y, y], color=colour, linewidth=1.5)
    axes.plot(change.value * factor, y, marker, color=colour, markersize=6)


def _row_title(axes: Axes, i: int, title: str, *, bold: bool) -> None:
    weight = "bold" if bold else "normal"
    axes.text(0, i - 0.28, title, transform=axes.get_yaxis_transform(), va="center", weight=weight)


def _rows_of_text(axes: Axes, rows: int) -> None:
    """Make the y axis a list from top to bottom, one row each."""
    axes.set_ylim(rows - 0.5, -0.6)
    axes.yaxis.set_major_locator(NullLocator())
    axes.spines["left"].set_visible(False)
    for i in range(1, rows):
        axes.axhline(i - 0.53, color=GRID, linewidth=0.5)


def _log_axis(axes: Axes, values: Sequence[float], pretty: Callable[[float, int], str]) -> None:
    low, high = min(values), max(values)
    axes.set_xscale("log")
    axes.set_xlim(low / max(1.25, (high / low) ** 0.06), high * max(1.25, (high / low) ** 0.06))
    subs = (1.0,) if high / low > 300 else (1.0, 3.0) if high / low > 20 else (1.0, 2.0, 5.0)
    axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=7))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: pretty(value, 1)))


def _shortened(text: str, most: int = 44) -> str:
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"
