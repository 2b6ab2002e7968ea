"""The float decoder with the rounded weights put back: running it is the simulation."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch

from edgedistill.errors import QuantizationError
from edgedistill.models.checkpoint_names import checkpoint_tensors


class StoredTensor(Protocol):
    """A tensor as a file holds it."""

    def floats(self) -> np.ndarray:
        """Return the numbers that it stands for, float32."""


def put(tensors: Mapping[str, StoredTensor], model: Any) -> None:
    """Give a model what the tensors stand for as its weights.

    Raises:
        QuantizationError: the tensors are not those of this model.
    """
    places = checkpoint_tensors(model)
    if places.keys() != tensors.keys():
        odd = sorted(places.keys() ^ tensors.keys())
        raise QuantizationError(
            f"{', '.join(odd[:3])}: in the model or among the tensors, but not in both; quantize anew"
        )
    with torch.no_grad():
        for name, place in places.items():
            place.copy_(torch.from_numpy(tensors[name].floats()))
