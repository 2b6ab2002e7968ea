"""Both of torch's exporters write the two operators so that onnxruntime computes what PyTorch simulates."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from edgedistill.export.formats import onnx as layout
from edgedistill.models.int8_layers import DynamicInt8Linear, Int8Embedding

VOCAB, HIDDEN, CLASSES = 20, 8, 3
OPERATORS = {"Gather", "DynamicQuantizeLinear", "MatMulInteger"}


class Small(nn.Module):
    """Both operators, one after the other, twice the linear one."""

    def __init__(self) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)

        def codes(*shape: int) -> Tensor:
            return torch.randint(-127, 128, shape, generator=random).to(torch.int8)

        def scales(*shape: int) -> Tensor:
            return torch.rand(shape, generator=random) * 0.01 + 1e-4

        self.table = Int8Embedding(codes(VOCAB, HIDDEN), scales(VOCAB, 1))
        self.hidden = DynamicInt8Linear(codes(HIDDEN, HIDDEN), scales(HIDDEN), scales(HIDDEN))
        self.output = DynamicInt8Linear(codes(HIDDEN, CLASSES), scales(CLASSES), scales(CLASSES))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        mask = attention_mask.unsqueeze(-1).float()
        states = torch.relu(self.hidden(self.table(input_ids)))  # (batch, tokens, hidden)
        return self.output((states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1))


@pytest.fixture(scope="module", params=layout.EXPORTERS)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    written = tmp_path_factory.mktemp(request.param) / "model.onnx"
    layout.write(Small().eval(), written, request.param, layout.Options(format="onnx"), {"key": "value"})
    return written


def logits(file: Path, ids: np.ndarray, level: ort.GraphOptimizationLevel) -> np.ndarray:
    settings = ort.SessionOptions()
    settings.graph_optimization_level = level
    opened = ort.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
    found: np.ndarray = opened.run(["logits"], {"input_ids": ids, "attention_mask": (ids > 0).astype(np.int64)})[0]
    return found


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 5), (8, 33)])
def test_the_file_computes_what_was_simulated(file: Path, shape: tuple[int, int]) -> None:
    ids = np.random.default_rng(sum(shape)).integers(0, VOCAB, size=shape)
    ids[:, 0] = 1
    with torch.no_grad():
        expected = Small()(torch.from_numpy(ids), torch.from_numpy(ids > 0).long()).numpy()
    exact = logits(file, ids, ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    assert np.abs(exact - expected).max() < 1e-5
    fused = logits(file, ids, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    assert np.abs(fused - expected).max() < 0.02 * np.abs(expected).max()


def test_the_file_holds_codes_and_stock_operators(file: Path) -> None:
    model = onnx.load(file)
    assert {entry.domain for entry in model.opset_import} <= {"", "ai.onnx"}
    assert {node.op_type for node in model.graph.node} >= OPERATORS
    stored = layout.stored_arrays(file)
    for name, tensor in Small().state_dict().items():
        assert tensor.numpy().tobytes() in stored, name


def test_the_file_names_no_folder_and_no_time(file: Path) -> None:
    raw = file.read_bytes()
    assert str(Path(__file__).parent).encode() not in raw
    assert b"site-packages" not in raw
    assert b".py" not in raw
    model = onnx.load(file)
    assert {entry.key: entry.value for entry in model.metadata_props} == {"key": "value"}
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)


def test_one_changed_code_is_seen(file: Path) -> None:
    broken = Small()
    broken.hidden.codes[0, 0] ^= 1
    stored = layout.stored_arrays(file)
    assert broken.hidden.codes.numpy().tobytes() not in stored
