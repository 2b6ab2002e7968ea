"""What every runtime of encoders must keep, however many are added."""

import inspect
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from tiny_artifact import LABELS, MAX_TOKENS, texts, write_checkpoint, write_onnx

from edgedistill import registry
from edgedistill.runtimes import onnxruntime
from edgedistill.runtimes._model import LoadedModel, in_length_order

RUNTIMES = "edgedistill.runtimes"
ODD_TEXTS = ["", "good", "no such words", "🎬 плот 映画", "a " * 500]


def _checkpoint(root: Path) -> str:
    write_checkpoint(root)
    return ""


def _onnx(root: Path) -> str:
    return str(write_onnx(root, "onnx/model.onnx").relative_to(root))


ENCODERS = tuple(name for name in registry.names(RUNTIMES) if "encoder" in registry.load(RUNTIMES, name).SERVES)


MADE: dict[str, Callable[[Path], str]] = {"onnxruntime": _onnx, "pytorch": _checkpoint}
OF_VECTORS = ("llama_cpp_encoder",)  # give no labels: tests/test_gguf_encoder.py has what they must keep beside
"""How to write a tiny model for each runtime; returns the file to load."""


@pytest.fixture(scope="module", params=MADE)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[ModuleType, LoadedModel]:
    root = tmp_path_factory.mktemp(request.param)
    runtime = registry.load(RUNTIMES, request.param)
    return runtime, runtime.load(root, MADE[request.param](root), threads=1)


def faults(model: LoadedModel) -> list[str]:
    """Return what a loaded model does wrong."""
    found = []
    if model.labels != LABELS:
        found.append("labels are in the order of the logits")
    encoded = model.encode(["good film", "bad"])
    ids, mask = encoded["input_ids"], encoded["attention_mask"]
    if ids.dtype != np.int64 or ids.shape != mask.shape or mask.sum(axis=1).tolist() != [4, 3]:
        found.append("ids and mask are int64, padded to the longest text, special tokens included")
    if model.encode(["a " * 500])["input_ids"].shape != (1, MAX_TOKENS):
        found.append("a text is cut at model_max_length")
    logits = model.run(encoded)
    if logits.dtype != np.float32 or logits.shape != (2, len(LABELS)):
        found.append("logits are float32, (batch, classes)")
    if not np.allclose(logits[1], model.run(model.encode(["bad"]))[0], atol=1e-5):
        found.append("padding changes nothing")
    return found


def test_every_runtime_says_what_it_serves() -> None:
    for name in registry.names(RUNTIMES):
        serves = registry.load(RUNTIMES, name).SERVES
        assert serves
        assert serves <= {"encoder", "decoder"}
    assert set(ENCODERS) == {*MADE, *OF_VECTORS}


def test_every_runtime_keeps_the_contract(loaded: tuple[ModuleType, LoadedModel]) -> None:
    runtime, model = loaded
    assert list(inspect.signature(runtime.load).parameters) == ["root", "file", "threads", "exact"]
    assert not faults(model)
    assert all(isinstance(version, str) and version for version in runtime.versions().values())
    assert "numpy" in runtime.versions() or "torch" in runtime.versions()
    kernels = model.kernels()
    assert kernels
    assert all(count >= 1 for count in kernels.values())


def test_every_runtime_answers_odd_texts(loaded: tuple[ModuleType, LoadedModel]) -> None:
    _, model = loaded
    for batch in ([text] for text in ODD_TEXTS):
        assert np.isfinite(model.run(model.encode(batch))).all()
    assert np.isfinite(model.run(model.encode(ODD_TEXTS))).all()


def test_answers_in_length_order_come_back_in_the_order_of_the_texts(loaded: tuple[ModuleType, LoadedModel]) -> None:
    _, model = loaded
    asked = texts(21)
    advanced: list[int] = []
    found = in_length_order(model, asked, batch_size=4, advance=advanced.append)
    alone = np.concatenate([model.run(model.encode([text])) for text in asked])
    assert np.allclose(found, alone, atol=1e-4)
    assert np.ptp(alone, axis=0).min() > 1e-3, "texts that all give the same would prove nothing"
    assert sum(advanced) == len(asked)


