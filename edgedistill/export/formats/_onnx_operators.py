"""How this project's two quantized operators are written in ONNX, for both of torch's exporters.

The node patterns are the ones that onnxruntime fuses: DynamicQuantizeLinear + MatMulInteger + Cast + Mul becomes one
DynamicQuantizeMatMul.
"""

from typing import Any

import torch
from onnx import TensorProto
from onnxscript import FLOAT, INT8, INT64, opset18

from edgedistill.models import int8_layers

FLOAT32 = int(TensorProto.FLOAT)
op: Any = opset18  # its types are narrower than what it takes


def _linear(values: FLOAT, codes: INT8, scales: FLOAT, bias: FLOAT) -> FLOAT:
    quantized, scale, zero_point = op.DynamicQuantizeLinear(values)
    products = op.Cast(op.MatMulInteger(quantized, codes, zero_point), to=FLOAT32)
    result: FLOAT = op.Add(op.Mul(products, op.Mul(scale, scales)), bias)
    return result


def _embedding(ids: INT64, codes: INT8, scales: FLOAT) -> FLOAT:
    vectors = op.Cast(op.Gather(codes, ids, axis=0), to=FLOAT32)
    result: FLOAT = op.Mul(vectors, op.Gather(scales, ids, axis=0))
    return result


def translations() -> dict[Any, Any]:
    """Return PyTorch operator -> ONNX function, for the exporter that works on torch.export's graph."""
    return {
        torch.ops.edgedistill.dynamic_int8_linear.default: _linear,
        torch.ops.edgedistill.int8_embedding.default: _embedding,
    }


def _linear_symbolic(g: Any, values: Any, codes: Any, scales: Any, bias: Any) -> Any:
    quantized, scale, zero_point = g.op("DynamicQuantizeLinear", values, outputs=3)
    products = g.op("Cast", g.op("MatMulInteger", quantized, codes, zero_point), to_i=FLOAT32)
    return g.op("Add", g.op("Mul", products, g.op("Mul", scale, scales)), bias)


def _embedding_symbolic(g: Any, ids: Any, codes: Any, scales: Any) -> Any:
    vectors = g.op("Cast", g.op("Gather", codes, ids, axis_i=0), to_i=FLOAT32)
    return g.op("Mul", vectors, g.op("Gather", scales, ids, axis_i=0))


def register_symbolics(opset: int) -> None:
    """Tell the exporter that works on TorchScript's graph about the operators."""
    from torch.onnx.utils import register_custom_op_symbolic

    register_custom_op_symbolic(int8_layers.LINEAR, _linear_symbolic, opset)
    register_custom_op_symbolic(int8_layers.EMBEDDING, _embedding_symbolic, opset)
