"""Factors that move the outliers of a layer's inputs into the weights that read them.

A layer is smoothed where its outputs become closer to the float ones by that, and stays as it is elsewhere: a
multiplication at run time has to be worth it, and where large inputs meet large weights smoothing does harm. How far
outputs will be is foretold from what is known of each channel: every rounding is taken for noise of its own, uniform
within a step.

Source: Xiao et al. 2022, "SmoothQuant", arXiv:2211.10438, equation 4, for the factors.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgedistill.quantize.affine import RowQuantized
from edgedistill.quantize.decisions import InputRange
from edgedistill.quantize.observers import Channels

LEAST_GAIN = 0.1  # of the foretold error


@dataclass(frozen=True)
class Smoothing:
    """How factors are found."""

    alpha: float  # 0..1; how much of the difficulty moves from the inputs to the weights
    nearest: Callable[[np.ndarray], RowQuantized]  # how weights will be rounded

    def factors(self, inputs: Channels, weights: Sequence[np.ndarray]) -> np.ndarray | None:
        """Return what each input channel is divided by, (columns,) float32 > 0; None where that gains too little.

        Args:
            inputs: what was seen of them.
            weights: (rows, columns) each, of all layers that read the same input; they share the factors, so that the
                input is multiplied once.
        """
        factors = self.proposed(inputs.magnitudes, weights)
        before = self.output_error(inputs, weights, np.ones_like(factors))
        return factors if self.output_error(inputs, weights, factors) <= (1 - LEAST_GAIN) * before else None

    def proposed(self, magnitudes: np.ndarray, weights: Sequence[np.ndarray]) -> np.ndarray:
        """Return max|X_j|^alpha / max|W_j|^(1 - alpha), over the geometric mean of all: a common factor does nothing.

        A channel whose inputs or weights are all 0 has factor 1.

        Args:
            magnitudes: (columns,); the largest input of each channel.
            weights: as in `factors`.
        """
        weighed = np.max([np.abs(weight).max(axis=0) for weight in weights], axis=0)
        alive = (magnitudes > 0) & (weighed > 0)
        logarithms = np.zeros(len(magnitudes))
        logarithms[alive] = self.alpha * np.log(magnitudes[alive]) - (1 - self.alpha) * np.log(weighed[alive])
        if alive.any():
            logarithms[alive] -= logarithms[alive].mean()
        factors: np.ndarray = np.exp(logarithms).astype(np.float32)
        return factors

    def output_error(self, inputs: Channels, weights: Sequence[np.ndarray], factors: np.ndarray) -> float:
        """Return the foretold error of one input's outputs, all rows and layers together: a Euclidean length.

        Args:
            inputs: before they are divided by the factors, over whose whole range they will be rounded.
            weights: before they are multiplied by the factors.
        """
        input_step = InputRange.of(float((inputs.low / factors).min()), float((inputs.high / factors).max())).scale
        energy = float((inputs.mean_squares / factors.astype(np.float64) ** 2).sum())
        variance = 0.0
        for weight in weights:
            smoothed = weight * factors
            weight_steps = np.broadcast_to(self.nearest(smoothed).scales, len(weight)).astype(np.float64)
            variance += (
                float((smoothed.astype(np.float64) ** 2).sum()) * input_step**2 + energy * (weight_steps**2).sum()
            )
        return float(np.sqrt(variance / 12))
