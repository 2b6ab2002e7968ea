"""Quantize a decoder: decide every stored number, and measure what that cost before any export."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from edgedistill import registry
from edgedistill.decoder_values import DecoderSignals, DecoderStudent, HeldByGate, MeasuredImportance, QuantizedDecoder
from edgedistill.files import sha256_of
from edgedistill.models.config_json import read_config
from edgedistill.models.decoder import load_decoder
from edgedistill.quantize.decoder_gate import held, said_by_floats
from edgedistill.quantize.decoder_ladder import Try, settle
from edgedistill.quantize.importance import load_importance
from edgedistill.quantize.rounded import put
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
        QuantizationError: a weight cannot be stored so, an extra is not installed, or no try passes the gate.
    """
    checkpoint, device = student.path(student.checkpoint), Accelerator().device
    rounded = load_decoder(checkpoint).to(device)
    method: Any = registry.load(METHODS, options.method)
    hold = None
    if options.gate is not None:
        floats = said_by_floats(rounded, device, signals, folder)
        hold = partial(held, options.gate, rounded, device, floats, signals)
    settled = settle(options, _attempting(method, checkpoint, importance, rounded, hold))
    tensors, facts, used = settled.used.decided
    method.save(tensors, folder / WEIGHTS)
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
        gate=settled.used.held,
        rungs=settled.rungs,
        repaired=settled.repaired,
        evaluation=evaluation,
    )


def _attempting(
    method: Any, checkpoint: Path, importance: MeasuredImportance | None, rounded: Any,
    hold: Callable[[], HeldByGate] | None,
) -> Callable[[Any], Try]:  # fmt: skip
    """Return what decides every number under some options, and leaves them in `rounded`, which the last try decides."""
    model, config = load_decoder(checkpoint), read_config(checkpoint)
    measured = None if importance is None else load_importance(importance.path(importance.file))

    def attempt(options: Any) -> Try:
        decided = method.decide(options, model, config, measured)
        put(decided[0], rounded)
        return Try(options, decided, None if hold is None else hold())

    return attempt
