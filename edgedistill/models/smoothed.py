"""A layer whose input is divided channel by channel first; its weight was multiplied to make up for it."""

from typing import Any, ClassVar

from torch import Tensor, nn


class Smoothed(nn.Module):
    """Moves the outliers of an activation into the weight that reads it.

    Source: Xiao et al. 2022, "SmoothQuant", arXiv:2211.10438, section 4: X W = (X / s) (s W). The division stays in
    the graph: in a BERT the same normalised states also run past the layer, so it cannot be folded into what made them.
    """

    KIND: ClassVar[str] = "smoothed"
    factors: Tensor

    def __init__(self, factors: Tensor, layer: Any = None) -> None:
        super().__init__()
        self.register_buffer("factors", factors)  # (columns,) float32; 1 / s
        self.layer = layer

    def forward(self, values: Tensor) -> Tensor:
        """Return what the layer makes of `values` times the factors."""
        result: Tensor = self.layer(values * self.factors)
        return result
