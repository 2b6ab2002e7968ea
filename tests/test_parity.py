"""The gate between a checkpoint and the file made from it: whatever is wrong with the file, it does not pass."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from finished_build import Finished
from onnx import helper, numpy_helper

from edgedistill.errors import ParityError, StageError
from edgedistill.export import parity
from edgedistill.export.formats import onnx as layout
from edgedistill.models.load import load_model, load_tokenizer
from edgedistill.models.quantized import load_quantized
from edgedistill.values import Parity

FLOAT, INT8 = "onnx/model.onnx", "onnx/model_quantized.onnx"
TEXTS = ["w4 w5 w20", "w12 w13 w14 w15 w30", "w4 w12 " * 20]


@pytest.fixture
def root(finished: Finished, tmp_path: Path) -> Path:
    """A copy of the artifact, to be spoilt."""
    return shutil.copytree(finished.artifact, tmp_path / "artifact")


def checkpoint(finished: Finished, file: str) -> torch.nn.Module:
    student, quantized = finished.value("student"), finished.value("quantize-dynamic_int8")
    start = student.path(student.checkpoint)
    return load_model(start).eval() if file == FLOAT else load_quantized(start, quantized.path(quantized.weights))


def prove(finished: Finished, root: Path, file: str, model: Any = None, **settings: Any) -> Parity:
    student = finished.value("student")
    given = {"weights_bit_equal": True} | settings
    return parity.prove(
        model or checkpoint(finished, file), load_tokenizer(student.path(student.checkpoint)), runtime="onnxruntime",
        root=root, file=file, scheme="float32" if file == FLOAT else "int8_dynamic", real_texts=TEXTS, **given,
    )  # fmt: skip


@pytest.mark.parametrize("file", [FLOAT, INT8])
def test_a_sound_file_passes_and_says_by_how_much(finished: Finished, root: Path, file: str) -> None:
    proof = prove(finished, root, file)
    texts = len(parity.ODD_TEXTS) + len(TEXTS)
    assert proof.tokenizer_texts == texts
    assert proof.exact.inputs == proof.deployed.inputs == 2 * texts
    assert proof.exact.max_abs_diff < 1e-5 < (proof.exact.tolerance or 0) < (proof.deployed.tolerance or 0)
    assert proof.exact.top1_agreement == 1.0


def edited(file: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    model = onnx.load(file)
    change(model)
    onnx.save(model, file)


def array(model: onnx.ModelProto, shape: tuple[int, ...], change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change the one initializer of this shape."""
    (found,) = [tensor for tensor in model.graph.initializer if tuple(tensor.dims) == shape]
    changed = change(numpy_helper.to_array(found).copy())
    found.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(changed), found.name))


def after_logits(model: onnx.ModelProto, *nodes: onnx.NodeProto) -> None:
    """Put nodes that read `raw` and write `logits` at the end of the graph."""
    for node in model.graph.node:
        node.output[:] = ["raw" if name == "logits" else name for name in node.output]
    model.graph.node.extend(nodes)


def swapped_columns(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 0]), "swap"))
    after_logits(model, helper.make_node("Gather", ["raw", "swap"], ["logits"], axis=1))


def nan_output(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.float32(-1.0).reshape(1), "minus"))
    after_logits(
        model,
        helper.make_node("Mul", ["raw", "raw"], ["squared"]),
        helper.make_node("Mul", ["squared", "minus"], ["negative"]),
        helper.make_node("Sqrt", ["negative"], ["logits"]),
    )


def slightly_off(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1.001).reshape(1), "factor"))
    after_logits(model, helper.make_node("Mul", ["raw", "factor"], ["logits"]))


@pytest.mark.parametrize("sabotage", [swapped_columns, nan_output, slightly_off])
def test_other_numbers_fail_with_the_numbers(
    finished: Finished, root: Path, sabotage: Callable[[onnx.ModelProto], None]
) -> None:
    edited(root / FLOAT, sabotage)
    with pytest.raises(ParityError, match=r"onnx/model\.onnx disagrees .* \(exact check\)") as caught:
        prove(finished, root, FLOAT)
    assert not caught.value.max_abs_diff <= caught.value.tolerance
    assert f"tolerance {caught.value.tolerance:.3g}" in str(caught.value)
    assert "on a batch of" in str(caught.value)


def test_swapped_columns_of_the_quantized_file_fail_too(finished: Finished, root: Path) -> None:
    edited(root / INT8, swapped_columns)
    with pytest.raises(ParityError):
        prove(finished, root, INT8)


