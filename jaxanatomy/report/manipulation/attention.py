"""How far noise in queries or keys moves attention, layer by layer."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from jaxanatomy.errors import InputError
from jaxanatomy.report import style
from jaxanatomy.report.cells import Row, number
from jaxanatomy.report.manipulation.figures import dose_colours
from jaxanatomy.report.manipulation.rows import percent


def attention_shift(rows: Iterable[Row], ax: Sequence[Axes] | None = None) -> style.Panels:
    """How far noise in q or k moves attention, layer by layer.

    Upper panels: total variation between the attention distributions; lower panels: share
    of queries whose most attended token changes. Means over heads and seeds; the change is
    local: all other layers get the unedited stream.

    Args:
      rows: Rows of kind "attention".
      ax: Two axes for each component, the upper ones first; None for a new figure.

    Returns:
      The axes, row by row.

    Raises:
      InputError: There are no such rows, or another number of axes.
    """
    found = attention_means(rows)
    components = list(dict.fromkeys(component for component, _ in found))
    if not components:
        raise InputError(
            "a figure of attention needs rows of kind 'attention' and spread 'local'; got none; "
            "pass the rows of a manipulation run that measured them"
        )
    with style.styled():
        if ax is None:
            panels = style.new_figure(5.4 * len(components), 6.6, 2, len(components))
        else:
            panels = style.given(ax)
        if len(panels) != 2 * len(components):
            raise InputError(
                f"two axes for each component were expected; got {len(panels)} for "
                f"{', '.join(components)}; pass {2 * len(components)}"
            )
        for index, panel in enumerate(panels):
            component = components[index % len(components)]
            field = ("total_variation", "argmax_changed")[index // len(components)]
            _shift(panel, component, field, found)
        place = {"loc": "outside upper left"} if ax is None else {"loc": "lower right"}
        owner = panels[0].figure if ax is None else panels[0]
        owner.legend(handles=panels[0].get_lines(), ncols=3 if ax is None else 1, **place)
    return panels


def attention_means(rows: Iterable[Row]) -> dict[tuple[str, Any], dict[int, dict[str, float]]]:
    """Local attention rows of the first text by (component, alpha), then layer.

    alpha is "matched noise" where the row has no number. The two fields are means over the
    rows of a cell, which differ in their seed.
    """
    rows = [row for row in rows if row.get("kind") == "attention" and row.get("spread") == "local"]
    models = list(dict.fromkeys(str(row.get("model")) for row in rows))
    if len(models) > 1:
        raise InputError(
            f"a figure of attention is of one model; got rows of {', '.join(models)}; draw them "
            "one after the other"
        )
    rows = [row for row in rows if row.get("text") == rows[0].get("text")]
    cells: dict[tuple, dict[int, list[Row]]] = {}
    for row in rows:
        alpha = row.get("alpha")
        alpha = alpha if isinstance(alpha, int | float) else "matched noise"
        cells.setdefault((row["component"], alpha), {}).setdefault(row["layer"], []).append(row)
    return {
        key: {
            layer: {
                field: statistics.fmean(number(row, field) for row in group)
                for field in ("total_variation", "argmax_changed")
            }
            for layer, group in sorted(layers.items())
        }
        for key, layers in cells.items()
    }


def _shift(ax: Axes, component: str, field: str, found: Mapping) -> None:
    alphas = [alpha for other, alpha in found if other == component]
    sizes = sorted(alpha for alpha in alphas if alpha != "matched noise")
    shades = dict(zip(sizes, dose_colours(len(sizes)), strict=True))
    for alpha in [*sizes, *(["matched noise"] if "matched noise" in alphas else [])]:
        layers = found[component, alpha]
        is_full = alpha == "matched noise"
        look = {"color": style.INK, "linestyle": ":"} if is_full else {"color": shades[alpha]}
        label = "matched noise (nothing of it left)" if is_full else f"noise of {percent(alpha)}"
        values = [layers[layer][field] for layer in layers]
        ax.plot(list(layers), values, marker="o", markersize=2.6, label=label, **look)
    style.layer_axis(ax, range(1 + max(max(layers) for layers in found.values())))
    ax.set_xticks(ax.get_xticks()[::2])
    ax.set_yscale("log", nonpositive="mask")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.yaxis.set_minor_formatter(lambda value, _: "")
    ax.grid(axis="y", color=style.FAINT, linewidth=0.6)
    words = {"total_variation": "total variation", "argmax_changed": "share with another top token"}
    ax.set_ylabel(f"{words[field]} (log)")
    ax.set_title(f"{component}: {words[field]}")
