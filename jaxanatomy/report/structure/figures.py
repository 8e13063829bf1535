"""Figures of the structure experiment: rows and arrays in, matplotlib panels out."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib import transforms
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from jaxanatomy.report import style
from jaxanatomy.report.structure.tables import Readings, number

MEASURED, GAUSSIAN, SHUFFLED = "#AE2320", "#7FA9D2", "#D3D9DF"
_DIVERGING = LinearSegmentedColormap.from_list(
    "cosine", ["#1F5FA8", "#9DC0E2", "#FFFFFF", "#F0A58A", "#AE2320"], N=512
)
_COLUMNS = 4
_HALF = -0.5
_ENDS = ("low", "high")


def delta_correlations(readings: Readings, paper: Mapping[str, float] | None = None) -> Axes:
    """The mean delta correlation of each component beside its nulls (AH Table 3).

    Args:
      readings: Of a structure run.
      paper: Published values by component, drawn as hollow diamonds.

    Returns:
      The axes.
    """
    names = readings.components
    with style.styled():
        (ax,) = style.new_figure(10.4, 1.7 + 0.45 * len(names))
        ax.set_title("Mean delta correlation of each matrix, beside its nulls", pad=40)
        ax.axvline(_HALF, color=style.INK, linewidth=0.9, zorder=1)
        for y, name in enumerate(names):
            _intervals(ax, readings, name, y)
            _marks(ax, readings, name, y, (paper or {}).get(name))
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(len(names) - 0.45, -0.55)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        ax.use_sticky_edges = False  # of the bars
        ax.margins(x=0.04)
        _minus_signs(ax)
        ax.grid(axis="x", color=style.FAINT, linewidth=0.6)
        ax.set_xlabel(
            "delta correlation, mean over layers; the line is −0.5, which independent layers of "
            "equal variance give\n← layers alternate more than chance        "
            "neighbours resemble each other →"
        )
        _legend_above(ax, _delta_handles(bool(paper)))
    return ax


def layer_profiles(readings: Readings) -> style.Panels:
    """The delta correlation of every layer beside that of independent layers."""
    handles = [
        Line2D([], [], marker="o", linestyle="", color=MEASURED, markersize=4, label="measured"),
        Line2D([], [], color=style.INK, linewidth=1, label="independent layers (closed form)"),
    ]

    def draw(name: str, ax: Axes) -> None:
        layers = readings.layers(name)
        ax.axhline(_HALF, color=style.FAINT, linewidth=1.2, zorder=1)
        closed = [readings.row(name, "closed_form", layer=layer) for layer in layers]
        values = [_float(row.get("null_value")) for row in closed]
        ax.plot(layers, values, color=style.INK, linewidth=1, zorder=2)
        measured = [_float(readings.value(name, layer=layer)) for layer in layers]
        ax.plot(layers, measured, "o", color=MEASURED, markersize=3.2, zorder=3)
        _minus_signs(ax, "y")
        ax.set_xlabel("layer")

    return _grid(readings.components, draw, handles, "delta correlation", height=2.2)


def layer_residuals(readings: Readings) -> style.Panels:
    """The same less the mean of Gaussian layers, with the interval of their draws."""
    handles = [
        Line2D([], [], marker="o", linestyle="", color=MEASURED, markersize=4, label="measured"),
        Patch(facecolor=GAUSSIAN, label="Gaussian layers, 95 %"),
    ]

    def draw(name: str, ax: Axes) -> None:
        layers = readings.layers(name)
        rows = [readings.row(name, "gaussian", layer=layer) for layer in layers]
        centre = np.array([_float(row.get("null_value")) for row in rows])
        ends = [np.array([_float(row.get(f"null_{end}")) for row in rows]) for end in _ENDS]
        low, high = (end - centre for end in ends)
        ax.fill_between(layers, low, high, color=GAUSSIAN, alpha=0.6, linewidth=0, zorder=1)
        measured = np.array([_float(readings.value(name, layer=layer)) for layer in layers])
        ax.plot(layers, measured - centre, "o", color=MEASURED, markersize=3.2, zorder=3)
        ax.axhline(0, color=style.INK, linewidth=0.7, zorder=2)
        _minus_signs(ax, "y")
        ax.set_xlabel("layer")

    return _grid(readings.components, draw, handles, "measured less Gaussian", height=2.2)


def cosines(arrays: Mapping[str, np.ndarray], names: Sequence[str]) -> style.Panels:
    """The cosine of every two layers, a heatmap for each component, one colour scale.

    Args:
      arrays: Has `cosine_COMPONENT` [L, L].
      names: The components.
    """
    inside = {}
    for name in names:
        cosine_LL = np.array(arrays[f"cosine_{name}"], dtype=float)
        np.fill_diagonal(cosine_LL, np.nan)
        inside[name] = np.ma.masked_invalid(cosine_LL)
    largest = max((float(np.abs(c).max()) for c in inside.values() if c.count()), default=1.0)
    norm = Normalize(-largest, largest)
    meshes = []

    def draw(name: str, ax: Axes) -> None:
        meshes.append(ax.imshow(inside[name], norm=norm, cmap=_DIVERGING, interpolation="nearest"))
        ax.set_facecolor("#BCC4CC")
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.set_xlabel("layer")

    panels = _grid(names, draw, [], "layer", height=2.75, share_y=False)
    bar = panels[0].figure.colorbar(meshes[-1], ax=list(panels), fraction=0.018, pad=0.015)
    bar.set_label("cosine of two layers; grey: a layer with itself, 1")
    bar.ax.tick_params(labelsize=6.5, length=2)
    _minus_signs(bar.ax, "y")
    bar.outline.set_visible(False)
    return panels


def spectra(arrays: Mapping[str, np.ndarray], names: Sequence[str]) -> style.Panels:
    """Explained shares of PCA over layers beside those of Gaussian layers.

    Args:
      arrays: Has `pca_COMPONENT` and `pca_gaussian_COMPONENT` [L].
      names: The components.
    """
    handles = [
        Line2D([], [], marker="o", linestyle="", color=MEASURED, markersize=4, label="measured"),
        Line2D([], [], color=GAUSSIAN, linewidth=2, label="Gaussian layers, mean of the draws"),
        Line2D([], [], color=style.MUTED, linewidth=0.9, linestyle="--", label="all equal"),
    ]
    top = 100 * max(np.nanmax(arrays[f"pca_{name}"], initial=0.0) for name in names) or 100.0

    def draw(name: str, ax: Axes) -> None:
        share_L = 100 * np.asarray(arrays[f"pca_{name}"])[:-1]
        gaussian_L = 100 * np.asarray(arrays[f"pca_gaussian_{name}"])[:-1]
        components = np.arange(1, len(share_L) + 1)
        ax.axhline(100 / len(share_L), color=style.MUTED, linewidth=0.9, linestyle="--")
        ax.plot(components, gaussian_L, color=GAUSSIAN, linewidth=2)
        ax.plot(components, share_L, "o", color=MEASURED, markersize=2.6)
        ax.set_ylim(0, 1.08 * top)
        ax.grid(axis="y", color=style.FAINT, linewidth=0.6)
        ax.set_xlabel("principal component")

    return _grid(names, draw, handles, "share of variance (%)", height=2.35)


def _grid(
    names: Sequence[str],
    draw: Callable[[str, Axes], None],
    handles: Sequence[Line2D | Patch],
    y_label: str,
    height: float,
    share_y: bool = True,
) -> style.Panels:
    """A panel for each component, `_COLUMNS` a row, and a legend above them all."""
    columns = min(_COLUMNS, len(names))
    rows = math.ceil(len(names) / columns)
    with style.styled():
        width = 2.9 * columns + 0.4
        panels = style.new_figure(width, height * rows + 0.3, rows, columns, sharey=share_y)
        for index, (name, ax) in enumerate(zip(names, panels, strict=False)):
            draw(name, ax)
            ax.set_title(name)
            ax.tick_params(axis="y", labelleft=True)
            if index % columns == 0:
                ax.set_ylabel(y_label)
        for ax in panels[len(names) :]:
            ax.set_axis_off()
        if handles:
            panels[0].figure.legend(
                handles=handles, loc="outside upper left", ncols=len(handles), borderpad=0.2
            )
    return style.Panels(panels[: len(names)])


def _intervals(ax: Axes, readings: Readings, name: str, y: int) -> None:
    """Bars of the nulls that have draws."""
    for null, colour, height in (("shuffled_layers", SHUFFLED, 0.62), ("gaussian", GAUSSIAN, 0.42)):
        row = readings.row(name, null)
        if row.get("null_low") is not None:
            span = row["null_high"] - row["null_low"]
            ax.barh(y, span, left=row["null_low"], height=height, color=colour, zorder=2)


def _marks(ax: Axes, readings: Readings, name: str, y: int, published: float | None) -> None:
    """Single values, and the distance from the Gaussian null at the right edge."""
    closed = readings.row(name, "closed_form").get("null_value")
    ax.vlines([_float(closed)], y - 0.3, y + 0.3, color=style.INK, linewidth=1.4, zorder=4)
    untrained = readings.row(name, "random_init").get("null_value")
    hollow = {"markerfacecolor": "white", "zorder": 3}
    ax.plot([_float(untrained)], [y], "s", color=style.MUTED, markersize=4.5, **hollow)
    if published is not None:
        ax.plot([published], [y - 0.36], "D", color=style.PAPER, markersize=4.5, **hollow)
    ax.plot([_float(readings.value(name))], [y], "o", color=MEASURED, markersize=5.5, zorder=5)
    z = readings.row(name, "gaussian").get("z")
    if z is not None:
        beside = transforms.blended_transform_factory(ax.transAxes, ax.transData)
        words = f"z = {number(z, 1)} against Gaussian"
        ax.text(1.01, y, words, transform=beside, va="center", fontsize=7.5, color=style.MUTED)


def _delta_handles(has_paper: bool) -> list[Line2D | Patch]:
    def mark(marker: str, colour: str, label: str, **more) -> Line2D:
        return Line2D([], [], marker=marker, linestyle="", color=colour, label=label, **more)

    handles = [
        mark("o", MEASURED, "measured", markersize=5.5),
        mark("|", style.INK, "independent layers (closed form)", markersize=9, mew=1.4),
        Patch(facecolor=GAUSSIAN, label="Gaussian layers, 95 %"),
        Patch(facecolor=SHUFFLED, label="layers in random order, 95 %"),
        mark("s", style.MUTED, "untrained model", markersize=4.5, markerfacecolor="white"),
    ]
    if has_paper:
        label = "paper (AH Table 3, base model)"
        handles.append(mark("D", style.PAPER, label, markersize=4.5, markerfacecolor="white"))
    return handles


def _legend_above(ax: Axes, handles: Sequence[Line2D | Patch]) -> None:
    above = {"loc": "lower left", "bbox_to_anchor": (-0.005, 1.0), "borderpad": 0.2}
    ax.legend(handles=handles, ncols=3, columnspacing=1.6, handletextpad=0.6, **above)


def _minus_signs(ax: Axes, which: str = "x") -> None:
    """Ticks with as many digits as they need."""
    axis = getattr(ax, f"{which}axis")
    axis.set_major_formatter(lambda value, _: f"{value:.4g}".replace("-", "−"))


def _float(value: float | None) -> float:
    return math.nan if value is None else float(value)
