"""What the methods of 8-bit codes share: which CPUs must be right, and so how large a code may be."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from edgedistill import registry
from edgedistill.quantize.methods._gate import GatedOptions
from edgedistill.section import Rounding, Section, Width

if TYPE_CHECKING:
    from edgedistill.quantize.decisions import Decision
    from edgedistill.quantize.ranges import RangeRule
    from edgedistill.training.rows import TokenRows

TARGETS = "edgedistill.targets"


class CpuOptions(Section):
    """Which CPUs the file must be right on."""

    cpus: tuple[str, ...] = Field(
        ("host",),
        min_length=1,
        examples=[["host", "arm64"]],
        description="Files of targets/ that the artifact will run on.",
    )
    reduced_range: Literal["auto", "always", "never"] = Field(
        "auto", description="7-bit codes; auto: where one of the cpus has neither VNNI nor dotprod."
    )


class CodesOptions(GatedOptions):
    """How 8-bit codes are chosen, and which layers stay wider or become narrower."""

    granularity: Literal["per_channel", "per_tensor"] = Field(
        "per_channel", description="One scale for each output channel, or one for the whole matrix."
    )
    min_weights: int = Field(
        1 << 16, ge=0, description="Linear layers with fewer weights stay float: they save nothing, and rounding costs."
    )
    smoothing: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of outliers that moves from inputs to weights, where that helps a layer; often 0.5 to 0.75.",
    )
    rounding: Rounding = "nearest"
    embeddings: Width = Field("int8", description="Width of embedding tables; as float32 the file hardly shrinks.")


class Int8Options(CpuOptions, CodesOptions):
    """Signed codes: the CPUs decide how large they may be."""


def decide_range(options: CpuOptions) -> tuple[bool, str]:
    """Return whether codes have 7 bits, and why, in words.

    Raises:
        UnknownChoice: a cpu is no file of targets/.
    """
    if options.reduced_range != "auto":
        return options.reduced_range == "always", f"the recipe says reduced_range: {options.reduced_range}"
    without = [name for name in options.cpus if not registry.load(TARGETS, name).target().int8_dot]
    if without:
        return True, f"{', '.join(without)} has neither VNNI nor dotprod, and its 16-bit sums would saturate"
    return False, f"{', '.join(options.cpus)}: int8 dot products do not saturate"


def needs(options: CpuOptions) -> dict[str, Any]:
    """Return what the result depends on besides the options: the range that the cpus ask for."""
    return {"reduced_range": decide_range(options)[0]}


def decided(
    model: Any,
    options: CodesOptions,
    calibration: "TokenRows",
    *,
    reduced_range: bool,
    ranges: "RangeRule | None" = None,
) -> "Iterator[tuple[str, Decision]]":
    """Yield (layer name, decision) for every table and large linear layer that no override gives another width.

    Where ranges are calibrated, an override of int8 is not another width: it asks for that layer however small it is.

    Args:
        reduced_range: whether a linear layer's codes have 7 bits.
        ranges: how the inputs' ranges are found; None: each is measured on the fly.
    """
    from torch import nn

    from edgedistill.quantize.affine import quantize_rows, quantize_whole
    from edgedistill.quantize.decisions import Int8
    from edgedistill.quantize.gptq import optimised_rows
    from edgedistill.quantize.inputs import Wanted, inputs_of
    from edgedistill.quantize.smoothing import Smoothing
    from edgedistill.quantize.widths import (
        FULL_RANGE,
        REDUCED_RANGE,
        at_width,
        left_to_method,
        named_by,
        naming,
        quantizable,
    )

    limit = REDUCED_RANGE if reduced_range else FULL_RANGE
    rounded = quantize_rows if options.granularity == "per_channel" else quantize_whole
    nearest = partial(rounded, limit=limit)
    layers = left_to_method(quantizable(model), options.overrides, own=None if ranges is None else "int8")
    large = [
        name
        for name, layer in layers.items()
        if isinstance(layer, nn.Linear)
        and (layer.weight.numel() >= options.min_weights or named_by(options.overrides, name) is not None)
    ]
    smoothing = None if options.smoothing is None else Smoothing(options.smoothing, nearest)
    wanted = Wanted(smoothing, hessian=options.rounding == "gptq", ranges=ranges)
    inputs = inputs_of(model, large, wanted, calibration)
    for name, layer in layers.items():
        if name in inputs:
            known = inputs[name]
            weight = layer.weight.detach().numpy() * (1 if known.smoothing is None else known.smoothing)
            with naming(name):
                rows = nearest(weight)
            if known.hessian is not None:
                rows = optimised_rows(weight, rows, known.hessian)
            yield name, Int8(rows, known.range, known.smoothing)
        elif isinstance(layer, nn.Embedding):
            decision = at_width(name, layer, options.embeddings)
            if decision is not None:
                yield name, decision
