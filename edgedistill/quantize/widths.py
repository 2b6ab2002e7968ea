"""One layer at one width: what overrides, sensitivity and mixed widths ask for."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import numpy as np
from torch import nn

from edgedistill.errors import QuantizationError
from edgedistill.quantize.affine import quantize_groups, quantize_rows
from edgedistill.quantize.called import called
from edgedistill.quantize.decisions import Decision, Float16, Int4, Int8
from edgedistill.section import Width

Named = TypeVar("Named", bound=str)
FULL_RANGE, REDUCED_RANGE = 127, 63
GROUP_SIZES = (32, 16)  # of 4-bit codes; the first that divides the columns


def quantizable(model: Any) -> dict[str, Any]:
    """Return the linear layers and tables that a forward pass calls, by name."""
    exchangeable = called(model)
    return {name: part for name, part in model.named_modules() if name in exchangeable}


def left_to_method(
    layers: Mapping[str, Any], overrides: Mapping[str, Width], own: Width | None = None
) -> dict[str, Any]:
    """Return the layers that no pattern of a recipe gives a width, or gives the method's `own` one.

    A method asks about these alone: what cannot be stored in its scheme is no error where another width was asked for.
    """
    return {name: layer for name, layer in layers.items() if named_by(overrides, name) in (None, own)}


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Put the layer's name before what is wrong with its weight."""
    try:
        yield
    except QuantizationError as error:
        raise QuantizationError(f"{name}: {error}") from None


def at_width(name: str, layer: Any, width: Width, limit: int = FULL_RANGE) -> Decision | None:
    """Return the layer's weight at this width, each code the nearest one; None for float32.

    Args:
        limit: largest 8-bit code of a linear layer; a table is looked up, never multiplied, and has the full range.

    Raises:
        QuantizationError: the width cannot hold this weight.
    """
    if width == "float32":
        return None
    weight = layer.weight.detach().numpy()
    with naming(name):
        if width == "float16":
            return Float16.of(weight)
        if width == "int8":
            return Int8(quantize_rows(weight, FULL_RANGE if isinstance(layer, nn.Embedding) else limit))
        return _in_groups(weight)


def _in_groups(weight: np.ndarray) -> Int4:
    """Return 4-bit codes in the largest of GROUP_SIZES that divides the columns."""
    fits = [size for size in GROUP_SIZES if weight.shape[1] % size == 0]
    if not fits:
        raise QuantizationError(
            f"{weight.shape[1]} columns do not divide into groups of 16, of which 4-bit codes are made; "
            "give the layer another width"
        )
    return Int4(quantize_groups(weight, fits[0], symmetric=False))


def at_widths(name: str, layer: Any, widths: Iterable[Width], limit: int = FULL_RANGE) -> dict[Width, Decision]:
    """Return the layer at each of these widths that can hold it; float32 is left out."""
    found: dict[Width, Decision] = {}
    for width in widths:
        try:
            decision = at_width(name, layer, width, limit)
        except QuantizationError:  # its columns are no groups, or a weight is beyond what half precision reaches
            continue
        if decision is not None:
            found[width] = decision
    return found


def named_by(overrides: Mapping[str, Named], name: str) -> Named | None:
    """Return the width that the first fitting pattern gives a layer; None where none fits."""
    return next((overrides[pattern] for pattern in overrides if fnmatchcase(name, pattern)), None)


def overridden(
    layers: Mapping[str, Any], decided: Mapping[str, Decision], overrides: Mapping[str, Width], limit: int
) -> dict[str, Decision]:
    """Return the decisions with those layers at another width that a recipe's pattern names.

    Codes of 8 bits whose input's range the method has calibrated are int8 already, and stay as they are.

    Args:
        layers: every layer that may be quantized, by name.
        decided: what the method decided about them.
        overrides: pattern to width; of two that fit, the first one counts.

    Raises:
        QuantizationError: a pattern fits no layer; the text lists them.
    """
    for pattern in overrides:
        if not any(fnmatchcase(name, pattern) for name in layers):
            raise QuantizationError(f"overrides: {pattern!r} fits no layer; there are: {', '.join(sorted(layers))}")
    changed = dict(decided)
    for name, layer in layers.items():
        width = named_by(overrides, name)
        if width is None or (width == "int8" and _calibrated(decided.get(name))):
            continue
        changed.pop(name, None)
        decision = at_width(name, layer, width, limit)
        if decision is not None:
            changed[name] = decision
    return changed


def _calibrated(decision: Decision | None) -> bool:
    return isinstance(decision, Int8) and decision.input_range is not None
