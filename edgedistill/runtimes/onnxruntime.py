"""ONNX Runtime on the CPU, with the tokenizer of the artifact's own folder.

Imports numpy, tokenizers and onnxruntime only, so that a fresh process that runs this measures what an app pays.
"""

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before the import: the Linux wheels report by default

import numpy as np
import onnxruntime as ort

from edgedistill.runtimes._model import Encoded
from edgedistill.runtimes._tokenizer import FileTokenizer

SERVES = frozenset({"encoder"})


class OnnxModel:
    """One session and its tokenizer."""

    def __init__(self, root: Path, file: str, *, threads: int, exact: bool) -> None:
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 3
        if exact:
            settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._settings = settings
        self._model_file = root / file
        self._session = ort.InferenceSession(str(self._model_file), settings, providers=["CPUExecutionProvider"])
        self._inputs = {given.name for given in self._session.get_inputs()}
        self._tokenizer = FileTokenizer(root)
        self._output = self._session.get_outputs()[0].name
        config = json.loads((root / "config.json").read_text(encoding="utf-8"))
        self.several = config.get("problem_type") == "multi_label_classification"
        names = config.get("id2label", {})
        self.labels = tuple(names[str(i)] for i in range(len(names))) if self._output == "logits" else ()

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Return input_ids and attention_mask, each (batch, tokens) int64, padded to the longest text."""
        return self._tokenizer.encode(texts)

    def run(self, encoded: Encoded) -> np.ndarray:
        """Return logits, (batch, classes) float32, or sentence vectors, (batch, width)."""
        outputs: np.ndarray = self._session.run([self._output], self._read(encoded))[0]
        return outputs

    def _read(self, encoded: Encoded) -> dict[str, np.ndarray]:
        """Return what the graph reads of an encoded text."""
        return {name: array for name, array in encoded.items() if name in self._inputs}

    def kernels(self) -> dict[str, int]:
        """Return operator types with their counts, as a profiled run of this session's own graph executed them.

        An operator that reads codes of 8 bits or fewer carries their type: `Gather[int8]`.
        """
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            settings = ort.SessionOptions()
            settings.intra_op_num_threads = self._settings.intra_op_num_threads
            settings.graph_optimization_level = self._settings.graph_optimization_level
            settings.log_severity_level = 3
            settings.enable_profiling = True
            settings.profile_file_prefix = str(Path(folder) / "profile")
            session = ort.InferenceSession(str(self._model_file), settings, providers=["CPUExecutionProvider"])
            session.run([self._output], self._read(self.encode(["one text"])))
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        ran = [event["args"] for event in events if event.get("cat") == "Node" and "op_name" in event["args"]]
        return dict(sorted(Counter(_kernel(node) for node in ran).items()))


def _kernel(node: dict[str, Any]) -> str:
    types = {kind for tensor in node.get("input_type_shape", []) for kind in tensor}
    codes = sorted(types & {"int8", "uint8", "int4", "uint4"})
    return f"{node['op_name']}[{codes[0]}]" if codes else str(node["op_name"])


def load(root: Path, file: str, *, threads: int, exact: bool = False) -> OnnxModel:
    """Load `file` of the artifact in `root`.

    Args:
        root: with config.json, tokenizer.json and tokenizer_config.json.
        file: of the model, relative to `root`.
        threads: threads of one operator; operators run one after another.
        exact: switch off graph optimizations, so that the graph runs as it was written.
    """
    return OnnxModel(root, file, threads=threads, exact=exact)


def versions() -> dict[str, str]:
    """Return what decides this runtime's numbers."""
    return {"onnxruntime": ort.__version__, "numpy": np.__version__}
