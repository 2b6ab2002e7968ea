"""What is kept of a layer's inputs: extremes, counts or sums, never the values, so that any number of rows fits."""

import numpy as np

BINS = 8192
SMALLEST_EXPONENT = -100  # what is below 2^-100 lies in the two bins beside 0


class Channels:
    """The smallest and the largest input of each channel, both widened to hold 0, and the mean of their squares."""

    def __init__(self, columns: int) -> None:
        self.low = np.zeros(columns, dtype=np.float32)
        self.high = np.zeros(columns, dtype=np.float32)
        self.squares = np.zeros(columns)  # float64, summed
        self.count = 0

    def see(self, values: np.ndarray) -> None:
        """Take note of inputs, (count, columns) float32."""
        np.minimum(self.low, values.min(axis=0), out=self.low)
        np.maximum(self.high, values.max(axis=0), out=self.high)
        self.squares += np.einsum("ij,ij->j", values, values)
        self.count += len(values)

    @property
    def magnitudes(self) -> np.ndarray:
        """The largest magnitude of each channel, (columns,)."""
        largest: np.ndarray = np.maximum(-self.low, self.high)
        return largest

    @property
    def mean_squares(self) -> np.ndarray:
        """The mean of each channel's squares, (columns,)."""
        means: np.ndarray = self.squares / max(1, self.count)
        return means


class Histogram:
    """How many inputs lie in each of BINS bins of equal width around 0, and the extremes, which hold 0.

    A bin's width is a power of two. Where an input lies outside, neighbours become one bin; so the counts are the same
    in whatever order and in whatever batches the inputs come. (onnxruntime's collector takes the width from its first
    batch, and adds bins for each outlier.)
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, dtype=np.int64)
        self.exponent = SMALLEST_EXPONENT  # bins reach from -2^exponent to 2^exponent
        self.low, self.high = np.float32(0), np.float32(0)

    def see(self, values: np.ndarray) -> None:
        """Take note of inputs of any shape, float32."""
        self.low, self.high = min(self.low, values.min()), max(self.high, values.max())
        largest = max(-self.low, self.high)
        if largest > 0:
            self._widen(int(np.frexp(largest)[1]))
        bins = np.floor(values.ravel() * np.float32(1 / self.width)).astype(np.int64) + BINS // 2
        self.counts += np.bincount(bins, minlength=BINS)

    @property
    def width(self) -> float:
        """Width of a bin."""
        return 2.0 ** (self.exponent + 1) / BINS

    @property
    def edges(self) -> np.ndarray:
        """Where the bins begin and end, (BINS + 1,) float64."""
        edges: np.ndarray = (np.arange(BINS + 1) - BINS // 2) * self.width
        return edges

    def _widen(self, exponent: int) -> None:
        """Merge pairs of bins until they reach to 2^exponent; a pair never lies on both sides of 0."""
        while self.exponent < exponent:
            self.counts = np.pad(self.counts.reshape(-1, 2).sum(axis=1), BINS // 4)
            self.exponent += 1


class Hessian:
    """The sum of x x^T over the inputs x: how strongly an error in one column is felt with an error in another."""

    def __init__(self, columns: int) -> None:
        self.sums = np.zeros((columns, columns))  # float64

    def see(self, values: np.ndarray) -> None:
        """Take note of inputs, (count, columns) float32."""
        self.sums += values.T @ values
