"""Quantize a decoder: decide every stored number, and measure what that cost before any export."""

from pathlib import Path
from typing import Any

from accelerate import Accelerator

from edgedistill import registry
from edgedistill.decoder_values import DecoderSignals, DecoderStudent, MeasuredImportance, QuantizedDecoder
from edgedistill.files import sha256_of
from edgedistill.models.config_json import read_config
from edgedistill.models.decoder import load_decoder
from edgedistill.quantize.decoder_gate import check, held, said_by_floats
from edgedistill.quantize.importance import load_importance
from edgedistill.quantize.rounded import simulated
from edgedistill.training.language import before, evaluated, logits_of_row, rows_of
from edgedistill.values import Corpus

METHODS = "edgedistill.quantize.methods"
WEIGHTS = "weights.safetensors"


def quantize(
    options: Any, *, student: DecoderStudent, corpus: Corpus, signals: DecoderSignals,
    importance: MeasuredImportance | None, folder: Path,
) -> QuantizedDecoder:  # fmt: skip
    """Return the student in the method's types; its numbers lie in `folder`/weights.safetensors.

    What is measured are the rounded weights. Runtimes round activations, too, while they multiply: what that adds is in
    the numbers of the benchmark, which runs the file.

    Raises:
        QuantizationError: a weight cannot be stored so, an extra is not installed, or the gate is missed.
    """
    checkpoint, device = student.path(student.checkpoint), Accelerator().device
    model = load_decoder(checkpoint)
    floats = None if options.gate is None else said_by_floats(model.to(device), device, signals, folder)
    model.cpu()
    method: Any = registry.load(METHODS, options.method)
    measured = None if importance is None else load_importance(importance.path(importance.file))
    tensors, facts, used = method.decide(options, model, read_config(checkpoint), measured)
    method.save(tensors, folder / WEIGHTS)
    rounded = simulated(model, tensors).to(device)
    del model
    gate = None if floats is None else held(options.gate, rounded, device, floats, signals)
    if gate is not None:
        check(options.method, gate, facts)
    held_out = {split: rows_of(signals, split) for split in corpus.evaluation_splits}
    evaluation = evaluated(
        logits_of_row(rounded, device), held_out, folder, "evaluation", signals.vocabulary,
        teacher=before(signals), student=before(student),
    )  # fmt: skip
    stored = sum(one.stored_bytes for one in facts)
    return QuantizedDecoder(
        method=options.method,
        tensors=facts,
        weights=WEIGHTS,
        weights_bytes=(folder / WEIGHTS).stat().st_size,
        weights_sha256=sha256_of(folder / WEIGHTS),
        bits_per_weight=8 * stored / student.parameters,
        importance_positions=0 if used is None or importance is None else importance.positions,
        gate=gate,
        evaluation=evaluation,
    )
