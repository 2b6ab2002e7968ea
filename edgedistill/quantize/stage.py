"""Quantize: decide every stored number of the student, and measure what that cost before anything is exported."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgedistill import registry
from edgedistill.errors import QuantizationError
from edgedistill.files import sha256_of
from edgedistill.models.load import load_model
from edgedistill.models.quantized import batch_matters, save_quantized
from edgedistill.progress import bar
from edgedistill.quantize.decisions import Decision
from edgedistill.quantize.exchange import exchange
from edgedistill.quantize.judge import MOST_ROWS, Judge
from edgedistill.quantize.ladder import climb
from edgedistill.quantize.sensitivity import at_every_width
from edgedistill.quantize.trial import METHODS, Trial, code_limit
from edgedistill.section import LayerOptions
from edgedistill.student_values import Tokens
from edgedistill.training.evaluate import evaluate
from edgedistill.training.predict import BATCH_SIZE, outputs_of
from edgedistill.training.signals import SplitSignals, rows_of
from edgedistill.values import Corpus, Evaluation, QuantizedModel, QuantizedTensor, Signals, Student


def quantize(
    options: LayerOptions, *, student: Student, corpus: Corpus, signals: Signals, tokens: Tokens, folder: Path
) -> QuantizedModel:
    """Return the student in the method's scheme; its numbers lie in `folder`/weights.safetensors.

    Where a method says itself how its options are settled (`settle`), it does; the others climb the ladder.

    Raises:
        QuantizationError: a weight cannot be stored so, nothing is to be quantized, or the quality that was asked for
            is out of reach.
    """
    model = load_model(student.path(student.checkpoint)).eval()
    floats = {name: tensor for name, tensor in model.state_dict().items()}
    held_out = SplitSignals(signals, "validation", tokens)
    gold = held_out.labels if corpus.labels else np.full(len(held_out.rows), -1)  # of fewer rows, others are near
    judge = Judge(model, held_out.rows, gold, signals.task).fewer(MOST_ROWS)
    trial = Trial(model, rows_of(tokens, "calibration"), judge)
    settled = getattr(registry.load(METHODS, options.method), "settle", climb)(options, trial)
    if not settled.decided:
        raise QuantizationError(f"{options.method} found no linear layer or table in a {student.kind} student")
    table = at_every_width(trial, code_limit(options), settled.decided) if options.sensitivity else settled.sensitivity
    exchange(model, settled.decided)
    weights = folder / "weights.safetensors"
    save_quantized(model, weights)
    method: Any = registry.load(METHODS, settled.options.method)
    reduced, reason = method.decide_range(settled.options)
    return QuantizedModel(
        method=options.method,
        scheme=settled.options.SCHEME,
        tensors=tuple(_described(settled.decided, floats, model.state_dict())),
        weights="weights.safetensors",
        weights_bytes=weights.stat().st_size,
        weights_sha256=sha256_of(weights),
        reduced_range=reduced,
        reduced_range_reason=reason,
        evaluation=_simulated(model, options.method, corpus, signals, tokens, folder),
        sensitivity=table,
        rungs=settled.rungs,
        repaired=settled.repaired,
    )


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


def _simulated(model: Any, method: str, corpus: Corpus, signals: Signals, tokens: Tokens, folder: Path) -> Evaluation:
    """Measure the quantized model in PyTorch as the artifact will be: text by text where a batch shares a range."""
    alone = batch_matters(model)
    rows = sum(signals.splits[name].rows for name in corpus.evaluation_splits)
    with bar(f"simulating {method}", rows) as advance:

        def answer(name: str) -> np.ndarray:
            split = rows_of(tokens, name)
            outputs = outputs_of(model, split, batch_size=1 if alone else BATCH_SIZE)
            advance(len(split))
            return outputs

        return evaluate(answer, signals, corpus.evaluation_splits, folder)
