"""One panel for each text: what all figure functions share."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from jaxanatomy.errors import InputError
from jaxanatomy.report.cells import Cells, Row, by_text, shortened
from jaxanatomy.report.style import Panels, new_figure, styled


def draw_texts(
    rows: Iterable[Row] | Sequence[Cells],
    ax: Any,
    draw: Callable[[Cells, Axes], None],
    size: Callable[[Cells], tuple[float, float]],
) -> Axes | Panels:
    """Draws each text of `rows` onto its own axes.

    Args:
      rows: Rows of an importance run, or what `cells.by_text` made of them.
      ax: None for a new figure, axes, or one axes for each text.
      draw: Draws one text's cells onto axes.
      size: Width and height in inches of a new panel for these cells.

    Returns:
      The axes; all of them, in the order of the texts, when there are several texts.

    Raises:
      InputError: there are no rows, or not as many axes as texts.
    """
    texts = [cells for cells in by_text(rows) if cells.cells]
    if not texts:
        raise InputError(
            "a figure needs rows of the importance experiment with a layer; got none; pass the "
            "rows of a sweep over ja.ablations(model) or of ja.read_run(DIR)"
        )
    with styled():
        panels = _new_panels(texts, size) if ax is None else list(np.ravel(ax))
        if len(panels) != len(texts):
            names = ", ".join(cells.text for cells in texts)
            raise InputError(
                f"one axes for each text was expected; got {len(panels)} for {len(texts)} texts "
                f"({names}); pass that many, or the rows of one text"
            )
        for cells, panel in zip(texts, panels, strict=True):
            draw(cells, panel)
    return panels[0] if len(panels) == 1 else Panels(panels)


def title(cells: Cells, words: str) -> str:
    """A panel's title; it begins with the text where the rows name one."""
    if not cells.text:
        return words[:1].upper() + words[1:]
    return f"{shortened(cells.text)}, {words}"


def _new_panels(texts, size) -> Panels:
    sizes = [size(cells) for cells in texts]
    heights = [height for _, height in sizes]
    width = max(width for width, _ in sizes)
    return new_figure(width, sum(heights), rows=len(texts), height_ratios=heights)
