"""The proof that export changed no number: same inputs, same token ids, same logits or vectors.

Two checks of each file. *Exact*: the graph as written, optimizations off; it must agree to float rounding, and where
activations are rounded on the fly, to what one rounding the other way can do. *Deployed*: the runtime's default
session, whose fused kernels may order sums otherwise; a wider tolerance, so that a kernel that saturates is caught.
Where a runtime computes some function by an approximation of its own, both have a tolerance for that.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgedistill import registry
from edgedistill.errors import ParityError, StageError
from edgedistill.models.quantized import rounds_activations
from edgedistill.runtimes._model import LoadedModel
from edgedistill.runtimes._odd_texts import ODD_TEXTS
from edgedistill.tasks.sentence_embedding import unit
from edgedistill.values import Parity, ParityCheck

BATCH_SIZES = (1, 8)
SHOWN = 60  # characters of a text in a message
SAME_DIRECTION = 0.99  # least cosine of two vectors that count as the same answer


@dataclass(frozen=True)
class Tolerance:
    """Largest difference that passes, as a share of the largest number: of logits, at least of 1."""

    exact: float
    deployed: float


FLOAT = Tolerance(exact=1e-4, deployed=1e-3)
ROUNDED_ACTIVATIONS = Tolerance(exact=0.02, deployed=0.1)
APPROXIMATED = Tolerance(exact=0.02, deployed=0.02)
"""What llama.cpp's GELU may do: 0.002 to 0.01 was seen, and a wrong norm or pooling is above 0.1."""


def tolerance_of(model: Any) -> Tolerance:
    """Return the wider tolerance exactly where the model rounds activations: codes in a table are exact."""
    return ROUNDED_ACTIVATIONS if rounds_activations(model) else FLOAT


def prove(
    model: Any, tokenizer: Any, *, runtime: str, root: Path, file: str, scheme: str, real_texts: Sequence[str],
    weights_bit_equal: bool, reads_alike: Callable[[str], bool] = lambda _text: True, approximates: bool = False,
    threads: int = 1,
) -> Parity:  # fmt: skip
    """Return how closely `file` agrees with `model`, if it does.

    Args:
        model: the checkpoint in PyTorch, float or simulated, in evaluation mode.
        tokenizer: transformers' tokenizer of that checkpoint.
        root: the artifact's folder; `file` is relative to it.
        real_texts: texts of the corpus, beside the odd ones.
        weights_bit_equal: whether every stored code and scale was found in the file.
        reads_alike: whether the runtime reads a text as the tokenizer does, for sure; of others the ids may differ.
        approximates: whether the runtime computes some function otherwise than the checkpoint.

    Raises:
        ParityError: a difference is above its tolerance; the text has the numbers and the input.
        StageError: the runtime's tokenizer gives other ids, or the labels have another order.
    """
    program: Any = registry.load("edgedistill.runtimes", runtime)
    texts = [*ODD_TEXTS, *real_texts]
    deployed = program.load(root, file, threads=threads)
    if deployed.labels != model.labels:
        raise StageError(f"{file} names its labels {list(deployed.labels)}, and its checkpoint {list(model.labels)}")
    if model.labels and deployed.several != model.several:
        raise StageError(f"{file} and its checkpoint differ in whether several labels may hold (config.json)")
    same_token_ids(tokenizer, deployed, [text for text in texts if reads_alike(text)])
    otherwise = read_otherwise(tokenizer, deployed, [text for text in texts if not reads_alike(text)])
    tolerance = APPROXIMATED if approximates else tolerance_of(model)
    exact = program.load(root, file, threads=threads, exact=True)
    parity = Parity(
        exact=compare(model, exact, texts, tolerance.exact),
        deployed=compare(model, deployed, texts, tolerance.deployed),
        weights_bit_equal=weights_bit_equal,
        tokenizer_texts=len(texts) - len(otherwise),
        read_otherwise=tuple(text[:SHOWN] for text in otherwise),
    )
    for name, check in (("exact", parity.exact), ("deployed", parity.deployed)):
        if check.tolerance is not None and not check.max_abs_diff <= check.tolerance:
            raise ParityError(file, name, check.max_abs_diff, check.tolerance, check.worst)
    if not weights_bit_equal and scheme != "float32":
        raise StageError(f"{file} does not hold the codes and scales that quantize decided; the exporter changed them")
    return parity


def same_token_ids(tokenizer: Any, model: LoadedModel, texts: Sequence[str]) -> int:
    """Return how many texts were compared, all of them with equal ids.

    Raises:
        StageError: one text has other ids; the text is in the message.
    """
    for text in texts:
        expected, given = _ids(tokenizer, model, text)
        if given != expected:
            raise StageError(
                f"the artifact's tokenizer reads {text[:SHOWN]!r} as other ids than the checkpoint's: "
                f"{given[:12]} instead of {expected[:12]}"
            )
    return len(texts)


def read_otherwise(tokenizer: Any, model: LoadedModel, texts: Sequence[str]) -> list[str]:
    """Return the texts that the runtime's tokenizer gives other ids."""
    read = ((text, *_ids(tokenizer, model, text)) for text in texts)
    return [text for text, expected, given in read if given != expected]


def _ids(tokenizer: Any, model: LoadedModel, text: str) -> tuple[list[int], list[int]]:
    """Return a text's ids as the checkpoint's tokenizer gives them, and as the runtime's."""
    return tokenizer(text, truncation=True)["input_ids"], model.encode([text])["input_ids"][0].tolist()


def _same_answer(given: np.ndarray, expected: np.ndarray, model: Any) -> np.ndarray:
    """Return which rows have the same top class, or set of labels, or nearly the same direction, (rows,) bool."""
    same: np.ndarray
    if not model.labels:
        same = (unit(given) * unit(expected)).sum(axis=1) >= SAME_DIRECTION
    elif model.several:
        same = ((given > 0) == (expected > 0)).all(axis=1)
    else:
        same = given.argmax(axis=1) == expected.argmax(axis=1)
    return same


def compare(model: Any, artifact: LoadedModel, texts: Sequence[str], tolerance: float) -> ParityCheck:
    """Measure the largest difference over all texts, alone and in batches of eight.

    What it is a share of: the largest logit, at least 1; of vectors, the largest number in any.
    """
    worst, where, agreed, total, largest = 0.0, "no input", 0, 0, 1.0 if model.labels else 0.0
    for size in BATCH_SIZES:
        for start in range(0, len(texts), size):
            batch = list(texts[start : start + size])
            encoded = artifact.encode(batch)
            given = artifact.run(encoded)
            with torch.no_grad():
                expected = model(*(torch.from_numpy(encoded[name]) for name in ("input_ids", "attention_mask"))).numpy()
            finite = np.isfinite(given).all() and np.isfinite(expected).all()
            difference = float(np.abs(given - expected).max()) if finite else float("inf")
            largest = max(largest, float(np.abs(expected).max()) if finite else 0.0)
            agreed += int(_same_answer(given, expected, model).sum())
            total += len(batch)
            if difference > worst:
                worst, where = difference, f"a batch of {len(batch)} that starts with {batch[0][:40]!r}"
    return ParityCheck(
        max_abs_diff=worst, tolerance=tolerance * largest, top1_agreement=agreed / total, inputs=total, worst=where
    )
