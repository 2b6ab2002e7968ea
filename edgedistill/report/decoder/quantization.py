"""Tables of how a language model is stored in its runtime's types, and of what that costs before and after export."""

from collections import defaultdict
from collections.abc import Mapping
from math import prod

from edgedistill.decoder_values import DecoderQuality, QuantizedDecoder, TensorFacts
from edgedistill.report.decoder.evidence import DecoderEvidence, fallen_back
from edgedistill.report.evidence import find
from edgedistill.report.page import Cell, Table, missing, row
from edgedistill.report.tables import metric_cell
from edgedistill.report.units import NATS, count, interval, nats, percent, points, rounded_count, significant, size


def methods(evidence: DecoderEvidence) -> Table:
    """Every method: what a weight takes, and how far the model is from the float student before and after export."""
    columns = (
        "Method", "Bits per weight", "Importance matrix", "Gate", "KL, weights alone", "Same likeliest token", "Format",
        "KL, as deployed", "Same likeliest token", "Stored otherwise",
    )  # fmt: skip
    rows = []
    for method, model in evidence.quantized.items():
        before = _from_student(model.evaluation.quality)
        fallen = f"{count(len(fallen_back(model)))} of {count(len(model.tensors))} tensors"
        for name, artifact in evidence.artifacts.items():
            if not any(file.name == method for file in artifact.files):
                continue
            subject = find(evidence.benchmark, f"{name}.{method}")
            after = _from_student({} if subject is None else subject.quality)
            rows.append(
                row(
                    method,
                    significant(model.bits_per_weight),
                    _importance(model),
                    _gate(model),
                    *before,
                    name,
                    *after,
                    fallen,
                )
            )
    return Table("Every method against the float student, on the test set; KL in nats a token", columns, tuple(rows))


def _from_student(quality: Mapping[str, DecoderQuality]) -> tuple[Cell, Cell]:
    on_test = quality.get("test")
    none = missing("not compared with the float student on the test set")
    if on_test is None or on_test.kl_student is None:
        return none, none
    p99 = "" if on_test.kl_student_p99 is None else f"99th percentile {nats(on_test.kl_student_p99)}"
    agreement = on_test.agreement_student
    return Cell(nats(on_test.kl_student.value), p99), none if agreement is None else metric_cell(agreement)


def _importance(model: QuantizedDecoder) -> Cell:
    if not model.importance_positions:
        return Cell("none")
    return Cell("mean squares of each weight's inputs", f"over {count(model.importance_positions)} calibration tokens")


def _gate(model: QuantizedDecoder) -> Cell:
    gate = model.gate
    if gate is None:
        return missing("the recipe wants none")
    losses = {"right tokens": gate.metric_loss, "right answers": gate.answer_loss}
    told = [
        f"points of {what} lost: {points(lost)} ({interval(lost)})"
        + (", which is within chance" if lost.value > gate.max_metric_loss else "")
        for what, lost in losses.items()
        if lost is not None
    ]
    allowed = f"{gate.max_metric_loss * 100:g} allowed"
    return Cell(f"{nats(gate.kl.value)}, {gate.max_kl:g} allowed", f"{'; '.join([*told, allowed])}, on validation")


def rungs(model: QuantizedDecoder) -> Table:
    """Every try of one method, in order, with what it cost on the validation split."""
    answers = ("Points of right answers lost",) if any(rung.answer_loss for rung in model.rungs) else ()
    columns = ("Tried", "KL from the float student", "Points of right tokens lost", *answers, "Stored", "Result")
    used = next((number for number, rung in reversed(list(enumerate(model.rungs))) if rung.passed), None)
    rows = []
    for number, rung in enumerate(model.rungs):
        result = "used" if number == used else "misses, kept" if rung.kept else "misses"
        told = Cell(result, tone="good" if rung.passed else "bad")
        losses = (rung.metric_loss, rung.answer_loss)
        lost = [Cell(points(one), interval(one)) for one in losses if one is not None]
        kl = Cell(nats(rung.kl.value), NATS.interval(rung.kl))
        rows.append(row(rung.name, kl, *lost, size(rung.stored_bytes), told, emphasised=number == used))
    return Table(f"{model.method}: what was tried, on validation; KL in nats a token", columns, tuple(rows))


def types(model: QuantizedDecoder) -> Table:
    """How the weights of one method are stored, by types."""
    groups: dict[str, list[TensorFacts]] = defaultdict(list)
    for tensor in model.tensors:
        groups[tensor.type].append(tensor)
    rows = []
    for kind, tensors in sorted(groups.items(), key=lambda group: -sum(one.stored_bytes for one in group[1])):
        numbers, stored_bytes = sum(prod(one.shape) for one in tensors), sum(one.stored_bytes for one in tensors)
        worst = max(tensors, key=lambda one: one.relative_error)
        bits = missing("the tensors are empty") if not numbers else Cell(significant(stored_bytes * 8 / numbers))
        rows.append(
            row(kind, count(len(tensors)), rounded_count(numbers), size(stored_bytes), bits, _error(worst, worst.name))
        )
    columns = ("Type", "Tensors", "Numbers", "Stored", "Bits per number", "Largest relative error")
    return Table(f"{model.method}: how the weights are stored", columns, tuple(rows))


def _error(tensor: TensorFacts, detail: str = "") -> Cell:
    if tensor.relative_error == 0:
        return missing("nothing is rounded")
    return Cell(percent(tensor.relative_error), detail)


def fallbacks(model: QuantizedDecoder) -> Table:
    """Every tensor that is not stored in the type that the scheme has for it, by name, with the reason."""
    columns = ("Tensor", "Shape", "Wanted", "Stored as", "Because")
    rows = tuple(
        row(Cell(one.name, tone="code"), _shape(one), one.wanted, one.type, one.reason) for one in fallen_back(model)
    )
    return Table(f"{model.method}: stored otherwise than the scheme has it", columns, rows)


def tensors(model: QuantizedDecoder) -> Table:
    """Every tensor of one method."""
    columns = ("Tensor", "Shape", "Type", "Stored", "Relative error")
    rows = tuple(
        row(Cell(one.name, tone="code"), _shape(one), one.type, size(one.stored_bytes), _error(one))
        for one in model.tensors
    )
    return Table(f"{model.method}: all {len(model.tensors)} tensors", columns, rows, folded=True)


def _shape(tensor: TensorFacts) -> str:
    return " × ".join(map(str, tensor.shape)) or "scalar"
