"""How figures look: colours, scales, number formats, and axes that show themselves.

Figures are made without pyplot, so importing or calling anything here changes no global
state. A panel that a function made displays itself at the end of a notebook cell.
"""

import contextlib
import io
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, ListedColormap, SymLogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter

from jaxanatomy.words import formatted

RC = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.labelcolor": "#3D4650",
    "axes.edgecolor": "#8A939C",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": "#3D4650",
    "ytick.color": "#3D4650",
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "text.color": "#1B2026",
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "hatch.linewidth": 0.8,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    # Names of texts may hold anything: a dollar sign is a dollar sign.
    "text.parse_math": False,
    "text.usetex": False,
}
INK, MUTED, FAINT, PAGE = "#1B2026", "#5B6570", "#E3E7EB", "#FFFFFF"
# What an SVG takes from the page that holds it; all other colours stand on light and dark.
PAGE_COLOURS = {
    "#1b2026": "ink",
    "#3d4650": "ink",
    "#5b6570": "muted",
    "#8a939c": "muted",
    "#e3e7eb": "line",
    "#ffffff": "card",
}
CELL_INK, CELL_PAPER = "#1B2027", "#FEFEFE"  # inside cells, whatever the page
# Told apart by the colour-blind (Okabe and Ito), the darkest first.
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C5A3C", "#7F7F7F")
PAPER = "#1F5FA8"
CROSS = "#AE2320"  # where a figure is not finite
# Ordered in lightness, grey to red, so that order survives colour blindness and grey
# printing; blue, at the other end of every scale, is kept for "better than the baseline".
CATEGORY_COLOURS = {
    "redundant": "#BCC4CC",
    "minor": "#F3C55B",
    "important": "#E9822E",
    "critical": "#AE2320",
}
BETTER = "#3F7FBF"
_NUMBER_WIDTH = 0.2  # inches of a tick's number of two digits
LINEAR_BELOW = 10.0  # percent; degradation scales are linear from -10 to 10

_HEAT = (
    (-10.0, "#5E97CC"),
    (0.0, "#FFFFFF"),
    (10.0, "#FCEBC0"),
    (30.0, "#F6CB6B"),
    (100.0, "#EE9440"),
    (1e3, "#D4512C"),
    (1e4, "#A1201F"),
    (1e6, "#3E0B1E"),
)


class _PlainLog(LogFormatter):
    """Labels the ticks that matplotlib would, with plain numbers."""

    def __call__(self, value: float, position: int | None = None) -> str:
        if not super().__call__(value, position):
            return ""
        return f"{value:,.10g}" if value < 1e6 else compact(value)


class Panel(Axes):
    """Axes that a notebook shows as the picture of their whole figure."""

    def _repr_png_(self) -> bytes:
        return to_png(self.figure)


class Panels(tuple):
    """Several axes of one figure, shown like one `Panel`."""

    def _repr_png_(self) -> bytes:
        return to_png(self[0].figure)


def alike(colour: str, other: str) -> bool:
    """Whether two colours are hard to tell apart: less than a quarter apart in RGB."""
    return math.dist(to_rgb(colour), to_rgb(other)) < 0.25


