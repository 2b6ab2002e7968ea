"""Numbers as a person reads them: ms, MB (10^6 bytes), percent, points, times.

Everywhere else in the project numbers are SI. A number is never given more digits than its interval carries.
"""

import math
import re
from dataclasses import dataclass

from edgedistill.results import Ratio
from edgedistill.values import Metric

DASH = "—"
MINUS = "−"


@dataclass(frozen=True)
class Scale:
    """How a difference is said: always in the digits that its interval carries."""

    factor: float
    decimals: int  # more than the same width in percentage points has

    def signed(self, change: Metric) -> str:
        """Return the difference with its sign; a zero has none."""
        text = self._fixed(change.value, change)
        return text if text.startswith(MINUS) or not text.strip("0.") else f"+{text}"

    def magnitude(self, change: Metric) -> str:
        """Return the difference without its sign."""
        return self.signed(change).lstrip(f"+{MINUS}")

    def interval(self, metric: Metric) -> str:
        """Return the 95 % interval in the same digits."""
        return f"{self._fixed(metric.low, metric)} to {self._fixed(metric.high, metric)}"

    def _fixed(self, value: float, metric: Metric) -> str:
        return _fixed(value * self.factor, _decimals(metric) + self.decimals)


POINTS = Scale(100, 0)
"""Percentage points: differences of two proportions."""

NATS = Scale(1, 2)
"""Nats: differences of two mean losses."""


def significant(value: float, digits: int = 3) -> str:
    """Return `value` to this many significant digits, without an exponent, thousands apart."""
    if value == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, places)
    if rounded and math.floor(math.log10(abs(rounded))) > digits - 1 - places:
        places -= 1  # 9.996 became 10.00
    return _signed(f"{rounded:,.{max(places, 0)}f}")


def count(number: int) -> str:
    """Return a whole number, thousands apart."""
    return f"{number:,}"


def rounded_count(number: int) -> str:
    """Return a large whole number in thousands, millions or billions."""
    for unit_value, unit in ((10**9, "billion"), (10**6, "million"), (10**3, "thousand")):
        if number >= 10 * unit_value or number >= unit_value > 10**3:
            return f"{significant(number / unit_value)} {unit}"
    return count(number)


def duration(seconds: float, digits: int = 3) -> str:
    """Return a time: microseconds to seconds for one call, minutes and hours for a stage."""
    for unit_s, unit, least in ((3600, "h", 7200.0), (60, "min", 120.0), (1, "s", 2.0), (1e-3, "ms", 1e-5)):
        if seconds >= least:
            return f"{significant(seconds / unit_s, digits)} {unit}"
    return f"{significant(seconds * 1e6, digits)} µs"


def size(size_bytes: float, digits: int = 3) -> str:
    """Return bytes in kB, MB or GB, powers of ten."""
    for unit_bytes, unit, least in ((1e9, "GB", 1e10), (1e6, "MB", 1e5)):
        if size_bytes >= least:
            return f"{significant(size_bytes / unit_bytes, digits)} {unit}"
    return f"{significant(size_bytes / 1e3, digits)} kB" if size_bytes >= 1e3 else f"{size_bytes:.0f} bytes"


def share(metric: Metric) -> str:
    """Return a proportion in percent, with the digits that its interval carries."""
    return f"{_fixed(metric.value * 100, _decimals(metric))} %"


def percent(proportion: float) -> str:
    """Return a proportion that has no interval in percent, with one decimal."""
    return f"{_fixed(proportion * 100, 1)} %"


def points(metric: Metric) -> str:
    """Return a difference of two proportions in percentage points, always with its sign."""
    return POINTS.signed(metric)


def interval(metric: Metric) -> str:
    """Return the 95 % interval in the digits of `share` and `points`."""
    return POINTS.interval(metric)


def magnitude(metric: Metric) -> str:
    """Return a difference in percentage points without its sign."""
    return POINTS.magnitude(metric)


def lost(change: Metric) -> Metric:
    """Return a fall as the positive number that was lost."""
    return Metric(value=-change.value, low=-change.high, high=-change.low, n=change.n)


def better(difference: Metric) -> bool:
    """Whether the whole interval lies above zero."""
    return difference.low > 0


def worse(difference: Metric) -> bool:
    """Whether the whole interval lies below zero."""
    return difference.high < 0


def tiny(value: float) -> str:
    """Return a number of any magnitude to two digits, such as 2.1e-6: rounding errors, limits."""
    return re.sub(r"e([-+])0", r"e\1", f"{value:.2g}")


def perplexity(metric: Metric) -> str:
    """Return a perplexity with three digits."""
    return significant(metric.value)


def perplexity_interval(metric: Metric) -> str:
    """Return the 95 % interval in the digits of `perplexity`."""
    return f"{significant(metric.low)} to {significant(metric.high)}"


def nats(value: float) -> str:
    """Return a divergence to two digits, without an exponent where it is of a size that a person reads."""
    return tiny(value) if value < 0.001 else significant(value, 2)


def per_second(rate: float) -> str:
    """Return tokens in a second."""
    return f"{significant(rate)} tokens/s"


def times(ratio: float, digits: int = 3) -> str:
    """Return a factor, such as 11.4 with a multiplication sign."""
    return f"{significant(ratio, digits)}×"


def ratio_digits(ratio: Ratio) -> int:
    """Return the significant digits that a ratio's spread over the rounds carries."""
    return 3 if ratio.high - ratio.low < 0.02 * ratio.median else 2


def ratio_range(ratio: Ratio) -> tuple[str, str]:
    """Return the smallest and the largest ratio of any round, in the direction in which `compared` tells the median."""
    digits, low, high = ratio_digits(ratio), ratio.low, ratio.high
    if compared(ratio.median, "faster", "slower", digits).endswith("slower"):
        low, high = 1 / high, 1 / low
    return significant(low, digits), significant(high, digits)


def compared(ratio: float, more: str, less: str, digits: int = 3) -> str:
    """Return a factor with its direction, such as 11.4x smaller or 1.20x larger."""
    text = times(max(ratio, 1 / ratio), digits)
    if text == times(1.0, digits):
        return "the same"
    return f"{text} {more if ratio > 1 else less}"


def listed(names: list[str], most: int = 3) -> str:
    """Return names as a person lists them; beyond `most`, how many more there are."""
    if len(names) > most:
        names = [*names[:most], f"{len(names) - most} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _decimals(metric: Metric) -> int:
    width_points = (metric.high - metric.low) * 100
    if width_points >= 10:
        return 0
    return 2 if 0 < width_points < 0.2 else 1


def _fixed(value: float, decimals: int) -> str:
    return _signed(f"{value:.{decimals}f}")


def _signed(text: str) -> str:
    """Return the text with a true minus sign, and none before a zero."""
    if not text.startswith("-"):
        return text
    return f"{MINUS}{text[1:]}" if text.strip("-0.,") else text[1:]
