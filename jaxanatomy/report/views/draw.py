"""From a view and its rows to matplotlib panels, and from those to PNG and SVG."""

import io
import math
import re
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxanatomy.errors import InputError
from jaxanatomy.report import style
from jaxanatomy.report.views.core import RUN, Row, View
from jaxanatomy.words import shortened

_TITLE_LETTERS = 11  # an inch
_LEGEND_WIDTH = 105  # letters in a line of the legend, for ten inches


def draw(view: View, rows: Sequence[Row], ax: Any = None) -> Axes | style.Panels:
    """Draws a view.

    Args:
      view: What to show.
      rows: Its tidy rows.
      ax: None for a new figure, axes, or as many axes as the view has panels.

    Returns:
      The axes; all of them where there are several.

    Raises:
      InputError: No rows, or not as many axes as panels.
    """
    facets = view.facets(rows)
    shown = [(name, own, pair) for name, own in facets.items() for pair in view.pairs]
    with style.styled():
        panels = _new_panels(view, shown) if ax is None else style.given(ax)
        if ax is not None and len(panels) != len(shown):
            raise InputError(
                f"one axes for each panel was expected; got {len(panels)} for {len(shown)} "
                f"({', '.join(facets)}); pass that many"
            )
        for (name, own, pair), panel in zip(shown, panels, strict=False):
            view.draw(panel, own, rows, pair)
            if pair == view.pairs[0]:
                title = _title(view, name, own, len(facets))
                panel.set_title(_wrapped(title, view, own) if ax is None else title)
        for panel in panels[len(shown) :]:
            panel.set_axis_off()
        if ax is None and view.columns > 1 and len(view.pairs) == 1:
            for at, panel in enumerate(panels):
                panel.set_ylabel(panel.get_ylabel() if at % view.columns == 0 else "")
        panels = style.Panels(panels[: len(shown)])
        view.finish(panels, rows)
        _legend(view.handles(rows), panels, own_figure=ax is None)
    return panels[0] if len(panels) == 1 else panels


def to_png(figure: Figure, dpi: int = 160) -> bytes:
    """The picture of a figure; the same bytes for the same figure."""
    return style.to_png(figure, dpi)


def to_svg(figure: Figure, name: str) -> str:
    """A figure as SVG whose ink, paper and lines are colours of the page that holds it.

    Args:
      figure: The figure.
      name: Makes the ids inside unique on a page.

    Returns:
      One `<svg>` element. Elsewhere than on a page with `--ink` and so on it is light.
    """
    stream = io.StringIO()
    look = {"svg.fonttype": "none", "svg.hashsalt": name, "savefig.facecolor": "none"}
    with style.styled(), matplotlib.rc_context(look):
        figure.savefig(stream, format="svg", metadata={"Date": None}, transparent=False)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    for colour, variable in style.PAGE_COLOURS.items():
        text = re.sub(f"{colour}(?![0-9a-f])", f"var(--{variable}, {colour})", text, flags=re.I)
    return text.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")


def _new_panels(view: View, shown: Sequence[tuple]) -> style.Panels:
    columns = min(view.columns if view.columns > 1 else len(view.pairs), len(shown))
    lines = math.ceil(len(shown) / columns)
    sizes = [view.panel_size(own) for _, own, _ in shown]
    sizes += [sizes[-1]] * (lines * columns - len(sizes))
    widths = [max(width for width, _ in sizes[at::columns]) for at in range(columns)]
    heights = [
        max(height for _, height in sizes[at * columns : (at + 1) * columns]) for at in range(lines)
    ]
    ratios = {"width_ratios": widths, "height_ratios": heights}
    return style.new_figure(sum(widths) + 0.3, sum(heights) + 0.4, lines, columns, **ratios)


def _title(view: View, name: str, rows: Sequence[Row], count: int) -> str:
    title = view.heading(rows)
    # A model's id and the path of a text, each of its own length.
    words = shortened(", ".join(map(shortened, name.split(", "))), 70)
    if count > 1 and view.columns > 1:
        return words.replace(", ", "\n", 1) if RUN in rows[0] else words
    return ", ".join(filter(None, (words, title)))


def _wrapped(title: str, view: View, rows: Sequence[Row]) -> str:
    """A title in lines no longer than its panel; matplotlib would read it as mathematics."""
    letters = int(_TITLE_LETTERS * (view.panel_size(rows)[0] - 0.8))
    return title if len(title) <= letters else textwrap.fill(title, letters)


def _legend(handles: Sequence[Any], panels: style.Panels, own_figure: bool) -> None:
    if not handles:
        return
    figure = panels[0].figure
    letters = sum(len(str(handle.get_label())) + 8 for handle in handles)
    lines = math.ceil(letters / (_LEGEND_WIDTH * figure.get_figwidth() / 10))
    columns = math.ceil(len(handles) / lines)
    look = {"ncols": columns, "borderpad": 0.2, "columnspacing": 1.6, "handletextpad": 0.6}
    if own_figure:
        figure.legend(handles=handles, loc="outside upper left", **look)
    else:
        panels[0].legend(handles=handles, **look)
