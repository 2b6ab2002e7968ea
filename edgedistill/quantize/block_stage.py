"""A decoder in blocks of columns that share a scale, for onnxruntime: every stored number decided."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

from edgedistill.decoder_values import TensorFacts
from edgedistill.errors import QuantizationError
from edgedistill.models.block_tensors import FLOAT, BlockTensor
from edgedistill.models.checkpoint_names import checkpoint_tensors, wrapped
from edgedistill.progress import bar
from edgedistill.quantize.affine import packed, quantize_groups
from edgedistill.quantize.fitted import fitted_groups
from edgedistill.quantize.importance import Importance, where_asked
from edgedistill.quantize.methods._blocks import BlockOptions, BlockWidth
from edgedistill.quantize.widths import named_by, naming

GROUP_SIZES = (256, 128, 64, 32, 16)  # that onnxruntime's operators take


def block_weights(
    options: BlockOptions, model: Any, importance: Importance | None
) -> tuple[dict[str, BlockTensor], tuple[TensorFacts, ...], Importance | None]:
    """Return every tensor as it is stored, what is to be said of each, and the importance matrix that was used.

    Matrices of linear layers and token tables become codes, the head with them; all else stays float32. Where the
    columns of a matrix do not divide into the blocks that were asked for, it gets the largest ones that they divide
    into, and the reason is kept. A token table is looked up, all of its columns alike: it has no importance, not even
    where it is the head too.

    Args:
        options: of a method whose models are stored in blocks.
        model: float, called with ids and mask, in evaluation mode; left as it is.
        importance: of its weights, see `importance_of`; read where the options ask for it.

    Raises:
        QuantizationError: importance is asked for and None, a pattern fits no matrix, no block divides a matrix's
            columns, or a weight is not finite.
    """
    matrices, tensors = _matrices(model), checkpoint_tensors(model)
    _check_patterns(options.overrides, matrices)
    importance = where_asked(importance, options.importance)
    stored, facts = {}, []
    with bar(f"encoding {options.method}", len(tensors), "tensors") as advance:
        for name, tensor in tensors.items():
            weight = tensor.detach().numpy()
            width = (named_by(options.overrides, name) or options.WIDTH) if name in matrices else "float32"
            wanted, reason = _type(width, options.group_size), ""
            with naming(name):
                if width == "float32":
                    stored[name] = BlockTensor(FLOAT, weight.shape, np.array(weight, dtype=np.float32))
                else:
                    stored[name] = _in_blocks(weight, width, options, (importance or {}).get(name))
            if stored[name].type != wanted:
                reason = f"{weight.shape[1]} columns do not divide into blocks of {options.group_size}"
            facts.append(_facts(name, weight, stored[name], wanted, reason))
            advance(1)
    return stored, tuple(facts), importance


def _matrices(model: Any) -> frozenset[str]:
    """Return the checkpoint's names of all weights of linear layers and tables."""
    before = wrapped(model)
    layers = (name for name, part in model.named_modules() if isinstance(part, nn.Linear | nn.Embedding))
    return frozenset(f"{name.removeprefix(before)}.weight" for name in layers) & checkpoint_tensors(model).keys()


def _check_patterns(overrides: Mapping[str, BlockWidth], matrices: frozenset[str]) -> None:
    for pattern, width in overrides.items():
        if not any(named_by({pattern: width}, name) for name in matrices):
            raise QuantizationError(f"overrides: {pattern!r} fits no matrix; there are: {', '.join(sorted(matrices))}")


def _type(width: BlockWidth, group_size: int) -> str:
    return FLOAT if width == "float32" else f"{width.upper()}_{group_size}"


def _in_blocks(
    weight: np.ndarray, width: BlockWidth, options: BlockOptions, importance: np.ndarray | None
) -> BlockTensor:
    fitting = (size for size in GROUP_SIZES if size <= options.group_size and weight.shape[1] % size == 0)
    size, bits, symmetric = next(fitting, options.group_size), int(width.removeprefix("int")), options.symmetric
    if importance is None:
        groups = quantize_groups(weight, size, symmetric=symmetric, bits=bits)
    else:
        groups = fitted_groups(weight, size, importance, symmetric=symmetric, bits=bits)
    codes, zero_points = groups.codes, groups.zero_points
    if width == "int4":
        codes, zero_points = packed(codes), packed(zero_points)
    zeros = None if symmetric else zero_points
    return BlockTensor(_type(width, size), weight.shape, codes, groups.scales, zeros)


def _facts(name: str, weight: np.ndarray, stored: BlockTensor, wanted: str, reason: str) -> TensorFacts:
    lost, size = (float(np.linalg.norm(each.astype(np.float64))) for each in (stored.floats() - weight, weight))
    return TensorFacts(
        name=name,
        shape=stored.shape,
        type=stored.type,
        wanted=wanted,
        reason=reason,
        stored_bytes=stored.stored_bytes,
        relative_error=lost / size if size else 0.0,
    )
