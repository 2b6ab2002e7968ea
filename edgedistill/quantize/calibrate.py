"""What flows into each layer: the float model reads the calibration split, and observers see the layers' inputs.

Rows are read in batches, and an observer keeps no values, so memory is the same for ten rows and for a million. What
stands at a padding position counts for nothing.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from edgedistill.errors import QuantizationError
from edgedistill.progress import bar
from edgedistill.training.predict import BATCH_SIZE
from edgedistill.training.rows import TokenRows, ordered_batches

BATCHES_AT_ONCE = 50  # rows of so many batches are sorted by length together


class Observer(Protocol):
    """Keeps what it needs to know of a layer's inputs."""

    def see(self, values: np.ndarray) -> None:
        """Take note of inputs, (count, columns) float32."""


@torch.no_grad()
def observe(model: Any, rows: TokenRows, observers: Mapping[str, Observer], batch_size: int = BATCH_SIZE) -> None:
    """Run the model once over all rows, and show each named layer's inputs to its observer.

    Args:
        model: float, in evaluation mode; left as it is.
        observers: by the layer's name.

    Raises:
        QuantizationError: there are no rows, or an input is not finite.
    """
    if not len(rows):
        raise QuantizationError(
            "the calibration split has no rows, and nothing is known of the layers' inputs without; name a file as "
            "data.calibration, or give data.split.calibration a larger share"
        )
    with bar("calibrating", len(rows)) as advance:
        for start in range(0, len(rows), batch_size * BATCHES_AT_ONCE):
            part = rows.take(np.arange(start, min(start + batch_size * BATCHES_AT_ONCE, len(rows))))
            for batch in ordered_batches(part.lengths, batch_size):
                ids, mask = (torch.from_numpy(array) for array in part.padded(batch))
                with _watched(model, observers, mask):
                    model(ids, mask)
                advance(len(batch))


def inputs_of_tokens(values: Tensor, mask: Tensor) -> Tensor:
    """Return the inputs that belong to a token and not to padding, (count, columns).

    Args:
        values: (batch, tokens, ..., columns), or with batch and tokens as one axis. Of any other shape, such as the
            (batch, columns) of a head, all count.
        mask: (batch, tokens), 1 where there is a token.
    """
    if values.dim() > 2 and values.shape[:2] == mask.shape:
        values = values[mask.bool()]
    elif values.dim() == 2 and len(values) == mask.numel():
        values = values[mask.bool().flatten()]
    return values.reshape(-1, values.shape[-1])


@contextmanager
def _watched(model: Any, observers: Mapping[str, Observer], mask: Tensor) -> Iterator[None]:
    """Show what the layers read while this lasts."""

    def watch(name: str) -> Any:
        def see(_layer: Any, given: tuple[Tensor, ...]) -> None:
            values = inputs_of_tokens(given[0], mask).numpy()
            if not np.isfinite(values).all():
                raise QuantizationError(f"{name} reads a NaN or an infinity; did distillation diverge?")
            observers[name].see(values)

        return see

    hooks = [model.get_submodule(name).register_forward_pre_hook(watch(name)) for name in observers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
