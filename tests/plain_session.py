"""Graphs written node by node, which onnxruntime runs as they are: what simulated operators are held against."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper


def session(nodes: Sequence[Any], inputs: Mapping[str, int], output: str) -> ort.InferenceSession:
    """Return a session without optimizations, so that nothing is fused.

    Args:
        inputs: name to element type; shapes are free.
        output: name of the one result, float32.
    """
    graph = helper.make_graph(
        list(nodes),
        "reference",
        [helper.make_tensor_value_info(name, kind, None) for name, kind in inputs.items()],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
    )
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=domains, ir_version=8)
    settings = ort.SessionOptions()
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])


def largest_difference(given: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference, as a share of the largest expected number where that is above 1."""
    assert given.shape == expected.shape
    assert given.dtype == np.float32
    return float(np.abs(given - expected).max() / max(1.0, float(np.abs(expected).max())))