class _Wrapped:
    """A runtime's model, with one thing broken."""

    def __init__(self, model: LoadedModel, **broken: Any) -> None:
        self.labels, self.encode, self.run, self.kernels = model.labels, model.encode, model.run, model.kernels
        self.__dict__ |= broken


def test_the_contract_rejects_broken_models(loaded: tuple[ModuleType, LoadedModel]) -> None:
    _, model = loaded
    whole = {"input_ids": np.ones((2, MAX_TOKENS), np.int64), "attention_mask": np.ones((2, MAX_TOKENS), np.int64)}
    broken: list[dict[str, Any]] = [
        {"labels": LABELS[::-1]},
        {"encode": lambda asked: {name: array[: len(asked)] for name, array in whole.items()}},
        {"run": lambda encoded: model.run(encoded).astype(np.float64)},
        {"run": lambda encoded: model.run(encoded) + encoded["input_ids"].shape[1]},
    ]
    assert not faults(_Wrapped(model))
    for change in broken:
        assert faults(_Wrapped(model, **change)), change


def _torch_threads(_: Any) -> int:
    import torch

    return torch.get_num_threads()


THREADS: dict[str, Callable[[Any], int]] = {
    "onnxruntime": lambda model: int(model._session.get_session_options().intra_op_num_threads),
    "pytorch": _torch_threads,
}
"""How to tell how many threads a model runs with, as its library itself says it."""


@pytest.mark.parametrize("name", MADE)
def test_every_runtime_runs_with_as_many_threads_as_asked(name: str, tmp_path: Path) -> None:
    file, load = MADE[name](tmp_path), registry.load(RUNTIMES, name).load

    def refused(load: Callable[..., LoadedModel]) -> list[int]:
        return [asked for asked in (3, 2, 1) if THREADS[name](load(tmp_path, file, threads=asked)) != asked]

    assert refused(load) == []
    assert refused(lambda root, file, threads: load(root, file, threads=1)) == [3, 2], "the check can fail"


def _foldable(root: Path) -> tuple[str, Counter[str]]:
    """Write a model whose last two operators ONNX Runtime would make one; return its file and its operators."""
    import onnx

    file = write_onnx(root, "onnx/model.onnx")
    model = onnx.load(file)
    model.graph.node[-1].CopyFrom(onnx.helper.make_node("Gemm", ["mean", "head", "bias"], ["sums"]))
    model.graph.node.append(onnx.helper.make_node("Relu", ["sums"], ["logits"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(len(LABELS), np.float32), "bias"))
    onnx.save(model, file)
    return "onnx/model.onnx", Counter(node.op_type for node in model.graph.node)


def test_an_exact_onnx_model_runs_as_it_was_written(tmp_path: Path) -> None:
    from onnxruntime import GraphOptimizationLevel

    file, written = _foldable(tmp_path)

    def is_exact(load: Callable[..., Any]) -> bool:
        model = load(tmp_path, file, threads=1, exact=True)
        level = model._session.get_session_options().graph_optimization_level
        return bool(level == GraphOptimizationLevel.ORT_DISABLE_ALL) and model.kernels() == written

    optimized = onnxruntime.load(tmp_path, file, threads=1)
    assert "FusedGemm" in optimized.kernels(), "there is something to switch off"
    assert is_exact(onnxruntime.load)
    assert not is_exact(lambda root, file, threads, exact: onnxruntime.load(root, file, threads=threads))
    exact = onnxruntime.load(tmp_path, file, threads=1, exact=True)
    encoded = exact.encode(texts(8))
    assert np.allclose(exact.run(encoded), optimized.run(encoded), atol=1e-5)
