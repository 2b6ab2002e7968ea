"""Which layer costs how much: each one quantized alone, everything else float.

KL divergence moves with every row, so that a few hundred rows tell layers apart; of flipped answers a single layer
makes too few to count. That matters because int8 layers, which round their input over the range that they find, can
only be asked row by row.
"""

from collections.abc import Iterable, Mapping

from edgedistill.progress import bar
from edgedistill.quantize.decisions import Decision
from edgedistill.quantize.trial import Trial
from edgedistill.quantize.widths import at_widths, quantizable
from edgedistill.section import Width
from edgedistill.values import Sensitivity

MOST_ROWS = 256
WIDTHS: tuple[Width, ...] = ("float16", "int8", "int4")


def sensitivities(trial: Trial, decisions: Iterable[tuple[str, Decision]]) -> tuple[Sensitivity, ...]:
    """Return what each decision costs by itself, the dearest first."""
    judge, each = trial.judge.fewer(MOST_ROWS), list(decisions)
    measured = []
    with bar("asking layer by layer", len(each), "layers") as advance:
        for name, decision in each:
            saved, cost = trial.saved_bytes(name, decision), judge.cost({name: decision})
            measured.append(Sensitivity(layer=name, scheme=decision.scheme, saved_bytes=saved, cost=cost))
            advance(1)
    return tuple(sorted(measured, key=lambda one: (-one.cost.kl, one.layer, one.scheme)))


def at_every_width(trial: Trial, limit: int, settled: Mapping[str, Decision]) -> tuple[Sensitivity, ...]:
    """Return what every layer costs at every width that can hold it.

    Args:
        limit: largest 8-bit code of a linear layer.
        settled: what was decided in the end, by the layer's name; it is measured in place of the plain decision of as
            many bits, which may read other inputs (an int8 layer without a calibrated range) or be rounded otherwise.
    """
    measured: list[tuple[str, Decision]] = []
    for name, layer in quantizable(trial.model).items():
        by_bits = {decision.bits: decision for decision in at_widths(name, layer, WIDTHS, limit).values()}
        if name in settled:
            by_bits[settled[name].bits] = settled[name]
        measured += [(name, decision) for decision in by_bits.values()]
    return sensitivities(trial, measured)
