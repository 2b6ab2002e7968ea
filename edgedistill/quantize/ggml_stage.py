"""A decoder in ggml's types: every stored number decided."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgedistill.decoder_values import TensorFacts
from edgedistill.models.checkpoint_names import checkpoint_tensors
from edgedistill.models.ggml_tensors import GgmlTensor
from edgedistill.progress import bar
from edgedistill.quantize.ggml_encoder import UNWEIGHTED, encode, ggml
from edgedistill.quantize.ggml_mixtures import Choice, decide
from edgedistill.quantize.importance import Importance, where_asked
from edgedistill.quantize.methods._ggml import GgmlOptions
from edgedistill.quantize.widths import naming


def ggml_weights(
    options: GgmlOptions, model: Any, checkpoint_config: Mapping[str, Any], importance: Importance | None
) -> tuple[dict[str, GgmlTensor], tuple[TensorFacts, ...], Importance | None]:
    """Return every tensor as it is stored, what is to be said of each, and the importance matrix that was used.

    Args:
        options: of a method of decoders.
        model: float, called with ids and mask, in evaluation mode; left as it is.
        checkpoint_config: its config.json.
        importance: of its weights, see `importance_of`; None is returned where no chosen type's encoder reads it.

    Raises:
        QuantizationError: a tensor cannot be stored so, or an extra is not installed.
    """
    ggml()  # what is not installed is told before the work
    tensors = checkpoint_tensors(model)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    choices = decide(checkpoint_config, shapes, options.SCHEME, options.overrides, has_importance=options.importance)
    reads = any(choice.type not in UNWEIGHTED for choice in choices.values())
    importance = where_asked(importance, options.importance and reads)
    stored, facts = {}, []
    with bar(f"encoding {options.method}", len(tensors), "tensors") as advance:
        for name, tensor in tensors.items():
            weight = tensor.detach().numpy()
            with naming(name):
                stored[name] = encode(weight, choices[name].type, (importance or {}).get(name))
            facts.append(_facts(name, weight, choices[name], stored[name]))
            advance(1)
    return stored, tuple(facts), importance


def _facts(name: str, weight: np.ndarray, choice: Choice, stored: GgmlTensor) -> TensorFacts:
    lost, size = _norm(stored.floats() - weight), _norm(weight)
    return TensorFacts(
        name=name,
        shape=stored.shape,
        type=choice.type,
        wanted=choice.wanted,
        reason=choice.reason,
        stored_bytes=stored.data.nbytes,
        relative_error=lost / size if size else 0.0,
    )


def _norm(values: np.ndarray) -> float:
    """Return the root of the sum of squares, added up as float64."""
    return float(np.sqrt(np.sum(np.square(values), dtype=np.float64)))
