"""The charts of a language model: the same drawings as of every other, in nats a token."""

import math
from collections.abc import Callable

from edgedistill.decoder_results import DecoderBenchmark, DecoderSubject
from edgedistill.report import charts
from edgedistill.report.evidence import reference, way_to
from edgedistill.report.page import Chart
from edgedistill.report.units import NATS, perplexity
from edgedistill.values import Metric


def waterfall(benchmark: DecoderBenchmark, name: str) -> Chart | None:
    """Draw how the mean loss on the test set rises from the teacher to one artifact, stage by stage."""
    steps = [step for step in way_to(benchmark, name) if "test" in step.differences]
    start, subjects = reference(benchmark).quality.get("test"), {one.name: one for one in benchmark.subjects}
    end = subjects[name].quality.get("test") if name in subjects else None
    if not steps or start is None or end is None:
        return None
    levels = (_level(start.perplexity), _level(end.perplexity))
    return charts.cascade(steps, *levels, NATS, "mean loss on the test set, nats a token", more_is_better=False)


def _level(of: Metric) -> tuple[float, str]:
    """Return the mean loss that a perplexity is the exponential of, and how it is said."""
    loss = Metric(value=math.log(of.value), low=math.log(of.low), high=math.log(of.high), n=of.n)
    return loss.value, f"{loss.value:.2f} (perplexity {perplexity(of)})"


def cost_by_split(benchmark: DecoderBenchmark, name: str) -> Chart | None:
    """Draw what each stage did to the mean loss on each split."""
    return charts.cost_by_split(benchmark, name, NATS, "change in nats a token", "Right of the line is a loss")


def quality_against(
    benchmark: DecoderBenchmark, name: str, title: str, cost: Callable[[DecoderSubject], float],
    pretty: Callable[[float, int], str],
) -> Chart | None:  # fmt: skip
    """Draw what every model is judged by against what it costs.

    Args:
        name: identifies the chart in the page.
        title: what a reader sees.
        cost: of a model, more than 0.
        pretty: of a cost and a number of digits, for the axis.
    """
    measured = [(one, one.quality["test"]) for one in benchmark.subjects if "test" in one.quality]
    placed = [(one, cost(one), quality.judged) for one, quality in measured]
    metric = measured[0][1].metric if measured else ""
    return charts.scatter(charts.colours(benchmark), name, title, placed, pretty, f"{metric}, test set, %")