def given(ax: Any) -> Panels:
    """Axes of the user's own to draw on; what is written there is not read as mathematics."""
    panels = Panels(np.ravel(ax))
    for panel in panels:
        for text in panel.findobj(Text):
            text.set_parse_math(False)
            text.set_usetex(False)
    return panels


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """The project's matplotlib settings, for the duration of the context."""
    with matplotlib.rc_context(RC), warnings.catch_warnings():
        # A name may be in any script; what the font lacks is a box in a PNG, and text in an SVG.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        yield


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **kwargs) -> Panels:
    """A figure of `width` x `height` inches; returns its panels, row by row."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False, subplot_kw={"axes_class": Panel}, **kwargs)
    return Panels(grid.flat)


def to_png(figure: Figure, dpi: int = 160) -> bytes:
    """The picture of a figure; the same bytes for the same figure."""
    stream = io.BytesIO()
    with styled():
        figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": "jaxanatomy"})
    return stream.getvalue()


def layers_width(num_layers: int, per_layer: float = 0.33) -> float:
    """Width in inches of a figure with layers along its x axis."""
    return min(max(1.6 + per_layer * num_layers, 5.5), 34.0)


def log_axis(ax: Axes, which: str) -> None:
    """A logarithmic "x" or "y" axis whose ticks are plain numbers, such as 0.1, 10 and 1,000."""
    getattr(ax, f"set_{which}scale")("log", nonpositive="mask")
    axis = getattr(ax, f"{which}axis")
    axis.set_major_formatter(_PlainLog())
    axis.set_minor_formatter(_PlainLog())


def plain_axis(ax: Axes, which: str) -> None:
    """Ticks with as many digits as they need, and a minus sign."""
    getattr(ax, f"{which}axis").set_major_formatter(lambda value, _: formatted(value, ",.4g"))


def layer_axis(ax: Axes, layers: int) -> None:
    """Layers along the x axis, numbered one by one where there is room."""
    numbers = ax.get_position().width * ax.figure.get_figwidth() / _NUMBER_WIDTH
    step = next((step for step in (1, 2, 5, 10, 20, 50) if layers <= step * numbers), 100)
    ax.set_xticks(range(0, layers, step))
    ax.set_xlim(-0.8, layers - 0.4)
    ax.tick_params(axis="x", length=0)


def degradation_ticks(low: float, high: float) -> list[float]:
    """0, 10, 30, 100, then the decades up to `high`; likewise below zero down to `low`."""
    decades = [10.0**power for power in range(3, int(math.log10(max(high, 100.0))) + 1)]
    below = [tick for tick in (-100.0, -30.0, -10.0) if tick >= low]
    return [*below, 0.0, 10.0, 30.0, 100.0, *decades]


def degradation_axis(ax: Axes, which: str, values: Sequence[float]) -> None:
    """A percent scale that is linear within 10 %; it holds all finite values and 0 to 100 %."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = min([-2.0, *(1.3 * value for value in finite)]), 3.2 * max([100.0, *finite])
    getattr(ax, f"set_{which}scale")("symlog", linthresh=LINEAR_BELOW, linscale=0.8)
    getattr(ax, f"set_{which}lim")(low, high)
    ticks = degradation_ticks(low, high)
    getattr(ax, f"set_{which}ticks")(ticks, [f"{formatted(tick, ',.0f')} %" for tick in ticks])
    getattr(ax, f"set_{which}ticks")([], minor=True)
    ax.grid(axis=which, color=FAINT, linewidth=0.6)


def heat_scale(values: Sequence[float]) -> tuple[SymLogNorm, ListedColormap]:
    """Norm and colours for degradation in percent.

    A colour means the same percentage in every figure; only where the scale ends follows
    the values. Blue is better than the baseline, white no effect.
    """
    high = max([value for value in values if math.isfinite(value)] + [100.0])
    top = min(10.0 ** math.ceil(math.log10(high)), _HEAT[-1][0])
    norm = SymLogNorm(LINEAR_BELOW, linscale=0.8, vmin=-LINEAR_BELOW, vmax=top, base=10)
    full = SymLogNorm(LINEAR_BELOW, linscale=0.8, vmin=-LINEAR_BELOW, vmax=1e6, base=10)
    everywhere = LinearSegmentedColormap.from_list(
        "degradation", [(float(full(value)), colour) for value, colour in _HEAT], N=1024
    )
    part = full(norm.inverse(np.linspace(0.0, 1.0, 1024)))
    return norm, ListedColormap(everywhere(part), name="degradation")


def compact(value: float) -> str:
    """A number in at most five characters for cells and labels: −0.6, 35, 5.7k, 34k, 1.2M."""
    if not math.isfinite(value):
        return "n/f"
    for divisor, suffix in ((1.0, ""), (1e3, "k"), (1e6, "M")):
        scaled = value / divisor
        if abs(scaled) < 999.5:
            return formatted(scaled, ".1f" if abs(scaled) < 9.95 else ".0f") + suffix
    return formatted(value, ".0e").replace("e+0", "e").replace("e+", "e")
