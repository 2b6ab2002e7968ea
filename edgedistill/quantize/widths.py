"""One layer at one width: what overrides, sensitivity and mixed widths ask for."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from edgedistill.errors import QuantizationError
from edgedistill.quantize.affine import quantize_groups, quantize_rows
from edgedistill.quantize.called import called
from edgedistill.quantize.decisions import Decision, Float16, Int4, Int8
from edgedistill.section import Width

FULL_RANGE, REDUCED_RANGE = 127, 63
GROUP_SIZES = (32, 16)  # of 4-bit codes; the first that divides the columns


def quantizable(model: Any) -> dict[str, Any]:
    """Return the linear layers and tables that a forward pass calls, by name."""
    exchangeable = called(model)
    return {name: part for name, part in model.named_modules() if name in exchangeable}


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
    if width == "float16":
        return Float16.of(weight)
    if width == "int8":
        return Int8(quantize_rows(weight, FULL_RANGE if isinstance(layer, nn.Embedding) else limit))
    fits = [size for size in GROUP_SIZES if weight.shape[1] % size == 0]
    if not fits:
        raise QuantizationError(
            f"{name} has {weight.shape[1]} columns, and 4-bit codes come in groups of {GROUP_SIZES[-1]} or more; "
            "give it another width"
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


def named_by(overrides: Mapping[str, Width], name: str) -> Width | None:
    """Return the width that the first fitting pattern gives a layer; None where none fits."""
    return next((overrides[pattern] for pattern in overrides if fnmatchcase(name, pattern)), None)


def overridden(
    layers: Mapping[str, Any], decided: Mapping[str, Decision], overrides: Mapping[str, Width], limit: int
) -> dict[str, Decision]:
    """Return the decisions with those layers at another width that a recipe's pattern names.

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
        if width is None:
            continue
        changed.pop(name, None)
        decision = at_width(name, layer, width, limit)
        if decision is not None:
            changed[name] = decision
    return changed
