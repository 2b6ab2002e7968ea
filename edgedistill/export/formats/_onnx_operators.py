"""How this project's quantized operators are written in ONNX, for both of torch's exporters.

The node patterns are the ones that onnxruntime fuses: DynamicQuantizeLinear + MatMulInteger + Cast + Mul becomes one
DynamicQuantizeMatMul, and MatMul between two DequantizeLinear becomes one MatMulIntegerToFloat. 4-bit codes have no
operator in ONNX that every runtime of today reads; they use onnxruntime's own, which its builds for phones and for
the web have too.

Source: https://onnx.ai/onnx/operators/ and
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from typing import Any

import numpy as np
import torch
from onnx import TensorProto
from onnx.defs import OpSchema
from onnx.numpy_helper import from_array
from onnxscript import FLOAT, FLOAT16, INT8, INT64, UINT8, opset18
from onnxscript.values import Op, Opset

from edgedistill.models import int8_layers, weight_only_layers
from edgedistill.models.integer_product import UNSIGNED_ZERO

FLOAT32 = int(TensorProto.FLOAT)
CONTRIB = "com.microsoft"
_UNSIGNED_ZERO = np.array(UNSIGNED_ZERO, np.uint8)
op: Any = opset18  # its types are narrower than what it takes


def _dynamic_linear(values: FLOAT, codes: INT8, scales: FLOAT, bias: FLOAT) -> FLOAT:
    quantized, scale, zero_point = op.DynamicQuantizeLinear(values)
    if int(codes.dtype) == int(TensorProto.UINT8):
        integers = op.MatMulInteger(quantized, codes, zero_point, op.Constant(value=from_array(_UNSIGNED_ZERO)))
    else:
        integers = op.MatMulInteger(quantized, codes, zero_point)
    products = op.Cast(integers, to=FLOAT32)
    result: FLOAT = op.Add(op.Mul(products, op.Mul(scale, scales)), bias)
    return result


def _static_linear(
    values: FLOAT, codes: INT8, scales: FLOAT, bias: FLOAT, input_scale: FLOAT, input_zero_point: UINT8
) -> FLOAT:
    quantized = op.QuantizeLinear(values, input_scale, input_zero_point)
    rounded = op.DequantizeLinear(quantized, input_scale, input_zero_point)
    result: FLOAT = op.Add(op.MatMul(rounded, op.DequantizeLinear(codes, scales, axis=1)), bias)
    return result


def _int8_embedding(ids: INT64, codes: INT8, scales: FLOAT) -> FLOAT:
    vectors = op.Cast(op.Gather(codes, ids, axis=0), to=FLOAT32)
    result: FLOAT = op.Mul(vectors, op.Gather(scales, ids, axis=0))
    return result


def _float16_weight(weight: FLOAT16) -> FLOAT:
    result: FLOAT = op.Cast(weight, to=FLOAT32)
    return result


def _contrib(name: str, inputs: dict[str, str], attributes: tuple[str, ...]) -> Any:
    """Return an operator of onnxruntime's own, which the onnx package does not know, to be called in a translation.

    Args:
        inputs: name to type, in order.
        attributes: names; all of them are whole numbers.
    """
    schema = OpSchema(
        name, CONTRIB, 1,
        inputs=[OpSchema.FormalParameter(key, kind) for key, kind in inputs.items()],
        outputs=[OpSchema.FormalParameter("output", "tensor(float)")],
        attributes=[OpSchema.Attribute(key, OpSchema.AttrType.INT) for key in attributes],
    )  # fmt: skip
    return Op(Opset(CONTRIB, 1), name, schema)


_CODES, _SCALES = "tensor(uint8)", "tensor(float)"
_MATMUL: Any = _contrib(
    "MatMulNBits", {"A": _SCALES, "B": _CODES, "scales": _SCALES, "zero_points": _CODES},
    ("N", "K", "bits", "block_size", "accuracy_level"),
)  # fmt: skip
_GATHER: Any = _contrib(
    "GatherBlockQuantized", {"data": _CODES, "indices": "tensor(int64)", "scales": _SCALES, "zero_points": _CODES},
    ("bits", "block_size", "gather_axis", "quantize_axis"),
)  # fmt: skip


def _int4_linear(values: FLOAT, packed: UINT8, scales: FLOAT, zero_points: UINT8) -> FLOAT:
    result: FLOAT = _MATMUL(values, packed, scales, zero_points, **_matrix(packed.shape))
    return result


def _int4_embedding(ids: INT64, packed: UINT8, scales: FLOAT, zero_points: UINT8) -> FLOAT:
    result: FLOAT = _GATHER(packed, ids, scales, zero_points, **_table(packed.shape, scales.shape))
    return result


def _matrix(packed: Any) -> dict[str, int]:
    """Return the attributes of MatMulNBits for codes of shape (rows, groups, group_size / 2)."""
    rows, groups, half = packed
    return {"N": rows, "K": 2 * groups * half, "bits": 4, "block_size": 2 * half, "accuracy_level": 1}


def _table(packed: Any, scales: Any) -> dict[str, int]:
    """Return the attributes of GatherBlockQuantized for codes of shape (rows, columns / 2)."""
    return {"bits": 4, "block_size": 2 * packed[1] // scales[1], "gather_axis": 0, "quantize_axis": 1}


def translations() -> dict[Any, Any]:
    """Return PyTorch operator -> ONNX function, for the exporter that works on torch.export's graph."""
    ours = torch.ops.edgedistill
    return {
        ours.dynamic_int8_linear.default: _dynamic_linear,
        ours.static_int8_linear.default: _static_linear,
        ours.int8_embedding.default: _int8_embedding,
        ours.float16_weight.default: _float16_weight,
        ours.int4_linear.default: _int4_linear,
        ours.int4_embedding.default: _int4_embedding,
    }


