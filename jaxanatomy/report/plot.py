"""The figure functions: rows in, matplotlib axes out.

Each takes rows, or a data frame of them, and `ax`: None for a new figure, axes, or one for each
panel. It returns the axes; all of them where rows are of several models or texts.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes

from jaxanatomy.papers import table1
from jaxanatomy.records import RunRecord
from jaxanatomy.report import importance as page
from jaxanatomy.report import importance_rows as tidy
from jaxanatomy.report import manipulation as sets_page
from jaxanatomy.report import style, views

__all__ = [
    "attention_shift",
    "compounding",
    "control_ratios",
    "controls",
    "first_token",
    "heads",
    "importance",
    "manipulation",
    "manipulation_layers",
    "manipulation_pairs",
    "manipulation_sets",
    "scopes",
    "table1",
]

Rows = Iterable[views.Row]
Drawn = Axes | style.Panels


def importance(
    rows: Rows,
    ax: Any = None,
    *,
    intervention: str | None = None,
    scope: str = "layer",
    paper: Sequence[float] | None = None,
) -> Drawn:
    """Change of perplexity by layer, with categories, 95 % intervals and the band of all layers.

    The axis is linear within 10 % and logarithmic beyond. Protocol: AH section 3.2.

    Args:
      rows: Rows of an importance run.
      ax: Where to draw.
      intervention: By default the neighbour mean, or the first there is.
      scope: Of which part of the layers.
      paper: Published changes in percent by layer, for example `table1()`; NaN where there is none.
    """
    record = RunRecord.of_rows(rows)
    return views.draw(page.IMPORTANCE, tidy.layers(record, intervention, scope, paper), ax)


def controls(rows: Rows, ax: Any = None) -> Drawn:
    """Change of perplexity in percent, intervention by layer, whole layers at all tokens."""
    return views.draw(page.CONTROLS, tidy.controls(RunRecord.of_rows(rows), 1), ax)


def control_ratios(rows: Rows, ax: Any = None) -> Drawn:
    """Perplexity under each control over that under the neighbour mean, a dot for each layer.

    Right of 1 the control does more damage than the neighbour mean. One that does less everywhere
    says that the neighbour mean measured its own side effects there.
    """
    return _drawn(page.RATIOS, rows, ax)


def scopes(rows: Rows, ax: Any = None, *, intervention: str = tidy.NEIGHBOUR_MEAN) -> Drawn:
    """Change of perplexity in percent, part by layer: whole layer, attention, MLP, each matrix."""
    return _drawn(page.scopes(intervention), rows, ax)


def heads(rows: Rows, ax: Any = None, *, intervention: str = "zero") -> Drawn:
    """Change of perplexity in percent, query head by layer, one head edited at a time."""
    return _drawn(page.heads(intervention), rows, ax)


def first_token(
    rows: Rows, ax: Any = None, *, intervention: str = tidy.NEIGHBOUR_MEAN, scope: str = "layer"
) -> Drawn:
    """Change of perplexity when an edit acts at the first token alone, and at the others alone.

    A layer far higher at the first matters through it, as one does that writes the attention sink.
    """
    found = tidy.first_token(RunRecord.of_rows(rows), intervention, scope)
    return views.draw(page.FIRST_TOKEN, found, ax)


def manipulation(rows: Rows, ax: Any = None) -> Drawn:
    """Change of perplexity against the factor that scales sets of layers (AH section 3.5).

    Of rows of a manipulation run, or of `ja.sweep` on sets of layers, "scale_0.9/set/3,5".
    """
    return _drawn(sets_page.DOSES, rows, ax)


def manipulation_sets(rows: Rows, ax: Any = None) -> Drawn:
    """Change of perplexity, strategy by set of layers."""
    return _drawn(sets_page.SETS, rows, ax)


def manipulation_pairs(rows: Rows, ax: Any = None) -> Drawn:
    """Change of perplexity by two layers at once, a panel for each strategy."""
    return _drawn(sets_page.PAIRS, rows, ax)


def manipulation_layers(rows: Rows, ax: Any = None) -> Drawn:
    """Change of perplexity against the number of layers, the least important first."""
    return _drawn(sets_page.COUNTS, rows, ax)


def compounding(rows: Rows, ax: Any = None) -> Drawn:
    """Change of perplexity against the number of layers with noise, beside losses that add up."""
    return _drawn(sets_page.COMPOUNDING, rows, ax)


def attention_shift(rows: Rows, ax: Any = None) -> Drawn:
    """How far noise in q_proj or k_proj moves attention at each layer: two panels for each.

    Of rows of kind "attention": total variation, and the share of queries with another top token.
    """
    return _drawn(sets_page.ATTENTION, rows, ax)


def _drawn(view: views.View, rows: Rows, ax: Any) -> Drawn:
    return views.draw(view, view.rows(RunRecord.of_rows(rows)), ax)
