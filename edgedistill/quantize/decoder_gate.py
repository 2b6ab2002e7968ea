"""The gate of a language model's scheme: how near to the float student the rounded weights must stay, on validation."""

from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.decoder_values import DecoderSignals, HeldByGate, TensorFacts
from edgedistill.errors import QuantizationError
from edgedistill.progress import bar
from edgedistill.quantize.methods._gate import DecoderGate
from edgedistill.statistics import difference
from edgedistill.training.decoder_quality import accuracy_difference, exact, summary
from edgedistill.training.language import Before, logits_of_row, recorded, rows_of
from edgedistill.training.positions import positions_of
from edgedistill.values import Metric

SPLIT, NAME = "validation", "float_student"
MOST_NAMED = 3


def said_by_floats(model: Any, device: Any, signals: DecoderSignals, folder: Path) -> Before:
    """Return what the float student says of the validation split, before it is rounded.

    Args:
        folder: of the stage; what is kept meanwhile goes when the stage ends.
    """
    place = folder / "progress"
    place.mkdir(exist_ok=True)
    rows = {SPLIT: rows_of(signals, SPLIT)}
    said, references = recorded(logits_of_row(model, device), rows, place, NAME, signals.vocabulary)
    return Before(np.load(place / references[SPLIT], mmap_mode="r"), np.load(place / said.positions[SPLIT]))


def held(gate: DecoderGate, rounded: Any, device: Any, floats: Before, signals: DecoderSignals) -> HeldByGate:
    """Return how near to the float student a rounded model stays on the validation split."""
    rows = rows_of(signals, SPLIT)
    with bar(f"gate on {SPLIT}", rows.counted.positions, "positions") as advance:
        positions = positions_of(
            logits_of_row(rounded, device), rows.counted, signals.vocabulary, student=floats.log_probs, advance=advance
        )
    starts, tokens = rows.counted.starts, rows.counted.tokens
    quality = summary(positions, starts, tokens=tokens, student=floats.positions, whole=rows.whole)
    if rows.whole:
        lost = difference(*(exact(each, starts, tokens) for each in (floats.positions, positions)))
    else:
        lost = accuracy_difference(floats.positions, positions, starts, tokens)
    assert quality.kl_student is not None, "the float student was given"
    return HeldByGate(max_kl=gate.max_kl, max_metric_loss=gate.max_metric_loss, kl=quality.kl_student, metric_loss=lost)


def check(method: str, found: HeldByGate, facts: tuple[TensorFacts, ...]) -> None:
    """Check that the gate holds by the measured values; of few answers one may be lost, as no share is finer than that.

    Raises:
        QuantizationError: it does not; the text has the numbers, and the tensors that lost most.
    """
    lost_too_much = found.metric_loss.value > max(found.max_metric_loss, 1 / found.metric_loss.n)
    if found.kl.value <= found.max_kl and not lost_too_much:
        return
    worst = sorted(facts, key=lambda one: -one.relative_error)[:MOST_NAMED]
    named = ", ".join(f"{one.name} ({one.type}, {one.relative_error:.1%} off)" for one in worst)
    raise QuantizationError(
        f"{method} misses its gate on the validation split: KL from the float student {_nats(found.kl)}, of "
        f"{found.max_kl:g} allowed; {_points(found.metric_loss)} points of its right answers or tokens lost, of "
        f"{found.max_metric_loss * 100:g} allowed; rounded most are {named}; choose a scheme with more bits, give such "
        "tensors a wider type by overrides, allow more in quantize.gate, or write gate: null"
    )


def _nats(kl: Metric) -> str:
    return f"{kl.value:.2g} ({kl.low:.2g} to {kl.high:.2g}) nats a token"


def _points(lost: Metric) -> str:
    return f"{lost.value * 100:.2g} ({lost.low * 100:.2g} to {lost.high * 100:.2g})"
