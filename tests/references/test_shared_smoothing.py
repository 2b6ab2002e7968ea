"""Query, key and value share one smoothing: onnxruntime multiplies and rounds what they read once."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from tiny_models import config_of, model_of

from edgedistill import registry
from edgedistill.export.formats import onnx as layout
from edgedistill.models.classifier import TransformerClassifier
from edgedistill.quantize import smoothing
from edgedistill.quantize.decisions import Decision
from edgedistill.quantize.exchange import exchange
from edgedistill.training.rows import TokenRows

ROWS = TokenRows(np.random.default_rng(0).integers(4, 50, 200).astype(np.int32), np.arange(0, 201, 10), 0)
READERS, SHARED = 7, 5  # linear layers of one BERT layer and its pooler; different tensors that they read


def decisions(model: TransformerClassifier, alpha: float | None) -> dict[str, Decision]:
    """Return what static int8 decides about the large layers; they read 32 or 48 columns."""
    module = registry.load("edgedistill.quantize.methods", "static_int8")
    options = module.Options(method="static_int8", smoothing=alpha, min_weights=1000, reduced_range="never")
    return dict(module.quantize(model, options, ROWS))


def tiny() -> TransformerClassifier:
    torch.manual_seed(0)
    return TransformerClassifier(model_of(config_of("bert", layers=1))).eval()


def optimized(file: Path, decided: dict[str, Decision], exporter: str) -> Counter[str]:
    """Return how many operators of each kind onnxruntime runs; what it answers is what was simulated."""
    model = tiny()
    exchange(model, decided)
    layout.write(model.eval(), file, exporter, layout.Options(format="onnx"), {})
    settings = ort.SessionOptions()
    settings.optimized_model_filepath = str(file.with_suffix(".optimized.onnx"))
    settings.log_severity_level = 3
    session = ort.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
    ids, mask = ROWS.padded(range(4))
    with torch.no_grad():
        expected = model(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
    given = session.run(["logits"], {"input_ids": ids, "attention_mask": mask})[0]
    assert np.abs(given - expected).max() < 0.02 * np.abs(expected).max()
    return Counter(node.op_type for node in onnx.load(settings.optimized_model_filepath).graph.node)


@pytest.mark.parametrize("exporter", layout.EXPORTERS)
def test_what_is_read_together_is_smoothed_and_rounded_once(
    exporter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = optimized(tmp_path / "plain.onnx", decisions(tiny(), None), exporter)
    monkeypatch.setattr(smoothing, "LEAST_GAIN", -np.inf)  # every layer is smoothed
    decided = decisions(tiny(), 0.5)
    factors = [each.smoothing for name, each in decided.items() if "embeddings" not in name]
    assert len(factors) == READERS
    assert all(each is not None for each in factors)
    smoothed = optimized(tmp_path / "smoothed.onnx", decided, exporter)
    assert smoothed["Mul"] - plain["Mul"] == SHARED
    assert smoothed["QuantizeLinear"] == SHARED


def test_factors_of_their_own_would_be_multiplied_three_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgedistill.quantize.inputs.first_readers", lambda _model: {})
    monkeypatch.setattr(smoothing, "LEAST_GAIN", -np.inf)
    apart = optimized(tmp_path / "apart.onnx", decisions(tiny(), 0.5), "torchscript")
    assert apart["QuantizeLinear"] == READERS
