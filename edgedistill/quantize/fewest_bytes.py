"""Which width each layer gets, so that a stated loss is kept with few bytes.

From the narrowest widths up: the layer is widened next that takes most loss away for a byte more. Losses of layers
that were measured alone add up only roughly, so the whole model is measured before it is believed; where it loses
more than the sum foretold, the sum is held to less. In the end layers are made narrower again where that still holds.

Source: greedy choice by gain over cost, as for the knapsack problem: Dantzig 1957, "Discrete-Variable Extremum
Problems", Operations Research 5(2).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from edgedistill.errors import QuantizationError
from edgedistill.section import Width

MOST_OF_A_MISS = 0.8  # after a miss, however narrow, the sum is held to a fifth less


@dataclass(frozen=True)
class Form:
    """One layer at one width."""

    width: Width
    stored_bytes: int
    kl: float  # of the layer alone, in nats; 0 for float32


@dataclass(frozen=True)
class Measured:
    """What the whole model costs at certain widths."""

    kl: float
    holds: bool  # all that was promised, and not the divergence alone


Layers = Mapping[str, tuple[Form, ...]]
Measure = Callable[[Mapping[str, Width]], Measured]


def worthwhile(forms: list[Form]) -> tuple[Form, ...]:
    """Return the forms by size, without those that a smaller form loses no more than."""
    kept: list[Form] = []
    for form in sorted(forms, key=lambda form: (form.stored_bytes, form.kl)):
        if not kept or form.kl < kept[-1].kl:
            kept.append(form)
    return tuple(kept)


def fewest_bytes(layers: Layers, max_kl: float, measure: Measure) -> dict[str, Width]:
    """Return a width for each layer, such that what `measure` says of all of them together holds.

    Args:
        layers: the worthwhile forms of each layer; the last one loses nothing by itself.
        max_kl: mean divergence that is allowed, in nats.
        measure: of the whole model at these widths.

    Raises:
        QuantizationError: only the float model holds.
    """
    measure = _remembered(measure)
    at = dict.fromkeys(layers, 0)  # layer -> which of its forms
    allowed = max_kl  # for the sum of the layers' losses
    while True:
        while _sum(layers, at) > allowed and _widened(layers, at):
            pass
        if all(layers[name][i].width == "float32" for name, i in at.items()):
            raise QuantizationError("no layer can be narrower than float32")
        found = measure(_widths(layers, at))
        if found.holds:
            break
        share = max_kl / found.kl if found.kl > max_kl else 1.0
        allowed = _sum(layers, at) * min(share, MOST_OF_A_MISS)
        if not _widened(layers, at):
            raise QuantizationError("no layer can be wider")
    _narrow(layers, at, max_kl, found, measure)
    return _widths(layers, at)


def _remembered(measure: Measure) -> Measure:
    """Return the same, which measures no widths twice: on the way down those of the way up come again."""
    known: dict[tuple[Width, ...], Measured] = {}

    def once(widths: Mapping[str, Width]) -> Measured:
        key = tuple(widths.values())  # the layers always stand in the same order
        if key not in known:
            known[key] = measure(widths)
        return known[key]

    return once


def _widened(layers: Layers, at: dict[str, int]) -> bool:
    """Widen the layer that takes most loss away for a byte more; return False where none can become wider."""
    step = max(_wider(layers, at), default=None)
    if step is None:
        return False
    _, name, form = step
    at[name] = form
    return True


def _wider(layers: Layers, at: Mapping[str, int]) -> Iterator[tuple[float, str, int]]:
    """Yield (loss taken away for a byte, layer, form) for every wider form of every layer."""
    for name, forms in layers.items():
        now = forms[at[name]]
        for i in range(at[name] + 1, len(forms)):
            yield (now.kl - forms[i].kl) / (forms[i].stored_bytes - now.stored_bytes), name, i


def _narrow(layers: Layers, at: dict[str, int], max_kl: float, found: Measured, measure: Measure) -> None:
    """Make layers narrower again, those first that save most, where the measured sum leaves room and it then holds."""
    total = _sum(layers, at)
    per_sum = found.kl / total if total > 0 else 1.0  # how far the layers' losses add up in truth
    for name in sorted(layers, key=lambda name: (-layers[name][at[name]].stored_bytes, name)):
        for i in range(at[name]):
            tried = {**at, name: i}
            if _sum(layers, tried) * per_sum <= max_kl and measure(_widths(layers, tried)).holds:
                at[name] = i
                break


def _sum(layers: Layers, at: Mapping[str, int]) -> float:
    return sum(layers[name][i].kl for name, i in at.items())


def _widths(layers: Layers, at: Mapping[str, int]) -> dict[str, Width]:
    return {name: layers[name][i].width for name, i in at.items()}
