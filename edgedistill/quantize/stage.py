"""Quantize: decide every stored number of the student, and measure what that cost before anything is exported."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgedistill import registry
from edgedistill.errors import QuantizationError
from edgedistill.files import sha256_of
from edgedistill.models.load import load_classifier
from edgedistill.models.quantized import batch_matters, save_quantized
from edgedistill.progress import bar
from edgedistill.quantize.decisions import Decision
from edgedistill.quantize.exchange import exchange
from edgedistill.quantize.widths import FULL_RANGE, REDUCED_RANGE, overridden, quantizable
from edgedistill.section import MethodOptions
from edgedistill.training.evaluate import evaluate
from edgedistill.training.predict import BATCH_SIZE, logits_of
from edgedistill.training.rows import TokenRows
from edgedistill.training.signals import SplitSignals
from edgedistill.values import Corpus, Evaluation, QuantizedModel, QuantizedTensor, Signals, Student

METHODS = "edgedistill.quantize.methods"


def quantize(
    options: MethodOptions, *, student: Student, corpus: Corpus, signals: Signals, folder: Path
) -> QuantizedModel:
    """Return the student in the method's scheme; its numbers lie in `folder`/weights.safetensors.

    Raises:
        QuantizationError: a weight cannot be stored so, or there is nothing to quantize.
    """
    method: Any = registry.load(METHODS, options.method)
    model = load_classifier(student.path(student.checkpoint)).eval()
    floats = {name: tensor for name, tensor in model.state_dict().items()}
    decided = decide(options, model, SplitSignals(signals, "calibration").rows)
    if not decided:
        raise QuantizationError(f"{options.method} found no linear layer or table in a {student.kind} student")
    exchange(model, decided)
    weights = folder / "weights.safetensors"
    save_quantized(model, weights)
    reduced, reason = method.decide_range(options)
    return QuantizedModel(
        method=options.method,
        scheme=options.SCHEME,
        tensors=tuple(_described(decided, floats, model.state_dict())),
        weights="weights.safetensors",
        weights_bytes=weights.stat().st_size,
        weights_sha256=sha256_of(weights),
        reduced_range=reduced,
        reduced_range_reason=reason,
        evaluation=_simulated(model, options.method, corpus, signals, folder),
    )


def decide(options: MethodOptions, model: Any, calibration: TokenRows) -> dict[str, Decision]:
    """Return what the method and the recipe's overrides decide about each layer of the float model."""
    method: Any = registry.load(METHODS, options.method)
    limit = REDUCED_RANGE if method.decide_range(options)[0] else FULL_RANGE
    decided = dict(method.quantize(model, options, calibration))
    return overridden(quantizable(model), decided, options.overrides, limit)


def _described(
    decided: Mapping[str, Decision], floats: Mapping[str, torch.Tensor], stored: Mapping[str, torch.Tensor]
) -> Iterator[QuantizedTensor]:
    """Yield what is stored for each tensor of the float model; a layer's bias is a tensor of its own."""
    for name, decision in decided.items():
        weight = floats[f"{name}.weight"]
        numbers = [tensor for key, tensor in stored.items() if key.startswith(f"{name}.") and not key.endswith(".bias")]
        yield QuantizedTensor(
            name=f"{name}.weight", shape=tuple(weight.shape), scheme=decision.scheme, bits=decision.bits,
            code_limit=decision.code_limit, stored_bytes=sum(tensor.nbytes for tensor in numbers),
            max_error_in_steps=decision.max_error_in_steps(weight.numpy()),
        )  # fmt: skip
    for name, tensor in floats.items():
        if name.removesuffix(".weight") not in decided:
            yield QuantizedTensor(
                name=name, shape=tuple(tensor.shape), scheme=str(tensor.dtype).removeprefix("torch."), bits=32,
                code_limit=None, stored_bytes=tensor.nbytes, max_error_in_steps=0.0,
            )  # fmt: skip


def _simulated(model: Any, method: str, corpus: Corpus, signals: Signals, folder: Path) -> Evaluation:
    """Measure the quantized model in PyTorch as the artifact will be: text by text where a batch shares a range."""
    alone = batch_matters(model)
    rows = sum(signals.splits[name].rows for name in corpus.evaluation_splits)
    with bar(f"simulating {method}", rows) as advance:

        def answer(name: str) -> np.ndarray:
            split = SplitSignals(signals, name).rows
            logits = logits_of(model, split, len(corpus.labels), batch_size=1 if alone else BATCH_SIZE)
            advance(len(split))
            return logits

        return evaluate(answer, signals, corpus.evaluation_splits, folder)
