"""Matplotlib figures as inline SVG that takes its colours and its font from the page.

Charts are drawn with the sentinel colours below, which become CSS variables, so that one drawing serves light, dark
and print. Text stays text. Identifiers are prefixed with the chart's name, because all charts share one document.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, GRID, GOOD, BAD = "#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04", "#0a0b05"
TEACHER, TEACHER_EXPORTED = "#0a0b06", "#0a0b07"
SERIES = ("#0a0b08", "#0a0b09", "#0a0b0a", "#0a0b0b", "#0a0b0c", "#0a0b0d")

_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    GOOD: "var(--good)",
    BAD: "var(--bad)",
    TEACHER: "var(--teacher)",
    TEACHER_EXPORTED: "var(--teacher-exported)",
} | {colour: f"var(--series-{i})" for i, colour in enumerate(SERIES, 1)}

WIDTH = 400  # points; a phone shows it at about nine tenths, a desktop a fifth larger
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "edgedistill",
    "font.size": 12,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 11.5,
    "ytick.labelsize": 11.5,
    "xtick.minor.size": 0,
    "lines.linewidth": 2,
}


def css(sentinel: str) -> str:
    """Return the CSS colour that a sentinel colour becomes."""
    return _VARIABLES[sentinel]


@contextmanager
def panels(
    height: float, rows: int = 1, heights: tuple[float, ...] | None = None
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yield an empty figure of WIDTH by `height` points, and its panels from top to bottom."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH / 72, height / 72), layout="constrained")
        axes = figure.subplots(rows, 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
        yield figure, list(axes)


def inline(figure: Figure, name: str) -> Markup:
    """Return the figure as an `<svg>` element; call it inside `panels`."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"|(<svg[^>]*?) height="[^"]*"', r"\1\2", text, count=1)
    text = re.sub(r"<svg", '<svg aria-hidden="true"', text, count=1)
    text = re.sub(r"#0a0b[0-9a-f]{2}", lambda found: css(found.group()), text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--font)", text)
    return Markup(_own_identifiers(text, name))  # matplotlib has escaped every text


def _own_identifiers(text: str, name: str) -> str:
    """Drop identifiers that nothing refers to, and prefix the others."""
    referred = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda found: found.group() if found.group(1) in referred else "", text)
    for identifier in sorted(referred):
        text = re.sub(rf'(id="|href="#|url\(#){re.escape(identifier)}(?=[")])', rf"\g<1>{name}-{identifier}", text)
    return text
