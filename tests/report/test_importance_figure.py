import math

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from jaxanatomy.errors import InputError
from jaxanatomy.report import plot, style
from jaxanatomy.report.cells import by_text

MAP = "neighbour_mean/layer/"


def main_rows(rows, text="sentences"):
    return [row for row in rows if row["variant"].startswith(MAP) and row["text"] == text]


def line(axes, label):
    return next(found for found in axes.lines if found.get_label() == label)


def bars(axes):
    return [patch for container in axes.containers for patch in container]


def test_bars_are_the_degradations_and_their_categories(rows):
    axes = plot.importance(rows)
    drawn = {round(bar.get_x() + bar.get_width() / 2): bar for bar in bars(axes)}
    for row in main_rows(rows):
        bar = drawn.pop(row["layer"])
        assert bar.get_height() == row["degradation_percent"]
        assert to_hex(bar.get_facecolor()).upper() == style.CATEGORY_COLOURS[row["category"]]
        assert bool(bar.get_hatch()) == row["boundary"]
    assert not drawn
    assert axes.get_yscale() == "symlog"
    low, high = axes.get_ylim()
    assert low < -2.0 - 4.0
    assert high > 1.5 * 34_000 + 4


def test_intervals_are_the_rows_own(rows):
    axes = plot.importance(rows)
    band, intervals = axes.collections
    drawn = {int(x): [low, high] for (x, low), (_, high) in intervals.get_segments()}
    assert drawn == {row["layer"]: row["ci95"] for row in main_rows(rows)}
    drawn = {int(x): [low, high] for (x, low), (_, high) in band.get_segments()}
    (cells,) = by_text(rows)
    expected = {
        layer: found.degradation_percent().ends for layer, found in cells.looks.band.items()
    }
    assert set(expected) == {1, 2, 3}  # boundary layers are not looked at
    assert drawn == {layer: ends for layer, ends in expected.items() if ends}
    assert band.get_linewidth()[0] < intervals.get_linewidth()[0]


def test_second_reading_and_paper_are_markers(rows):
    paper = [math.nan, 1.0, 2.0, 3e4, 5.0, 6.0]
    axes = plot.importance(rows, paper=paper)
    expected = [row["degradation_percent_without_first"] for row in main_rows(rows)]
    assert list(line(axes, "without first").get_ydata()) == expected
    published = line(axes, "paper")
    assert published.get_markerfacecolor() == "none"
    assert list(published.get_ydata())[1:] == paper[1:5]
    words = [text.get_text() for text in axes.get_legend().get_texts()]
    assert "paper (AH Table 1, base model)" in words
    words = [text.get_text() for text in plot.importance(rows).get_legend().get_texts()]
    assert not any("paper" in word for word in words)


def test_thresholds_are_drawn(rows):
    heights = [
        found.get_ydata()[0] for found in plot.importance(rows).lines if len(found.get_ydata())
    ]
    assert {10.0, 30.0, 100.0, 0} <= set(heights)


def test_values_that_are_not_finite_are_crosses_and_no_bars(rows, change):
    fields = {"ppl": None, "degradation_percent": None, "ci95": None}
    axes = plot.importance(change(rows, f"{MAP}3", **fields, reason="too large"))
    assert list(line(axes, "not finite").get_xdata()) == [3]
    assert len(bars(axes)) == 4
    words = [text.get_text() for text in axes.get_legend().get_texts()]
    assert "perplexity not finite" in words


def test_an_anti_layer_has_its_own_colour(rows, improve):
    axes = plot.importance(improve(rows))
    colours = [to_hex(bar.get_facecolor()).upper() for bar in bars(axes)]
    assert [colour == style.BETTER for colour in colours] == [False, True, False, False, False]


def test_one_panel_for_each_text(two_texts):
    panels = plot.importance(two_texts)
    assert [panel.get_title(loc="left").split(",")[0] for panel in panels] == [
        "sentences",
        "paragraphs",
    ]
    heights = [bar.get_height() for bar in bars(panels[1])]
    assert heights == [row["degradation_percent"] for row in main_rows(two_texts, "paragraphs")]
    assert panels[0].figure is panels[1].figure
    assert panels[0].get_ylim() == panels[1].get_ylim()


def test_draws_on_axes_that_are_given(rows, two_texts):
    axes = Figure().subplots(2)
    assert plot.importance(rows, ax=axes[0]) is axes[0]
    assert list(plot.importance(two_texts, ax=axes)) == list(axes)
    with pytest.raises(InputError, match="one axes for each text"):
        plot.importance(two_texts, ax=axes[0])


def test_other_interventions_and_scopes(rows):
    zero = [bar.get_height() for bar in bars(plot.importance(rows, intervention="zero"))]
    assert zero == [row["degradation_percent"] for row in rows if _is(row, "zero", "layer")]
    mlp = [bar.get_height() for bar in bars(plot.importance(rows, scope="mlp"))]
    assert mlp == [row["degradation_percent"] for row in rows if _is(row, "neighbour_mean", "mlp")]
    only_zero = [row for row in rows if row["intervention"] == "zero"]
    assert [bar.get_height() for bar in bars(plot.importance(only_zero))] == zero


def _is(row, intervention, scope):
    return (row["intervention"], row["scope"], row["positions"]) == (intervention, scope, "all")


def test_rows_without_a_layer_are_refused(rows):
    with pytest.raises(InputError, match="got none"):
        plot.importance(rows[:1])


def test_a_notebook_shows_what_was_drawn(rows, two_texts):
    assert plot.importance(rows)._repr_png_().startswith(b"\x89PNG")
    assert plot.importance(two_texts)._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("mark", "height"),
    [(300.0, 379.0), (500.0, 500.0), (9_000.0, 379.0)],
    ids=["under the interval", "close above it", "far above it"],
)
def test_labels_are_clear_of_marks_but_stay_with_their_bar(rows, mark, height):
    """Layer 0: 250 %, its interval ends at 379 %; the paper's marker is at `mark`."""
    axes = plot.importance(rows, paper=[mark])
    labels = {found.xy[0]: found.xy[1] for found in axes.texts if hasattr(found, "xy")}
    assert labels == {0: height, 3: 1.5 * 34_000 + 4}
