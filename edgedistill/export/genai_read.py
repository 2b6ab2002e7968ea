"""What a graph for onnxruntime-genai holds, read back as the checkpoint has it, and compared with what was decided."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.export.genai_builder import MODEL, SETTINGS
from edgedistill.export.genai_graph import CODES, TOGETHER
from edgedistill.export.genai_names import MADE_BY_THE_BUILDER, TABLE, checkpoint_names
from edgedistill.models.block_tensors import FLOAT, BlockTensor

SHIFTED = "gemma"  # whose norms multiply by 1 + weight; the builder adds the 1


def differences(folder: Path, tensors: Mapping[str, BlockTensor]) -> list[str]:
    """Return the names of tensors that a folder does not hold as they were decided; empty where it holds all.

    Types, shapes, codes, scales, zero points and floats must be equal to the bit; gemma's norms to the rounding of the
    1 that is added to them. What the graph multiplies with and is not one of the tensors is named, too.
    """
    shifted = str(_settings(folder)["model"]["type"]).startswith(SHIFTED)
    found: dict[str, list[BlockTensor]] = {}
    odd = []
    for name, tensor in _read(folder, {name: one.shape for name, one in tensors.items()}):
        if name in tensors:
            found.setdefault(name, []).append(tensor)
        else:
            odd.append(name)
    wrong = [
        name
        for name, decided in tensors.items()
        if name not in found or not all(_same(decided, one, shifted=shifted and "norm" in name) for one in found[name])
    ]
    return [*odd, *wrong]


def _settings(folder: Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    return said


def _read(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, BlockTensor]]:
    """Yield (checkpoint's name, tensor) of all that the graph uses; of what is no tensor, the name it has there."""
    import onnx

    graph = onnx.load(folder / MODEL).graph
    arrays = {one.name: one for one in graph.initializer}
    used = {name for node in graph.node for name in node.input} & arrays.keys()
    coded: set[str] = set()
    for node in graph.node:
        if node.op_type in ("MatMulNBits", "GatherBlockQuantized"):
            names, tensors = _of_codes(node, graph, arrays, shapes)
            coded |= names
            yield from tensors
    for called in sorted(used - coded):
        if not MADE_BY_THE_BUILDER.fullmatch(called) and not called.endswith("/shape"):
            yield from _of_floats(called, arrays[called], shapes)


def _of_codes(
    node: Any, graph: Any, arrays: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[set[str], list[tuple[str, BlockTensor]]]:
    """Return the initializers that a node multiplies with or looks up, and the tensors that they are."""
    from onnx.numpy_helper import to_array

    said = {one.name: one.i for one in node.attribute}
    lookup = node.op_type == "GatherBlockQuantized"
    first = node.input[0 if lookup else 1]
    reshaped = {one.output[0]: one.input[0] for one in graph.node if one.op_type == "Reshape"}
    inputs = [reshaped.get(first, first), *node.input[2:]]
    codes, scales, *zeros = (to_array(arrays[name]) for name in inputs)
    codes, rest, start = codes.reshape(len(codes), -1), [], 0
    for name in inputs[0].removesuffix(CODES).split(TOGETHER):
        rows = slice(start, start := start + shapes.get(name, (len(codes),))[0])
        shape = (rows.stop - rows.start, codes.shape[1] * 8 // said["bits"])
        kind = f"INT{said['bits']}_{said['block_size']}"
        rest.append((name, BlockTensor(kind, shape, codes[rows], scales[rows], *(zero[rows] for zero in zeros))))
    return set(inputs), rest


def _of_floats(called: str, stored: Any, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, BlockTensor]]:
    from onnx.numpy_helper import to_array

    array, start = np.asarray(to_array(stored)), 0
    names = (called,) if called in shapes else checkpoint_names(called, shapes.keys())
    if array.ndim > 1 and called != TABLE:
        array = array.T  # the graph multiplies from the left
    for name in names or (called,):
        rows = slice(start, start := start + shapes.get(name, array.shape)[0])
        floats = np.ascontiguousarray(array[rows])
        yield name, BlockTensor(FLOAT, floats.shape, floats)


def _same(decided: BlockTensor, found: BlockTensor, *, shifted: bool) -> bool:
    if (decided.type, decided.shape) != (found.type, found.shape):
        return False
    if shifted:
        return bool((np.abs(decided.data + np.float32(1) - found.data) <= np.spacing(np.abs(found.data))).all())
    pairs = ((getattr(decided, part), getattr(found, part)) for part in ("data", "scales", "zero_points"))
    return all((one is None) == (other is None) and (one is None or _equal(one, other)) for one, other in pairs)


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()
