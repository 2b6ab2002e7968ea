"""The gate of a language model's scheme: how near to the float student the rounded weights must stay, on validation."""

from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.decoder_values import DecoderSignals, HeldByGate
from edgedistill.progress import bar
from edgedistill.quantize.methods._gate import DecoderGate
from edgedistill.statistics import exact_difference
from edgedistill.training.decoder_quality import accuracy_difference, exact, summary
from edgedistill.training.language import Before, logits_of_row, recorded, rows_of
from edgedistill.training.positions import positions_of

SPLIT, NAME = "validation", "float_student"


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
    """Return how near to the float student a rounded model stays on the validation split.

    Of conversations tokens and whole answers are counted: few answers turn on near ties, and tell no small loss from
    chance; but one token in a hundred, of answers of fifty, is more answers than anybody would give away.
    """
    rows = rows_of(signals, SPLIT)
    with bar(f"gate on {SPLIT}", rows.counted.positions, "positions") as advance:
        positions = positions_of(
            logits_of_row(rounded, device), rows.counted, signals.vocabulary, student=floats.log_probs, advance=advance
        )
    starts, tokens = rows.counted.starts, rows.counted.tokens
    quality = summary(positions, starts, tokens=tokens, student=floats.positions)
    lost = accuracy_difference(floats.positions, positions, starts, tokens)
    before, after = (exact(each, starts, tokens) for each in (floats.positions, positions))
    assert quality.kl_student is not None, "the float student was given"
    return HeldByGate(
        max_kl=gate.max_kl, max_metric_loss=gate.max_metric_loss, kl=quality.kl_student, metric_loss=lost,
        answer_loss=exact_difference(before, after) if rows.whole else None,
    )  # fmt: skip
