"""What calibration finds out about the inputs of each layer, in one pass over the rows or in two.

Smoothing comes first: ranges and Hessians are those of the smoothed inputs. Layers that read the very same tensor are
observed once and share what is found, so that the file divides and rounds their input once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgedistill.quantize.calibrate import observe
from edgedistill.quantize.called import first_readers
from edgedistill.quantize.decisions import InputRange
from edgedistill.quantize.observers import Channels, Hessian
from edgedistill.quantize.ranges import RangeRule
from edgedistill.quantize.smoothing import Smoothing
from edgedistill.training.rows import TokenRows


@dataclass(frozen=True)
class Wanted:
    """What a method has to know before it can decide."""

    smoothing: Smoothing | None = None
    hessian: bool = False
    ranges: RangeRule | None = None


@dataclass(frozen=True)
class Inputs:
    """What is known about a layer's inputs; None where nobody asked, or where smoothing gains too little."""

    smoothing: np.ndarray | None = None  # (columns,) float32 > 0; the rest is about the inputs divided by this
    hessian: np.ndarray | None = None  # (columns, columns) float64; the sum of x x^T
    range: InputRange | None = None


def inputs_of(model: Any, names: Iterable[str], wanted: Wanted, rows: TokenRows) -> dict[str, Inputs]:
    """Return what is wanted about the inputs of the named linear layers.

    Args:
        model: float, in evaluation mode; left as it is.
        rows: the calibration split; not read where nothing is wanted.

    Raises:
        QuantizationError: there are no rows, or an input is not finite.
    """
    if wanted == Wanted():
        return dict.fromkeys(names, Inputs())
    first, together = first_readers(model), dict[str, list[str]]()
    for name in names:
        together.setdefault(first.get(name, name), []).append(name)
    factors = _factors(model, together, wanted.smoothing, rows) if wanted.smoothing else {}
    seen = {reader: _Seen(_columns(model, reader), factors.get(reader), wanted) for reader in together}
    if wanted.hessian or wanted.ranges:
        observe(model, rows, seen)
    return {name: seen[reader].inputs() for reader, names in together.items() for name in names}


class _Seen:
    """Observes the inputs of one layer, divided by its smoothing factors, as the quantized layer will read them."""

    def __init__(self, columns: int, smoothing: np.ndarray | None, wanted: Wanted) -> None:
        self.smoothing, self.rule = smoothing, wanted.ranges
        self.hessian = Hessian(columns) if wanted.hessian else None
        self.spread = self.rule.observer(columns) if self.rule else None

    def see(self, values: np.ndarray) -> None:
        """Take note of inputs, (count, columns) float32."""
        if self.smoothing is not None:
            values = values * (np.float32(1) / self.smoothing)
        for observer in (self.hessian, self.spread):
            if observer is not None:
                observer.see(values)

    def inputs(self) -> Inputs:
        """Return what was found."""
        hessian = None if self.hessian is None else self.hessian.sums
        found = self.rule.range_of(self.spread) if self.rule and self.spread else None
        return Inputs(self.smoothing, hessian, found)


def _factors(
    model: Any, together: Mapping[str, Sequence[str]], smoothing: Smoothing, rows: TokenRows
) -> dict[str, np.ndarray | None]:
    """Return the smoothing factors of every input that layers read; None where they gain too little."""
    seen = {reader: Channels(_columns(model, reader)) for reader in together}
    observe(model, rows, seen)
    weights = {
        reader: [model.get_submodule(name).weight.detach().numpy() for name in names]
        for reader, names in together.items()
    }
    return {reader: smoothing.factors(seen[reader], weights[reader]) for reader in together}


def _columns(model: Any, name: str) -> int:
    columns: int = model.get_submodule(name).in_features
    return columns
