"""Both of torch's exporters write every kind of decision so that onnxruntime computes what PyTorch simulates."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from edgedistill.export.formats import onnx as layout
from edgedistill.models.quantized import KINDS, rounds_activations
from edgedistill.quantize.affine import quantize_groups, quantize_rows, quantize_whole
from edgedistill.quantize.decisions import Decision, Float16, InputRange, Int4, Int8
from edgedistill.quantize.exchange import exchange

VOCAB, HIDDEN, CLASSES = 20, 32, 3
RANGE = InputRange.of(-4, 4)
SMOOTHING = np.linspace(0.5, 2, HIDDEN, dtype=np.float32)
CONTRIB = {"MatMulNBits", "GatherBlockQuantized"}

Make = Callable[[np.ndarray], Decision]


def rows(weight: np.ndarray) -> Decision:
    return Int8(quantize_rows(weight, 127))


def whole(weight: np.ndarray) -> Decision:
    return Int8(quantize_whole(weight, 63))


def static(weight: np.ndarray) -> Decision:
    return Int8(quantize_rows(weight, 127), RANGE)


def static_whole(weight: np.ndarray) -> Decision:
    return Int8(quantize_whole(weight, 127), RANGE)


def smoothed(weight: np.ndarray) -> Decision:
    return Int8(quantize_rows(weight * SMOOTHING, 127), None, SMOOTHING)


def smoothed_static(weight: np.ndarray) -> Decision:
    return Int8(quantize_rows(weight * SMOOTHING, 127), RANGE, SMOOTHING)


def unsigned(weight: np.ndarray) -> Decision:
    return Int8(quantize_rows(weight, 127), unsigned=True)


def groups(weight: np.ndarray) -> Decision:
    return Int4(quantize_groups(weight, 16, symmetric=False))


def symmetric_groups(weight: np.ndarray) -> Decision:
    return Int4(quantize_groups(weight, 32, symmetric=True))


DYNAMIC, STATIC = {"DynamicQuantizeLinear", "MatMulInteger"}, {"QuantizeLinear", "DequantizeLinear", "MatMul"}
CASES: dict[str, tuple[tuple[Make, Make, Make], set[str]]] = {  # what the layers become, and which operators that takes
    "dynamic": ((rows, rows, whole), {"Gather", *DYNAMIC}),
    "unsigned": ((rows, unsigned, unsigned), {"Gather", *DYNAMIC}),
    "static": ((rows, static, static_whole), {"Gather", *STATIC}),
    "smoothed": ((rows, smoothed, smoothed_static), {"Mul", *DYNAMIC, *STATIC}),
    "float16": ((Float16.of, Float16.of, Float16.of), {"Cast", "Gather", "MatMul"}),
    "int4": ((groups, groups, symmetric_groups), CONTRIB),
    "mixed": ((groups, Float16.of, rows), {"GatherBlockQuantized", "Cast", *DYNAMIC}),
}


class Small(nn.Module):
    """A table and two linear layers."""

    OUTPUT = "logits"

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(VOCAB, HIDDEN)
        self.hidden, self.output = nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, CLASSES)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        mask = attention_mask.unsqueeze(-1).float()
        states = torch.relu(self.hidden(self.table(input_ids)))  # (batch, tokens, hidden)
        return self.output((states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1))


def decided(case: str) -> Small:
    """Return the model as a case decides it."""
    model = Small().eval()
    made = dict(zip(("table", "hidden", "output"), CASES[case][0], strict=True))
    weights = {name: model.get_submodule(name).weight.detach().numpy() for name in made}
    exchange(model, {name: make(weights[name]) for name, make in made.items()})
    return model


@dataclass(frozen=True)
class Written:
    """One file, and the case it was written from."""

    file: Path
    case: str


@pytest.fixture(scope="module", params=[(exporter, case) for exporter in layout.EXPORTERS for case in CASES], ids=str)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    exporter, case = request.param
    file = tmp_path_factory.mktemp(exporter) / "model.onnx"
    layout.write(decided(case), file, exporter, layout.Options(format="onnx"), {"key": "value"})
    return Written(file, case)


def logits(file: Path, ids: np.ndarray, level: ort.GraphOptimizationLevel) -> np.ndarray:
    settings = ort.SessionOptions()
    settings.graph_optimization_level = level
    opened = ort.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
    found: np.ndarray = opened.run(["logits"], {"input_ids": ids, "attention_mask": (ids > 0).astype(np.int64)})[0]
    return found


def simulated(model: Small, ids: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        found: np.ndarray = model(torch.from_numpy(ids), torch.from_numpy(ids > 0).long()).numpy()
    return found


def ids_of(shape: tuple[int, int]) -> np.ndarray:
    ids = np.random.default_rng(sum(shape)).integers(0, VOCAB, size=shape)
    ids[:, 0] = 1
    return ids


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 5), (8, 33)])
def test_the_file_computes_what_was_simulated(written: Written, shape: tuple[int, int]) -> None:
    model, ids = decided(written.case), ids_of(shape)
    expected = simulated(model, ids)
    exact = logits(written.file, ids, ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    assert np.abs(exact - expected).max() < 1e-5
    fused = logits(written.file, ids, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    tolerance = 0.02 if rounds_activations(model) else 1e-5
    assert np.abs(fused - expected).max() < tolerance * max(1, np.abs(expected).max())


def test_the_file_does_not_compute_what_another_decision_gives(written: Written) -> None:
    given = logits(written.file, ids_of((8, 33)), ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    for other in CASES.keys() - {written.case}:
        assert np.abs(given - simulated(decided(other), ids_of((8, 33)))).max() > 1e-5, other


def test_the_file_holds_every_stored_number_and_the_operators(written: Written) -> None:
    model = onnx.load(written.file)
    contrib = {node.op_type for node in model.graph.node if node.domain == "com.microsoft"}
    assert contrib == CASES[written.case][1] & CONTRIB
    domains = {entry.domain for entry in model.opset_import}
    assert domains - {"", "ai.onnx"} == ({"com.microsoft"} if contrib else set())
    assert {node.op_type for node in model.graph.node} >= CASES[written.case][1]
    stored = layout.stored_arrays(written.file)
    for name, tensor in decided(written.case).state_dict().items():
        assert tensor.numpy().tobytes() in stored, name


def test_the_file_is_small(written: Written) -> None:
    """No float32 copy of a weight lies beside its codes."""
    stored = sum(tensor.nbytes for tensor in decided(written.case).state_dict().values())
    held = sum(map(len, layout.stored_arrays(written.file)))
    assert held < stored + 4 * HIDDEN * CLASSES, "not even the smallest one"


def test_the_file_names_no_folder_and_no_time(written: Written) -> None:
    raw = written.file.read_bytes()
    assert str(Path(__file__).parent).encode() not in raw
    assert b"site-packages" not in raw
    assert b".py" not in raw
    model = onnx.load(written.file)
    assert {entry.key: entry.value for entry in model.metadata_props} == {"key": "value"}
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)


def test_one_changed_number_is_seen(written: Written) -> None:
    stored = layout.stored_arrays(written.file)
    for name, tensor in decided(written.case).state_dict().items():
        if tensor.numel() > 1:  # a lone byte may well stand elsewhere in the file
            other = tensor.clone()
            other.view(-1)[:1] += 1
            assert other.numpy().tobytes() not in stored, name


def test_every_kind_of_layer_is_exported_here() -> None:
    made = {type(part) for case in CASES for part in decided(case).modules()}
    assert made >= set(KINDS.values())


def test_writing_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    layout.write(decided("int4"), tmp_path / "model.onnx", "torchscript", layout.Options(format="onnx"), {})
    assert capfd.readouterr() == ("", "")
