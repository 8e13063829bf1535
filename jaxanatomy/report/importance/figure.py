"""The importance map: what each layer's neighbour mean does to perplexity."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

from matplotlib import patheffects, transforms
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from jaxanatomy.measures.importance import CATEGORIES, THRESHOLDS_PERCENT
from jaxanatomy.report import style
from jaxanatomy.report.cells import Cells, Row, by_text, category, interval
from jaxanatomy.report.cells import label as name_of
from jaxanatomy.report.panels import draw_texts, title

_NEAR = 2.5  # a label over a bar covers marks up to this many times higher


def importance(
    rows: Iterable[Row],
    ax: Axes | Sequence[Axes] | None = None,
    *,
    intervention: str | None = None,
    scope: str = "layer",
    paper: Sequence[float] | None = None,
) -> Axes | style.Panels:
    """Degradation of perplexity per layer, with categories and 95 % intervals.

    The axis is linear within 10 % and logarithmic beyond, so that small improvements show
    as what they are. Protocol: AH section 3.2 and DESIGN section 4.

    Args:
      rows: Rows of an importance run.
      ax: Axes to draw on, one for each text; None for a new figure.
      intervention: Which intervention; by default the neighbour mean, or the first there is.
      scope: Of which part of the layers.
      paper: Published degradations per layer in percent, drawn as hollow markers, for
        example `papers.table1()`; NaN where there is none.

    Returns:
      The axes, or one for each text.
    """
    paper = [*(paper or ())]
    texts = by_text(rows)
    maps = {id(cells): _Map.of(cells, intervention, scope, paper) for cells in texts}
    extent = [value for each in maps.values() for value in each.extent]

    def draw(cells: Cells, axes: Axes) -> None:
        # One scale for all texts, so that panels compare at a glance.
        style.degradation_axis(axes, "y", extent)
        _draw(maps[id(cells)], axes)

    return draw_texts(texts, ax, draw, lambda cells: (_width(len(cells.layers)), 3.7))


def _width(num_layers: int) -> float:
    """Inches: a model of few layers still needs room for title and legend."""
    return max(style.layers_width(num_layers), 9.5)


@dataclasses.dataclass(frozen=True)
class _Map:
    """What one panel shows.

    Attributes:
      cells: The text.
      words: What was done.
      rows: The measured rows, by layer.
      band: By layer the ends in percent that hold for all layers at once; empty unless this is
        the main map.
      anti_layers: Layers whose part of the band lies below 0.
      without_first: Degradation without each document's first prediction, per layer.
      paper: Published degradation, for the first layers or none.
    """

    cells: Cells
    words: str
    rows: list[Row]
    band: dict[int, list[float]]
    anti_layers: tuple[int, ...]
    without_first: list[float]
    paper: list[float]

    @classmethod
    def of(cls, cells: Cells, intervention: str | None, scope: str, paper: list[float]) -> "_Map":
        name = intervention or cells.main
        rows = [row for layer in cells.layers if (row := cells.row(name, layer, scope))]
        rest = cells.profile(name, scope, field="degradation_percent_without_first")
        part = "each layer" if scope == "layer" else f"{name_of(scope)} of each layer"
        rest = [value if math.isfinite(value) else math.nan for value in rest]
        looks = cells.looks if (name, scope) == (cells.main, "layer") else None
        found = looks.band.items() if looks else ()
        band = {layer: ends for layer, each in found if (ends := each.degradation_percent().ends)}
        return cls(
            cells,
            f"{part}: {name_of(name)}",
            rows,
            band,
            looks.anti_layers if looks else (),
            rest,
            paper[: len(cells.layers)],
        )

    @property
    def finite(self) -> list[Row]:
        return [row for row in self.rows if math.isfinite(_value(row))]

    @property
    def extent(self) -> list[float]:
        """Everything that the scale has to hold."""
        ends = [end for row in self.rows for end in interval(row) or ()]
        ends += [end for each in self.band.values() for end in each]
        return [*map(_value, self.rows), *self.without_first, *ends, *self.paper]


def _draw(shown: _Map, ax: Axes) -> None:
    layers = list(shown.cells.layers)
    style.layer_axis(ax, layers)
    _thresholds(ax)
    for row in shown.finite:
        _bar(ax, row, row["layer"] in shown.anti_layers)
    _intervals(ax, shown.band, width=0.5)
    own = {row["layer"]: ends for row in shown.finite if (ends := interval(row))}
    _intervals(ax, own, width=1.8)
    dashes = ax.plot(layers, shown.without_first, "_", color=style.INK, label="without first")
    dashes[0].set(markersize=8, markeredgewidth=1.6, zorder=5)
    points = ax.plot(layers[: len(shown.paper)], shown.paper, "D", label="paper")
    points[0].set(color=style.PAPER, markerfacecolor="none", markersize=5, zorder=6)
    points[0].set_markeredgewidth(1.2)
    _not_finite(ax, [row for row in shown.rows if math.isinf(_value(row))])
    _labels(ax, shown)
    ax.set_ylabel("change of perplexity (%)\nlinear within ±10 %, log beyond")
    ax.set_title(title(shown.cells, shown.words + _baseline(shown.cells)), pad=26)
    _legend(ax, shown)


def _baseline(cells: Cells) -> str:
    if not cells.baseline or not cells.baseline.get("ppl"):
        return ""
    tokens = cells.baseline.get("tokens")
    words = f"baseline perplexity {cells.baseline['ppl']:.2f}"
    return f"  ({words}, {tokens:,} predicted tokens)" if tokens else f"  ({words})"


def _thresholds(ax: Axes) -> None:
    """Dashed lines where categories begin, their names at the right edge."""
    beside = transforms.blended_transform_factory(ax.transAxes, ax.transData)
    ends = THRESHOLDS_PERCENT
    for end in ends:
        ax.axhline(end, color="#7A838C", linewidth=0.8, dashes=(4, 3), zorder=1)
    high = ax.get_ylim()[1]
    heights = [3.2, math.sqrt(ends[0] * ends[1]), math.sqrt(ends[1] * ends[2])]
    heights.append(math.sqrt(ends[2] * high))
    for name, height in zip(CATEGORIES, heights, strict=True):
        ax.text(1.016, height, name, transform=beside, va="center", fontsize=7.5, color=style.MUTED)
    ax.axhline(0, color=style.INK, linewidth=0.8, zorder=4)


def _bar(ax: Axes, row: Row, is_better: bool) -> None:
    colour = style.BETTER if is_better else style.CATEGORY_COLOURS[category(row)]
    hatch = {"hatch": "/////", "edgecolor": "white"} if row.get("boundary") else {}
    ax.bar(row["layer"], _value(row), width=0.78, color=colour, linewidth=0, zorder=2, **hatch)


def _intervals(ax: Axes, by_layer: Mapping[int, Sequence[float]], width: float) -> None:
    lines = ax.vlines(
        [*by_layer],
        [low for low, _ in by_layer.values()],
        [high for _, high in by_layer.values()],
        color=style.INK,
        linewidth=width,
        zorder=4,
        label="95 % interval",
    )
    lines.set_path_effects([patheffects.withStroke(linewidth=width + 1.7, foreground="white")])


def _not_finite(ax: Axes, rows: Sequence[Row]) -> None:
    """Crosses at the top edge: the perplexity is infinite or not a number."""
    top = transforms.blended_transform_factory(ax.transData, ax.transAxes)
    layers = [row["layer"] for row in rows]
    marks = ax.plot(layers, [0.96] * len(layers), "x", transform=top, label="not finite")
    marks[0].set(color=style.CROSS, markeredgewidth=2, markersize=8)


def _labels(ax: Axes, shown: _Map) -> None:
    """The value over each critical bar, clear of its interval and of marks close by."""
    published = dict(enumerate(shown.paper))
    for row in shown.finite:
        if category(row) != "critical":
            continue
        marks = [published.get(row["layer"], math.nan), shown.without_first[row["layer"]]]
        ends = [*(interval(row) or ()), *shown.band.get(row["layer"], ())]
        top = max(_value(row), *ends, 1.0)
        for mark in sorted(filter(math.isfinite, marks)):
            # A mark further off is left alone: the label would seem to be the mark's.
            top = max(top, mark) if mark < _NEAR * top else top
        ax.annotate(
            f"{style.compact(_value(row))} %",
            (row["layer"], top),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=7,
            fontweight="bold",
        )


def _legend(ax: Axes, shown: _Map) -> None:
    """Above the panel; names only what the panel has."""
    handles = []
    if any(interval(row) for row in shown.finite):
        handles.append(Line2D([], [], color=style.INK, linewidth=1.8, label="95 % interval"))
    if shown.band:
        handles.append(Line2D([], [], color=style.INK, linewidth=0.5, label="all layers at once"))
    if any(map(math.isfinite, shown.without_first)):
        mark = {"marker": "_", "linestyle": "", "color": style.INK, "markeredgewidth": 1.6}
        handles.append(Line2D([], [], **mark, label="without each document's first prediction"))
    if any(map(math.isfinite, shown.paper)):
        mark = {"marker": "D", "linestyle": "", "color": style.PAPER, "markerfacecolor": "none"}
        handles.append(Line2D([], [], **mark, markersize=5, label="paper (AH Table 1, base model)"))
    if any(row.get("boundary") for row in shown.rows):
        face = {"facecolor": "#8A939C", "edgecolor": "white", "hatch": "/////"}
        handles.append(Patch(**face, label="boundary: one neighbour, copied"))
    if shown.anti_layers:
        handles.append(Patch(facecolor=style.BETTER, label="anti-layer (at once below 0)"))
    if len(shown.finite) < len(shown.rows):
        mark = {"marker": "x", "linestyle": "", "color": style.CROSS}
        handles.append(Line2D([], [], **mark, markeredgewidth=2, label="perplexity not finite"))
    above = {"loc": "lower left", "bbox_to_anchor": (-0.005, 1.0), "borderpad": 0.2}
    spacing = {"columnspacing": 1.6, "handletextpad": 0.6}
    ax.legend(handles=handles, ncols=max(len(handles), 1), **above, **spacing)


def _value(row: Row) -> float:
    value = row.get("degradation_percent")
    return float(value) if value is not None and math.isfinite(value) else math.inf
