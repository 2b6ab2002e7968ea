"""Weights and embedding tables as int8, one scale per output channel or table row; activations as uint8 on the fly.

Nothing is calibrated: each activation's range is measured when it is there. Where a CPU multiplies u8 by s8 without
a dot-product instruction (AVX2 without VNNI), two products are added in 16 bits and saturate; codes of 7 bits keep
the sum below that.

Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html, on dynamic quantization and
reduced range.
"""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field

from edgedistill import registry
from edgedistill.quantize.affine import RowQuantized, quantize_rows
from edgedistill.section import MethodOptions

TARGETS = "edgedistill.targets"
FULL_RANGE, REDUCED_RANGE = 127, 63


class Options(MethodOptions):
    """Which CPUs the file must be right on, and whether tables shrink too."""

    method: Literal["dynamic_int8"]
    cpus: tuple[str, ...] = Field(
        ("host",), min_length=1, description="Files of targets/ that the artifact will run on."
    )
    reduced_range: Literal["auto", "always", "never"] = Field(
        "auto", description="7-bit codes; auto: where one of the cpus has neither VNNI nor dotprod."
    )
    min_weights: int = Field(
        1 << 16, ge=0, description="Linear layers with fewer weights stay float: they save nothing, and rounding costs."
    )
    embeddings: bool = Field(True, description="Embedding tables too; without them the file hardly shrinks.")

    SCHEME: ClassVar[str] = "int8_dynamic"


def decide_range(options: Options) -> tuple[bool, str]:
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


def needs(options: Options) -> dict[str, Any]:
    """Return what the result depends on besides the options: the range that the cpus ask for."""
    return {"reduced_range": decide_range(options)[0]}


def quantize(model: Any, options: Options) -> Iterator[tuple[str, RowQuantized]]:
    """Yield (module name, its weight quantized by rows) for every embedding table and large linear layer of `model`.

    A table or layer that the model reads by its weight, without calling it, stays float. Rows are output channels of a
    linear layer and entries of a table.
    """
    from torch import nn

    from edgedistill.quantize.methods._called import called

    limit = REDUCED_RANGE if decide_range(options)[0] else FULL_RANGE
    exchangeable = called(model)
    for name, module in model.named_modules():
        if name not in exchangeable:
            continue
        if isinstance(module, nn.Linear) and module.weight.numel() >= options.min_weights:
            yield name, quantize_rows(module.weight.detach().numpy(), limit)
        elif isinstance(module, nn.Embedding) and options.embeddings:
            yield name, quantize_rows(module.weight.detach().numpy(), FULL_RANGE)  # looked up, never multiplied in int8
