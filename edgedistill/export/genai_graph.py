"""The builder's float32 graph with the numbers that quantize decided.

Codes take the place of a matrix where it is multiplied (MatMulNBits) and where it is looked up (GatherBlockQuantized);
a table that is the head too stands in the file once. Nothing else in the graph changes.

Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.errors import StageError
from edgedistill.export.genai_builder import DATA, MODEL
from edgedistill.export.genai_names import TABLE, checkpoint_names
from edgedistill.models.block_tensors import FLOAT, BlockTensor

CONTRIB = "com.microsoft"
CODES, SCALES, ZERO_POINTS = ".codes", ".scales", ".zero_points"
TOGETHER = "|"  # between the names of matrices whose rows stand in one
LARGE_BYTES = 1024  # smaller initializers stay inside the graph, as onnx has it


def write_graph(
    built: Path, folder: Path, tensors: Mapping[str, BlockTensor], *, accuracy_level: int, metadata: Mapping[str, str]
) -> None:
    """Write the graph that the builder made, with these numbers, to `folder`.

    Args:
        built: folder with the builder's float32 graph.
        folder: gets model.onnx and model.onnx.data.
        tensors: every tensor of the checkpoint.
        accuracy_level: of MatMulNBits: what activations are rounded to while they are multiplied.
        metadata: goes into the file's metadata_props.

    Raises:
        StageError: the graph has a matrix that is not one of the checkpoint's.
    """
    import onnx

    model = onnx.load(built / MODEL)
    _Exchange(model.graph, tensors, accuracy_level).run()
    onnx.helper.set_model_props(model, dict(sorted(metadata.items())))
    for stale in (folder / MODEL, folder / DATA):  # onnx appends
        stale.unlink(missing_ok=True)
    onnx.save(
        model, folder / MODEL, save_as_external_data=True, location=DATA, size_threshold=LARGE_BYTES,
        convert_attribute=False,
    )  # fmt: skip
    (folder / DATA).chmod((folder / MODEL).stat().st_mode & 0o777)  # onnx lets nobody else read it


def with_accuracy(folder: Path, file: Path, accuracy_level: int) -> None:
    """Write a twin of a folder's graph beside its data, whose products have another accuracy level."""
    import onnx

    model = onnx.load(folder / MODEL, load_external_data=False)
    for node in model.graph.node:
        if node.op_type == "MatMulNBits":
            for attribute in node.attribute:
                if attribute.name == "accuracy_level":
                    attribute.i = accuracy_level
    file.write_bytes(model.SerializeToString())