def _dynamic_linear_symbolic(g: Any, values: Any, codes: Any, scales: Any, bias: Any) -> Any:
    quantized, scale, zero_point = g.op("DynamicQuantizeLinear", values, outputs=3)
    unsigned = codes.type().dtype() == torch.uint8
    zero = [g.op("Constant", value_t=torch.from_numpy(_UNSIGNED_ZERO))] if unsigned else []
    products = g.op("Cast", g.op("MatMulInteger", quantized, codes, zero_point, *zero), to_i=FLOAT32)
    return g.op("Add", g.op("Mul", products, g.op("Mul", scale, scales)), bias)


def _static_linear_symbolic(g: Any, values: Any, codes: Any, scales: Any, bias: Any, scale: Any, zero: Any) -> Any:
    rounded = g.op("DequantizeLinear", g.op("QuantizeLinear", values, scale, zero), scale, zero)
    return g.op("Add", g.op("MatMul", rounded, g.op("DequantizeLinear", codes, scales, axis_i=1)), bias)


def _int8_embedding_symbolic(g: Any, ids: Any, codes: Any, scales: Any) -> Any:
    vectors = g.op("Cast", g.op("Gather", codes, ids, axis_i=0), to_i=FLOAT32)
    return g.op("Mul", vectors, g.op("Gather", scales, ids, axis_i=0))


def _float16_weight_symbolic(g: Any, weight: Any) -> Any:
    return g.op("Cast", weight, to_i=FLOAT32)


# The exporter does not know what these two give back, and warns unless it is told type and number of axes.
def _int4_linear_symbolic(g: Any, values: Any, packed: Any, scales: Any, zero_points: Any) -> Any:
    attributes = {f"{name}_i": value for name, value in _matrix(packed.type().sizes()).items()}
    product = g.op(f"{CONTRIB}::MatMulNBits", values, packed, scales, zero_points, **attributes)
    return product.setType(scales.type().with_sizes([None] * values.type().dim()))


def _int4_embedding_symbolic(g: Any, ids: Any, packed: Any, scales: Any, zero_points: Any) -> Any:
    sizes = packed.type().sizes(), scales.type().sizes()
    attributes = {f"{name}_i": value for name, value in _table(*sizes).items()}
    vectors = g.op(f"{CONTRIB}::GatherBlockQuantized", packed, ids, scales, zero_points, **attributes)
    return vectors.setType(scales.type().with_sizes([None] * (ids.type().dim() + 1)))


def register_symbolics(opset: int) -> None:
    """Tell the exporter that works on TorchScript's graph about the operators."""
    from torch.onnx.utils import register_custom_op_symbolic

    symbolics: dict[str, Any] = {
        int8_layers.LINEAR: _dynamic_linear_symbolic,
        int8_layers.STATIC_LINEAR: _static_linear_symbolic,
        int8_layers.EMBEDDING: _int8_embedding_symbolic,
        weight_only_layers.FLOAT16: _float16_weight_symbolic,
        weight_only_layers.INT4_LINEAR: _int4_linear_symbolic,
        weight_only_layers.INT4_EMBEDDING: _int4_embedding_symbolic,
    }
    for name, symbolic in symbolics.items():
        register_custom_op_symbolic(name, symbolic, opset)
