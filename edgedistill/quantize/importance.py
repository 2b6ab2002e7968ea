"""The importance matrix: how strongly each column of a weight is felt, from what flows into it over calibration text.

A column that reads large inputs turns a small error into a large one. ggml's encoder chooses scales and codes so that
the squared error, weighted by the mean square of each column's inputs, is small: what llama.cpp calls imatrix.

Each linear layer that the model calls is listened to, the output head with it: its inputs are the last hidden states. A
token table is looked up, all of its columns alike, so it has none, not even where it is the head too.

Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/imatrix/imatrix.cpp, collect_imatrix.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.decoder_values import DecoderSignals, DecoderStudent, MeasuredImportance
from edgedistill.errors import QuantizationError
from edgedistill.files import sha256_of
from edgedistill.models.checkpoint_names import wrapped
from edgedistill.models.decoder import load_decoder
from edgedistill.quantize.calibrate import observe
from edgedistill.quantize.called import first_readers
from edgedistill.quantize.observers import Channels
from edgedistill.training.language import rows_of
from edgedistill.training.rows import TokenRows

FILE = "importance.safetensors"

Importance = Mapping[str, np.ndarray]
"""Weight name in the checkpoint -> (columns,) float32 above 0."""
TOKENS_AT_ONCE = 1024  # a decoder says a logit for each token of its vocabulary at each of them
LEAST = 1e-6  # of the mean; where a whole block weighs nothing, the encoder stores zeros


def importance_of(model: Any, rows: TokenRows) -> dict[str, np.ndarray]:
    """Return the mean square of each column's inputs, (columns,) float32 above 0, by the weight's checkpoint name.

    Sums alone are kept, so memory does not grow with the rows; layers that read one tensor share what is found.

    Args:
        model: float, called with ids and mask, in evaluation mode; left as it is.
        rows: the calibration split.

    Raises:
        QuantizationError: there are no rows, or an input is not finite.
    """
    before, first = wrapped(model), first_readers(model)
    seen = {name: Channels(model.get_submodule(name).in_features) for name in dict.fromkeys(first.values())}
    observe(model, rows, seen, batch_size=max(1, TOKENS_AT_ONCE // int(rows.lengths.max(initial=1))))
    found = {name: _above_zero(channels.mean_squares) for name, channels in seen.items()}
    return {f"{name.removeprefix(before)}.weight": found[reader] for name, reader in first.items()}


def _above_zero(squares: np.ndarray) -> np.ndarray:
    """Return importance that is LEAST of the mean or more: what calibration never saw may come all the same."""
    floor = LEAST * float(squares.mean())
    lifted: np.ndarray = np.maximum(squares, floor if floor > 0 else 1.0).astype(np.float32)
    return lifted


def where_asked(importance: Importance | None, asked: bool) -> Importance | None:
    """Return the importance where it is asked for, else None.

    Raises:
        QuantizationError: it is asked for, and was not measured.
    """
    if asked and importance is None:
        raise QuantizationError("importance is asked for and was not measured; write importance: false")
    return importance if asked else None


def measure(student: DecoderStudent, signals: DecoderSignals, folder: Path) -> MeasuredImportance:
    """Return how strongly each column of a student's weights is felt; every method that asks for it reads the same.

    Raises:
        QuantizationError: there are no calibration rows, or an input is not finite.
    """
    rows = rows_of(signals, "calibration").tokens
    started = time.monotonic()
    save_importance(importance_of(load_decoder(student.path(student.checkpoint)), rows), folder / FILE)
    return MeasuredImportance(
        file=FILE, sha256=sha256_of(folder / FILE), positions=len(rows.ids), seconds=time.monotonic() - started
    )


def save_importance(importance: Mapping[str, np.ndarray], file: Path) -> None:
    """Write an importance matrix as safetensors: weight name -> (columns,) float32."""
    from safetensors.numpy import save_file

    save_file(dict(importance), file)


def load_importance(file: Path) -> dict[str, np.ndarray]:
    """Return the importance matrix that `save_importance` wrote."""
    from safetensors.numpy import load_file

    found: dict[str, np.ndarray] = load_file(file)
    return found