class _Exchange:
    """Puts codes where the matrices of a graph were."""

    def __init__(self, graph: Any, tensors: Mapping[str, BlockTensor], accuracy_level: int) -> None:
        self.graph, self.tensors, self.accuracy_level = graph, tensors, accuracy_level
        self.floats = {one.name: one for one in graph.initializer}
        self.added: dict[str, Any] = {}
        self.nodes: list[Any] = []

    def run(self) -> None:
        transposed = {node.output[0]: node.input[0] for node in self.graph.node if node.op_type == "Transpose"}
        for node in self.graph.node:
            if node.op_type == "MatMul" and node.input[1] in self.floats:
                self._product(node)
            elif node.op_type == "Gather" and TABLE in self._sources(node, transposed):
                self._lookup(node)
            else:
                self.nodes.append(node)
        used = {name for node in self.nodes for name in node.input}
        nodes = [node for node in self.nodes if node.op_type != "Transpose" or node.output[0] in used]
        used = {name for node in nodes for name in node.input}
        kept = [one for one in self.graph.initializer if one.name in used]
        del self.graph.node[:], self.graph.initializer[:]
        self.graph.node.extend(nodes)
        self.graph.initializer.extend([*kept, *self.added.values()])

    def _sources(self, node: Any, transposed: Mapping[str, str]) -> tuple[str, ...]:
        looked_up = node.input[0]
        return checkpoint_names(transposed.get(looked_up, looked_up), self.tensors.keys())

    def _product(self, node: Any) -> None:
        """Put a product with codes in the place of one with floats; matrices that differ in type get one each."""
        from onnx.helper import make_node

        names = checkpoint_names(node.input[1], self.tensors.keys())
        if not names:
            raise StageError(f"{node.input[1]} is no matrix of the checkpoint; this architecture is not known here")
        parts = [self.tensors[name] for name in names]
        if all(part.type == FLOAT for part in parts):
            self._check_floats(node.input[1], parts)
            self.nodes.append(node)
        elif len({(part.type, part.zero_points is None) for part in parts}) == 1:
            self.nodes.append(self._codes(node, TOGETHER.join(names), parts, node.output[0]))
        else:
            outputs = [f"{node.output[0]}/{name}" for name in names]
            for name, part, output in zip(names, parts, outputs, strict=True):
                made = self._floats if part.type == FLOAT else self._codes
                self.nodes.append(made(node, name, [part], output))
            self.nodes.append(make_node("Concat", outputs, node.output[:1], name=f"{node.name}/Concat", axis=-1))

    def _codes(self, node: Any, name: str, parts: Sequence[BlockTensor], output: str) -> Any:
        from onnx.helper import make_node

        one = parts[0]
        inputs = [node.input[0], *self._stored(name, parts)]
        return make_node(
            "MatMulNBits", inputs, [output], name=f"{node.name}/{name}", domain=CONTRIB,
            N=sum(part.shape[0] for part in parts), K=one.shape[1], bits=one.bits, block_size=one.block_size,
            accuracy_level=self.accuracy_level,
        )  # fmt: skip

    def _floats(self, node: Any, name: str, parts: Sequence[BlockTensor], output: str) -> Any:
        from onnx.helper import make_node

        self._add(name, np.ascontiguousarray(parts[0].data.T))
        return make_node("MatMul", [node.input[0], name], [output], name=f"{node.name}/{name}")

    def _check_floats(self, called: str, parts: Sequence[BlockTensor]) -> None:
        """Check that the builder stored these very numbers."""
        from onnx.numpy_helper import to_array

        if not np.array_equal(to_array(self.floats[called]), np.concatenate([part.data for part in parts]).T):
            raise StageError(f"{called}: onnxruntime-genai's builder changed the numbers of this matrix")

    def _lookup(self, node: Any) -> None:
        """Put a table of codes in the place of one of floats."""
        from onnx.helper import make_node

        table = self.tensors[TABLE]
        if table.type == FLOAT:
            self.nodes.append(node)
            return
        codes, *rest = self._stored(TABLE, [table])
        flat, shape = f"{TABLE}/flat", f"{TABLE}/shape"
        self._add(shape, np.array(table.data.shape, dtype=np.int64))
        self.nodes.append(make_node("Reshape", [codes, shape], [flat], name=f"{node.name}/Reshape"))
        self.nodes.append(
            make_node(
                "GatherBlockQuantized", [flat, node.input[1], *rest], node.output[:1], name=f"{node.name}/{TABLE}",
                domain=CONTRIB, bits=table.bits, block_size=table.block_size, gather_axis=0, quantize_axis=1,
            )
        )  # fmt: skip

    def _stored(self, name: str, parts: Sequence[BlockTensor]) -> list[str]:
        """Return the names of codes, scales and, where there are some, zero points."""
        one = parts[0]
        blocks = one.shape[1] // one.block_size
        codes = np.concatenate([part.data for part in parts])
        arrays = {
            CODES: codes.reshape(len(codes), blocks, -1),
            SCALES: np.concatenate([part.scales for part in parts if part.scales is not None]),
        }
        if one.zero_points is not None:
            arrays[ZERO_POINTS] = np.concatenate([p.zero_points for p in parts if p.zero_points is not None])
        for suffix, array in arrays.items():
            self._add(f"{name}{suffix}", array)
        return [f"{name}{suffix}" for suffix in arrays]

    def _add(self, name: str, array: np.ndarray) -> None:
        from onnx.numpy_helper import from_array

        if name not in self.added:
            self.added[name] = from_array(np.ascontiguousarray(array), name)
