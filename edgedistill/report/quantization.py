"""Tables of what was tried to keep quality, and of which layer costs how much."""

from edgedistill.report.page import Cell, Row, Table, missing, row
from edgedistill.report.tables import metric_cell
from edgedistill.report.units import count, interval, points, size, tiny
from edgedistill.results import BenchmarkResult
from edgedistill.values import QuantizationCost, QuantizedModel, Rung, Sensitivity

NO_GOLD = "the validation split has no gold labels"


def rungs(model: QuantizedModel, benchmark: BenchmarkResult) -> Table:
    """Every try of one method, in order, with what it cost; the benchmark knows the task's words."""
    columns = ("Tried", *_words(benchmark), "All weights", "Result")
    used = next((number for number, rung in reversed(list(enumerate(model.rungs))) if rung.passed), None)
    rows = tuple(_rung(rung, number == used) for number, rung in enumerate(model.rungs))
    held_out = model.rungs[0].cost
    texts = "" if held_out is None else f", on {count(held_out.rows)} validation texts against the float student"
    return Table(f"{model.method}: what was tried{texts}", columns, rows)


def _rung(rung: Rung, used: bool) -> Row:
    if rung.cost is None:
        return row(rung.name, *[missing(rung.skipped)] * 5, Cell("not tried", tone="weak"))
    result = Cell("used" if used else "passes" if rung.passed else "misses", tone="good" if rung.passed else "bad")
    return row(rung.name, *_numbers(rung.cost), size(rung.stored_bytes), result, emphasised=used)


def sensitivity(model: QuantizedModel, benchmark: BenchmarkResult) -> Table:
    """What each layer of one method costs alone, the dearest first; the benchmark knows the task's words."""
    each_mb = f"{benchmark.divergence_name.partition(',')[0]} for each MB"
    columns = ("Layer", "Stored as", "Saves", *_words(benchmark), each_mb)
    rows = tuple(_layer(one) for one in model.sensitivity)
    texts = count(model.sensitivity[0].cost.rows)
    caption = f"{model.method}: each layer quantized alone, on {texts} validation texts"
    return Table(caption, columns, rows, folded=True)


def _layer(one: Sensitivity) -> Row:
    for_each_mb = tiny(one.cost.kl / one.saved_bytes * 1e6) if one.saved_bytes > 0 else missing("it saves nothing")
    return row(Cell(one.layer, tone="code"), one.scheme, size(one.saved_bytes), *_numbers(one.cost), for_each_mb)


def _words(benchmark: BenchmarkResult) -> tuple[str, str, str, str]:
    """Return what `_numbers` are called."""
    return benchmark.agreement_name.capitalize(), "Metric", "Points lost", benchmark.divergence_name


def _numbers(cost: QuantizationCost) -> tuple[Cell, Cell, Cell, Cell]:
    """Return agreement, the model's own metric, what it lost of the float student's, and the divergence."""
    own, lost = cost.metric, cost.metric_loss
    return (
        metric_cell(cost.agreement),
        missing(NO_GOLD) if own is None else metric_cell(own),
        missing(NO_GOLD) if lost is None else Cell(points(lost), interval(lost)),
        Cell(tiny(cost.kl)),
    )
