"""Quantize: decide every stored number of the student, and measure what that cost before anything is exported."""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file

from edgedistill import registry
from edgedistill.errors import QuantizationError
from edgedistill.files import sha256_of
from edgedistill.models.int8_layers import DynamicInt8Linear
from edgedistill.models.load import load_classifier
from edgedistill.progress import bar
from edgedistill.quantize.exchange import exchange
from edgedistill.section import MethodOptions
from edgedistill.training.evaluate import evaluate
from edgedistill.training.predict import BATCH_SIZE, logits_of
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
    quantized = dict(method.quantize(model, options))
    if not quantized:
        raise QuantizationError(f"{options.method} found no linear layer or table in a {student.kind} student")
    tensors = [
        QuantizedTensor(
            name=f"{name}.weight",
            shape=rows.codes.shape,
            scheme="int8 per_channel symmetric",
            bits=8 if rows.limit > 63 else 7,
            code_limit=rows.limit,
            stored_bytes=rows.codes.nbytes + rows.scales.nbytes,
            max_error_in_steps=rows.max_error_in_steps(floats[f"{name}.weight"].numpy()),
        )
        for name, rows in quantized.items()
    ]
    tensors += [
        QuantizedTensor(
            name=name, shape=tuple(tensor.shape), scheme=str(tensor.dtype).removeprefix("torch."), bits=32,
            code_limit=None, stored_bytes=tensor.nbytes, max_error_in_steps=0.0,
        )
        for name, tensor in floats.items()
        if name.removesuffix(".weight") not in quantized
    ]  # fmt: skip
    exchange(model, quantized)
    weights = folder / "weights.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, weights)
    reduced, reason = method.decide_range(options)
    return QuantizedModel(
        method=options.method,
        scheme=options.SCHEME,
        tensors=tuple(tensors),
        weights="weights.safetensors",
        weights_bytes=weights.stat().st_size,
        weights_sha256=sha256_of(weights),
        reduced_range=reduced,
        reduced_range_reason=reason,
        evaluation=_simulated(model, options.method, corpus, signals, folder),
    )


def _simulated(model: Any, method: str, corpus: Corpus, signals: Signals, folder: Path) -> Evaluation:
    """Measure the quantized model in PyTorch as the artifact will be: text by text where activations are rounded."""
    rounds = any(isinstance(part, DynamicInt8Linear) for part in model.modules())
    rows = sum(signals.splits[name].rows for name in corpus.evaluation_splits)
    with bar(f"simulating {method}", rows) as advance:

        def answer(name: str) -> np.ndarray:
            split = SplitSignals(signals, name).rows
            logits = logits_of(model, split, len(corpus.labels), batch_size=1 if rounds else BATCH_SIZE)
            advance(len(split))
            return logits

        return evaluate(answer, signals, corpus.evaluation_splits, folder)