def test_swapped_labels_fail(finished: Finished, root: Path) -> None:
    config = json.loads((root / "config.json").read_text(encoding="utf-8"))
    config["id2label"] = {"0": config["id2label"]["1"], "1": config["id2label"]["0"]}
    (root / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(StageError, match=r"names its labels \['positive', 'negative'\]"):
        prove(finished, root, FLOAT)


def test_a_scale_that_changed_by_one_percent_is_seen_in_the_file(finished: Finished, root: Path) -> None:
    quantized = finished.value("quantize-dynamic_int8")
    (hidden,) = [tensor.shape[0] for tensor in quantized.tensors if tensor.name == "hidden.weight"]

    def one_percent(scales: np.ndarray) -> np.ndarray:
        scales.flat[0] *= 1.01
        return scales

    from safetensors.torch import load_file

    wanted = load_file(quantized.path(quantized.weights))["hidden.scales"].numpy()
    assert len(wanted) == hidden
    assert wanted.tobytes() in layout.stored_arrays(root / INT8)

    def change(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            if numpy_helper.to_array(tensor).tobytes() == wanted.tobytes():
                tensor.CopyFrom(numpy_helper.from_array(one_percent(wanted.copy()), tensor.name))

    edited(root / INT8, change)
    assert wanted.tobytes() not in layout.stored_arrays(root / INT8)
    with pytest.raises(StageError, match="does not hold the codes and scales that quantize decided"):
        prove(finished, root, INT8, weights_bit_equal=False)


def test_a_tokenizer_without_lower_casing_fails(finished: Finished, root: Path) -> None:
    settings = json.loads((root / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer = load_tokenizer(finished.value("student").path(finished.value("student").checkpoint))
    tokenizer.backend_tokenizer.normalizer = __import__("tokenizers").normalizers.Lowercase()
    assert settings["normalizer"] is None
    with pytest.raises(StageError, match="reads 'GOOD film' as other ids than the checkpoint's"):
        parity.same_token_ids(tokenizer, loaded(root), ["good film", "GOOD film"])
    settings["normalizer"] = {"type": "Lowercase"}
    (root / "tokenizer.json").write_text(json.dumps(settings), encoding="utf-8")
    assert parity.same_token_ids(tokenizer, loaded(root), ["good film", "GOOD film"]) == 2


def loaded(root: Path, file: str = FLOAT) -> Any:
    from edgedistill.runtimes import onnxruntime

    return onnxruntime.load(root, file, threads=1)


def test_another_maximum_length_fails(finished: Finished, root: Path) -> None:
    settings = json.loads((root / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings["model_max_length"] //= 2
    (root / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(StageError, match="as other ids than the checkpoint's"):
        prove(finished, root, FLOAT)


@pytest.mark.parametrize("fixed", [("batch",), ("tokens",)])
def test_a_baked_size_does_not_pass(finished: Finished, root: Path, fixed: tuple[str, ...]) -> None:
    def bake(model: onnx.ModelProto) -> None:
        for value in model.graph.input:
            for dimension in value.type.tensor_type.shape.dim:
                if dimension.dim_param in fixed:
                    dimension.dim_value = 2

    edited(root / FLOAT, bake)
    with pytest.raises(Exception, match="Got invalid dimensions"):  # the stage makes a refusal of it
        prove(finished, root, FLOAT)


class Fixed:
    """Answers with the same logits whatever is asked."""

    labels, several = ("a", "b"), False

    def __init__(self, *logits: float) -> None:
        self.logits = np.array(logits, dtype=np.float32)

    def encode(self, texts: list[str]) -> dict[str, np.ndarray]:
        return dict.fromkeys(("input_ids", "attention_mask"), np.ones((len(texts), 3), dtype=np.int64))

    def run(self, encoded: dict[str, np.ndarray]) -> np.ndarray:
        return np.tile(self.logits, (len(encoded["input_ids"]), 1))

    def __call__(self, ids: torch.Tensor, _mask: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.logits).repeat(len(ids), 1)


@pytest.mark.parametrize(
    ("checkpoint_logits", "file_logits"),
    [
        ((0.0, 1.0), (np.nan, 1.0)),
        ((np.nan, 1.0), (0.0, 1.0)),
        ((np.nan, np.nan), (np.nan, np.nan)),
        ((np.inf, 1.0), (np.inf, 1.0)),
    ],
)
def test_what_is_not_finite_on_either_side_is_an_endless_difference(
    checkpoint_logits: tuple[float, float], file_logits: tuple[float, float]
) -> None:
    check = parity.compare(Fixed(*checkpoint_logits), Fixed(*file_logits), ["a", "b"], 0.1)
    assert check.max_abs_diff == np.inf
    assert not check.max_abs_diff <= (check.tolerance or 0)


def test_the_difference_is_told_as_it_is() -> None:
    check = parity.compare(Fixed(4.0, -5.0), Fixed(4.25, -5.0), ["first", *"bcdefghij"], 0.1)
    assert check.max_abs_diff == 0.25
    assert check.tolerance == pytest.approx(0.5), "a share of the largest logit"
    assert check.worst == "a batch of 1 that starts with 'first'"
    assert (check.inputs, check.top1_agreement) == (20, 1.0)
    flipped = parity.compare(Fixed(0.1, 0.0), Fixed(0.0, 0.1), ["a"], 0.1)
    assert flipped.top1_agreement == 0.0
    assert flipped.tolerance == pytest.approx(0.1), "small logits are held against 1"


def test_odd_texts_are_odd() -> None:
    lengths = [len(text) for text in parity.ODD_TEXTS]
    assert "" in parity.ODD_TEXTS
    assert max(lengths) > 2000
    scripts = ("Cyrillic", "а"), ("Han", "你"), ("Arabic", "م"), ("emoji", "😀"), ("Devanagari", "न")
    everything = "".join(parity.ODD_TEXTS)
    assert not [name for name, letter in scripts if letter not in everything]
    assert len(set(parity.ODD_TEXTS)) == len(parity.ODD_TEXTS)


def test_both_sessions_are_asked(finished: Finished, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgedistill.runtimes import onnxruntime

    asked: list[bool] = []
    real = onnxruntime.load

    def load(*given: Any, exact: bool = False, **settings: Any) -> Any:
        asked.append(exact)
        model = real(*given, exact=exact, **settings)
        if exact:
            return model
        return SimpleNamespace(  # a kernel that saturates: only the deployed session runs it
            encode=model.encode, labels=model.labels, several=False, run=lambda encoded: model.run(encoded) * 2.0
        )

    monkeypatch.setattr(onnxruntime, "load", load)
    with pytest.raises(ParityError, match=r"\(deployed check\)"):
        prove(finished, root, INT8)
    assert sorted(asked) == [False, True]
